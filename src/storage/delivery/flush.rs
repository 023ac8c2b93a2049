//! A flush: everything that one durable batch writes, and what it must look up and answer, as plain data.
//!
//! Settle makes a [`Flush`], the store applies it and answers with a [`Flushed`]. A flush holds no handle and calls nothing
//! back, so it could be published before it is applied. A flush that failed is left as it was and can be applied again.

use std::sync::Arc;

use super::{Attempts, HourFigures, Job, Note, Retried, Standing, Waiting, WebhookStats};
use crate::model::{DeadReason, DeliveryId, EventId, Timestamp, WebhookNo, Webhooks};
use crate::storage::delivery::Hour;

/// One durable batch.
#[derive(Debug, Default)]
pub struct Flush {
    /// The scheduling clock when the flush was made.
    pub now: Timestamp,
    /// The wall clock when the flush was made.
    pub wall: Timestamp,
    /// Whether it is that of an orderly stop: the next start then knows that nothing was written after it.
    pub is_last: bool,
    /// Rows of the history.
    pub attempts: Attempts,
    /// Changes of rows and dead letters. The store applies them in the order of their keys, and those of one key in this
    /// order.
    pub changes: Vec<Change>,
    /// Dead letters, named by [`What::Dead`].
    pub notes: Vec<Note>,
    /// How many answers the changes ask for.
    pub answers: Answers,
    /// Jobs to write as they are: new or cancelled.
    pub jobs: Vec<Job>,
    /// The webhooks of new jobs' wide events, by job.
    pub wide: Vec<(u64, Webhooks)>,
    /// Recoveries that are new in this flush: dead letters of their webhook are counted before the step, as their total.
    pub totals: Vec<Total>,
    /// The step of the job whose turn it is.
    pub step: Option<JobStep>,
    /// Finished jobs that are shown no longer.
    pub forgotten_jobs: Vec<u64>,
    /// A step in making dead letters of what waits for bodies that are gone.
    pub expiry: Option<Expiry>,
    /// Dead letters that ended before this (scheduling clock) are forgotten.
    pub dead_forgotten_before: Option<Timestamp>,
    /// Rows that a step moves at most.
    pub rows_max: usize,
    /// Webhooks' statistics that changed.
    pub stats: Vec<(WebhookNo, WebhookStats)>,
    /// Figures by hour that are added to the rows there are.
    pub figures: Option<FiguresAdded>,
    /// How webhooks stand, where it changed; `None`: well.
    pub standings: Vec<(WebhookNo, Option<Standing>)>,
    /// Operational events that wait for the log.
    pub outbox: Vec<Box<[u8]>>,
    /// The number of the first of them.
    pub outbox_first: u64,
    /// Operational events up to this number are in the log, and their rows are removed.
    pub admitted: Option<u64>,
    /// The encoded checkpoint.
    pub checkpoint: Vec<u8>,
    /// The number of the next job.
    pub next_job: u64,
}

/// A change of one delivery's row.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The webhook.
    pub webhook: WebhookNo,
    /// The event.
    pub event: EventId,
    /// The change.
    pub what: What,
}

/// What changes about a delivery's row.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// A ready row, if there is none.
    Ready,
    /// A row that waits.
    Retry {
        /// Attempts made.
        attempts: u16,
        /// When the next one is due.
        at: Timestamp,
        /// Whether the delivery had no row before.
        was_outstanding: bool,
    },
    /// No row any more; without a row, no dead letter any more.
    Remove,
    /// A dead letter in place of a row.
    Dead {
        /// Its place in [`Flush::notes`].
        note: usize,
    },
    /// From dead letter to row.
    Recover {
        /// The answer that counts it, in [`Flushed::recovered`].
        answer: usize,
    },
    /// A row that is due now, for a delivery that may have ended.
    Again {
        /// The answer that says what came of it, in [`Flushed::retried`].
        answer: usize,
    },
    /// No dead letter any more.
    Discard {
        /// The answer that counts it, in [`Flushed::discarded`].
        answer: usize,
    },
}

/// How many answers a flush has of each kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answers {
    /// To [`What::Recover`].
    pub recovered: usize,
    /// To [`What::Again`].
    pub retried: usize,
    /// To [`What::Discard`].
    pub discarded: usize,
}

/// A recovery whose total is counted by the flush.
#[derive(Debug, Clone, Copy)]
pub struct Total {
    /// The recovery.
    pub job: u64,
    /// Its webhook.
    pub webhook: WebhookNo,
}

/// What a job does in this flush.
#[derive(Debug)]
pub struct JobStep {
    /// The job, with everything that is known before its rows are moved.
    pub job: Job,
    /// The rows to move.
    pub rows: StepRows,
}

/// The rows that a step moves. Steps that read tables to find their rows move the cursor of their job.
#[derive(Debug)]
pub enum StepRows {
    /// None this time.
    None,
    /// Ready rows of an event, or dead letters where its webhook takes no more.
    Wide {
        /// The event.
        event: EventId,
        /// Its webhooks.
        webhooks: Vec<(WebhookNo, Option<DeadReason>)>,
    },
    /// Rows that are due now, for deliveries without a row.
    Again(Vec<DeliveryId>),
    /// The same for the next dead letters of a webhook.
    Recover {
        /// The webhook.
        webhook: WebhookNo,
        /// Only those that ended since, by the wall clock.
        since: Option<Timestamp>,
        /// Whether the webhook takes no more.
        is_abandoned: bool,
        /// Events whose delivery to the webhook has no row and is not settled, ascending: their dead letters stay.
        under_way: Vec<EventId>,
    },
    /// The next rows of a webhook that wait for a time are due now.
    Hurry(WebhookNo),
    /// The next rows of a webhook become dead letters.
    Abandon {
        /// The webhook.
        webhook: WebhookNo,
        /// Why.
        reason: DeadReason,
    },
}

/// Events whose bodies are gone; what waits for one becomes a dead letter, a step at a time.
#[derive(Debug, Clone)]
pub struct Expiry {
    /// Ascending.
    pub events: Arc<[EventId]>,
    /// The first row that has not been looked at.
    pub from: (WebhookNo, EventId),
}

/// Figures by hour that memory has counted and the rows have not.
#[derive(Debug, Clone)]
pub struct FiguresAdded {
    /// The number of this write, which rises: a reader knows by it whether what it saw in memory is on the disk.
    pub number: u64,
    /// The figures.
    pub rows: Arc<Vec<HourFigures>>,
    /// Hours before this one are forgotten.
    pub forgotten_before: Hour,
}

/// What a flush did that memory must learn.
#[derive(Debug, Default)]
pub struct Flushed {
    /// Rows there are.
    pub rows: u64,
    /// Dead letters there are.
    pub dead: u64,
    /// When the oldest of them ended, by the scheduling clock.
    pub oldest_dead: Option<Timestamp>,
    /// The job that had a step, after it.
    pub job: Option<Job>,
    /// Where the expiry goes on.
    pub expiry: Option<Expiry>,
    /// Rows that were made or became due, and that the shards do not know of.
    pub waiting: Vec<Waiting>,
    /// The webhooks of dead letters that no outcome made, one for each.
    pub died: Vec<WebhookNo>,
    /// Rows made for each [`What::Recover`].
    pub recovered: Vec<u64>,
    /// What came of each [`What::Again`].
    pub retried: Vec<Retried>,
    /// Dead letters removed for each [`What::Discard`].
    pub discarded: Vec<u64>,
    /// For each of [`Flush::totals`], the dead letters before the step.
    pub totals: Vec<u64>,
    /// The outbox.
    pub outbox: Outbox,
    /// Whether history has more old files to remove.
    pub is_retiring: bool,
}

/// What is known of the outbox's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outbox {
    /// The next row's number.
    pub next: u64,
    /// Rows on the disk.
    pub rows: u64,
}

impl Flush {
    /// Adds a change.
    pub fn change(&mut self, webhook: WebhookNo, event: EventId, what: What) {
        self.changes.push(Change { webhook, event, what });
    }

    /// Adds a dead letter.
    pub fn dead(&mut self, webhook: WebhookNo, event: EventId, note: Note) {
        self.notes.push(note);
        self.change(webhook, event, What::Dead { note: self.notes.len() - 1 });
    }

    /// Puts changes in the order of their keys, those of one key in the order they came.
    pub(super) fn sort(&mut self) {
        self.changes.sort_by_key(|change| (change.webhook, change.event));
    }

    /// Empties it for the next batch, and keeps the memory.
    pub fn clear(&mut self) {
        self.attempts.clear();
        self.changes.clear();
        self.notes.clear();
        self.answers = Answers::default();
        self.jobs.clear();
        self.wide.clear();
        self.totals.clear();
        self.step = None;
        self.forgotten_jobs.clear();
        self.expiry = None;
        self.dead_forgotten_before = None;
        self.stats.clear();
        self.figures = None;
        self.standings.clear();
        self.outbox.clear();
        self.admitted = None;
        self.checkpoint.clear();
        self.is_last = false;
    }
}
