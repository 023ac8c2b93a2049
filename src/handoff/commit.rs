//! To and from the commit thread: submissions, their verdicts, and the bodies that are read back.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Sender, TrySendError};
use smallvec::SmallVec;

use super::Reply;
use crate::model::{DedupKey, DedupKind, EventId, WebhookNo, Webhooks};
use crate::outbound::Event;
use crate::runtime::{BodyLease, Permit};
use crate::storage::{DurableEvent, Poison};

/// An event that passed the door: its head encoded, its webhooks matched.
#[derive(Debug)]
pub struct Admitted {
    /// The head as the log keeps it ([`crate::model::NewEvent::encode`]).
    pub head: Bytes,
    /// The payload, and the raw body behind it where the head says so.
    pub body: Bytes,
    /// What makes it the same as another, with the fingerprint of its body.
    pub dedup: Option<(DedupKey, DedupKind, u64)>,
    /// What may come only once, beside that: an event with a key that was there is the event that it came with.
    pub nonce: Option<DedupKey>,
    /// The webhooks it goes to, ascending.
    pub webhooks: Webhooks,
}

/// One request's events, in the order sent, and where the answer goes.
#[derive(Debug)]
pub struct Submission {
    /// At least one.
    pub events: SmallVec<[Admitted; 1]>,
    /// The request's place at the door.
    pub permit: Arc<Permit>,
    /// The request's buffer.
    pub lease: Arc<BodyLease>,
    /// One verdict per event, in the same order.
    pub reply: Reply,
}

/// What became of a request's events, one for one.
pub type Verdicts = SmallVec<[Result<Committed, Refused>; 1]>;

/// An event that is in a completed fsync, so that it may be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    proof: DurableEvent,
    is_duplicate: bool,
}

impl Committed {
    /// Only the log can give the proof.
    pub fn new(proof: DurableEvent, is_duplicate: bool) -> Self {
        Self { proof, is_duplicate }
    }

    /// The event's id; of a duplicate, the first one's.
    pub fn id(self) -> EventId {
        self.proof.id()
    }

    /// Whether it was there before.
    pub fn is_duplicate(self) -> bool {
        self.is_duplicate
    }
}

/// Why an event was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The same idempotency key came with another body.
    #[error("this Idempotency-Key was used with another body")]
    KeyReused,
    /// The queue before the commit thread is full.
    #[error("too many requests wait for the disk")]
    Overloaded,
    /// The disk is full, or nearly.
    #[error("the disk is full")]
    DiskFull,
    /// A write failed: nothing more is acknowledged, the process ends.
    #[error("the log cannot be written")]
    Poisoned,
}

/// The way to the commit thread.
#[derive(Debug, Clone)]
pub struct CommitHandle {
    /// Boxed, as the queue is a ring that is gone through from end to end: whole submissions would turn the caches over.
    pub(crate) to: Sender<Box<Submission>>,
    pub(crate) poison: Poison,
}

impl CommitHandle {
    /// Hands events over without waiting, or gives them back: `Overloaded` when too many wait, `Poisoned` when the log
    /// takes no more. The reply's other end fails if the process ends first.
    #[expect(clippy::result_large_err, reason = "the caller gets its events back to answer for them")]
    pub fn submit(&self, submission: Submission) -> Result<(), (Refused, Submission)> {
        if self.poison.is_set() {
            return Err((Refused::Poisoned, submission));
        }
        self.to.try_send(Box::new(submission)).map_err(|error| match error {
            TrySendError::Full(submission) => (Refused::Overloaded, *submission),
            TrySendError::Disconnected(submission) => (Refused::Poisoned, *submission),
        })
    }

    /// Submissions that wait.
    pub fn queued(&self) -> usize {
        self.to.len()
    }
}

/// Events for the recall thread to read back, for one webhook of one shard.
#[derive(Debug)]
pub struct RecallRequest {
    /// The shard that asks.
    pub shard: usize,
    /// The webhook it asks for.
    pub webhook: WebhookNo,
    /// Ascending.
    pub events: Vec<EventId>,
}

/// An event read back; `None`: the log's limits took it.
pub type Recalled = (EventId, Option<Arc<Event>>);

/// What retention asks of settle before a segment goes.
pub trait Needs: Send + Sync + 'static {
    /// The events in this range, bounds included, whose bodies a pending delivery or a dead letter still names, ascending;
    /// `None`: one of them is on its way and neither settled nor on disk, so come back later.
    fn needed(&self, first: EventId, last: EventId) -> Option<Vec<EventId>>;
    /// The bodies of these events go: what still waits for one becomes a dead letter (`expired`).
    fn expire(&self, events: Vec<EventId>);
}
