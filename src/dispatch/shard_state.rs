//! The state that all webhooks of a shard share: the queues in which webhooks wait, the timers, and the pending outputs.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::DispatchSetup;
use super::arrived_rows::ArrivedRows;
use super::bounds::ShardBounds;
use super::breaker::CircuitState;
use super::shard_metrics::ShardMetrics;
use super::timer::{Timers, WebhookKey};
use crate::handoff::{Refill, SettledDelivery};
use crate::limits::WEBHOOK_IDLE_EVICTION;
use crate::model::{DeadReason, Decision, EndpointState, EventId, WebhookNo};
use crate::outbound::Webhook;
use crate::runtime::{Instant, Random};

/// Messages that a shard's thread sends for the shard. They accumulate during one iteration of the thread's loop.
#[derive(Debug, Default)]
pub(super) struct ShardOutputs {
    /// Attempts and the decisions after them, for settle.
    pub(super) settled: Vec<SettledDelivery>,
    /// Deliveries that settle moves to a row on disk. Sent after `settled`.
    pub(super) spilled: Vec<(WebhookNo, EventId)>,
    /// Requests to settle for rows. Sent after `settled` and `spilled`.
    pub(super) refills: Vec<Refill>,
}

/// The shared state of a shard's webhooks.
pub(super) struct ShardState {
    /// The index of the shard.
    pub(super) index: usize,
    /// Everything that the shard's decisions depend on, except messages and time.
    pub(super) setup: DispatchSetup,
    /// The bounds of memory and concurrency.
    pub(super) bounds: ShardBounds,
    /// The random numbers for the jitter of retries.
    pub(super) random: Random,
    /// The shard's local counters.
    pub(super) shard_metrics: ShardMetrics,
    /// Webhooks that can begin a delivery now. Each webhook begins one delivery and then moves to the end.
    pub(super) ready: VecDeque<WebhookKey>,
    /// Webhooks that need rows from settle.
    pub(super) refill_queue: VecDeque<WebhookKey>,
    /// Webhooks that need bodies from the log.
    pub(super) body_read_queue: VecDeque<WebhookKey>,
    /// Webhooks that were idle, and when to check whether they can be evicted.
    pub(super) idle: VecDeque<(Instant, WebhookKey)>,
    /// The timers of the webhooks.
    pub(super) timers: Timers,
    /// Rows that were queued before their arrivals.
    pub(super) arrived_rows: ArrivedRows,
    /// Messages that the shard's thread has not sent yet.
    pub(super) outputs: ShardOutputs,
    /// The number of deliveries in flight.
    pub(super) in_flight: usize,
    /// Whether the shard stops. If it does, no further delivery begins.
    pub(super) is_stopping: bool,
    /// The states that the endpoints of this shard had at the start. A webhook takes its own when it is created.
    pub(super) restored: HashMap<WebhookNo, EndpointState>,
    /// A buffer for the event ids that a webhook compares with the rows of a refill reply.
    pub(super) scratch_ids: Vec<EventId>,
}

impl ShardState {
    /// Creates the state of a shard without webhooks.
    pub(super) fn new(index: usize, setup: DispatchSetup, random: Random, bounds: ShardBounds) -> Self {
        Self {
            index,
            shard_metrics: ShardMetrics::new(&setup.metrics),
            arrived_rows: ArrivedRows::new(setup.last_event),
            setup,
            bounds,
            random,
            ready: VecDeque::new(),
            refill_queue: VecDeque::new(),
            body_read_queue: VecDeque::new(),
            idle: VecDeque::new(),
            timers: Timers::default(),
            outputs: ShardOutputs::default(),
            in_flight: 0,
            is_stopping: false,
            restored: HashMap::new(),
            scratch_ids: Vec::new(),
        }
    }

    /// Records that a delivery becomes a dead letter without an attempt.
    pub(super) fn dead_letter(&mut self, webhook: WebhookNo, event: EventId, reason: DeadReason) {
        self.outputs.settled.push(SettledDelivery {
            webhook,
            event,
            attempt: None,
            decision: Decision::Dead(reason),
            head: Bytes::new(),
            endpoint: None,
        });
    }

    /// Records that settle must move a delivery to a row on disk.
    pub(super) fn spill(&mut self, webhook: WebhookNo, event: EventId) {
        self.outputs.spilled.push((webhook, event));
    }

    /// Records that a webhook is idle, so that it is evicted later.
    pub(super) fn list_idle(&mut self, key: WebhookKey, now: Instant) {
        self.idle.push_back((now + WEBHOOK_IDLE_EVICTION, key));
    }

    /// The maximum number of bodies in one request. While the memory budget is exceeded the maximum is one: without any
    /// body no delivery could begin and free memory.
    pub(super) fn body_read_limit(&self) -> usize {
        if self.setup.memory.is_over() { 1 } else { self.bounds.body_read_events }
    }

    /// Takes the state that the webhook's endpoint had at the start, unless the webhook has another address by now.
    pub(super) fn take_restored(&mut self, webhook: &Webhook) -> Option<Box<EndpointState>> {
        let endpoint = self.restored.remove(&webhook.no)?;
        let is_same_address = endpoint.address_version == webhook.address_version;
        is_same_address.then(|| {
            self.show_endpoint(webhook, &endpoint);
            Box::new(endpoint)
        })
    }

    /// Shows the state of a webhook's endpoint to the management API.
    pub(super) fn show_endpoint(&self, webhook: &Webhook, endpoint: &EndpointState) {
        self.setup.metrics.endpoint_states.set(webhook.no, endpoint);
    }

    /// Updates the metrics, and logs a change of the circuit breaker. Each pair is the previous and the current value.
    pub(super) fn report(&self, webhook: &Webhook, spilled: (bool, bool), breaker: (CircuitState, CircuitState)) {
        let metrics = &self.setup.metrics;
        metrics.spilled_webhooks.add(i64::from(spilled.1) - i64::from(spilled.0));
        let (previous, current) = breaker;
        if previous == current {
            return;
        }
        metrics.breakers.set(webhook.no.0, current as u8);
        let id = webhook.id.to_string();
        match current {
            // A closed breaker has no series. The removal fails if there was none.
            CircuitState::Closed => drop(metrics.breaker_state.remove_label_values(&[&id])),
            CircuitState::HalfOpen | CircuitState::Open => {
                metrics.breaker_state.with_label_values(&[&id]).set(i64::from(current as u8));
            }
        }
        tracing::info!(webhook = %id, stood = ?previous, stands = ?current, "circuit breaker");
    }
}
