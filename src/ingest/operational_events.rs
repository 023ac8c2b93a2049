//! Operational events (`hooktide.…`), which the gateway sends about itself. They come from the outbox, and webhooks
//! receive them like other events.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{EventDraft, EventOrigin, Ingest, IngestResult, Matcher, Submit};
use crate::handoff::CommitError;
use crate::model::{DedupBy, Timestamp};

/// An operational event, as the outbox stores it.
#[derive(Debug, Serialize, Deserialize)]
pub struct OperationalEvent {
    /// The id is the same for the same change, so that the log has the event once even if a crash submits it twice.
    pub id: Box<str>,
    /// The tenant that the event belongs to.
    pub tenant: Box<str>,
    /// The type, `hooktide.…`.
    #[serde(rename = "type")]
    pub event_type: Box<str>,
    /// When the change happened.
    pub timestamp: Timestamp,
    /// The webhook that the event is about.
    pub resource_id: Box<str>,
    /// The user who owns the webhook.
    pub user_id: Option<Box<str>>,
    /// The correlation id of the event that this event is about, if there is one.
    pub correlation_id: Option<Box<str>>,
    /// The payload.
    pub data: Box<RawValue>,
}

impl OperationalEvent {
    fn draft(&self, received_at: Timestamp) -> EventDraft<'_> {
        let of = (&*self.tenant, &*self.event_type);
        EventDraft {
            timestamp: Some(self.timestamp),
            external_id: Some(&self.id),
            dedup_by: Some(DedupBy::Id(&self.id)),
            correlation_id: self.correlation_id.as_deref().unwrap_or(&self.id),
            resource_id: Some(&self.resource_id),
            user_id: self.user_id.as_deref(),
            ..EventDraft::new(of, EventOrigin::Gateway, received_at, self.data.get().as_bytes())
        }
    }
}

impl<M: Matcher, S: Submit> Ingest<M, S> {
    /// Submits operational events and waits until they are on the disk. An event that is already in the log is not
    /// added again.
    ///
    /// # Errors
    /// If the log has no room or is poisoned. The caller may submit all events again, even if some of them are in the
    /// log.
    pub async fn submit_operational(&self, events: &[OperationalEvent], now: Timestamp) -> Result<(), CommitError> {
        // The events do not share a request buffer.
        let request = Bytes::new();
        let mut builder = self.builder(&request, events.len());
        for event in events {
            builder.add(&event.draft(now));
        }
        for verdict in self.submit(builder.finish(), None).await? {
            if let IngestResult::Refused(why) = verdict {
                return Err(why);
            }
        }
        Ok(())
    }
}
