//! dispatch: decides which delivery goes next.
//!
//! A webhook lives on exactly one shard, a thread with a current-thread runtime that owns its queue, its token bucket and
//! its breaker; nothing here is locked. Promises: what came in is handed to `send` or stays in its queue or on disk; one
//! webhook slows no other. Must never know: redb, hyper, signatures.

mod shard;
mod webhook_queue;

mod ordered_queue;
pub mod queue;

mod arrived_rows;
mod backlog;
mod rate_control;
mod shard_metrics;
mod shard_state;

pub mod breaker;

mod shard_loop;
mod timer;
mod worker_pool;

mod test_delivery;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config;
use crate::handoff::{RecallRequest, SettleHandle, Verdict};
use crate::model::{AttemptError, EventId, RetryOn, RetryPolicy, Timestamp, WebhookNo};
use crate::outbound::Webhook;
use crate::registry::Registry;
use crate::runtime::{Clock, MemoryBudget, Metrics};

pub use shard_loop::{Running, ShardPanicked, start};

/// What the decisions of a shard depend on, beside its messages and the time.
#[derive(Clone)]
pub struct Setup {
    /// Where webhooks are found.
    pub webhooks: Arc<dyn Directory>,
    /// What becomes of a delivery after an attempt.
    pub decide: Decide,
    /// For webhooks without settings of their own.
    pub delivery: config::DeliveryDefaults,
    /// For the circuit breaker of every webhook without settings of its own.
    pub breaker: config::Breaker,
    /// Both clocks.
    pub clock: Clock,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// How much memory bodies may take.
    pub memory: Arc<MemoryBudget>,
    /// The last event in the log at the start. Events of [`ToShard::Arrivals`](crate::handoff::ToShard::Arrivals) are later.
    pub last_event: EventId,
}

/// Where a shard's thread sends what the shard decides.
#[derive(Clone)]
pub struct Ports {
    /// To settle.
    pub settle: SettleHandle,
    /// To the recall thread.
    pub recall: crossbeam_channel::Sender<RecallRequest>,
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
