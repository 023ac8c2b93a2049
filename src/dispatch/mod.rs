//! dispatch: decides which delivery is attempted next.
//!
//! # Shards
//! Each webhook belongs to exactly one shard. A shard is one thread with a current-thread runtime. The thread owns the
//! webhook's queue, token bucket and circuit breaker, so this folder needs no locks.
//!
//! # Invariants
//! - A delivery that reached a shard is handed to a [`Transport`](crate::handoff::Transport), or stays in its queue, or is
//!   on disk. No delivery is lost.
//! - A delivery is not attempted a second time unless the first attempt failed, the delivery was replayed, or the process
//!   stopped before the outcome was durable.
//! - A slow or failing webhook does not slow down other webhooks.
//!
//! `backlog.rs` explains why the first two invariants hold.
//!
//! # Boundaries
//! This folder must never know redb, hyper or signatures.

mod shard;
mod webhook_queue;

mod ordered_queue;
pub mod queue;

mod arrived_rows;
mod backlog;
mod bounds;
mod rate_control;
mod shard_metrics;
mod shard_state;

pub mod breaker;

mod shard_loop;
mod timer;
mod worker_pool;

mod test_delivery;

#[cfg(test)]
pub(crate) mod stepping;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::config;
use crate::handoff::{BodyRequest, RetryDecision, SettleHandle};
use crate::model::{AttemptError, EndpointState, EventId, RetryOn, RetryPolicy, Timestamp, WebhookNo};
use crate::outbound::Webhook;
use crate::registry::Registry;
use crate::runtime::{Clock, MemoryBudget, Metrics};

pub use shard_loop::{ShardPanicked, ShardThreads, start};

/// Everything that the decisions of a shard depend on, except its messages and the time.
#[derive(Clone)]
pub struct DispatchSetup {
    /// Finds webhooks by number.
    pub webhooks: Arc<dyn WebhookDirectory>,
    /// Decides after each attempt whether the delivery is finished, retried or a dead letter.
    pub decide: RetryDecider,
    /// Retry policy, timeout and concurrency of webhooks that set none.
    pub delivery: config::DeliveryDefaults,
    /// Circuit breaker settings of webhooks that set none.
    pub breaker: config::Breaker,
    /// The wall clock and the scheduling clock.
    pub clock: Clock,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// The memory budget of event bodies.
    pub memory: Arc<MemoryBudget>,
    /// The last event in the log when the process started. Every event of a
    /// [`ToShard::Arrivals`](crate::handoff::ToShard::Arrivals) message is later.
    pub last_event: EventId,
    /// The states of the endpoints that were paused or failing when the process started.
    pub endpoint_states: EndpointsAtStart,
}

/// The states that endpoints had when the process started.
pub type EndpointsAtStart = Arc<HashMap<WebhookNo, EndpointState>>;

/// The channels to which a shard's thread sends the shard's outputs.
#[derive(Clone)]
pub struct Ports {
    /// To the settle thread.
    pub settle: SettleHandle,
    /// To the thread that reads bodies back from the log.
    pub body_requests: crossbeam_channel::Sender<BodyRequest>,
}

/// Finds webhooks by number.
pub trait WebhookDirectory: Send + Sync + 'static {
    /// Returns the current version of the webhook, or `None` if it was deleted.
    fn webhook(&self, no: WebhookNo) -> Option<Arc<Webhook>>;
}

impl WebhookDirectory for ArcSwap<Registry> {
    fn webhook(&self, no: WebhookNo) -> Option<Arc<Webhook>> {
        self.load().webhook(no).map(Arc::clone)
    }
}

/// Decides what happens after an attempt.
///
/// The arguments are: the result of the attempt, the response's `Retry-After`, the number of attempts since the last
/// replay (this attempt included), the webhook's retry policy, the failures that the webhook retries, the time of the
/// scheduling clock, and 64 random bits for the jitter.
pub type RetryDecider =
    fn(&Result<(), AttemptError>, Option<Duration>, u16, &RetryPolicy, RetryOn, Timestamp, u64) -> RetryDecision;
