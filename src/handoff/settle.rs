//! To and from settle: what was committed and attempted, rows that wait, and commands.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::limits::{FLUSH_ITEMS, SETTLE_QUEUE};
use crate::model::{Attempt, DeadReason, Decision, DeliveryId, EventId, Timestamp, WebhookNo, Webhooks};
use crate::runtime::Permit;
use crate::storage::delivery::{Lane, ReplayFilter, Retried};

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
pub struct SettleHandle {
    to: Sender<ToSettle>,
    bell: Sender<()>,
}

impl SettleHandle {
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

/// Asks for rows of a webhook; answered by [`crate::handoff::ToShard::Refilled`] after a flush.
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

/// Why a webhook is to be disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisableReason {
    /// It answered 410 Gone; dispatch asks, so that nothing more is sent.
    Gone,
    /// Nothing but failure for as long as the configuration allows; settle asks as well, which counts over restarts.
    Failing,
}

/// What the registry tells of a webhook's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It is failed now.
    Disabled(Option<DisableReason>),
    /// It was failed and is no more.
    Resumed,
    /// It was removed.
    Removed,
}
