//! Builds the events that the commit stage takes from drafts.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::Matcher;
use super::draft::EventDraft;
use super::key::{DedupScope, RequestBuffer};
use crate::filter::EventFields;
use crate::handoff::AdmittedEvent;
use crate::model::{MatchedWebhooks, NewEvent, Webhooks};

/// The approximate size of an encoded head in bytes.
const HEAD_BYTES: usize = 256;
/// Data in a request of up to this many bytes are copied. The buffer of a larger request is shared instead.
///
/// A small request lies in the read buffer of its connection. This buffer is at least twice as large, and would
/// otherwise be held as long as the event.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// Builds the events of one request. Their heads share one buffer.
#[derive(Debug)]
pub struct EventBuilder<'a, M> {
    matcher: &'a M,
    request: RequestBuffer<'a>,
    /// The number of events that the caller announced.
    expected: usize,
    heads: Vec<u8>,
    /// The end of each head in `heads`.
    ends: SmallVec<[usize; 1]>,
    events: SmallVec<[AdmittedEvent; 1]>,
    bytes: usize,
}

/// The events of one request, ready to be submitted.
#[derive(Debug)]
pub struct EventBatch {
    pub(super) events: SmallVec<[AdmittedEvent; 1]>,
    /// The size of the events' buffers in memory.
    pub(super) bytes: usize,
}

impl<'a, M: Matcher> EventBuilder<'a, M> {
    /// A builder for about `events` events that arrived in `request`. `request` is empty if they did not arrive in one
    /// buffer.
    pub(super) fn new(matcher: &'a M, request: &'a Bytes, events: usize) -> Self {
        Self {
            matcher,
            request: RequestBuffer::new(request),
            expected: events,
            heads: Vec::new(),
            ends: SmallVec::with_capacity(events),
            events: SmallVec::with_capacity(events),
            bytes: request.len(),
        }
    }

    /// Builds the next event: finds its webhooks, computes its keys and encodes its head.
    pub fn add(&mut self, draft: &EventDraft<'_>) {
        if self.heads.is_empty() {
            self.heads.reserve_exact(HEAD_BYTES * self.expected + headers_bytes(draft));
        }
        let event = encode(
            draft,
            &mut self.request,
            |fields| self.matcher.matching(fields, draft.received_at),
            &mut self.heads,
        );
        self.ends.push(self.heads.len());
        // With a raw body, data and raw body are copied together, and the request's buffer is given up.
        if draft.raw.is_some() || !holds(self.request.bytes, draft.data) {
            self.bytes += draft.data.len();
        }
        self.events.push(event);
    }

    /// Returns the events. Each has its slice of the shared buffer of heads.
    pub fn finish(mut self) -> EventBatch {
        let heads = Bytes::from(self.heads);
        let mut start = 0;
        for (event, end) in self.events.iter_mut().zip(self.ends) {
            event.head = heads.slice(start..end);
            start = end;
        }
        EventBatch { events: self.events, bytes: self.bytes }
    }
}

/// Builds an event for webhooks that the caller chose, such as a test delivery. The log never has this event.
pub fn build_for(webhooks: Webhooks, draft: &EventDraft<'_>, request: &Bytes) -> AdmittedEvent {
    let mut head = Vec::with_capacity(HEAD_BYTES + headers_bytes(draft));
    let event = encode(draft, &mut RequestBuffer::new(request), |_| webhooks.into(), &mut head);
    AdmittedEvent { head: head.into(), ..event }
}

/// Appends the head of an event to `heads`. `find` returns the webhooks that the event goes to. The event's own `head`
/// stays empty.
fn encode(
    draft: &EventDraft<'_>,
    request: &mut RequestBuffer<'_>,
    find: impl FnOnce(&EventFields<'_>) -> MatchedWebhooks,
    heads: &mut Vec<u8>,
) -> AdmittedEvent {
    let scope = DedupScope { tenant: draft.tenant, origin: draft.origin };
    let dedup = draft.dedup_by.map(|by| scope.dedup(by, request));
    let new = NewEvent {
        tenant: draft.tenant,
        event_type: draft.event_type,
        source: draft.origin.name(),
        timestamp: draft.timestamp.unwrap_or(draft.received_at),
        received_at: draft.received_at,
        external_id: draft.external_id,
        correlation_id: draft.correlation_id,
        traceparent: draft.traceparent,
        resource_id: draft.resource_id,
        workspace_id: draft.workspace_id,
        user_id: draft.user_id,
        numeric_ids: draft.numeric_ids,
        metadata: draft.metadata,
        verified: draft.verified,
        dedup: dedup.map(|(key, kind, _)| (key, kind)),
        fingerprint: dedup.map_or(0, |(.., fingerprint)| fingerprint),
        nonce: draft.nonce.map(|nonce| scope.nonce(nonce)).or_else(|| scope.batch_key(draft.dedup_by?)),
        // The maximum body size is far below 4 GiB.
        data_len: draft.data.len() as u32,
        raw_len: draft.raw.map(|raw| raw.len() as u32),
        inbound: draft.inbound,
        hops: draft.hops,
    };
    let matched = find(&EventFields::of(&new, draft.data));
    new.encode_matched(&matched, heads);
    AdmittedEvent { head: Bytes::new(), body: keep(request.bytes, draft), dedup, nonce: new.nonce, matched }
}

/// The event's body, which outlives the request: its data, followed by the request's body if that is kept.
fn keep(request: &Bytes, draft: &EventDraft<'_>) -> Bytes {
    match draft.raw {
        Some(raw) => {
            let mut both = BytesMut::with_capacity(draft.data.len() + raw.len());
            both.extend_from_slice(draft.data);
            both.extend_from_slice(raw);
            both.freeze()
        }
        None if request.len() > COPIED_BYTES_MAX && holds(request, draft.data) => request.slice_ref(draft.data),
        None => Bytes::copy_from_slice(draft.data),
    }
}

/// Whether `part` is a slice of `request`.
fn holds(request: &Bytes, part: &[u8]) -> bool {
    let (request, part) = (request.as_ptr_range(), part.as_ptr_range());
    request.start <= part.start && part.end <= request.end
}

/// The approximate size that the kept headers of a source's request add to the head.
fn headers_bytes(draft: &EventDraft<'_>) -> usize {
    draft.inbound.map_or(0, |inbound| inbound.headers.len() + HEAD_BYTES)
}
