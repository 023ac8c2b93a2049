//! Preconditions of a change: the versions in `If-Match`.

use http::header::{HeaderMap, IF_MATCH};

use crate::service::ExpectedVersion;

/// The versions in the header `If-Match`. `None` without the header. The `ETag` of a versioned resource is its version. A
/// weak tag never matches.
pub(super) fn expected_version(headers: &HeaderMap) -> Option<ExpectedVersion> {
    let tags: Vec<_> = headers.get(IF_MATCH)?.to_str().unwrap_or_default().split(',').map(str::trim).collect();
    if tags.contains(&"*") {
        return Some(ExpectedVersion::Current);
    }
    let version = |tag: &str| {
        let text = tag.strip_prefix('"')?.strip_suffix('"')?;
        // The tag of a paused webhook is its version and the end of the pause.
        let text = text.split_once('-').map_or(text, |(version, _)| version);
        let version = text.parse::<u64>().ok()?;
        (version.to_string() == text).then_some(version)
    };
    Some(ExpectedVersion::OneOf(tags.into_iter().filter_map(version).collect()))
}
