//! What the interface asks of settle: the seam that a test fills with a store of its own.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::handoff::{ReplayFilter, Retried};
use crate::model::{Attempt, DeadReason, DeliveryId, DeliveryStatus, EventId, Timestamp, WebhookNo};
use crate::settle::{JobState, Wanted};

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
    /// The newest deliveries that are wanted and have a row or an attempt, at most `limit`.
    fn deliveries(&self, wanted: &Wanted, limit: usize) -> Answered<Part<Delivery>>;
    /// An event's deliveries to these webhooks (ascending), in their order.
    fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> Answered<Vec<Delivery>>;
    /// The newest dead letters that are wanted, at most `limit`.
    fn dead_letters(&self, wanted: &Wanted, limit: usize) -> Answered<Part<DeadLetter>>;
    /// One dead letter.
    fn dead_letter(&self, id: DeliveryId) -> Answered<Option<DeadLetter>>;
    /// Starts a replay; answers its number once it is durable.
    fn replay(&self, filter: ReplayFilter) -> Later<'_, Answered<u64>>;
    /// Delivers dead letters of a webhook again, these or all; answers how many there were.
    fn replay_dead(&self, webhook: WebhookNo, events: Option<Vec<EventId>>) -> Later<'_, Answered<u64>>;
    /// Tries a delivery once more, now.
    fn retry(&self, id: DeliveryId) -> Later<'_, Answered<Retried>>;
    /// Forgets dead letters of a webhook; answers how many there were.
    fn discard(&self, webhook: WebhookNo, events: Vec<EventId>) -> Later<'_, Answered<u64>>;
    /// Starts to deliver again what failed since a time; answers the number once it is durable.
    fn recover(&self, webhook: WebhookNo, since: Timestamp) -> Later<'_, Answered<u64>>;
    /// Stops a replay; whether it was running.
    fn cancel_replay(&self, no: u64) -> Later<'_, Answered<bool>>;
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
    /// Why it did.
    pub reason: Option<DeadReason>,
    /// The last attempt, if history still has it.
    pub last: Option<Attempt>,
}

impl Delivery {
    /// A delivery of which nothing is known but that it was accepted.
    pub(crate) fn pending(id: DeliveryId) -> Self {
        Self {
            id,
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_at: None,
            dead_at: None,
            reason: None,
            last: None,
        }
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

/// A part of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<T> {
    /// At most as many as were asked for; fewer do not mean the end.
    pub rows: Vec<T>,
    /// The delivery before which the next part begins; `None` at the end.
    pub next: Option<DeliveryId>,
}

/// A replay, running or done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Its number.
    pub no: u64,
    /// What it takes.
    pub work: Work,
    /// How far it is.
    pub state: JobState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it came to its end.
    pub ended_at: Option<Timestamp>,
    /// Events looked at so far, of a replay of events.
    pub events: u64,
    /// Deliveries made so far.
    pub deliveries: u64,
    /// Deliveries to make, where that is known beforehand.
    pub total: Option<u64>,
}

/// What a replay takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Events of the log.
    Events(ReplayFilter),
    /// A webhook's dead letters.
    DeadLetters {
        /// The webhook.
        webhook: WebhookNo,
        /// Those that ended since, and what waits for its next attempt; `None`: all.
        since: Option<Timestamp>,
    },
}

impl fmt::Display for StoreFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store could not be read")
    }
}

impl std::error::Error for StoreFailed {}
