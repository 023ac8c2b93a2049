//! The reading side of settle, for the management API.
//!
//! Each call is short and reads the disk, so it belongs on a thread that may block. Only the `async` methods wait for
//! the settle thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::shared_stats::SharedStats;
use crate::handoff::{CaptureFn, ReplayFilter, RetryResult, SettleCommand, SettleHandle, ToSettle};
use crate::limits::SETTLE_REPLY_WAIT;
use crate::model::{Attempt, DeliveryId, EventHead, EventId, Timestamp, WebhookNo};
use crate::runtime::Metrics;
use crate::storage::delivery::{
    DeadLetterRecord, DeliveryPage, DeliveryQuery, DeliveryReader, DeliveryRecord, Hour, HourlyStatsRow, Job,
    LookupError, OutboxRow, StatisticsView, StatsScope, UnflushedStats, WebhookStats,
};
use crate::storage::{IdempotencyKey, NumberedResponse, ReadLog, StoredResponse};

/// Reads deliveries, dead letters, statistics and jobs, and sends commands to settle. A clone shares the same store.
#[derive(Debug, Clone)]
pub struct DeliveryRecords {
    reader: Arc<dyn DeliveryReader>,
    shared_stats: Arc<SharedStats>,
    depth: Arc<BacklogDepth>,
    handle: SettleHandle,
}

/// The statistics of a webhook, all at the same moment.
#[derive(Debug)]
pub struct StatisticsSnapshot {
    webhook: WebhookNo,
    first: Hour,
    last: Hour,
    /// The number of accepted deliveries in memory that are not settled.
    outstanding: usize,
    totals: WebhookStats,
    recent: UnflushedStats,
    view: Result<Box<dyn StatisticsView>, LookupError>,
}

impl StatisticsSnapshot {
    /// The statistics since the webhook's creation.
    pub fn totals(&self) -> WebhookStats {
        self.totals
    }

    /// Reads the store: the number of deliveries that are not settled, with rows counted up to `most_rows`, whether
    /// there may be more, and the statistics of each hour. Hours without statistics are left out.
    pub fn read(self, most_rows: usize) -> Result<(usize, bool, BTreeMap<Hour, HourlyStatsRow>), LookupError> {
        let view = self.view?;
        let rows = view.rows_of(self.webhook, most_rows)?;
        let hours = view.hourly_stats(StatsScope::Webhooks(&[self.webhook]), self.first, self.last, &self.recent)?;
        Ok((self.outstanding + rows, rows == most_rows, hours))
    }
}

/// The size of the backlog, as of the last flush.
#[derive(Debug, Default)]
pub(super) struct BacklogDepth {
    rows: AtomicU64,
    outstanding: AtomicU64,
    oldest: Mutex<Option<EventId>>,
}

/// The response to a request with an idempotency key, to store with the change that the request makes.
pub type ResponseToStore = (IdempotencyKey, NumberedResponse);

/// The command, with the response to store, if there is one.
fn with_response(command: SettleCommand, answer: Option<ResponseToStore>) -> SettleCommand {
    match answer {
        Some(response) => SettleCommand::WithResponse { command: Box::new(command), response: Box::new(response) },
        None => command,
    }
}

/// The search for the oldest pending event looks at this many webhooks with rows.
const OLDEST_WEBHOOKS: usize = 4_096;

impl BacklogDepth {
    pub(super) fn set(&self, rows: u64, outstanding: u64, oldest: Option<EventId>) {
        self.rows.store(rows, Ordering::Relaxed);
        self.outstanding.store(outstanding, Ordering::Relaxed);
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    pub(super) fn get(&self) -> u64 {
        self.rows.load(Ordering::Relaxed) + self.outstanding.load(Ordering::Relaxed)
    }
}

impl DeliveryRecords {
    pub(super) fn new(
        reader: Arc<dyn DeliveryReader>,
        shared_stats: Arc<SharedStats>,
        depth: Arc<BacklogDepth>,
        handle: SettleHandle,
    ) -> Self {
        Self { reader, shared_stats, depth, handle }
    }

    /// The reader of the store.
    pub(super) fn reader(&self) -> &dyn DeliveryReader {
        &*self.reader
    }

    /// A delivery with its last attempt. `None` if it has neither a row nor history. A delivery before its first
    /// attempt has neither; [`DeliveryRecords::sync`] lists those.
    pub fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>, LookupError> {
        self.reader.delivery(id)
    }

    /// All attempts of a delivery that history still has, in order.
    pub fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, LookupError> {
        self.reader.attempts(id)
    }

    /// The newest deliveries that match the query, at most `limit`.
    pub fn deliveries(&self, query: &DeliveryQuery, limit: usize) -> Result<DeliveryPage<DeliveryRecord>, LookupError> {
        self.reader.deliveries(query, limit)
    }

    /// The newest dead letters that match the query, at most `limit`.
    pub fn dead_letters(
        &self,
        query: &DeliveryQuery,
        limit: usize,
    ) -> Result<DeliveryPage<DeadLetterRecord>, LookupError> {
        self.reader.dead_letters(query, limit)
    }

    /// The deliveries of an event to these webhooks, in their order. A delivery without a record is returned as
    /// pending.
    pub fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> Result<Vec<DeliveryRecord>, LookupError> {
        let record = |webhook: &WebhookNo| {
            let id = DeliveryId { event, webhook: *webhook };
            Ok(self.delivery(id)?.unwrap_or_else(|| DeliveryRecord::pending(id)))
        };
        webhooks.iter().map(record).collect()
    }

    /// A dead letter. `None` if there is none for this delivery.
    pub fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetterRecord>, LookupError> {
        self.reader.dead_letter(id)
    }

    /// The statistics of a webhook since its creation.
    pub fn stats(&self, webhook: WebhookNo) -> WebhookStats {
        self.shared_stats.stats(webhook)
    }

    /// Hourly statistics from `first` to `last`, both included. Hours without statistics are left out.
    pub fn hourly_stats(
        &self,
        of: StatsScope<'_>,
        first: Hour,
        last: Hour,
    ) -> Result<BTreeMap<Hour, HourlyStatsRow>, LookupError> {
        self.shared_stats.hourly_stats(&*self.reader, of, first, last)
    }

    /// The stored response of an idempotency key, unless it has expired at `now` (scheduling clock).
    pub fn stored_response(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<StoredResponse>, LookupError> {
        self.reader.stored_response(hash, now)
    }

    /// Waits for a flush, then takes a snapshot of a webhook's statistics from `first` to `last`, both included. `None`
    /// if settle has ended or does not answer within [`SETTLE_REPLY_WAIT`].
    pub async fn snapshot(&self, webhook: WebhookNo, first: Hour, last: Hour) -> Option<StatisticsSnapshot> {
        let (shared_stats, reader) = (Arc::clone(&self.shared_stats), Arc::clone(&self.reader));
        self.ask(|reply| {
            let capture = move |outstanding| {
                let (totals, recent) = shared_stats.of_webhook(webhook, first, last);
                let view = reader.statistics_view();
                // The caller may be gone.
                let _ = reply.send(StatisticsSnapshot { webhook, first, last, outstanding, totals, recent, view });
            };
            SettleCommand::Capture { webhook, capture: CaptureFn(Box::new(capture)) }
        })
        .await
    }

    /// Outbox rows: the first `limit` operational events after the row `after` that are not yet in the log.
    pub fn outbox(&self, after: Option<u64>, limit: usize) -> Result<Vec<OutboxRow>, LookupError> {
        self.reader.outbox(after, limit)
    }

    /// The webhooks whose disabling settle has recorded, with an operational event if a webhook subscribes to it.
    pub fn notified_disabled(&self) -> Result<Vec<WebhookNo>, LookupError> {
        self.reader.disabled()
    }

    /// The running jobs and the last replays, newest first.
    pub fn jobs(&self) -> Result<Vec<Job>, LookupError> {
        let mut jobs = self.reader.jobs()?;
        jobs.reverse();
        Ok(jobs)
    }

    /// The number of deliveries that are accepted and not settled, in memory and on disk, as of the last flush.
    pub fn depth(&self) -> u64 {
        self.depth.get()
    }

    /// The oldest event that is not settled, of the first 4,096 webhooks with rows. Its head in the log
    /// has its age.
    pub fn oldest_pending(&self) -> Result<Option<EventId>, LookupError> {
        let row = self.reader.oldest(OLDEST_WEBHOOKS)?;
        let outstanding = *self.depth.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match (row, outstanding) {
            (Some(row), Some(outstanding)) => Some(row.min(outstanding)),
            (row, outstanding) => row.or(outstanding),
        })
    }

    /// Updates the metrics that change while settle is idle: queue depth and age of the oldest pending event. `now` is
    /// the wall clock's time.
    pub fn refresh_metrics(&self, log: &dyn ReadLog, now: Timestamp, metrics: &Metrics) -> Result<(), LookupError> {
        metrics.queue_depth.set(self.depth() as i64);
        let head = match self.oldest_pending()? {
            Some(event) => log.heads_after(event.previous(), 1).unwrap_or_default().pop(),
            None => None,
        };
        let received = head.and_then(|(_, head)| Some(EventHead::parse(&head).ok()?.event.received_at));
        metrics.oldest_pending_seconds.set(received.map_or(0, |at| now.since(at).as_secs() as i64));
        Ok(())
    }

    /// Waits for a flush. After it, every earlier outcome and row is in the records. Returns the deliveries that were
    /// announced and have neither, newest first, at most `limit`. `None` if settle has ended or does not answer within
    /// [`SETTLE_REPLY_WAIT`].
    pub async fn sync(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
        limit: usize,
    ) -> Option<Vec<(EventId, WebhookNo)>> {
        self.ask(|reply| SettleCommand::Sync { webhook, event, limit, reply }).await
    }

    /// Starts a replay and returns the number of its job. `None` if settle does not answer.
    pub async fn replay(&self, filter: ReplayFilter, answer: Option<ResponseToStore>) -> Option<u64> {
        self.ask(|reply| with_response(SettleCommand::Replay { filter, reply }, answer)).await
    }

    /// Replays dead letters of a webhook: those of `events`, or all. Returns their number; `None` if settle does not answer.
    pub async fn replay_dead(
        &self,
        webhook: WebhookNo,
        events: Option<Vec<EventId>>,
        answer: Option<ResponseToStore>,
    ) -> Option<u64> {
        self.ask(|reply| with_response(SettleCommand::ReplayDead { webhook, events, reply }, answer)).await
    }

    /// Retries a delivery now. `None` if settle does not answer.
    pub async fn retry(&self, id: DeliveryId, answer: Option<ResponseToStore>) -> Option<RetryResult> {
        self.ask(|reply| with_response(SettleCommand::Retry { id, reply }, answer)).await
    }

    /// Deletes dead letters of a webhook and returns their number. `None` if settle does not answer.
    pub async fn discard(&self, webhook: WebhookNo, events: Vec<EventId>) -> Option<u64> {
        self.ask(|reply| SettleCommand::Discard { webhook, events, reply }).await
    }

    /// Starts a job that delivers again what failed since `since`, and returns the number of the job. `None` if settle
    /// has ended.
    pub async fn recover(&self, webhook: WebhookNo, since: Timestamp, answer: Option<ResponseToStore>) -> Option<u64> {
        self.ask(|reply| with_response(SettleCommand::Recover { webhook, since, reply }, answer)).await
    }

    /// Cancels a replay. Returns whether it was running; `None` if settle does not answer.
    pub async fn cancel_job(&self, job: u64) -> Option<bool> {
        self.ask(|reply| SettleCommand::CancelJob { job, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> SettleCommand) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        // This is a thread of the management, which must not wait for room in the queue.
        self.handle.try_send(ToSettle::Command(command(reply))).ok()?;
        tokio::time::timeout(SETTLE_REPLY_WAIT, answer).await.ok()?.ok()
    }
}
