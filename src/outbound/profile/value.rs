//! What a delivery can say: the values that envelopes and headers name.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::model::{DeliveryId, EventId, NewEvent, Timestamp, WebhookId};

/// The values of a delivery.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// The event's fields.
    pub event: &'a NewEvent<'a>,
    /// The event's id.
    pub id: EventId,
    /// The webhook's id as its receiver knows it.
    pub webhook: WebhookName<'a>,
    /// The delivery's id.
    pub delivery: DeliveryId,
    /// 1 for the first.
    pub attempt: u16,
    /// The time of this attempt.
    pub now: Timestamp,
}

/// A webhook's id: the user's own where there is one, as receivers that were there before know that.
#[derive(Debug, Clone, Copy)]
pub enum WebhookName<'a> {
    /// `webhook_123`
    Own(&'a str),
    /// `wh_…`
    Ours(WebhookId),
}

impl fmt::Display for WebhookName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(uid) => f.write_str(uid),
            Self::Ours(id) => id.fmt(f),
        }
    }
}

/// A value of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Type,
    Timestamp,
    Data,
    Id,
    Metadata,
    ResourceId,
    WorkspaceId,
    UserId,
    Tenant,
    Source,
    CorrelationId,
    WebhookId,
    DeliveryId,
    Attempt,
}

impl Field {
    /// Each with the name that means it.
    pub(super) const NAMES: [(&str, Self); 14] = [
        ("type", Self::Type),
        ("timestamp", Self::Timestamp),
        ("data", Self::Data),
        ("id", Self::Id),
        ("metadata", Self::Metadata),
        ("resource_id", Self::ResourceId),
        ("workspace_id", Self::WorkspaceId),
        ("user_id", Self::UserId),
        ("tenant", Self::Tenant),
        ("source", Self::Source),
        ("correlation_id", Self::CorrelationId),
        ("webhook.id", Self::WebhookId),
        ("delivery.id", Self::DeliveryId),
        ("attempt", Self::Attempt),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(own, _)| *own == name).map(|(_, field)| *field)
    }

    /// Whether it is text that never needs an escape and is always there, so that its quotes are part of the envelope.
    pub(super) fn is_plain_text(self) -> bool {
        matches!(self, Self::Type | Self::Timestamp | Self::Id | Self::WebhookId | Self::DeliveryId)
    }

    /// Appends the value as JSON, plain text without its quotes. The data is not written here.
    pub(super) fn write(self, values: &Values<'_>, out: &mut BytesMut) {
        let event = values.event;
        match self {
            Self::Data => {}
            Self::Type => out.extend_from_slice(event.event_type.as_bytes()),
            Self::Timestamp => display(&event.timestamp, out),
            Self::Id => display(&values.id, out),
            Self::WebhookId => display(&values.webhook, out),
            Self::DeliveryId => display(&values.delivery, out),
            Self::Attempt => display(&values.attempt, out),
            Self::Metadata => out.extend_from_slice(event.metadata.unwrap_or("{}").as_bytes()),
            Self::ResourceId => text(event.resource_id, out),
            Self::WorkspaceId => text(event.workspace_id, out),
            Self::UserId => text(event.user_id, out),
            Self::Tenant => text(Some(event.tenant), out),
            Self::Source => text(Some(event.source), out),
            Self::CorrelationId => text(Some(event.correlation_id), out),
        }
    }
}

fn display(value: &impl fmt::Display, out: &mut BytesMut) {
    // Writing into a buffer that grows cannot fail.
    let _ = fmt::Write::write_fmt(out, format_args!("{value}"));
}

/// Text of somebody else's, escaped; `null` where there is none.
fn text(text: Option<&str>, out: &mut BytesMut) {
    // As above, and text always has a form in JSON.
    let _ = serde_json::to_writer(out.writer(), &text);
}
