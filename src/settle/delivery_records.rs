//! The reading side: what became of deliveries, for the interface. Each call is short and reads the disk, so it belongs on
//! a thread that may block; none of them waits for the settle thread but those that say so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::ledger::Ledger;
use crate::handoff::{Command, ReplayFilter, Retried, SettleHandle, ToSettle};
use crate::model::{Attempt, DeliveryId, EventHead, EventId, Timestamp, WebhookNo};
use crate::runtime::Metrics;
use crate::storage::ReadLog;
use crate::storage::delivery::{
    DeadLetter, DeliveryReader, DeliveryRecord, FiguresOf, Hour, HourRow, Job, LookupError, OutboxRow, Page, Wanted,
    WebhookStats,
};

/// See the module.
#[derive(Debug, Clone)]
pub struct Records {
    reader: Arc<dyn DeliveryReader>,
    ledger: Arc<Ledger>,
    depth: Arc<Depth>,
    handle: SettleHandle,
}

/// How much waits, as of the last flush.
#[derive(Debug, Default)]
pub(super) struct Depth {
    rows: AtomicU64,
    outstanding: AtomicU64,
    oldest: Mutex<Option<EventId>>,
}

/// Webhooks with rows that are looked at for the oldest.
const OLDEST_WEBHOOKS: usize = 4_096;

impl Depth {
    pub(super) fn set(&self, rows: u64, outstanding: u64, oldest: Option<EventId>) {
        self.rows.store(rows, Ordering::Relaxed);
        self.outstanding.store(outstanding, Ordering::Relaxed);
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    pub(super) fn get(&self) -> u64 {
        self.rows.load(Ordering::Relaxed) + self.outstanding.load(Ordering::Relaxed)
    }
}

impl Records {
    pub(super) fn new(
        reader: Arc<dyn DeliveryReader>,
        ledger: Arc<Ledger>,
        depth: Arc<Depth>,
        handle: SettleHandle,
    ) -> Self {
        Self { reader, ledger, depth, handle }
    }

    /// What is on the disk.
    pub(super) fn reader(&self) -> &dyn DeliveryReader {
        &*self.reader
    }

    /// A delivery with its last attempt; `None` if neither a row nor history knows it, which is so of one that is still on
    /// its way to its first attempt ([`Records::sync`] names those).
    pub fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>, LookupError> {
        self.reader.delivery(id)
    }

    /// All attempts at a delivery that history still has, in their order.
    pub fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, LookupError> {
        self.reader.attempts(id)
    }

    /// The newest deliveries that are wanted, at most `limit`.
    pub fn deliveries(&self, wanted: &Wanted, limit: usize) -> Result<Page<DeliveryRecord>, LookupError> {
        self.reader.deliveries(wanted, limit)
    }

    /// The newest dead letters that are wanted, at most `limit`.
    pub fn dead_letters(&self, wanted: &Wanted, limit: usize) -> Result<Page<DeadLetter>, LookupError> {
        self.reader.dead_letters(wanted, limit)
    }

    /// The deliveries of an event to these webhooks, in their order; of which nothing is known yet is pending.
    pub fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> Result<Vec<DeliveryRecord>, LookupError> {
        let record = |webhook: &WebhookNo| {
            let id = DeliveryId { event, webhook: *webhook };
            Ok(self.delivery(id)?.unwrap_or_else(|| DeliveryRecord::pending(id)))
        };
        webhooks.iter().map(record).collect()
    }

    /// A dead letter.
    pub fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, LookupError> {
        self.reader.dead_letter(id)
    }

    /// A webhook's figures.
    pub fn stats(&self, webhook: WebhookNo) -> WebhookStats {
        self.ledger.stats(webhook)
    }

    /// Figures by hour, of the hours from `first` to `last`; an hour without any is not there.
    pub fn figures(&self, of: FiguresOf<'_>, first: Hour, last: Hour) -> Result<BTreeMap<Hour, HourRow>, LookupError> {
        self.ledger.figures(&*self.reader, of, first, last)
    }

    /// Deliveries of a webhook that have a row, up to `most`.
    pub fn rows_of(&self, webhook: WebhookNo, most: usize) -> Result<usize, LookupError> {
        self.reader.rows_of(webhook, most)
    }

    /// Operational events after this row that wait for the log, the first of them.
    pub fn outbox(&self, after: Option<u64>, limit: usize) -> Result<Vec<OutboxRow>, LookupError> {
        self.reader.outbox(after, limit)
    }

    /// The webhooks of which an operational event, or its want of listeners, was settled that says they are disabled.
    pub fn told_disabled(&self) -> Result<Vec<WebhookNo>, LookupError> {
        self.reader.disabled()
    }

    /// Jobs, newest first: the running ones and the last replays.
    pub fn jobs(&self) -> Result<Vec<Job>, LookupError> {
        let mut jobs = self.reader.jobs()?;
        jobs.reverse();
        Ok(jobs)
    }

    /// Deliveries accepted and not settled, in memory and on disk, as of the last flush.
    pub fn depth(&self) -> u64 {
        self.depth.get()
    }

    /// The oldest event that is not settled, over the first webhooks with rows; its head in the log says how old it is.
    pub fn oldest_pending(&self) -> Result<Option<EventId>, LookupError> {
        let row = self.reader.oldest(OLDEST_WEBHOOKS)?;
        let outstanding = *self.depth.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match (row, outstanding) {
            (Some(row), Some(outstanding)) => Some(row.min(outstanding)),
            (row, outstanding) => row.or(outstanding),
        })
    }

    /// Brings the figures up to date that change while settle has nothing to do; for whoever shows them. `now` is of the
    /// wall clock.
    pub fn observe(&self, log: &dyn ReadLog, now: Timestamp, metrics: &Metrics) -> Result<(), LookupError> {
        metrics.queue_depth.set(self.depth() as i64);
        let head = match self.oldest_pending()? {
            Some(event) => log.heads_after(event.previous(), 1).unwrap_or_default().pop(),
            None => None,
        };
        let received = head.and_then(|(_, head)| Some(EventHead::parse(&head).ok()?.event.received_at));
        metrics.oldest_pending_seconds.set(received.map_or(0, |at| now.since(at).as_secs() as i64));
        Ok(())
    }

    /// Waits for a flush; then every outcome and row from before is in the records, and the answer names what was
    /// announced and has neither (newest first, at most `limit`).
    pub async fn sync(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
        limit: usize,
    ) -> Vec<(EventId, WebhookNo)> {
        self.ask(|reply| Command::Sync { webhook, event, limit, reply }).await.unwrap_or_default()
    }

    /// Begins a replay; its job's number, `None` if settle has ended.
    pub async fn replay(&self, filter: ReplayFilter) -> Option<u64> {
        self.ask(|reply| Command::Replay { filter, reply }).await
    }

    /// Delivers dead letters of a webhook again, these or all; how many, `None` if settle has ended.
    pub async fn replay_dead(&self, webhook: WebhookNo, events: Option<Vec<EventId>>) -> Option<u64> {
        self.ask(|reply| Command::ReplayDead { webhook, events, reply }).await
    }

    /// Tries a delivery once more, now; `None` if settle has ended.
    pub async fn retry(&self, id: DeliveryId) -> Option<Retried> {
        self.ask(|reply| Command::Retry { id, reply }).await
    }

    /// Forgets dead letters of a webhook; how many there were, `None` if settle has ended.
    pub async fn discard(&self, webhook: WebhookNo, events: Vec<EventId>) -> Option<u64> {
        self.ask(|reply| Command::Discard { webhook, events, reply }).await
    }

    /// Begins to deliver again what failed since a time; the job's number, `None` if settle has ended.
    pub async fn recover(&self, webhook: WebhookNo, since: Timestamp) -> Option<u64> {
        self.ask(|reply| Command::Recover { webhook, since, reply }).await
    }

    /// Stops a replay; whether there was one to stop, `None` if settle has ended.
    pub async fn cancel_job(&self, job: u64) -> Option<bool> {
        self.ask(|reply| Command::CancelJob { job, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.handle.tell(ToSettle::Command(command(reply)));
        answer.await.ok()
    }
}
