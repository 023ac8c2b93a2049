//! The ids and names of resources in a path.

use std::borrow::Cow;

pub(super) use crate::service::{SourceRef, WebhookRef};

/// Decodes `:` and `@` in a path. Uids and event types may contain them, and most clients escape them. Nothing else is
/// decoded, so that no alternative spelling bypasses a check.
pub(super) fn decode_path(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.replace("%3A", ":").replace("%3a", ":").replace("%40", "@"))
}

/// The number in the id of a replay. `None` for an invalid id.
pub(super) fn replay_number(replay: &str) -> Option<u64> {
    replay.strip_prefix("rpl_")?.parse().ok()
}
