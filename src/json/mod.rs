//! Finds and replaces values in JSON text without building a tree of the text.
//!
//! Invariants: only the requested values are kept in memory. If a member name occurs twice, the last one wins, as in every
//! other JSON reader of this program. This module must never know what the values mean.

mod brackets;
mod depth;
mod document;
mod edit;
mod extract;
mod lenient;
mod pointer;
#[cfg(test)]
mod reader_tests;
mod scan;
mod size;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use depth::exceeds_depth;
pub use document::{Document, LookupTooLong, Path, PathError};
pub use edit::set;
pub use lenient::{EVENT_DEPTH_MAX, SETTINGS_DEPTH_MAX, from_slice, from_str, name};
pub use pointer::{Pointer, PointerError, PointerSet, PointerValues};
pub use scan::items;
pub use size::JsonSize;

/// A JSON value as text. Strings are unescaped; every other value is returned as written. Returns `None` for `null`.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get() {
        "null" => None,
        written if written.starts_with('"') => string(written.as_bytes()),
        written => Some(Cow::Borrowed(written)),
    }
}

/// Decodes a JSON string. Returns `None` for anything else. The result borrows if nothing is escaped.
pub fn string(raw: &[u8]) -> Option<Cow<'_, str>> {
    let written = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if written.contains(&b'\\') {
        from_slice(raw).ok().map(Cow::Owned)
    } else {
        std::str::from_utf8(written).ok().map(Cow::Borrowed)
    }
}

/// The elements of an array, each as written. Returns `None` if the value is not an array.
pub fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}
