//! Messages to and from the commit thread and the body reader: submissions, commit results, and bodies read from the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use smallvec::SmallVec;

use super::CommitReply;
use crate::model::{DedupKey, DedupKind, EventId, MatchedWebhooks, WebhookNo};
use crate::outbound::Event;
use crate::runtime::{BodyLease, IngestPermit};
use crate::storage::{DurableEvent, Poison};

/// An event with ingest permits, ready to be committed: its head is encoded and its webhooks are matched.
#[derive(Debug)]
pub struct AdmittedEvent {
    /// The head as the log stores it ([`crate::model::NewEvent::encode`]).
    pub head: Bytes,
    /// The payload. If the head says so, the raw body follows it.
    pub body: Bytes,
    /// The deduplication key, its kind, and the fingerprint of the body. `None` if the event is not deduplicated.
    pub dedup: Option<(DedupKey, DedupKind, u64)>,
    /// A second key that is accepted only once. An event whose nonce was already used is a duplicate of the event that
    /// used it. With [`DedupKind::IdempotencyKey`], the key of the batch that the event is in: an event of another batch
    /// with this key is refused.
    pub nonce: Option<DedupKey>,
    /// The webhooks that matched.
    pub matched: MatchedWebhooks,
}

/// The events of one request, in the order sent, and the channel for the commit results.
#[derive(Debug)]
pub struct Submission {
    /// At least one event.
    pub events: SmallVec<[AdmittedEvent; 1]>,
    /// The request's ingest permits.
    pub permit: Arc<IngestPermit>,
    /// The memory budget lease of the request's buffer.
    pub lease: Arc<BodyLease>,
    /// Receives one result for each event, in the same order.
    pub reply: CommitReply,
}

/// The commit results of a request's events, one for each event, in the same order.
pub type CommitResults = SmallVec<[Result<Committed, CommitError>; 1]>;

/// An event that a completed fsync made durable, so that it may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    proof: DurableEvent,
    is_duplicate: bool,
}

impl Committed {
    /// Creates the result for a durable event. Only the log can create the proof.
    pub fn new(proof: DurableEvent, is_duplicate: bool) -> Self {
        Self { proof, is_duplicate }
    }

    /// The event's id. For a duplicate, this is the id of the first event.
    pub fn id(self) -> EventId {
        self.proof.id()
    }

    /// Whether the event is a duplicate of an earlier event.
    pub fn is_duplicate(self) -> bool {
        self.is_duplicate
    }
}

/// The reason why an event was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The idempotency key was used before with another body.
    #[error("this Idempotency-Key was used with another body")]
    KeyReused,
    /// The queue of the commit thread, of settle or of a shard is full.
    #[error("too many requests wait for the disk")]
    Overloaded,
    /// The disk is full or almost full.
    #[error("the disk is full")]
    DiskFull,
    /// A write failed. No further event is acknowledged, and the process ends.
    #[error("the log cannot be written")]
    Poisoned,
}

/// Why new events are refused although the log can be written.
#[derive(Debug, Default)]
pub struct HandoverState {
    is_full: AtomicBool,
    is_commit_stalled: AtomicBool,
}

impl HandoverState {
    /// Records whether the queue of settle or of a shard is full. Returns the previous value.
    pub fn set_full(&self, is_full: bool) -> bool {
        self.is_full.swap(is_full, Ordering::Relaxed)
    }

    /// Records whether the commit thread makes no progress.
    pub fn set_commit_stalled(&self, is_stalled: bool) {
        self.is_commit_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// Whether the queue of settle or of a shard is full.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    fn refuses_events(&self) -> bool {
        self.is_full() || self.is_commit_stalled.load(Ordering::Relaxed)
    }
}

/// A request for a sign of life. The commit thread answers between two batches, and writes nothing.
pub type CommitPing = Sender<()>;

/// Sends submissions to the commit thread.
#[derive(Debug, Clone)]
pub struct CommitHandle {
    /// The submissions are boxed: the queue is a ring buffer that is used from end to end, and unboxed submissions would
    /// displace the content of the processor's caches.
    pub(crate) to: Sender<Box<Submission>>,
    /// Requests for a sign of life.
    pub(crate) pings: Sender<CommitPing>,
    /// Set when the log accepts no more events.
    pub(crate) poison: Poison,
    /// Set while committed events cannot be handed over, so that no further events are taken.
    pub(crate) handover: Arc<HandoverState>,
}

impl CommitHandle {
    /// Submits events without waiting. The receiver of the reply fails if the process ends first.
    ///
    /// # Errors
    /// `Overloaded` if the queue or a queue behind the commit thread is full, `Poisoned` if the log accepts no more events. The submission is returned.
    #[expect(clippy::result_large_err, reason = "the caller gets its events back to answer for them")]
    pub fn submit(&self, submission: Submission) -> Result<(), (CommitError, Submission)> {
        if self.poison.is_set() {
            return Err((CommitError::Poisoned, submission));
        }
        if self.handover.refuses_events() {
            return Err((CommitError::Overloaded, submission));
        }
        self.to.try_send(Box::new(submission)).map_err(|error| match error {
            TrySendError::Full(submission) => (CommitError::Overloaded, *submission),
            TrySendError::Disconnected(submission) => (CommitError::Poisoned, *submission),
        })
    }

    /// Whether a queue between this handle and the deliveries is full.
    pub fn is_full(&self) -> bool {
        self.to.is_full() || self.handover.is_full()
    }

    /// Asks the commit thread for a sign of life. The receiver gets one message, and fails if the thread has ended.
    pub fn ping(&self) -> Receiver<()> {
        let (answer, answered) = bounded(1);
        let _ = self.pings.try_send(answer);
        answered
    }

    /// Records whether the commit thread makes no progress.
    pub fn set_stalled(&self, is_stalled: bool) {
        self.handover.set_commit_stalled(is_stalled);
    }
}

/// A request to the body reader thread: events to read from the log, for one webhook of one shard.
#[derive(Debug)]
pub struct BodyRequest {
    /// The requesting shard.
    pub shard: usize,
    /// The webhook that needs the bodies.
    pub webhook: WebhookNo,
    /// The events, in ascending order.
    pub events: Vec<EventId>,
}

/// An event read from the log, or `None` if retention has deleted it.
pub type LoadedBody = (EventId, Option<Arc<Event>>);

/// The references of settle to events in the log. Retention asks for them before it deletes a segment.
pub trait RetentionRefs: Send + Sync + 'static {
    /// Returns the events from `first` to `last` (both included) whose bodies a pending delivery or a dead letter still
    /// needs, in ascending order. Returns `None` if one of them is in memory only, neither settled nor on disk. The
    /// caller must then try again later.
    fn needed(&self, first: EventId, last: EventId) -> Option<Vec<EventId>>;
    /// Reports that the bodies of these events are deleted. Deliveries that still wait for one become dead letters
    /// (`expired`).
    fn expire(&self, events: Vec<EventId>);
}
