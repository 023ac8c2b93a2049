//! What is wrong with a template.

use crate::limits::{TEMPLATE_BYTES_MAX, TEMPLATE_PARTS_MAX};

/// Why a text is no template. `E` is what the user of the template says of a name that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError<E> {
    /// A `{` without its `}`, or a `}` without its `{`.
    #[error("a brace is not closed or not opened; {{{{ and }}}} stand for braces (at character {at})")]
    Unbalanced {
        /// Where the brace stands, in characters from 1.
        at: usize,
    },
    /// A placeholder with a name that has no meaning here.
    #[error("{error} (at character {at})")]
    Placeholder {
        /// Where its brace stands, in characters from 1.
        at: usize,
        /// What is wrong with it and what is allowed.
        error: E,
    },
    /// The text is too long.
    #[error("a template has at most {TEMPLATE_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text has too many parts.
    #[error("a template has at most {TEMPLATE_PARTS_MAX} placeholders and texts between them")]
    TooManyParts,
}
