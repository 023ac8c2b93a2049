//! The gateway's own events (`hooktide.…`), which come from its outbox and not over HTTP: matched, committed and delivered
//! like a client's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::batch::dedup_key_of;
use super::reply::Verdict;
use super::{Admit, Directory, Submit};
use crate::filter::Facts;
use crate::handoff::Admitted;
use crate::http::Problem;
use crate::model::{DedupKind, NewEvent, OWN_SOURCE, Timestamp};

/// An event of the gateway's own, as its outbox keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub struct OwnEvent {
    /// The same for the same happening, so that it is in the log once though a crash had it admitted twice.
    pub id: Box<str>,
    /// Whose it is.
    pub tenant: Box<str>,
    /// `hooktide.…`.
    #[serde(rename = "type")]
    pub event_type: Box<str>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The webhook that it is about.
    pub resource_id: Box<str>,
    /// The webhook's owner.
    pub user_id: Option<Box<str>>,
    /// Of the event that it is about, if it is about one.
    pub correlation_id: Option<Box<str>>,
    /// The payload.
    pub data: Box<RawValue>,
}

impl<D: Directory, S: Submit, M> Admit<D, S, M> {
    /// Takes events of the gateway's own; they are on the disk when it answers. One that was taken before is not taken again.
    ///
    /// # Errors
    /// If the log has no room or is gone: nothing, or a part that may be given again, was taken.
    pub async fn take_own(&self, events: Vec<OwnEvent>) -> Result<(), Problem> {
        let (mut admitted, mut counts, mut bytes) = (SmallVec::new(), SmallVec::new(), 0);
        for event in &events {
            let one = self.own(event);
            counts.push(one.webhooks.len());
            bytes += one.body.len();
            admitted.push(one);
        }
        for verdict in self.hand_in(admitted, counts, bytes, None).await? {
            if let Verdict::Refused(problem) = verdict {
                return Err(problem);
            }
        }
        Ok(())
    }

    fn own(&self, event: &OwnEvent) -> Admitted {
        let received_at = self.clock.now();
        // No source is named so: what a client or a provider sends has another key.
        let key = dedup_key_of([&event.tenant, "", "own", &event.id, ""]);
        let new = NewEvent {
            tenant: &event.tenant,
            event_type: &event.event_type,
            source: OWN_SOURCE,
            timestamp: event.timestamp,
            received_at,
            external_id: Some(&event.id),
            correlation_id: event.correlation_id.as_deref().unwrap_or(&event.id),
            resource_id: Some(&event.resource_id),
            user_id: event.user_id.as_deref(),
            dedup: Some((key, DedupKind::Id)),
            data_len: event.data.get().len() as u32,
            ..NewEvent::default()
        };
        let webhooks = self.directory.matching(&Facts::of(&new, event.data.get().as_bytes()));
        let mut head = Vec::new();
        new.encode(&webhooks, &mut head);
        let dedup = Some((key, DedupKind::Id, 0));
        let body = Bytes::copy_from_slice(event.data.get().as_bytes());
        Admitted { head: head.into(), body, dedup, once: None, webhooks }
    }
}
