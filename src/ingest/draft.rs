//! A description of an event in plain values.

use crate::model::{API_SOURCE, DedupBy, InboundInfo, NumericIds, OPERATIONAL_SOURCE, SourceId, Timestamp};

/// Who sent an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventOrigin<'a> {
    /// An application, with a key of its tenant.
    Application,
    /// A provider or a partner.
    Source {
        /// The source's id.
        id: SourceId,
        /// The source's name.
        name: &'a str,
    },
    /// The gateway itself.
    Gateway,
}

impl<'a> EventOrigin<'a> {
    /// The value of the event's `source`. The names for applications and for the gateway are reserved.
    pub fn name(self) -> &'a str {
        match self {
            Self::Application => API_SOURCE,
            Self::Source { name, .. } => name,
            Self::Gateway => OPERATIONAL_SOURCE,
        }
    }
}

/// An event before it is built. [`EventDraft::new`] takes what every event has. The other fields are optional.
///
/// The caller has checked the values: the texts are within their bounds, and `data` and `metadata` are JSON.
#[derive(Debug, Clone, Copy)]
pub struct EventDraft<'a> {
    /// The tenant that the event belongs to.
    pub tenant: &'a str,
    /// The event's type.
    pub event_type: &'a str,
    /// Who sent the event.
    pub origin: EventOrigin<'a>,
    /// When the request arrived.
    pub received_at: Timestamp,
    /// The data, as JSON.
    pub data: &'a [u8],
    /// The request's body, if it is stored in addition to the data.
    pub raw: Option<&'a [u8]>,
    /// The event's own time; `None`: the time at which the request arrived.
    pub timestamp: Option<Timestamp>,
    /// The sender's id of the event.
    pub external_id: Option<&'a str>,
    /// What identifies a duplicate of the event; `None`: the event is never a duplicate.
    pub dedup_by: Option<DedupBy<'a>>,
    /// A value that is accepted only once, in addition to `dedup_by`.
    pub nonce: Option<&'a str>,
    /// The caller's correlation id, or the request's id.
    pub correlation_id: &'a str,
    /// The W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The resource that the event is about.
    pub resource_id: Option<&'a str>,
    /// The workspace that the event belongs to.
    pub workspace_id: Option<&'a str>,
    /// The user that the event is about.
    pub user_id: Option<&'a str>,
    /// The ids that were numbers.
    pub numeric_ids: NumericIds,
    /// The metadata, a JSON object.
    pub metadata: Option<&'a str>,
    /// The number of gateways that the event has passed through.
    pub hops: u8,
    /// Whether a signature or a token proved the sender.
    pub verified: bool,
    /// The stored parts of a source's request.
    pub inbound: Option<InboundInfo<'a>>,
}

impl<'a> EventDraft<'a> {
    /// A draft without optional values.
    pub fn new(
        (tenant, event_type): (&'a str, &'a str),
        origin: EventOrigin<'a>,
        received_at: Timestamp,
        data: &'a [u8],
    ) -> Self {
        Self {
            tenant,
            event_type,
            origin,
            received_at,
            data,
            raw: None,
            timestamp: None,
            external_id: None,
            dedup_by: None,
            nonce: None,
            correlation_id: "",
            traceparent: None,
            resource_id: None,
            workspace_id: None,
            user_id: None,
            numeric_ids: NumericIds::default(),
            metadata: None,
            hops: 0,
            verified: false,
            inbound: None,
        }
    }
}
