//! Which path is which resource, and what may be done with it.

use hyper::Method;

use super::openapi::Format;
use crate::model::{DeliveryId, EventId, SourceId, WebhookId};

/// A path of the interface, its ids parsed: text that is no id is no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'p> {
    Webhooks,
    Webhook(WebhookId),
    Pause(WebhookId),
    Resume(WebhookId),
    DeliveriesOf(WebhookId),
    DeadLetters(WebhookId),
    DeadLetter(WebhookId, DeliveryId),
    ReplayDeadLetter(WebhookId, DeliveryId),
    BulkReplay(WebhookId),
    Delivery(DeliveryId),
    Events,
    Event(EventId),
    ReplayEvent(EventId),
    Replays,
    Replay(u64),
    Sources,
    Source(SourceRef<'p>),
    SourceRestore(SourceRef<'p>),
    RotateSecret(SourceRef<'p>),
    RotateToken(SourceRef<'p>),
    Guide(SourceRef<'p>),
    Rejections(SourceRef<'p>),
    Document(Format),
}

/// How a path names a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceRef<'p> {
    Id(SourceId),
    /// Within the caller's tenant.
    Name(&'p str),
}

impl<'p> SourceRef<'p> {
    /// A name has no `_`, an id has one.
    fn parse(text: &'p str) -> Option<Self> {
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        text.parse().map(Self::Id).ok().or_else(|| is_name(text).then_some(Self::Name(text)))
    }
}

impl<'p> Route<'p> {
    pub(super) fn parse(path: &'p str) -> Option<Self> {
        match path {
            "/openapi.json" => return Some(Self::Document(Format::Json)),
            "/openapi.yaml" => return Some(Self::Document(Format::Yaml)),
            _ => {}
        }
        let rest = path.strip_prefix("/api/v1/")?;
        let mut parts = rest.split('/');
        let parts = [(); 6].map(|()| parts.next());
        let id = |text: &str| text.parse().ok();
        Some(match parts {
            [Some("webhooks"), None, ..] => Self::Webhooks,
            [Some("webhooks"), Some(webhook), None, ..] => Self::Webhook(id(webhook)?),
            [Some("webhooks"), Some(webhook), Some(what), None, ..] => match what {
                "pause" => Self::Pause(id(webhook)?),
                "resume" => Self::Resume(id(webhook)?),
                "deliveries" => Self::DeliveriesOf(id(webhook)?),
                "dead-letters" => Self::DeadLetters(id(webhook)?),
                _ => return None,
            },
            [Some("webhooks"), Some(webhook), Some("dead-letters"), Some("bulk-replay"), None, ..] => {
                Self::BulkReplay(id(webhook)?)
            }
            [Some("webhooks"), Some(webhook), Some("dead-letters"), Some(letter), None, ..] => {
                Self::DeadLetter(id(webhook)?, letter.parse().ok()?)
            }
            [Some("webhooks"), Some(webhook), Some("dead-letters"), Some(letter), Some("replay"), None] => {
                Self::ReplayDeadLetter(id(webhook)?, letter.parse().ok()?)
            }
            [Some("deliveries"), Some(delivery), None, ..] => Self::Delivery(delivery.parse().ok()?),
            [Some("events"), None, ..] => Self::Events,
            [Some("events"), Some(event), None, ..] => Self::Event(event.parse().ok()?),
            [Some("events"), Some(event), Some("replay"), None, ..] => Self::ReplayEvent(event.parse().ok()?),
            [Some("replays" | "replay"), None, ..] => Self::Replays,
            [Some("replays"), Some(replay), None, ..] => Self::Replay(replay.strip_prefix("rpl_")?.parse().ok()?),
            [Some("sources"), None, ..] => Self::Sources,
            [Some("sources"), Some(source), None, ..] => Self::Source(SourceRef::parse(source)?),
            [Some("sources"), Some(source), Some(what), None, ..] => {
                let source = SourceRef::parse(source)?;
                match what {
                    "restore" => Self::SourceRestore(source),
                    "rotate-secret" => Self::RotateSecret(source),
                    "rotate-token" => Self::RotateToken(source),
                    "guide" => Self::Guide(source),
                    "rejections" => Self::Rejections(source),
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    /// The `Allow` header. That of events names POST, which admit answers before it comes here.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Webhooks | Self::Events | Self::Replays | Self::Sources => "GET, HEAD, POST",
            Self::Source(_) => "GET, HEAD, PATCH, DELETE",
            Self::Webhook(_) => "GET, HEAD, PUT, PATCH, DELETE",
            Self::Pause(_)
            | Self::Resume(_)
            | Self::ReplayDeadLetter(..)
            | Self::BulkReplay(_)
            | Self::ReplayEvent(_)
            | Self::SourceRestore(_)
            | Self::RotateSecret(_)
            | Self::RotateToken(_) => "POST",
            Self::DeliveriesOf(_)
            | Self::DeadLetters(_)
            | Self::DeadLetter(..)
            | Self::Delivery(_)
            | Self::Event(_)
            | Self::Replay(_)
            | Self::Guide(_)
            | Self::Rejections(_)
            | Self::Document(_) => "GET, HEAD",
        }
    }

    pub(super) fn allows(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
            && !(self == Self::Events && method == Method::POST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_resource_is_no_route() {
        let webhook = WebhookId::from_u128(1).to_string();
        for path in [
            "/",
            "/api/v1",
            "/api/v1/",
            "/api/v1/webhooks/",
            "/api/v1/webhooks/wh_1",
            &format!("/api/v1/webhooks/{webhook}/"),
            &format!("/api/v1/webhooks/{webhook}/unknown"),
            &format!("/api/v1/webhooks/{webhook}/pause/x"),
            &format!("/api/v1/webhooks/{webhook}/dead-letters/dlv_1"),
            &format!("/api/v1/events/{webhook}"),
            "/api/v1/replays/1",
            "/api/v1/replay/rpl_1",
            "/api/v1/sources/",
            "/api/v1/sources/Acme",
            "/api/v1/sources/src_1",
            "/api/v1/sources/acme/",
            "/api/v1/sources/acme/unknown",
            "/api/v1/sources/acme/guide/x",
            "/api/v2/webhooks",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
