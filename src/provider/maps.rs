//! Event maps that come with a kind of source.

use serde_json::Value;

/// The map of this kind, where it has one; a source's own takes its place.
pub fn default_map(_kind: &str) -> Option<&'static [Value]> {
    None
}
