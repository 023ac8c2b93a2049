//! Which path is which resource, and what may be done with it.

use std::borrow::Cow;

use hyper::Method;

use super::docs::Format;
use crate::model::path::API;
use crate::model::{DeliveryId, EventId, KeyId, SubscriptionId, is_event_type};
pub(super) use crate::service::{SourceRef, WebhookRef};

/// A path of the interface, its ids parsed: text that is no id is no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'p> {
    Webhooks,
    Webhook(WebhookRef<'p>),
    Pause(WebhookRef<'p>),
    Resume(WebhookRef<'p>),
    Test(WebhookRef<'p>),
    RegenerateSecret(WebhookRef<'p>),
    Recover(WebhookRef<'p>),
    /// `/metrics` and `/stats` of a webhook.
    WebhookMetrics(WebhookRef<'p>),
    Subscriptions(WebhookRef<'p>),
    Subscription(WebhookRef<'p>, SubscriptionId),
    DeliveriesOf(WebhookRef<'p>),
    DeadLettersOf(WebhookRef<'p>),
    DeadLetterOf(WebhookRef<'p>, DeliveryId),
    ReplayDeadLetter(WebhookRef<'p>, DeliveryId),
    BulkReplay(WebhookRef<'p>),
    /// `/webhooks/deliveries` and `/deliveries`.
    Deliveries,
    Delivery(DeliveryId),
    RetryDelivery(DeliveryId),
    DeadLetters,
    Events,
    Event(EventId),
    ReplayEvent(EventId),
    Replays,
    Replay(u64),
    Stats,
    FilterTest,
    /// `/event-types`, `/webhooks/events` and `/webhooks/events/available`.
    EventTypes(Spelling),
    EventType(&'p str),
    Keys,
    Key(KeyId),
    Tenants,
    Audit,
    Sources,
    Source(SourceRef<'p>),
    SourceRestore(SourceRef<'p>),
    RotateSecret(SourceRef<'p>),
    RotateToken(SourceRef<'p>),
    Guide(SourceRef<'p>),
    Rejections(SourceRef<'p>),
    Document(Format),
}

/// Which of its paths the catalogue was asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `/api/v1/event-types`, the one that takes POST.
    EventTypes,
    /// An alias below `/api/v1/webhooks/`, which only reads.
    Alias,
}

/// A path whose `:` and `@` stand as they are. Uids and event types may hold them, and most clients escape them; nothing else
/// is decoded, so that no spelling leads past a check.
pub(super) fn spelled(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.replace("%3A", ":").replace("%3a", ":").replace("%40", "@"))
}

impl<'p> Route<'p> {
    pub(super) fn parse(path: &'p str) -> Option<Self> {
        match path {
            "/openapi.json" => return Some(Self::Document(Format::Json)),
            "/openapi.yaml" => return Some(Self::Document(Format::Yaml)),
            _ => {}
        }
        let rest = path.strip_prefix(API)?;
        let mut parts = rest.split('/');
        let parts = [(); 6].map(|()| parts.next());
        Some(match parts {
            [Some("webhooks"), rest @ ..] => return Self::webhooks(rest),
            [Some("deliveries"), None, ..] => Self::Deliveries,
            [Some("deliveries"), Some(delivery), None, ..] => Self::Delivery(delivery.parse().ok()?),
            [Some("deliveries"), Some(delivery), Some("retry"), None, ..] => {
                Self::RetryDelivery(delivery.parse().ok()?)
            }
            [Some("dead-letters"), None, ..] => Self::DeadLetters,
            [Some("events"), None, ..] => Self::Events,
            [Some("events"), Some(event), None, ..] => Self::Event(event.parse().ok()?),
            [Some("events"), Some(event), Some("replay"), None, ..] => Self::ReplayEvent(event.parse().ok()?),
            [Some("replays" | "replay"), None, ..] => Self::Replays,
            [Some("replays"), Some(replay), None, ..] => Self::Replay(replay.strip_prefix("rpl_")?.parse().ok()?),
            [Some("stats"), None, ..] => Self::Stats,
            [Some("filters"), Some("test"), None, ..] => Self::FilterTest,
            [Some("event-types"), None, ..] => Self::EventTypes(Spelling::EventTypes),
            [Some("event-types"), Some(name), None, ..] if is_event_type(name) => Self::EventType(name),
            [Some("keys"), None, ..] => Self::Keys,
            [Some("keys"), Some(key), None, ..] => Self::Key(key.parse().ok()?),
            [Some("tenants"), None, ..] => Self::Tenants,
            [Some("audit"), None, ..] => Self::Audit,
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

    /// What stands below `/api/v1/webhooks`.
    fn webhooks(parts: [Option<&'p str>; 5]) -> Option<Self> {
        let [first, what, letter, last, end] = parts;
        let Some(first) = first else { return Some(Self::Webhooks) };
        let Some(what) = what else {
            return match first {
                "events" => Some(Self::EventTypes(Spelling::Alias)),
                "deliveries" => Some(Self::Deliveries),
                _ => WebhookRef::parse(first).map(Self::Webhook),
            };
        };
        match (first, what, letter, last, end) {
            ("events", "available", None, ..) => return Some(Self::EventTypes(Spelling::Alias)),
            ("deliveries", delivery, None, ..) => return delivery.parse().ok().map(Self::Delivery),
            ("deliveries", delivery, Some("retry"), None, _) => return delivery.parse().ok().map(Self::RetryDelivery),
            _ => {}
        }
        let webhook = WebhookRef::parse(first)?;
        Some(match (what, letter, last, end) {
            ("pause", None, ..) => Self::Pause(webhook),
            ("resume", None, ..) => Self::Resume(webhook),
            ("test", None, ..) => Self::Test(webhook),
            ("regenerate-secret", None, ..) => Self::RegenerateSecret(webhook),
            ("recover", None, ..) => Self::Recover(webhook),
            ("metrics" | "stats", None, ..) => Self::WebhookMetrics(webhook),
            ("subscriptions", None, ..) => Self::Subscriptions(webhook),
            ("subscriptions", Some(id), None, _) => Self::Subscription(webhook, id.parse().ok()?),
            ("deliveries", None, ..) => Self::DeliveriesOf(webhook),
            ("dead-letters", None, ..) => Self::DeadLettersOf(webhook),
            ("dead-letters", Some("bulk-replay"), None, _) => Self::BulkReplay(webhook),
            ("dead-letters", Some(letter), None, _) => Self::DeadLetterOf(webhook, letter.parse().ok()?),
            ("dead-letters", Some(letter), Some("replay"), None) => {
                Self::ReplayDeadLetter(webhook, letter.parse().ok()?)
            }
            _ => return None,
        })
    }

    /// The webhook that the path names, if it names one.
    pub(super) fn webhook_mut(&mut self) -> Option<&mut WebhookRef<'p>> {
        match self {
            Self::Webhook(of)
            | Self::Pause(of)
            | Self::Resume(of)
            | Self::Test(of)
            | Self::RegenerateSecret(of)
            | Self::Recover(of)
            | Self::WebhookMetrics(of)
            | Self::Subscriptions(of)
            | Self::Subscription(of, _)
            | Self::DeliveriesOf(of)
            | Self::DeadLettersOf(of)
            | Self::DeadLetterOf(of, _)
            | Self::ReplayDeadLetter(of, _)
            | Self::BulkReplay(of) => Some(of),
            _ => None,
        }
    }

    /// The `Allow` header. That of events and of a webhook, whose place may be a source's, names POST, which admit answers
    /// before it comes here.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Webhooks
            | Self::Events
            | Self::Replays
            | Self::Sources
            | Self::Subscriptions(_)
            | Self::EventTypes(Spelling::EventTypes)
            | Self::Keys
            | Self::Tenants => "GET, HEAD, POST",
            Self::Source(_) => "GET, HEAD, PATCH, DELETE",
            Self::Webhook(_) => "GET, HEAD, POST, PUT, PATCH, DELETE",
            Self::Subscription(..) | Self::EventType(_) => "GET, HEAD, PUT, DELETE",
            Self::DeadLetterOf(..) | Self::Replay(_) | Self::Key(_) => "GET, HEAD, DELETE",
            Self::Pause(_)
            | Self::Resume(_)
            | Self::Test(_)
            | Self::RegenerateSecret(_)
            | Self::Recover(_)
            | Self::ReplayDeadLetter(..)
            | Self::BulkReplay(_)
            | Self::RetryDelivery(_)
            | Self::ReplayEvent(_)
            | Self::FilterTest
            | Self::SourceRestore(_)
            | Self::RotateSecret(_)
            | Self::RotateToken(_) => "POST",
            Self::WebhookMetrics(_)
            | Self::DeliveriesOf(_)
            | Self::DeadLettersOf(_)
            | Self::Deliveries
            | Self::Delivery(_)
            | Self::DeadLetters
            | Self::Event(_)
            | Self::Stats
            | Self::EventTypes(Spelling::Alias)
            | Self::Audit
            | Self::Guide(_)
            | Self::Rejections(_)
            | Self::Document(_) => "GET, HEAD",
        }
    }

    pub(super) fn allows(self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
            && !(matches!(self, Self::Events | Self::Webhook(_)) && method == Method::POST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WebhookId;

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
