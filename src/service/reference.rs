//! References to webhooks and sources: by id, uid or name.

use crate::model::path::RESERVED_WEBHOOK_SEGMENTS;
use crate::model::{SourceId, WebhookId};

/// Maximum number of bytes of a webhook's `uid`.
pub const UID_BYTES_MAX: usize = 128;

/// A reference to a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookRef<'p> {
    /// The webhook's id.
    Id(WebhookId),
    /// The webhook's uid, unique within the caller's tenant.
    Uid(&'p str),
}

impl<'p> WebhookRef<'p> {
    /// Parses an id or a uid. Returns `None` for text that has the prefix of an id and is not an id.
    pub fn parse(text: &'p str) -> Option<Self> {
        match text.parse() {
            Ok(id) => Some(Self::Id(id)),
            Err(_) => is_uid(text).then_some(Self::Uid(text)),
        }
    }
}

/// Whether text is a valid `uid` of a webhook: 1 to 128 characters that need no escaping in a path. Text that has the
/// prefix of an id and the reserved words of paths are invalid.
pub fn is_uid(text: &str) -> bool {
    (1..=UID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b))
        && !text.bytes().all(|b| b == b'.')
        && !RESERVED_WEBHOOK_SEGMENTS.contains(&text)
        && ![WebhookId::PREFIX, SourceId::PREFIX].iter().any(|prefix| text.starts_with(prefix))
}

/// A reference to a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceRef<'p> {
    /// The source's id.
    Id(SourceId),
    /// The source's name, unique within the caller's tenant.
    Name(&'p str),
}

impl<'p> SourceRef<'p> {
    /// Parses an id or a name. Names contain no `_`; ids contain one.
    pub fn parse(text: &'p str) -> Option<Self> {
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        text.parse().map(Self::Id).ok().or_else(|| is_name(text).then_some(Self::Name(text)))
    }
}
