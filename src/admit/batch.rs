//! The events of one request on their way to the log: matched, encoded, each with the key that makes it the same as another.

use std::borrow::Cow;

use bytes::Bytes;
use ring::digest::{Context, SHA256, digest};
use smallvec::SmallVec;

use super::Directory;
use super::body::keep;
use super::publish::Envelope;
use super::validate::Checked;
use crate::filter::Facts;
#[cfg(doc)]
use crate::handoff::Submission;
use crate::handoff::{Admitted, Desk};
use crate::model::header::IDEMPOTENCY_KEY;
use crate::model::{API_SOURCE, DedupKey, DedupKind, NewEvent};

/// Events of one request on their way to a [`Submission`].
pub(super) struct Batch<'a> {
    envelope: Envelope<'a>,
    body: &'a Bytes,
    fingerprint: u64,
    heads: Vec<u8>,
    ends: SmallVec<[usize; 1]>,
    events: SmallVec<[Admitted; 1]>,
}

/// Bytes of an encoded head, roughly.
const HEAD_BYTES: usize = 256;

impl<'a> Batch<'a> {
    pub(super) fn new(envelope: Envelope<'a>, body: &'a Bytes, events: usize) -> Self {
        let fingerprint = if envelope.idempotency_key.is_some() { fingerprint(body) } else { 0 };
        Self {
            envelope,
            body,
            fingerprint,
            heads: Vec::with_capacity(HEAD_BYTES * events),
            ends: SmallVec::with_capacity(events),
            events: SmallVec::with_capacity(events),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Of the thread that waits for the answer, if it has one.
    pub(super) fn desk(&self) -> Option<&'a Desk> {
        self.envelope.desk
    }

    /// Matches an event and encodes its head; `place` is its index where the request has many.
    pub(super) fn add(&mut self, event: &Checked<'_>, place: Option<usize>, directory: &impl Directory) {
        let timestamp = event.timestamp.unwrap_or(self.envelope.received_at);
        let webhooks = directory.matching(&Facts {
            tenant: &event.tenant,
            event_type: &event.event_type,
            source: API_SOURCE,
            timestamp,
            external_id: event.id.as_deref(),
            resource_id: event.resource_id.as_deref(),
            workspace_id: event.workspace_id.as_deref(),
            user_id: event.user_id.as_deref(),
            metadata: event.metadata,
            data: event.data.as_bytes(),
        });
        let dedup = match (&event.id, self.envelope.idempotency_key) {
            (Some(id), _) => Some((dedup_key(&event.tenant, DedupKind::Id, id, None), DedupKind::Id, 0)),
            (None, Some(key)) => {
                let kind = DedupKind::IdempotencyKey;
                Some((dedup_key(&event.tenant, kind, key, place), kind, self.fingerprint))
            }
            (None, None) => None,
        };
        let new = NewEvent {
            tenant: &event.tenant,
            event_type: &event.event_type,
            source: API_SOURCE,
            timestamp,
            received_at: self.envelope.received_at,
            external_id: event.id.as_deref(),
            correlation_id: self.envelope.correlation_id,
            traceparent: self.envelope.traceparent,
            resource_id: event.resource_id.as_deref(),
            workspace_id: event.workspace_id.as_deref(),
            user_id: event.user_id.as_deref(),
            metadata: event.metadata,
            verified: false,
            dedup: dedup.map(|(key, kind, _)| (key, kind)),
            fingerprint: dedup.map_or(0, |(.., fingerprint)| fingerprint),
            data_len: event.data.len() as u32,
            hops: self.envelope.hops,
            ..NewEvent::default()
        };
        new.encode(&webhooks, &mut self.heads);
        self.ends.push(self.heads.len());
        let body = keep(self.body, event.data.as_bytes());
        self.events.push(Admitted { head: Bytes::new(), body, dedup, once: None, webhooks });
    }

    /// The events, each with its slice of the one buffer of heads, and how many webhooks each one has.
    pub(super) fn finish(mut self) -> (SmallVec<[Admitted; 1]>, SmallVec<[usize; 1]>) {
        let heads = Bytes::from(self.heads);
        let mut start = 0;
        for (event, end) in self.events.iter_mut().zip(self.ends) {
            event.head = heads.slice(start..end);
            start = end;
        }
        let counts = self.events.iter().map(|event| event.webhooks.len()).collect();
        (self.events, counts)
    }
}

/// SHA-256, cut to 128 bits, over the parts that make two events the same, each with its length.
fn dedup_key(tenant: &str, kind: DedupKind, id: &str, place: Option<usize>) -> DedupKey {
    let kind = match kind {
        DedupKind::Id => "id",
        DedupKind::IdempotencyKey => IDEMPOTENCY_KEY,
    };
    let place = place.map_or(Cow::Borrowed(""), |place| Cow::Owned(place.to_string()));
    dedup_key_of([tenant, API_SOURCE, kind, id, &place])
}

/// A key of tenant, source, kind, id and place.
pub(super) fn dedup_key_of(parts: [&str; 5]) -> DedupKey {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    first_bytes(context.finish().as_ref())
}

fn fingerprint(body: &[u8]) -> u64 {
    u64::from_le_bytes(first_bytes(digest(&SHA256, body).as_ref()))
}

fn first_bytes<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&digest[..N]);
    first
}
