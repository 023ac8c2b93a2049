//! Errors of template parsing.

use crate::limits::{TEMPLATE_BYTES_MAX, TEMPLATE_PARTS_MAX};

/// A template that cannot be parsed. `E` is the error type for unknown placeholder names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError<E> {
    /// A `{` without a `}`, or a `}` without a `{`.
    #[error("a brace is not closed or not opened; {{{{ and }}}} stand for braces (at character {at})")]
    Unbalanced {
        /// The position of the brace, in characters from 1.
        at: usize,
    },
    /// A placeholder with an unknown name.
    #[error("{error} (at character {at})")]
    Placeholder {
        /// The position of its opening brace, in characters from 1.
        at: usize,
        /// What is wrong with the name and which names are allowed.
        error: E,
    },
    /// The text is too long.
    #[error("a template has at most {TEMPLATE_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// The length of the text in bytes.
        bytes: usize,
    },
    /// The text has too many parts.
    #[error("a template has at most {TEMPLATE_PARTS_MAX} placeholders and texts between them")]
    TooManyParts,
}
