//! The reading side: what became of deliveries, for the interface. Each call is short and reads the disk, so it belongs on
//! a thread that may block; none of them waits for the settle thread but those that say so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::Error;
use tokio::sync::oneshot;

use super::dead::{self, DeadLetter};
use super::figures::{Hour, HourRow};
use super::history::Files;
use super::hours::FiguresOf;
use super::job::Job;
use super::ledger::Ledger;
use super::list::{self, Wanted};
use super::outbox::{self, OutboxRow};
use super::pending::{self, PendingRow};
use super::stats::WebhookStats;
use super::table::{DEAD, JOBS, Key, PENDING, key, previous};
use super::watch;
use crate::handoff::{Command, ReplayFilter, Retried, SettleHandle, ToSettle};
use crate::model::{Attempt, DeliveryId, DeliveryStatus, EventHead, EventId, Timestamp, WebhookNo};
use crate::runtime::Metrics;
use crate::storage::ReadLog;
use crate::storage::file::Store;

/// See the module.
#[derive(Debug, Clone)]
pub struct Records {
    state: Arc<Store>,
    files: Arc<Files>,
    ledger: Arc<Ledger>,
    depth: Arc<Depth>,
    handle: SettleHandle,
}

/// A delivery, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Which delivery.
    pub id: DeliveryId,
    /// Its state.
    pub status: DeliveryStatus,
    /// Attempts made, those before a replay too.
    pub attempt_count: u16,
    /// When the next one is due, by the scheduling clock.
    pub next_retry_at: Option<Timestamp>,
    /// The last attempt, while history keeps it.
    pub last: Option<Attempt>,
    /// The dead letter it ended as.
    pub dead: Option<DeadLetter>,
}

/// A part of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// At most as many as were asked for; fewer do not mean the end.
    pub rows: Vec<T>,
    /// Where the next page begins (pass it as `before`); `None` at the end.
    pub next: Option<DeliveryId>,
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
        state: Arc<Store>,
        files: Arc<Files>,
        ledger: Arc<Ledger>,
        depth: Arc<Depth>,
        handle: SettleHandle,
    ) -> Self {
        Self { state, files, ledger, depth, handle }
    }

    pub(super) fn state(&self) -> &Store {
        &self.state
    }

    /// A delivery with its last attempt; `None` if neither a row nor history knows it, which is so of one that is still on
    /// its way to its first attempt ([`Records::sync`] names those).
    pub fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>, Error> {
        let key = key(id.webhook, id.event);
        let (waits, letter) = self.state.read(|txn| {
            let row = txn.open_table(PENDING)?.get(&key)?.map(|row| PendingRow::decode(row.value()));
            let letter = match txn.open_table(DEAD)?.get(&key)? {
                Some(value) => Some(dead::decode(id, value.value())?),
                None => None,
            };
            Ok((row, letter))
        })?;
        let last = self.files.attempts(id)?.pop();
        Ok(match (waits, letter, last) {
            (None, None, None) => None,
            (Some(row), _, last) => Some(DeliveryRecord::of_row(id, row, last)),
            (None, Some(letter), last) => Some(DeliveryRecord::of_letter(letter, last)),
            (None, None, Some(last)) => Some(DeliveryRecord::of_history(id, last)),
        })
    }

    /// All attempts at a delivery that history still has, in their order.
    pub fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, Error> {
        self.files.attempts(id)
    }

    /// The newest deliveries that are wanted, at most `limit`.
    pub fn deliveries(&self, wanted: &Wanted, limit: usize) -> Result<Page<DeliveryRecord>, Error> {
        list::deliveries(&self.state, &self.files, wanted, limit)
    }

    /// The newest dead letters that are wanted, at most `limit`.
    pub fn dead_letters(&self, wanted: &Wanted, limit: usize) -> Result<Page<DeadLetter>, Error> {
        list::letters(&self.state, wanted, limit)
    }

    /// The deliveries of an event to these webhooks, in their order; of which nothing is known yet is pending.
    pub fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> Result<Vec<DeliveryRecord>, Error> {
        let record = |webhook: &WebhookNo| {
            let id = DeliveryId { event, webhook: *webhook };
            Ok(self.delivery(id)?.unwrap_or_else(|| DeliveryRecord::of_row(id, PendingRow::READY, None)))
        };
        webhooks.iter().map(record).collect()
    }

    /// A dead letter.
    pub fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, Error> {
        self.state.read(|txn| {
            let value = txn.open_table(DEAD)?.get(&key(id.webhook, id.event))?;
            value.map(|value| dead::decode(id, value.value())).transpose()
        })
    }

    /// A webhook's figures.
    pub fn stats(&self, webhook: WebhookNo) -> WebhookStats {
        self.ledger.stats(webhook)
    }

    /// Figures by hour, of the hours from `first` to `last`; an hour without any is not there.
    pub fn figures(&self, of: FiguresOf<'_>, first: Hour, last: Hour) -> Result<BTreeMap<Hour, HourRow>, Error> {
        self.ledger.figures(&self.state, of, first, last)
    }

    /// Deliveries of a webhook that have a row, up to `most`.
    pub fn rows_of(&self, webhook: WebhookNo, most: usize) -> Result<usize, Error> {
        let (first, last) = (key(webhook, EventId::MIN), key(webhook, EventId::MAX));
        self.state.read(|txn| Ok(txn.open_table(PENDING)?.range::<&Key>(&first..=&last)?.take(most).count()))
    }

    /// Operational events after this row that wait for the log, the first of them.
    pub fn outbox(&self, after: Option<u64>, limit: usize) -> Result<Vec<OutboxRow>, Error> {
        self.state.read(|txn| outbox::rows_after(txn, after, limit))
    }

    /// The webhooks of which an operational event, or its want of listeners, was settled that says they are disabled.
    pub fn told_disabled(&self) -> Result<Vec<WebhookNo>, Error> {
        self.state.read(watch::disabled)
    }

    /// Jobs, newest first: the running ones and the last replays.
    pub fn jobs(&self) -> Result<Vec<Job>, Error> {
        let mut jobs = self.state.read(|txn| Job::load(&txn.open_table(JOBS)?))?;
        jobs.reverse();
        Ok(jobs)
    }

    /// Deliveries accepted and not settled, in memory and on disk, as of the last flush.
    pub fn depth(&self) -> u64 {
        self.depth.get()
    }

    /// The oldest event that is not settled, over the first webhooks with rows; its head in the log says how old it is.
    pub fn oldest_pending(&self) -> Result<Option<EventId>, Error> {
        let row = self.state.read(|txn| pending::oldest(txn, OLDEST_WEBHOOKS))?;
        let outstanding = *self.depth.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match (row, outstanding) {
            (Some(row), Some(outstanding)) => Some(row.min(outstanding)),
            (row, outstanding) => row.or(outstanding),
        })
    }

    /// Brings the figures up to date that change while settle has nothing to do; for whoever shows them. `now` is of the
    /// wall clock.
    pub fn observe(&self, log: &dyn ReadLog, now: Timestamp, metrics: &Metrics) -> Result<(), Error> {
        metrics.queue_depth.set(self.depth() as i64);
        let head = match self.oldest_pending()? {
            Some(event) => log.heads_after(previous(event), 1).unwrap_or_default().pop(),
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

impl DeliveryRecord {
    pub(super) fn of_row(id: DeliveryId, row: PendingRow, last: Option<Attempt>) -> Self {
        let status = if row.attempts > row.base { DeliveryStatus::Retrying } else { DeliveryStatus::Pending };
        Self { id, status, attempt_count: row.attempts, next_retry_at: row.due, last, dead: None }
    }

    pub(super) fn of_letter(letter: DeadLetter, last: Option<Attempt>) -> Self {
        Self {
            id: letter.id,
            status: letter.reason.status(),
            attempt_count: letter.attempts,
            next_retry_at: None,
            last,
            dead: Some(letter),
        }
    }

    /// Without a row or a dead letter: done, or a dead letter that has been forgotten since.
    pub(super) fn of_history(id: DeliveryId, last: Attempt) -> Self {
        let status = if last.error.is_none() { DeliveryStatus::Delivered } else { DeliveryStatus::Failed };
        Self { id, status, attempt_count: last.number, next_retry_at: None, last: Some(last), dead: None }
    }
}
