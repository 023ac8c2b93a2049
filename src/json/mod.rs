//! Finds and replaces values in JSON text without building a tree of the text.
//!
//! Invariants: only the requested values are kept in memory. If a member name occurs twice, the last one wins, as in every
//! other JSON reader of this program. This module must never know what the values mean.

mod brackets;
mod depth;
mod document;
mod edit;
mod extract;
mod pointer;
mod scan;
mod size;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use depth::exceeds_depth;
pub use document::{Document, LookupTooLong, Path, PathError};
pub use edit::set;
pub use pointer::{Pointer, PointerError, PointerSet, PointerValues};
pub use scan::items;
pub use size::JsonSize;

/// A JSON value as text. Strings are unescaped; every other value is returned as written. Returns `None` for `null` and for
/// a string that has no UTF-8 form (half of a surrogate pair).
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    /// Borrows if the string has no escapes.
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    match raw.get() {
        "null" => None,
        written if written.starts_with('"') => serde_json::from_str::<Text<'_>>(written).ok().map(|text| text.0),
        written => Some(Cow::Borrowed(written)),
    }
}

/// The elements of an array, each as written. Returns `None` if the value is not an array.
pub fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}
