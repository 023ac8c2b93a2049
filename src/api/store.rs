//! What the interface asks of settle: the seam that a test fills with a store of its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::{Problem, ProblemCode};
use crate::commit::ReadError;
use crate::model::{Attempt, DeadReason, DeliveryId, DeliveryStatus, EventId, Timestamp, WebhookNo};
use crate::settle::ReplayFilter;

/// A future of a trait object.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Deliveries, dead letters and replays, as settle remembers them. What is not async may block.
pub trait DeliveryStore: Send + Sync + 'static {
    /// Makes everything acknowledged so far readable, and answers those deliveries that are accepted but neither settled
    /// nor have a row: newest first, at most `limit`, of one webhook or one event if that is given.
    fn sync(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
        limit: usize,
    ) -> Later<'_, Answered<Vec<(EventId, WebhookNo)>>>;
    /// One delivery that has a row or an attempt.
    fn delivery(&self, id: DeliveryId) -> Answered<Option<Delivery>>;
    /// A delivery's attempts, first to last, as far as history still has them.
    fn attempts(&self, id: DeliveryId) -> Answered<Vec<Attempt>>;
    /// Deliveries of a webhook, newest first, of events before the given one.
    fn deliveries_of(&self, webhook: WebhookNo, before: Option<EventId>, limit: usize) -> Answered<Vec<Delivery>>;
    /// An event's deliveries to these webhooks (ascending), in their order.
    fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> Answered<Vec<Delivery>>;
    /// A webhook's dead letters, newest first, of events before the given one.
    fn dead_letters(&self, webhook: WebhookNo, before: Option<EventId>, limit: usize) -> Answered<Vec<DeadLetter>>;
    /// One dead letter.
    fn dead_letter(&self, id: DeliveryId) -> Answered<Option<DeadLetter>>;
    /// Starts a replay; answers its number once it is durable.
    fn replay(&self, filter: ReplayFilter) -> Later<'_, Answered<u64>>;
    /// Delivers dead letters of a webhook again, these or all; answers how many there were.
    fn replay_dead(&self, webhook: WebhookNo, events: Option<Vec<EventId>>) -> Later<'_, Answered<u64>>;
    /// Replays with numbers before the given one, newest first.
    fn replays(&self, before: Option<u64>, limit: usize) -> Answered<Vec<Replay>>;
    /// One replay.
    fn replay_job(&self, no: u64) -> Answered<Option<Replay>>;
}

/// An answer of the store.
pub type Answered<T> = Result<T, StoreFailed>;

/// The store could not be read, or is stopping; the log says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFailed;

/// A delivery without the attempts before its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Event and webhook.
    pub id: DeliveryId,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Attempts made since it was accepted or last replayed.
    pub attempts: u16,
    /// When it is tried again, if it waits for a time.
    pub next_at: Option<Timestamp>,
    /// When it became a dead letter, if it did.
    pub dead_at: Option<Timestamp>,
    /// The last attempt, if history still has it.
    pub last: Option<Attempt>,
}

impl Delivery {
    /// A delivery of which nothing is known but that it was accepted.
    pub(super) fn pending(id: DeliveryId) -> Self {
        Self { id, status: DeliveryStatus::Pending, attempts: 0, next_at: None, dead_at: None, last: None }
    }
}

/// A dead letter. Its payload is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Event and webhook.
    pub id: DeliveryId,
    /// Why it was given up.
    pub reason: DeadReason,
    /// In words, of the last attempt.
    pub error: Option<Box<str>>,
    /// Attempts made.
    pub attempts: u16,
    /// When it was given up.
    pub at: Timestamp,
}

/// A replay, running or done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its number.
    pub no: u64,
    /// What it takes.
    pub filter: ReplayFilter,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Deliveries made so far.
    pub deliveries: u64,
    /// Whether it has come to its end.
    pub done: bool,
}

impl fmt::Display for StoreFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store could not be read")
    }
}

impl std::error::Error for StoreFailed {}

impl From<StoreFailed> for Problem {
    fn from(failed: StoreFailed) -> Self {
        Self::new(ProblemCode::Internal, failed.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        // The details are the log's, not the client's.
        tracing::error!(target: "hooktide::api", %error, "the log could not be read");
        Self::new(ProblemCode::Internal, "the log could not be read")
    }
}
