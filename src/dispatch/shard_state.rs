//! What the webhooks of a shard share: the lists in which webhooks wait for something, and what the shard decided.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Setup;
use super::arrived_rows::ArrivedRows;
use super::backlog::Bounds;
use super::breaker::Stands;
use super::shard_metrics::ShardMetrics;
use super::timer::{Key, Timers};
use crate::handoff::{Refill, Settled};
use crate::limits::WEBHOOK_IDLE;
use crate::model::{DeadReason, Decision, EventId, WebhookNo};
use crate::outbound::Webhook;
use crate::runtime::{Instant, Random};

/// What a shard decided, for its thread to do. The outputs gather over the inputs of a turn of the thread's loop.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// Attempts and their decisions, for settle.
    pub(super) settled: Vec<Settled>,
    /// Deliveries that get a row, for settle, after `settled`.
    pub(super) spilled: Vec<(WebhookNo, EventId)>,
    /// Rows to ask settle for, after both.
    pub(super) refills: Vec<Refill>,
}

/// See the module.
pub(super) struct ShardState {
    pub(super) index: usize,
    pub(super) setup: Setup,
    pub(super) bounds: Bounds,
    pub(super) random: Random,
    pub(super) tally: ShardMetrics,
    /// Webhooks to which something can be sent now; each gives one delivery at its turn.
    pub(super) ready: VecDeque<Key>,
    /// Webhooks that want rows.
    pub(super) refill_turns: VecDeque<Key>,
    /// Webhooks that want bodies.
    pub(super) recall_turns: VecDeque<Key>,
    /// Webhooks that had nothing to do, and when to look whether they can be forgotten.
    pub(super) idle: VecDeque<(Instant, Key)>,
    pub(super) timers: Timers,
    pub(super) early: ArrivedRows,
    /// What the shard's thread is to do.
    pub(super) outputs: Outputs,
    /// Deliveries under way.
    pub(super) in_flight: usize,
    /// No delivery begins any more.
    pub(super) is_stopping: bool,
    /// Room for a webhook's known ids while it looks at a reply.
    pub(super) known: Vec<EventId>,
}

impl ShardState {
    pub(super) fn new(index: usize, setup: Setup, random: Random, bounds: Bounds) -> Self {
        Self {
            index,
            tally: ShardMetrics::new(&setup.metrics),
            early: ArrivedRows::new(setup.last_event),
            setup,
            bounds,
            random,
            ready: VecDeque::new(),
            refill_turns: VecDeque::new(),
            recall_turns: VecDeque::new(),
            idle: VecDeque::new(),
            timers: Timers::default(),
            outputs: Outputs::default(),
            in_flight: 0,
            is_stopping: false,
            known: Vec::new(),
        }
    }

    /// A delivery ends without an attempt.
    pub(super) fn dead_letter(&mut self, webhook: WebhookNo, event: EventId, reason: DeadReason) {
        self.outputs.settled.push(Settled {
            webhook,
            event,
            attempt: None,
            decision: Decision::Dead(reason),
            head: Bytes::new(),
        });
    }

    /// A delivery gets a row.
    pub(super) fn spill(&mut self, webhook: WebhookNo, event: EventId) {
        self.outputs.spilled.push((webhook, event));
    }

    pub(super) fn list_idle(&mut self, key: Key, now: Instant) {
        self.idle.push_back((now + WEBHOOK_IDLE, key));
    }

    /// Bodies that one request may ask for. When bodies take more memory than they may it is one, without which nothing
    /// would ever leave.
    pub(super) fn recall_limit(&self) -> usize {
        if self.setup.memory.is_over() { 1 } else { self.bounds.recall_events }
    }

    /// Shows what changed of a webhook.
    pub(super) fn show(&self, webhook: &Webhook, lagged: bool, lags: bool, stood: Stands, stands: Stands) {
        let metrics = &self.setup.metrics;
        metrics.lagging_webhooks.add(i64::from(lags) - i64::from(lagged));
        if stood == stands {
            return;
        }
        metrics.breakers.set(webhook.no.0, stands as u8);
        let id = webhook.id.to_string();
        match stands {
            // Without a series it is closed; there may be none to remove.
            Stands::Closed => drop(metrics.breaker_state.remove_label_values(&[&id])),
            Stands::HalfOpen | Stands::Open => {
                metrics.breaker_state.with_label_values(&[&id]).set(i64::from(stands as u8));
            }
        }
        tracing::info!(webhook = %id, ?stood, ?stands, "circuit breaker");
    }
}
