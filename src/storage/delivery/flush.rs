//! A flush: all writes of one durable batch, and the lookups that it must answer, as plain data.
//!
//! Settle builds a [`Flush`]. The store applies it and returns a [`Flushed`]. A flush contains no handles and no
//! callbacks, so it could be published before it is applied. A failed flush is unchanged and can be applied again.

use std::sync::Arc;

use super::{
    Attempts, Downtimes, HourlyStats, Job, NewDeadLetter, RetryResult, WebhookBacklog, WebhookFailureState,
    WebhookStats,
};
use crate::model::{DeadReason, DeliveryId, EndpointState, EventId, Timestamp, WebhookNo, Webhooks};
use crate::storage::delivery::Hour;
use crate::storage::{IdempotencyKey, NewStoredResponse, NumberedResponse};

/// The writes of one durable batch.
#[derive(Debug, Default)]
pub struct Flush {
    /// The time of the flush, by the scheduling clock.
    pub now: Timestamp,
    /// The time of the flush, by the wall clock.
    pub wall: Timestamp,
    /// Whether this is the final flush of an orderly stop. The next start then knows that nothing was written after it.
    pub is_last: bool,
    /// Attempts to write to the history.
    pub attempts: Attempts,
    /// Changes of rows and dead letters. The store applies them in the order of their keys, and changes of the same key
    /// in the order of this list.
    pub changes: Vec<RowChange>,
    /// The dead letters that [`ChangeKind::Dead`] refers to.
    pub dead_letters: Vec<NewDeadLetter>,
    /// The number of answers that the changes refer to.
    pub answers: AnswerCounts,
    /// New and cancelled jobs, written as they are.
    pub jobs: Vec<Job>,
    /// The webhooks of the wide events of new jobs, by job.
    pub wide: Vec<(u64, Webhooks)>,
    /// The recoveries that are new in this flush. The dead letters of their webhook are counted before the step; the
    /// count is the recovery's total.
    pub totals: Vec<RecoveryTotal>,
    /// The next step of one job.
    pub step: Option<JobStep>,
    /// Finished jobs to delete.
    pub forgotten_jobs: Vec<u64>,
    /// A step that dead-letters the rows of events whose bodies are deleted.
    pub expiry: Option<Expiry>,
    /// Dead letters that ended before this time (scheduling clock) are deleted.
    pub dead_forgotten_before: Option<Timestamp>,
    /// The maximum number of rows that a step moves.
    pub rows_max: usize,
    /// The webhooks' statistics that changed.
    pub stats: Vec<(WebhookNo, WebhookStats)>,
    /// Hourly statistics to add to the stored ones.
    pub hourly_stats: Option<HourlyStatsUpdate>,
    /// The failure states that changed. `None` deletes the state of a healthy webhook.
    pub webhook_health: Vec<(WebhookNo, Option<WebhookFailureState>)>,
    /// The states of endpoints that changed. `None` deletes a row.
    pub endpoint_states: Vec<(WebhookNo, Option<EndpointState>)>,
    /// Operational events to add to the outbox. They wait there for the log.
    pub outbox: Vec<Box<[u8]>>,
    /// The row number of the first event in `outbox`.
    pub outbox_first: u64,
    /// Operational events up to this row number are in the log. Their rows are deleted.
    pub admitted: Option<u64>,
    /// Responses to store for requests with an idempotency key whose changes are in this flush.
    pub responses: Vec<UnwrittenResponse>,
    /// The periods in which the server was off, if they changed.
    pub downtimes: Option<Downtimes>,
    /// The encoded checkpoint.
    pub checkpoint: Vec<u8>,
    /// The number of the next job.
    pub next_job: u64,
}

/// A change of one delivery's row or dead letter.
#[derive(Debug, Clone, Copy)]
pub struct RowChange {
    /// The webhook.
    pub webhook: WebhookNo,
    /// The event.
    pub event: EventId,
    /// What changes.
    pub kind: ChangeKind,
}

/// The kind of a [`RowChange`].
#[derive(Debug, Clone, Copy)]
pub enum ChangeKind {
    /// Creates a ready row, if there is no row.
    Ready,
    /// Writes a row that waits for the next attempt.
    Retry {
        /// The number of attempts so far.
        attempts: u16,
        /// When the next attempt is due.
        at: Timestamp,
        /// Whether the delivery had no row before.
        was_outstanding: bool,
    },
    /// Deletes the row. If there is no row, deletes the dead letter.
    Remove,
    /// Replaces the row by a dead letter.
    Dead {
        /// The index in [`Flush::dead_letters`].
        index: usize,
    },
    /// Replaces the dead letter by a row that is due now.
    Recover {
        /// The index in [`Flushed::recovered`] of the counter to increment.
        answer: usize,
    },
    /// Makes the delivery due now, even if it has ended.
    RetryNow {
        /// The index of the result in [`Flushed::retried`].
        answer: usize,
    },
    /// Deletes the dead letter.
    Discard {
        /// The index in [`Flushed::discarded`] of the counter to increment.
        answer: usize,
    },
}

/// The number of answers of each kind in a [`Flushed`].
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerCounts {
    /// Length of [`Flushed::recovered`].
    pub recovered: usize,
    /// Length of [`Flushed::retried`].
    pub retried: usize,
    /// Length of [`Flushed::discarded`].
    pub discarded: usize,
}

/// A response to store, with the number that only the flush knows.
#[derive(Debug, Clone)]
pub struct UnwrittenResponse {
    /// The key of the request.
    pub key: IdempotencyKey,
    /// The response.
    pub response: NumberedResponse,
    /// The number of the response.
    pub number: ResponseNumber,
}

/// The number of an [`UnwrittenResponse`].
#[derive(Debug, Clone, Copy)]
pub enum ResponseNumber {
    /// This number.
    Known(u64),
    /// The counter in [`Flushed::recovered`] with this index.
    Recovered(usize),
    /// The count in [`Flushed::totals`] with this index.
    Total(usize),
    /// None. The response is stored only if the result in [`Flushed::retried`] with this index is
    /// [`RetryResult::Scheduled`].
    Retried(usize),
}

impl UnwrittenResponse {
    /// The response, with its number from the result of the flush. `None` if it is not to be stored.
    pub(super) fn fill(&self, flushed: &Flushed) -> Option<NewStoredResponse> {
        let number = match self.number {
            ResponseNumber::Known(number) => Some(number),
            ResponseNumber::Recovered(index) => flushed.recovered.get(index).copied(),
            ResponseNumber::Total(index) => flushed.totals.get(index).copied(),
            ResponseNumber::Retried(index) => {
                flushed.retried.get(index).filter(|result| **result == RetryResult::Scheduled).map(|_| 0)
            }
        };
        number.map(|number| NewStoredResponse { key: self.key.clone(), response: self.response.fill(number) })
    }
}

/// A recovery whose total the flush counts.
#[derive(Debug, Clone, Copy)]
pub struct RecoveryTotal {
    /// The number of the recovery's job.
    pub job: u64,
    /// The recovery's webhook.
    pub webhook: WebhookNo,
}

/// The step of a job in this flush.
#[derive(Debug)]
pub struct JobStep {
    /// The job as it is known before its rows are moved.
    pub job: Job,
    /// The rows to move.
    pub rows: StepRows,
}

/// The rows that a step moves. A step that reads tables to find its rows also moves the job's cursor.
#[derive(Debug)]
pub enum StepRows {
    /// No rows.
    None,
    /// Creates ready rows of a wide event, or dead letters for webhooks that accept no more deliveries.
    Wide {
        /// The event.
        event: EventId,
        /// Its webhooks, each with the reason if it accepts no more deliveries.
        webhooks: Vec<(WebhookNo, Option<DeadReason>)>,
    },
    /// Creates rows that are due now, for deliveries without a row.
    Redeliver(Vec<DeliveryId>),
    /// Like `Redeliver`, for the next dead letters of a webhook.
    Recover {
        /// The webhook.
        webhook: WebhookNo,
        /// Only dead letters that ended at or after this time, by the wall clock. `None`: all.
        since: Option<Timestamp>,
        /// Whether the webhook accepts no more deliveries.
        is_abandoned: bool,
        /// Events whose delivery to the webhook has no row and is not settled, ascending. Their dead letters are kept.
        under_way: Vec<EventId>,
    },
    /// Makes the next rows of a webhook that wait for a time due now.
    RetryNow(WebhookNo),
    /// Turns the next rows of a webhook into dead letters.
    Abandon {
        /// The webhook.
        webhook: WebhookNo,
        /// The reason of the dead letters.
        reason: DeadReason,
    },
}

/// Events whose bodies are deleted. Their rows become dead letters, step by step.
#[derive(Debug, Clone)]
pub struct Expiry {
    /// The events, ascending.
    pub events: Arc<[EventId]>,
    /// The first row that has not been checked.
    pub from: (WebhookNo, EventId),
}

/// Hourly statistics that were counted in memory and are not stored yet.
#[derive(Debug, Clone)]
pub struct HourlyStatsUpdate {
    /// The number of this write. It increases with each write. A reader compares it to learn whether the statistics
    /// that it read in memory are already on the disk.
    pub number: u64,
    /// The statistics.
    pub rows: Arc<Vec<HourlyStats>>,
    /// Hours before this one are deleted.
    pub forgotten_before: Hour,
}

/// The result of a flush.
#[derive(Debug, Default)]
pub struct Flushed {
    /// The number of rows after the flush.
    pub rows: u64,
    /// The number of dead letters after the flush.
    pub dead: u64,
    /// When the oldest dead letter ended, by the scheduling clock.
    pub oldest_dead: Option<Timestamp>,
    /// The job of [`Flush::step`] after the step.
    pub job: Option<Job>,
    /// The rest of the expiry, if it is not finished.
    pub expiry: Option<Expiry>,
    /// Webhooks with rows that were created or became due, and that the shards do not know yet.
    pub waiting: Vec<WebhookBacklog>,
    /// The webhooks of dead letters that were not created by an outcome, one entry for each dead letter.
    pub dead_lettered: Vec<WebhookNo>,
    /// The number of rows created by [`ChangeKind::Recover`], for each answer.
    pub recovered: Vec<u64>,
    /// The result of each [`ChangeKind::RetryNow`].
    pub retried: Vec<RetryResult>,
    /// The number of dead letters deleted by [`ChangeKind::Discard`], for each answer.
    pub discarded: Vec<u64>,
    /// The number of dead letters before the step, for each of [`Flush::totals`].
    pub totals: Vec<u64>,
    /// The state of the outbox after the flush.
    pub outbox: Outbox,
    /// Whether the history has more old files to delete.
    pub is_retiring: bool,
}

/// The state of the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outbox {
    /// The number of the next row.
    pub next: u64,
    /// The number of rows on the disk.
    pub rows: u64,
}

impl Flush {
    /// Adds a change of a row or dead letter.
    pub fn change(&mut self, webhook: WebhookNo, event: EventId, kind: ChangeKind) {
        self.changes.push(RowChange { webhook, event, kind });
    }

    /// Adds a dead letter.
    pub fn add_dead_letter(&mut self, webhook: WebhookNo, event: EventId, dead_letter: NewDeadLetter) {
        self.dead_letters.push(dead_letter);
        self.change(webhook, event, ChangeKind::Dead { index: self.dead_letters.len() - 1 });
    }

    /// Sorts the changes by key. Changes of the same key keep their order.
    pub(super) fn sort(&mut self) {
        self.changes.sort_by_key(|change| (change.webhook, change.event));
    }

    /// Clears the flush for the next batch, and keeps the memory.
    pub fn clear(&mut self) {
        self.attempts.clear();
        self.changes.clear();
        self.dead_letters.clear();
        self.answers = AnswerCounts::default();
        self.jobs.clear();
        self.wide.clear();
        self.totals.clear();
        self.step = None;
        self.forgotten_jobs.clear();
        self.expiry = None;
        self.dead_forgotten_before = None;
        self.stats.clear();
        self.hourly_stats = None;
        self.webhook_health.clear();
        self.endpoint_states.clear();
        self.outbox.clear();
        self.admitted = None;
        self.responses.clear();
        self.downtimes = None;
        self.checkpoint.clear();
        self.is_last = false;
    }
}
