//! How a caller names a webhook or a source.

use crate::model::path::WEBHOOK_WORDS;
use crate::model::{SourceId, WebhookId};

/// Bytes of a webhook's `uid`.
pub const UID_BYTES_MAX: usize = 128;

/// How a caller names a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookRef<'p> {
    /// By its id.
    Id(WebhookId),
    /// By its uid, within the caller's tenant.
    Uid(&'p str),
}

impl<'p> WebhookRef<'p> {
    /// Reads an id or a uid. Text that begins like an id and is none names nothing.
    pub fn parse(text: &'p str) -> Option<Self> {
        match text.parse() {
            Ok(id) => Some(Self::Id(id)),
            Err(_) => is_uid(text).then_some(Self::Uid(text)),
        }
    }
}

/// Whether text may be a webhook's `uid`: 1 to 128 characters that a path takes without escapes, and neither an id nor a
/// fixed word.
pub fn is_uid(text: &str) -> bool {
    (1..=UID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b))
        && !text.bytes().all(|b| b == b'.')
        && !WEBHOOK_WORDS.contains(&text)
        && ![WebhookId::PREFIX, SourceId::PREFIX].iter().any(|prefix| text.starts_with(prefix))
}

/// How a caller names a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceRef<'p> {
    /// By its id.
    Id(SourceId),
    /// By its name, within the caller's tenant.
    Name(&'p str),
}

impl<'p> SourceRef<'p> {
    /// Reads an id or a name. A name has no `_`, an id has one.
    pub fn parse(text: &'p str) -> Option<Self> {
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        text.parse().map(Self::Id).ok().or_else(|| is_name(text).then_some(Self::Name(text)))
    }
}
