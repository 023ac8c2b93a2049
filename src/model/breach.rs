//! What is wrong with settings.

/// Something that is wrong with settings, by the place in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// JSON pointer of the setting, such as `/secrets/0/until`.
    pub pointer: String,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl Breach {
    /// A breach at this pointer.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}
