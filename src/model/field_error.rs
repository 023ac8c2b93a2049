//! Validation errors of a JSON document.

/// A field that violates a rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The JSON pointer (RFC 6901) of the field in the document.
    pub pointer: String,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl FieldError {
    /// Creates an error for the field at this pointer.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }

    /// Summarizes all errors of a document in one line.
    pub fn summary(errors: &[Self]) -> String {
        match errors {
            // The error is about the document as a whole.
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields are wrong", many.len()),
        }
    }
}
