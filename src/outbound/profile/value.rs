//! The values that envelopes and headers can contain.

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::model::{DeliveryId, EventId, NewEvent, Timestamp, WebhookId};

/// The values of a delivery that templates can contain.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryValues<'a> {
    /// The fields of the event.
    pub event: &'a NewEvent<'a>,
    /// The id of the event.
    pub id: EventId,
    /// The id of the webhook as the receiver knows it.
    pub webhook: WebhookName<'a>,
    /// The id of the delivery.
    pub delivery: DeliveryId,
    /// The number of the attempt, starting at 1.
    pub attempt: u16,
    /// The time of this attempt.
    pub now: Timestamp,
}

/// The id of a webhook in deliveries. The `uid` has precedence, because existing receivers know the `uid`.
#[derive(Debug, Clone, Copy)]
pub enum WebhookName<'a> {
    /// The `uid` that the user chose, such as `webhook_123`.
    Uid(&'a str),
    /// The id that Hooktide assigned, `wh_…`.
    Id(WebhookId),
}

impl fmt::Display for WebhookName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => f.write_str(uid),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// A value that a field of an envelope can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnvelopeField {
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

impl EnvelopeField {
    /// Each value with its name in the settings.
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

    /// The value with this name in the settings; `None` for an unknown name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(own, _)| *own == name).map(|(_, field)| *field)
    }

    /// Whether the value is text that is always present and never needs an escape, so that the quotes are part of the
    /// template.
    pub(super) fn is_plain_text(self) -> bool {
        matches!(self, Self::Type | Self::Timestamp | Self::Id | Self::WebhookId | Self::DeliveryId)
    }

    /// Appends the value as JSON. Plain text is written without its quotes. The data is not written here.
    pub(super) fn write(self, values: &DeliveryValues<'_>, out: &mut BytesMut) {
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
            Self::ResourceId => id(event.resource_id, event.numeric_ids.resource, out),
            Self::WorkspaceId => id(event.workspace_id, event.numeric_ids.workspace, out),
            Self::UserId => id(event.user_id, event.numeric_ids.user, out),
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

/// Appends an id as it was published: as a number or as a JSON string; `null` for `None`.
fn id(value: Option<&str>, is_number: bool, out: &mut BytesMut) {
    match value {
        Some(number) if is_number => out.extend_from_slice(number.as_bytes()),
        value => text(value, out),
    }
}

/// Appends a text as an escaped JSON string; `null` for `None`.
fn text(text: Option<&str>, out: &mut BytesMut) {
    // Writing into a buffer that grows cannot fail, and every text is valid in JSON.
    let _ = serde_json::to_writer(out.writer(), &text);
}
