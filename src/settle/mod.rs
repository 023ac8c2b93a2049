//! settle: decides what becomes of a delivery after an attempt, and is the only writer of what is remembered of it.
//!
//! Promises: state.redb alone decides what is still to be done; whatever is neither settled nor has a row is in the
//! checkpoint's list or after its head in the log. Must never know: hyper, the clock, randomness (they are parameters).

pub mod backoff;
pub mod policy;

mod again;
mod checkpoint;
mod dead;
mod expiry;
mod figures;
mod flush;
mod gather;
mod history;
mod history_rows;
mod hooks;
mod hours;
mod job;
mod job_text;
mod keeper;
mod ledger;
mod list;
mod needs;
mod open;
mod outbox;
mod pending;
mod records;
mod replay;
mod stats;
mod store;
mod table;
mod thread;
mod watch;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use again::Retried;
pub use dead::DeadLetter;
pub use figures::{Figures, Hour, HourRow, OTHER_TYPES};
pub use hooks::{Abandons, Compose, Hooks, Targets};
pub use hours::FiguresOf;
pub use job::{Job, JobKind, JobState};
pub use keeper::DisableReason;
pub use list::Wanted;
pub use needs::SettleNeeds;
pub use open::{OpenError, OpenState, Opened, Start, TableCounts, open};
pub use outbox::OutboxRow;
pub use policy::{Verdict, decide};
pub use records::{DeliveryRecord, Page, Records};
pub use stats::WebhookStats;
pub use thread::Running;
pub use watch::{FAILING_PERCENT, Happened, Happening, Noted};

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::limits::{
    CHECKPOINT_LIST_MAX, FLUSH_ITEMS, HISTORY_FILE_BYTES, JOB_ROWS, SETTLE_QUEUE, WIDE_EVENT_WEBHOOKS,
};
use crate::model::{Attempt, DeadReason, Decision, DeliveryId, EventId, Timestamp, WebhookNo, Webhooks};
use crate::runtime::Permit;

/// An event just committed, with everything that must be settled for it.
#[derive(Debug)]
pub struct Announced {
    /// The event.
    pub event: EventId,
    /// Its webhooks, ascending.
    pub webhooks: Webhooks,
    /// Dropped when each of them has a durable outcome or row.
    pub permit: Arc<Permit>,
}

/// An attempt and what was decided after it.
#[derive(Debug)]
pub struct Settled {
    /// The webhook.
    pub webhook: WebhookNo,
    /// The event.
    pub event: EventId,
    /// The attempt; `None` for a delivery that ended without one (its webhook was disabled or removed, its payload gone).
    pub attempt: Option<Attempt>,
    /// What becomes of it.
    pub decision: Decision,
    /// The event's encoded head, for the figures of its type; empty where it is not at hand, which is never so of an attempt.
    pub head: Bytes,
}

/// What settle is told, on one FIFO channel: a refill is answered after everything sent before it.
#[derive(Debug)]
pub enum ToSettle {
    /// From commit, before the shards get the events. Ascending, and after all before.
    Announce(Vec<Announced>),
    /// From a shard.
    Settled(Vec<Settled>),
    /// From a shard: deliveries it does not keep; each gets a row that is ready.
    Spill(Vec<(WebhookNo, EventId)>),
    /// From a shard: rows, please.
    Refill(Refill),
    /// From anybody: something of settle's own.
    Command(Command),
}

/// The way to settle, for every thread that has something to tell.
#[derive(Debug, Clone)]
pub struct Handle {
    to: Sender<ToSettle>,
    bell: Sender<()>,
}

impl Handle {
    /// The way in, and the ends that settle reads: the messages, and the bell that ends its gathering early.
    pub fn channel() -> (Self, Receiver<ToSettle>, Receiver<()>) {
        let (to, messages) = bounded(SETTLE_QUEUE);
        let (bell, rung) = bounded(1);
        (Self { to, bell }, messages, rung)
    }

    /// Tells settle; it looks within [`crate::limits::DRAIN_INTERVAL`], and flushes within
    /// [`crate::limits::FLUSH_INTERVAL`]. Refills and commands ring the bell.
    pub fn tell(&self, what: ToSettle) {
        let urgent = matches!(what, ToSettle::Refill(_) | ToSettle::Command(_)) || self.to.len() > FLUSH_ITEMS;
        // Settle is gone only when the process ends; the state on disk then says what is still to be done.
        let _ = self.to.send(what);
        if urgent {
            // A full bell is already ringing.
            let _ = self.bell.try_send(());
        }
    }
}

/// Asks for rows of a webhook; answered by [`crate::dispatch::ToShard::Refilled`] after a flush.
#[derive(Debug, Clone, Copy)]
pub struct Refill {
    /// The shard that asks.
    pub shard: usize,
    /// The webhook.
    pub webhook: WebhookNo,
    /// Which rows.
    pub lane: Lane,
    /// At most this many.
    pub rows: usize,
}

/// Which rows a refill wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Rows that wait for nothing, in order of acceptance, after this event.
    Ready {
        /// Exclusive; [`EventId::MIN`] for the start.
        after: EventId,
    },
    /// Rows that waited for a time, in the order of those times, after this place.
    Due {
        /// Exclusive.
        after: (Timestamp, EventId),
        /// Times up to this one, inclusive; settle lowers it to the millisecond before its flush, so that a row written
        /// later never falls behind the cursor.
        until: Timestamp,
    },
    /// All rows, in order of acceptance, after this event: of a webhook that is sent to in that order. While the rows of an
    /// event with very many webhooks are still being written, those up to it.
    Ordered {
        /// Exclusive; [`EventId::MIN`] for the start.
        after: EventId,
    },
}

/// The answer to a [`Refill`].
#[derive(Debug)]
pub struct Refilled {
    /// The webhook.
    pub webhook: WebhookNo,
    /// What was asked, with the cursor moved behind the last row looked at.
    pub lane: Lane,
    /// The rows, in the lane's order.
    pub rows: Vec<Row>,
    /// Of [`Lane::Ordered`]: which of the rows wait for a time, and for which; ascending by event.
    pub not_before: Box<[(EventId, Timestamp)]>,
    /// Whether the lane was empty behind them when the flush was done.
    pub end: bool,
    /// The earliest due time behind the cursor, if any row waits for one.
    pub next_due: Option<Timestamp>,
}

/// A delivery that waits on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The event.
    pub event: EventId,
    /// Attempts made so far.
    pub attempts: u16,
    /// Those of them before the last replay, which the retry schedule does not count.
    pub base: u16,
}

/// Something to do beside the flow of deliveries.
#[derive(Debug)]
pub enum Command {
    /// Flush, then say which announced deliveries are neither settled nor have a row, so that a reader who then looks into
    /// the store sees everything acknowledged before.
    Sync {
        /// Only of this webhook.
        webhook: Option<WebhookNo>,
        /// Only of this event.
        event: Option<EventId>,
        /// At most this many, newest first.
        limit: usize,
        /// Where the answer goes.
        reply: tokio::sync::oneshot::Sender<Vec<(EventId, WebhookNo)>>,
    },
    /// Whatever waits for the webhook becomes a dead letter, by a job.
    Abandon {
        /// The webhook.
        webhook: WebhookNo,
        /// Why.
        reason: DeadReason,
    },
    /// The registry says how a webhook stands.
    Note {
        /// The webhook.
        webhook: WebhookNo,
        /// How.
        noted: Noted,
    },
    /// The log has the operational events of the outbox up to this row.
    Admitted {
        /// Inclusive.
        through: u64,
    },
    /// Deliver dead letters of a webhook again: these, or all.
    ReplayDead {
        /// The webhook.
        webhook: WebhookNo,
        /// Which; `None`: all.
        events: Option<Vec<EventId>>,
        /// How many became rows (of all: how many there are; a job moves them).
        reply: tokio::sync::oneshot::Sender<u64>,
    },
    /// Try a delivery once more, now.
    Retry {
        /// Which.
        id: DeliveryId,
        /// What came of it.
        reply: tokio::sync::oneshot::Sender<Retried>,
    },
    /// Forget dead letters of a webhook.
    Discard {
        /// The webhook.
        webhook: WebhookNo,
        /// Which.
        events: Vec<EventId>,
        /// How many there were.
        reply: tokio::sync::oneshot::Sender<u64>,
    },
    /// Deliver again, by a job, what failed since a time, and at once what waits for its next attempt.
    Recover {
        /// The webhook.
        webhook: WebhookNo,
        /// By the wall clock.
        since: Timestamp,
        /// The job's number, once it is durable.
        reply: tokio::sync::oneshot::Sender<u64>,
    },
    /// Deliver again what the log holds, by a job.
    Replay {
        /// What.
        filter: ReplayFilter,
        /// The job's number, once it is durable.
        reply: tokio::sync::oneshot::Sender<u64>,
    },
    /// The bodies of these events are gone: what waits for one becomes a dead letter (`expired`).
    Expire {
        /// Ascending.
        events: Vec<EventId>,
    },
    /// Stop a replay.
    CancelJob {
        /// Its number.
        job: u64,
        /// Whether there was such a job and it could still be stopped.
        reply: tokio::sync::oneshot::Sender<bool>,
    },
    /// Flush everything and stop.
    Stop,
}

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Options {
    /// redb's two-phase commit.
    pub two_phase_commit: bool,
    /// Age at which attempts are forgotten.
    pub history_retention: Duration,
    /// Age at which dead letters are.
    pub dead_letter_retention: Duration,
    /// After this long of nothing but failure a webhook is disabled, unless it has a time of its own.
    pub disable_after: Duration,
}

/// The limits of [`crate::limits`] that tests make small, so that overflow and roll-over happen all the time.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    checkpoint_list_max: usize,
    wide_event_webhooks: usize,
    job_rows: usize,
    history_file_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            checkpoint_list_max: CHECKPOINT_LIST_MAX,
            wide_event_webhooks: WIDE_EVENT_WEBHOOKS,
            job_rows: JOB_ROWS,
            history_file_bytes: HISTORY_FILE_BYTES,
        }
    }
}

/// Which events a replay takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReplayFilter {
    /// Only events of this tenant.
    pub tenant: Box<str>,
    /// Received at or after this time.
    pub since: Option<Timestamp>,
    /// Received before this time.
    pub until: Option<Timestamp>,
    /// Types to take, as patterns; empty: all.
    pub types: Vec<Box<str>>,
    /// Only for this webhook; `None`: each webhook that matched when the event was accepted.
    pub webhook: Option<u32>,
    /// Only this event; to a webhook that is named it goes whether it matched or not.
    pub event: Option<Box<str>>,
    /// To those as well that match today and did not when the event was accepted.
    #[serde(default)]
    pub include_unmatched: bool,
    /// To those as well that are paused or inactive, where they wait until the webhook is resumed.
    #[serde(default)]
    pub include_paused: bool,
}
