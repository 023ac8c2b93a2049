//! How a path names things: by ids, and by the names that their owners gave.

use std::borrow::Cow;

use crate::model::{SourceId, WebhookId};

/// How a path names a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WebhookRef<'p> {
    Id(WebhookId),
    /// Within the caller's tenant.
    Uid(&'p str),
}

impl<'p> WebhookRef<'p> {
    /// What begins like an id and is none names nothing.
    pub(super) fn parse(text: &'p str) -> Option<Self> {
        match text.parse() {
            Ok(id) => Some(Self::Id(id)),
            Err(_) => is_uid(text).then_some(Self::Uid(text)),
        }
    }
}

/// A path whose `:` and `@` stand as they are. Uids and event types may hold them, and most clients escape them; nothing else
/// is decoded, so that no spelling leads past a check.
pub(super) fn spelled(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.replace("%3A", ":").replace("%3a", ":").replace("%40", "@"))
}

/// Whether text may be a webhook's `uid`: 1 to 128 of what a path needs no escapes for, and no id or fixed word of ours.
pub(super) fn is_uid(text: &str) -> bool {
    (1..=UID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b))
        && !text.bytes().all(|b| b == b'.')
        && !FIXED_WORDS.contains(&text)
        && !["wh_", "src_"].iter().any(|prefix| text.starts_with(prefix))
}

/// Bytes of a webhook's `uid`.
pub(super) const UID_BYTES_MAX: usize = 128;
/// Words below `/api/v1/webhooks/` that are no uid.
pub(super) const FIXED_WORDS: [&str; 2] = ["events", "deliveries"];

/// How a path names a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceRef<'p> {
    Id(SourceId),
    /// Within the caller's tenant.
    Name(&'p str),
}

impl<'p> SourceRef<'p> {
    /// A name has no `_`, an id has one.
    pub(super) fn parse(text: &'p str) -> Option<Self> {
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        text.parse().map(Self::Id).ok().or_else(|| is_name(text).then_some(Self::Name(text)))
    }
}

/// The number of a replay, from its id.
pub(super) fn number_of(replay: &str) -> Option<u64> {
    replay.strip_prefix("rpl_")?.parse().ok()
}
