//! The gateway's own events (`hooktide.…`). They come from its outbox; webhooks receive them like any other event.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{EventDraft, EventOrigin, Ingest, Matcher, Submit, Verdict};
use crate::handoff::Refused;
use crate::model::{DedupBy, Timestamp};

/// An event of the gateway's own, as its outbox keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct OperationalEvent {
    /// The same id for the same happening, so that the log has the event once though a crash submits it twice.
    pub id: Box<str>,
    /// The tenant that the event belongs to.
    pub tenant: Box<str>,
    /// `hooktide.…`.
    #[serde(rename = "type")]
    pub event_type: Box<str>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The webhook that the event is about.
    pub resource_id: Box<str>,
    /// The webhook's owner.
    pub user_id: Option<Box<str>>,
    /// The correlation id of the event that this one is about, if it is about one.
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
    /// Takes events of the gateway's own; they are on the disk when it answers. An event that was taken before is not
    /// taken again.
    ///
    /// # Errors
    /// If the log has no room or is gone. The caller may submit all events again, even if some of them were taken.
    pub async fn take_own(&self, events: &[OperationalEvent], now: Timestamp) -> Result<(), Refused> {
        // Each event has a buffer of its own.
        let request = Bytes::new();
        let mut builder = self.builder(&request, events.len());
        for event in events {
            builder.add(&event.draft(now));
        }
        for verdict in self.submit(builder.finish(), None).await? {
            if let Verdict::Refused(why) = verdict {
                return Err(why);
            }
        }
        Ok(())
    }
}
