//! The delivery backend: the interface through which the service reads and changes deliveries, dead letters and
//! replays.
//!
//! The application implements it over the settle thread's records. Tests implement it in memory.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::handoff::{ReplayFilter, RetryResult};
use crate::model::{Attempt, DeadReason, DeliveryId, DeliveryStatus, EventId, Timestamp, WebhookNo};
use crate::settle::{DeliveryQuery, JobState, ResponseToStore};
use crate::storage::StoredResponse;

/// A boxed future, for the async methods of trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reads and changes deliveries, dead letters and replays. Methods that are not async may block.
pub trait DeliveryBackend: Send + Sync + 'static {
    /// Waits until everything acknowledged so far is readable. Returns the accepted deliveries that are neither settled
    /// nor have a row, newest first and at most `limit`. `webhook` and `event` restrict the result to one webhook or
    /// one event.
    fn sync(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
        limit: usize,
    ) -> BoxFuture<'_, BackendResult<Vec<(EventId, WebhookNo)>>>;
    /// Returns one delivery that has a row or an attempt.
    fn delivery(&self, id: DeliveryId) -> BackendResult<Option<Delivery>>;
    /// Returns the attempts of a delivery, oldest first, as far as the history still holds them.
    fn attempts(&self, id: DeliveryId) -> BackendResult<Vec<Attempt>>;
    /// Returns the newest deliveries that match the query and have a row or an attempt, at most `limit`.
    fn deliveries(&self, query: &DeliveryQuery, limit: usize) -> BackendResult<RowBatch<Delivery>>;
    /// Returns the deliveries of an event to the given webhooks. `webhooks` must be ascending; the result has the same
    /// order.
    fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> BackendResult<Vec<Delivery>>;
    /// Returns the newest dead letters that match the query, at most `limit`.
    fn dead_letters(&self, query: &DeliveryQuery, limit: usize) -> BackendResult<RowBatch<DeadLetter>>;
    /// Returns one dead letter.
    fn dead_letter(&self, id: DeliveryId) -> BackendResult<Option<DeadLetter>>;
    /// Returns the stored response of an idempotency key, unless it has expired at `now` (scheduling clock).
    fn stored_response(&self, hash: &[u8; 32], now: Timestamp) -> BackendResult<Option<StoredResponse>>;
    /// Starts a replay. Returns its number once the replay is durable. `answer` is stored with it.
    fn replay(&self, filter: ReplayFilter, answer: Option<ResponseToStore>) -> BoxFuture<'_, BackendResult<u64>>;
    /// Delivers dead letters of a webhook again: those of `events`, or all if `None`. Returns their number.
    /// `answer` is stored with the change.
    fn replay_dead(
        &self,
        webhook: WebhookNo,
        events: Option<Vec<EventId>>,
        answer: Option<ResponseToStore>,
    ) -> BoxFuture<'_, BackendResult<u64>>;
    /// Makes one more attempt of a delivery now.
    /// `answer` is stored if the attempt is scheduled.
    fn retry(&self, id: DeliveryId, answer: Option<ResponseToStore>) -> BoxFuture<'_, BackendResult<RetryResult>>;
    /// Deletes dead letters of a webhook. Returns the number of deleted dead letters.
    fn discard(&self, webhook: WebhookNo, events: Vec<EventId>) -> BoxFuture<'_, BackendResult<u64>>;
    /// Starts to deliver again what failed since the given time. Returns the number of the replay once the replay is
    /// durable.
    /// `answer` is stored with the replay.
    fn recover(
        &self,
        webhook: WebhookNo,
        since: Timestamp,
        answer: Option<ResponseToStore>,
    ) -> BoxFuture<'_, BackendResult<u64>>;
    /// Cancels a replay. Returns whether the replay was running.
    fn cancel_replay(&self, no: u64) -> BoxFuture<'_, BackendResult<bool>>;
    /// Returns the replays with numbers less than `before`, newest first and at most `limit`.
    fn replays(&self, before: Option<u64>, limit: usize) -> BackendResult<Vec<Replay>>;
    /// Returns one replay.
    fn replay_job(&self, no: u64) -> BackendResult<Option<Replay>>;
}

/// The result of a backend call.
pub type BackendResult<T> = Result<T, BackendFailed>;

/// Why a backend call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendFailed {
    /// The store cannot be read. The reason is in the server's log.
    Unreadable,
    /// The stage that changes the store does not answer, or is stopping.
    Busy,
}

/// A delivery with its last attempt. Earlier attempts are not included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The event and the webhook of the delivery.
    pub id: DeliveryId,
    /// The state of the delivery.
    pub status: DeliveryStatus,
    /// The number of attempts since the event was accepted or last replayed.
    pub attempts: u16,
    /// The time of the next attempt, if the delivery waits for a time.
    pub next_at: Option<Timestamp>,
    /// The time at which the delivery became a dead letter.
    pub dead_at: Option<Timestamp>,
    /// Why the delivery became a dead letter.
    pub reason: Option<DeadReason>,
    /// The last attempt, if the history still holds it.
    pub last: Option<Attempt>,
}

impl Delivery {
    /// A delivery that was accepted and has no row yet.
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

/// A dead letter. The log holds its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event and the webhook of the delivery.
    pub id: DeliveryId,
    /// Why delivery ended without success.
    pub reason: DeadReason,
    /// The error of the last attempt as text.
    pub error: Option<Box<str>>,
    /// The number of attempts.
    pub attempts: u16,
    /// The time at which the delivery became a dead letter.
    pub at: Timestamp,
}

/// A batch of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowBatch<T> {
    /// At most as many rows as requested. Fewer rows than requested do not mean that the list ends.
    pub rows: Vec<T>,
    /// The delivery before which the next batch begins; `None` at the end of the list.
    pub next: Option<DeliveryId>,
}

/// A replay that is running or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The number of the replay.
    pub no: u64,
    /// What the replay delivers again.
    pub scope: ReplayScope,
    /// The state of the replay.
    pub state: JobState,
    /// The time at which the replay was requested.
    pub created_at: Timestamp,
    /// The time at which the replay ended.
    pub ended_at: Option<Timestamp>,
    /// The number of events examined so far. Only replays of events count events.
    pub events: u64,
    /// The number of deliveries created so far.
    pub deliveries: u64,
    /// The number of deliveries to create, if it is known in advance.
    pub total: Option<u64>,
}

/// What a replay delivers again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayScope {
    /// Events of the log.
    Events(ReplayFilter),
    /// Dead letters of one webhook.
    DeadLetters {
        /// The webhook.
        webhook: WebhookNo,
        /// Dead letters that ended since this time, and deliveries that wait for their next attempt; `None`: all dead
        /// letters.
        since: Option<Timestamp>,
    },
}

impl fmt::Display for BackendFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "the store could not be read",
            Self::Busy => "the deliveries are not available at the moment; try again",
        })
    }
}

impl std::error::Error for BackendFailed {}
