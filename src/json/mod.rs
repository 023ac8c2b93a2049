//! json: where a value stands in a body, without a tree of the body.
//!
//! Promises: nothing is built in memory but what is asked for; of a name that is there twice the last one counts, here as in
//! every other reader of this program. Must never know: what the values mean.

mod brackets;
mod depth;
mod document;
mod edit;
mod pass;
mod pointer;
mod scan;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use depth::is_deeper;
pub use document::{Document, Path, PathError};
pub use edit::set;
pub use pointer::{Found, Pointer, PointerError, PointerSet};
pub use scan::items;

/// What a value says: text as it means, anything else as it is written; `None` for `null`, and for text that no UTF-8 can
/// say (half of a surrogate pair).
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    /// Borrows where nothing is escaped.
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    match raw.get() {
        "null" => None,
        written if written.starts_with('"') => serde_json::from_str::<Text<'_>>(written).ok().map(|text| text.0),
        written => Some(Cow::Borrowed(written)),
    }
}

/// The elements of an array, each as it stands; `None` for anything else.
pub fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}
