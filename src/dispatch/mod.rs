//! dispatch: decides which delivery goes next.
//!
//! A webhook lives on exactly one shard, a thread with a current-thread runtime that owns its queue, its token bucket and
//! its breaker; nothing here is locked. Promises: what came in is handed to `send` or stays in its queue or on disk; one
//! webhook slows no other. Must never know: redb, hyper, signatures.

mod shard;
mod target;

pub mod queue;
mod turns;

mod backlog;
mod common;
mod early;
mod pace;
mod tally;

pub mod breaker;

mod start;
mod timer;
mod worker;

mod probe;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::commit::{RecallRequest, Recalled};
use crate::config;
use crate::limits::SHARD_QUEUE;
use crate::model::{AttemptError, Event, EventId, RetryOn, RetryPolicy, Timestamp, Webhook, WebhookNo, Webhooks};
use crate::registry::Registry;
use crate::runtime::{Clock, MemoryBudget, Metrics};
use crate::settle::{Refilled, Verdict};

pub use probe::{Probe, ProbeRefused};
pub use start::{Running, ShardPanicked, start};

/// An event and those of its webhooks that live on this shard.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The event.
    pub event: Arc<Event>,
    /// Ascending.
    pub webhooks: Webhooks,
}

/// What a shard is told. The senders never wait long: see `limits::SHARD_QUEUE`.
#[derive(Debug)]
pub enum ToShard {
    /// Events just committed, in order of acceptance. Settle was told before.
    Arrivals(Vec<Arrival>),
    /// This event was committed for so many webhooks that a job of settle's writes their rows. In order with arrivals.
    Wide(EventId),
    /// The answer to a [`crate::settle::ToSettle::Refill`].
    Refilled(Refilled),
    /// The answer to a [`crate::commit::RecallRequest`].
    Recalled {
        /// The webhook they were asked for.
        webhook: WebhookNo,
        /// In the order asked.
        events: Vec<Recalled>,
    },
    /// Rows of these webhooks are ready, or due at a time, that the shard does not know of (start, replay, recover): the
    /// shard marks them lagging or sets their timers.
    Waiting(Vec<Waiting>),
    /// The registry's snapshot changed for these webhooks: pause, resume, limits, removal.
    Changed(SmallVec<[WebhookNo; 4]>),
    /// A test delivery, beside all that waits.
    Probe(Probe),
}

/// The way to the shards.
#[derive(Debug, Clone)]
pub struct Shards(Arc<[mpsc::Sender<ToShard>]>);

impl Shards {
    /// `count` shards' ways in, and the ends that the shards read.
    pub fn channels(count: usize) -> (Self, Vec<mpsc::Receiver<ToShard>>) {
        let (to, from): (Vec<_>, Vec<_>) = (0..count.max(1)).map(|_| mpsc::channel(SHARD_QUEUE)).unzip();
        (Self(to.into()), from)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Where a webhook lives.
    pub fn of(&self, webhook: WebhookNo) -> usize {
        webhook.0 as usize % self.0.len()
    }

    /// Tells a shard, waiting for room: for threads that no shard waits for (commit, registry, recall).
    pub fn tell(&self, shard: usize, what: ToShard) {
        // A shard that is gone has been drained; what it did not do is in the state for the next start.
        let _ = self.0[shard].blocking_send(what);
    }

    /// Tells each shard its arrivals, waiting for room.
    pub fn tell_arrivals(&self, arrivals: Vec<Vec<Arrival>>) {
        for (shard, arrivals) in arrivals.into_iter().enumerate().filter(|(_, arrivals)| !arrivals.is_empty()) {
            self.tell(shard, ToShard::Arrivals(arrivals));
        }
    }

    /// Tells every shard of a wide event, waiting for room.
    pub fn tell_all(&self, wide: EventId) {
        (0..self.count()).for_each(|shard| self.tell(shard, ToShard::Wide(wide)));
    }

    /// Tells a shard or gives the message back: for settle, which must not wait for a shard.
    pub fn try_tell(&self, shard: usize, what: ToShard) -> Result<(), ToShard> {
        match self.0[shard].try_send(what) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(what)) => Err(what),
        }
    }
}

/// What waits on disk for a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The webhook.
    pub webhook: WebhookNo,
    /// Whether rows without a due time wait.
    pub ready: bool,
    /// The earliest due time.
    pub due: Option<Timestamp>,
}

/// What every shard is given at its start.
#[derive(Clone)]
pub struct Setup {
    /// Where webhooks are found.
    pub webhooks: Arc<dyn Directory>,
    /// What becomes of a delivery after an attempt.
    pub decide: Decide,
    /// For webhooks without settings of their own.
    pub delivery: config::DeliveryDefaults,
    /// Of the breaker of every webhook without settings of its own.
    pub breaker: config::Breaker,
    /// Both clocks.
    pub clock: Clock,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// The way to settle.
    pub settle: crate::settle::Handle,
    /// The way to the recall thread.
    pub recall: crossbeam_channel::Sender<RecallRequest>,
    /// What bodies may take.
    pub memory: Arc<MemoryBudget>,
    /// The last event in the log at the start; what comes as [`ToShard::Arrivals`] is later.
    pub last_event: EventId,
}

/// Finds webhooks by number.
pub trait Directory: Send + Sync + 'static {
    /// The webhook as it is now, unless it was removed.
    fn webhook(&self, no: WebhookNo) -> Option<Arc<Webhook>>;
}

impl Directory for ArcSwap<Registry> {
    fn webhook(&self, no: WebhookNo) -> Option<Arc<Webhook>> {
        self.load().webhook(no).map(Arc::clone)
    }
}

/// The retry policy: the attempt's result, `Retry-After`, attempts made since the last replay (this one too), the webhook's
/// policy, what it retries, the time of the scheduling clock, and 64 random bits for the jitter.
pub type Decide =
    fn(&Result<(), AttemptError>, Option<Duration>, u16, &RetryPolicy, RetryOn, Timestamp, u64) -> Verdict;
