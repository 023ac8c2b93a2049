//! How a path names things: by ids, and by the names that their owners gave.

use std::borrow::Cow;

pub(super) use crate::service::{SourceRef, WebhookRef};

/// A path whose `:` and `@` stand as they are. Uids and event types may hold them, and most clients escape them; nothing else
/// is decoded, so that no spelling leads past a check.
pub(super) fn spelled(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.replace("%3A", ":").replace("%3a", ":").replace("%40", "@"))
}

/// The number of a replay, from its id.
pub(super) fn number_of(replay: &str) -> Option<u64> {
    replay.strip_prefix("rpl_")?.parse().ok()
}
