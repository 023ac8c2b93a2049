//! The state machine of a shard, without its thread.
//!
//! [`Shard::step`] applies one input. [`Shard::next_job`] and [`Shard::outputs`] return the results. Nothing here waits,
//! sends or reads a clock, so a test or a simulation can apply inputs in any order.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::DispatchSetup;
use super::bounds::ShardBounds;
use super::shard_state::{ShardOutputs, ShardState};
use super::timer::WebhookKey;
use super::webhook_queue::{DeliveryJob, WebhookQueue};
use crate::handoff::{AttemptOutcome, BodyRequest, EventArrival, ToShard, WebhookBacklog, shard_of};
use crate::limits::BODY_READ_QUEUE_FULL_PAUSE;
use crate::model::{DeadReason, WebhookNo};
use crate::outbound::Webhook;
use crate::runtime::{Instant, Moment, Random};

/// An input of [`Shard::step`].
#[derive(Debug)]
pub(super) enum ShardInput {
    /// A message from commit, settle, the registry or the body reader thread.
    Message(ToShard),
    /// The time that [`Shard::next_tick`] returned is reached.
    Tick,
    /// An attempt ended with an outcome.
    Finished(DeliveryJob, AttemptOutcome),
    /// A delivery job was dropped before its attempt ended.
    Dropped(DeliveryJob),
    /// The queue of the body reader thread was full, so the last request, which was for this webhook, was not sent.
    BodyRequestRefused(WebhookNo),
    /// The shard stops: no further delivery begins.
    Stop,
}

/// The webhooks of one shard, and everything they share.
pub(super) struct Shard {
    /// Indexed by [`WebhookKey`]. Webhook numbers are dense, so the vector costs one pointer for each webhook that was
    /// ever created.
    webhook_queues: Vec<Option<Box<WebhookQueue>>>,
    shards: u32,
    refills: usize,
    body_requests_paused_until: Option<Instant>,
    state: ShardState,
}

impl Shard {
    /// Creates shard `index` of `shards`, without webhooks.
    pub(super) fn new(index: usize, shards: usize, setup: DispatchSetup, random: Random, bounds: ShardBounds) -> Self {
        let mut state = ShardState::new(index, setup, random, bounds);
        let own = state.setup.endpoint_states.iter().filter(|(no, _)| shard_of(**no, shards.max(1)) == index);
        state.restored = own.map(|(no, endpoint)| (*no, *endpoint)).collect();
        Self {
            webhook_queues: Vec::new(),
            shards: shards.max(1) as u32,
            refills: 0,
            body_requests_paused_until: None,
            state,
        }
    }

    /// Applies an input at time `now`. The results are in [`Self::outputs`] and [`Self::next_job`].
    pub(super) fn step(&mut self, now: Instant, input: ShardInput) {
        match input {
            ShardInput::Message(message) => self.handle(message, now),
            ShardInput::Tick => self.tick(now),
            ShardInput::Finished(job, outcome) => self.finished(&job, outcome, now),
            ShardInput::Dropped(job) => self.dropped(job, now),
            ShardInput::BodyRequestRefused(webhook) => self.body_request_refused(webhook, now),
            ShardInput::Stop => self.state.is_stopping = true,
        }
    }

    fn handle(&mut self, message: ToShard, now: Instant) {
        if self.state.is_stopping {
            // Settle also has every delivery of this message and keeps it for the next start.
            return;
        }
        match message {
            ToShard::Arrivals(arrivals) => self.arrived(&arrivals, now),
            ToShard::Refilled(reply) => {
                self.refills = self.refills.saturating_sub(1);
                if let Some((webhook_queue, state)) = self.get(reply.webhook) {
                    webhook_queue.refilled(&reply, state);
                    webhook_queue.schedule(now, state);
                }
            }
            ToShard::BodiesLoaded { webhook, events } => {
                // A reply means that the body reader thread has room again.
                self.body_requests_paused_until = None;
                if let Some((webhook_queue, state)) = self.get(webhook) {
                    webhook_queue.bodies_loaded(&events, now, state);
                    webhook_queue.schedule(now, state);
                }
            }
            ToShard::Waiting(list) => {
                for WebhookBacklog { webhook, ready, due } in list {
                    if let Some((webhook_queue, state)) = self.get_or_create(webhook) {
                        webhook_queue.rows_available(ready, due, state);
                        webhook_queue.schedule(now, state);
                    }
                }
            }
            ToShard::WideEvent(event) => {
                self.state.arrived_rows.arrived(event);
                // A webhook that is not in memory now will begin by reading its rows.
                for webhook_queue in self.webhook_queues.iter_mut().flatten() {
                    webhook_queue.wide_event_accepted();
                    webhook_queue.schedule(now, &mut self.state);
                }
            }
            // The shard's loop passes test deliveries to `WorkerPool::send_test`.
            ToShard::TestDelivery(_) => {}
            ToShard::Changed(webhooks) => {
                for no in webhooks {
                    let latest = self.state.setup.webhooks.webhook(no);
                    if let Some((webhook_queue, state)) = self.get(no) {
                        webhook_queue.changed(latest, state);
                        webhook_queue.schedule(now, state);
                    }
                }
            }
        }
    }

    fn arrived(&mut self, arrivals: &[EventArrival], now: Instant) {
        let keep_bodies = !self.state.setup.memory.is_over();
        for EventArrival { event, webhooks } in arrivals {
            let mut taken = SmallVec::<[WebhookNo; 4]>::new();
            for no in webhooks.iter().copied() {
                if self.state.arrived_rows.is_taken(event.id, no) {
                    taken.push(no);
                    continue;
                }
                match self.get_or_create(no) {
                    Some((webhook_queue, state)) => {
                        webhook_queue.arrived(event, keep_bodies, state);
                        webhook_queue.schedule(now, state);
                    }
                    None => self.state.dead_letter(no, event.id, DeadReason::Removed),
                }
            }
            self.state.arrived_rows.arrived(event.id);
            // An ordered webhook may have waited for this arrival.
            for no in taken {
                if let Some((webhook_queue, state)) = self.get(no) {
                    webhook_queue.schedule(now, state);
                }
            }
        }
    }

    /// Fires due timers and evicts idle webhooks.
    fn tick(&mut self, now: Instant) {
        while let Some(key) = self.state.timers.pop(now) {
            if let Some((webhook_queue, state)) = self.by_key(key) {
                webhook_queue.timer_fired(now, state);
                webhook_queue.schedule(now, state);
            }
        }
        while self.state.idle.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.state.idle.pop_front() else { break };
            let is_evictable =
                self.by_key(key).is_some_and(|(webhook_queue, state)| webhook_queue.is_evictable(now, state));
            if is_evictable && let Some(webhook_queue) = self.webhook_queues[key as usize].take() {
                webhook_queue.evict(&mut self.state);
            }
        }
    }

    /// Returns the time of the next [`ShardInput::Tick`], or `None` if nothing is scheduled.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let idle = self.state.idle.front().map(|(at, _)| *at);
        [self.state.timers.first(), idle, self.body_requests_paused_until].into_iter().flatten().min()
    }

    /// Begins the next delivery. Webhooks take turns. Returns `None` if nothing is ready or the shard stops.
    pub(super) fn next_job(&mut self, now: Instant) -> Option<DeliveryJob> {
        if self.state.is_stopping {
            return None;
        }
        while let Some(key) = self.state.ready.pop_front() {
            let Some((webhook_queue, state)) = self.by_key(key) else { continue };
            let job = webhook_queue.next_job(now, state);
            webhook_queue.schedule(now, state);
            if job.is_some() {
                return job;
            }
        }
        None
    }

    fn finished(&mut self, job: &DeliveryJob, outcome: AttemptOutcome, now: Instant) {
        // A webhook with a delivery in flight is never evicted.
        if let Some((webhook_queue, state)) = self.by_key(job.key) {
            webhook_queue.finished(job, outcome, now, state);
            webhook_queue.schedule(now, state);
        }
    }

    fn dropped(&mut self, job: DeliveryJob, now: Instant) {
        if let Some((webhook_queue, state)) = self.by_key(job.key) {
            webhook_queue.dropped(job, now, state);
            webhook_queue.schedule(now, state);
        }
    }

    /// Returns the outputs since the last call. The refills must be sent last: settle answers them after it has applied
    /// everything sent before.
    pub(super) fn outputs(&mut self, now: Instant) -> ShardOutputs {
        self.ask_for_rows(now);
        let ShardState { outputs, shard_metrics, in_flight, .. } = &mut self.state;
        shard_metrics.flush(*in_flight);
        std::mem::take(outputs)
    }

    fn ask_for_rows(&mut self, now: Instant) {
        while self.refills < self.state.bounds.refills && !self.state.is_stopping {
            let Some(key) = self.state.refill_queue.pop_front() else { break };
            let Some((webhook_queue, state)) = self.by_key(key) else { continue };
            let refill = webhook_queue.next_refill(now, state);
            // The webhook may need a second refill, of the other kind.
            webhook_queue.schedule(now, state);
            if let Some(refill) = refill {
                self.state.outputs.refills.push(refill);
                self.refills += 1;
            }
        }
    }

    /// Returns the next request for bodies. Returns `None` if no webhook needs bodies, if the shard stops, or for a pause
    /// after [`ShardInput::BodyRequestRefused`].
    pub(super) fn next_body_request(&mut self, now: Instant) -> Option<BodyRequest> {
        if self.body_requests_paused_until.is_some_and(|at| now < at) {
            return None;
        }
        self.body_requests_paused_until = None;
        if self.state.is_stopping {
            return None;
        }
        while let Some(key) = self.state.body_read_queue.pop_front() {
            let Some((webhook_queue, state)) = self.by_key(key) else { continue };
            match webhook_queue.next_body_request(state) {
                Some(request) => return Some(request),
                None => webhook_queue.schedule(now, state),
            }
        }
        None
    }

    fn body_request_refused(&mut self, webhook: WebhookNo, now: Instant) {
        if let Some((webhook_queue, state)) = self.get(webhook) {
            let key = webhook_queue.body_request_refused();
            state.body_read_queue.push_front(key);
        }
        self.body_requests_paused_until = Some(now + BODY_READ_QUEUE_FULL_PAUSE);
    }

    /// Returns the timeout and the begin time of a test delivery, or `None` if the shard stops.
    pub(super) fn begin_test_delivery(&self, webhook: &Webhook, now: Instant) -> Option<(Duration, Moment)> {
        let DispatchSetup { delivery, clock, .. } = &self.state.setup;
        let begins = || (webhook.timeout.unwrap_or(delivery.timeout), clock.moment(now));
        (!self.state.is_stopping).then(begins)
    }

    /// Whether a webhook has a delivery that a worker can begin.
    pub(super) fn has_work(&self) -> bool {
        !self.state.ready.is_empty() && !self.state.is_stopping
    }

    /// The number of deliveries in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.state.in_flight
    }

    /// The maximum number of deliveries in flight.
    pub(super) fn in_flight_max(&self) -> usize {
        self.state.bounds.in_flight
    }

    fn by_key(&mut self, key: WebhookKey) -> Option<(&mut WebhookQueue, &mut ShardState)> {
        let webhook_queue = self.webhook_queues.get_mut(key as usize)?.as_deref_mut()?;
        Some((webhook_queue, &mut self.state))
    }

    /// Returns the webhook's queue if it is in memory.
    fn get(&mut self, no: WebhookNo) -> Option<(&mut WebhookQueue, &mut ShardState)> {
        self.by_key(no.0 / self.shards)
    }

    /// Returns the webhook's queue and creates it if necessary. Returns `None` if the webhook was deleted.
    fn get_or_create(&mut self, no: WebhookNo) -> Option<(&mut WebhookQueue, &mut ShardState)> {
        let key = no.0 / self.shards;
        let at = key as usize;
        if self.webhook_queues.get(at).is_none_or(Option::is_none) {
            let webhook = self.state.setup.webhooks.webhook(no)?;
            if self.webhook_queues.len() <= at {
                self.webhook_queues.resize_with(at + 1, || None);
            }
            self.webhook_queues[at] = Some(Box::new(WebhookQueue::new(key, Arc::clone(&webhook), &mut self.state)));
        }
        self.by_key(key)
    }
}

#[cfg(test)]
impl Shard {
    /// The number of a webhook's entries in memory.
    pub(super) fn held(&self, no: WebhookNo) -> usize {
        self.webhook_queues.get((no.0 / self.shards) as usize).and_then(Option::as_deref).map_or(0, WebhookQueue::held)
    }

    /// The number of webhooks in memory.
    pub(super) fn webhooks(&self) -> usize {
        self.webhook_queues.iter().flatten().count()
    }
}
