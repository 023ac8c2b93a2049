//! A delivery job from its beginning to its outcome, and the effects of the outcome on its webhook.

use std::sync::Arc;
use std::time::Duration;

use super::WebhookQueue;
use crate::dispatch::breaker::CircuitState;
use crate::dispatch::queue::QueueEntry;
use crate::dispatch::rate_control::Gate;
use crate::dispatch::shard_state::ShardState;
use crate::dispatch::timer::WebhookKey;
use crate::handoff::{AttemptOutcome, RetryDecision, SettledDelivery};
use crate::limits::DISABLE_GRACE;
use crate::model::{Attempt, AttemptError, Decision, EndpointState, EventId, PauseReason, Timestamp};
use crate::outbound::{Event, Webhook};
use crate::runtime::{Instant, Moment};

/// A delivery in flight.
#[derive(Debug)]
pub(in crate::dispatch) struct DeliveryJob {
    /// The webhook's index in its shard.
    pub(in crate::dispatch) key: WebhookKey,
    /// The webhook, in the version at the beginning of the attempt.
    pub(in crate::dispatch) webhook: Arc<Webhook>,
    /// The event.
    pub(in crate::dispatch) event: Arc<Event>,
    /// The timeout of the attempt.
    pub(in crate::dispatch) timeout: Duration,
    /// Attempts before this one.
    pub(in crate::dispatch) attempts: u16,
    /// Attempts before the last replay.
    base: u16,
    has_row: bool,
    from_log: bool,
    is_probe: bool,
    /// When the attempt began.
    pub(in crate::dispatch) began: Moment,
}

impl DeliveryJob {
    /// The number of this attempt; 1 is the first.
    pub(in crate::dispatch) fn number(&self) -> u16 {
        self.attempts.saturating_add(1)
    }

    /// The number of this attempt in the retry schedule. A replay restarts the schedule.
    fn number_in_schedule(&self) -> u16 {
        self.number().saturating_sub(self.base)
    }
}

impl WebhookQueue {
    /// Begins the webhook's next delivery. Returns `None` if the webhook may not begin one any more.
    pub(in crate::dispatch) fn next_job(&mut self, now: Instant, state: &mut ShardState) -> Option<DeliveryJob> {
        self.is_listed = false;
        if self.gate(now, state) != Gate::Open {
            return None;
        }
        let QueueEntry { event, body, attempts, base, has_row, from_log, .. } = self.queue.pop()?;
        let body = body?;
        let is_probe = self.rate_control.begin(self.webhook.rate_limit.as_ref(), now);
        self.in_flight.push(event);
        state.in_flight += 1;
        Some(DeliveryJob {
            key: self.key,
            webhook: Arc::clone(&self.webhook),
            event: body,
            timeout: self.webhook.timeout.unwrap_or(state.setup.delivery.timeout),
            attempts,
            base,
            has_row,
            from_log,
            is_probe,
            began: state.setup.clock.moment(now),
        })
    }

    /// Handles the outcome of an attempt.
    pub(in crate::dispatch) fn finished(
        &mut self,
        job: &DeliveryJob,
        outcome: AttemptOutcome,
        now: Instant,
        state: &mut ShardState,
    ) {
        self.remove_in_flight(job.event.id, state);
        state
            .shard_metrics
            .count(&outcome, (job.attempts == 0 && !job.has_row && !job.from_log).then_some(job.event.committed_at));
        let policy = self.webhook.retry_policy.as_ref().unwrap_or(&state.setup.delivery.retry_policy);
        let verdict = (state.setup.decide)(
            &outcome.result,
            outcome.retry_after,
            job.number_in_schedule(),
            policy,
            self.webhook.retry_on,
            state.setup.clock.steady_at(now),
            state.random.between(0..=u64::MAX),
        );
        let ok = outcome.result.is_ok();
        // A response from the webhook's previous address says nothing about its present one.
        let is_same_address = job.webhook.address_version == self.webhook.address_version;
        let endpoint = if is_same_address { self.judge_endpoint(job, &outcome, &verdict, now, state) } else { None };
        if !ok && self.rate_control.breaker.state() == CircuitState::Open {
            self.queue.evict_bodies();
        }
        // Disabling or deleting the webhook has already ended its waiting deliveries. A retry decided later would never
        // run.
        let decision = match (verdict.decision, self.ended) {
            (Decision::Retry { .. }, Some(reason)) => Decision::Dead(reason),
            (decision, _) => decision,
        };
        match decision {
            Decision::Retry { at } if self.webhook.is_ordered() => self.requeue_for_retry(job, at),
            Decision::Retry { at } => self.backlog.due_at(at),
            Decision::Delivered | Decision::Dead(_) => {}
        }
        self.backlog.settled(job.event.id);
        let attempt = Attempt {
            number: job.number(),
            at: job.began.wall,
            latency: outcome.latency,
            http_status: outcome.http_status,
            error: outcome.result.err(),
            response: outcome.response,
        };
        let (webhook, event, head) = (self.no(), job.event.id, job.event.head.clone());
        state.outputs.settled.push(SettledDelivery {
            webhook,
            event,
            attempt: Some(attempt),
            decision,
            head,
            endpoint,
        });
    }

    /// Forgets the pause and the circuit breaker of an earlier address.
    pub(super) fn forget_endpoint(&mut self, state: &ShardState) {
        self.rate_control.forget_endpoint();
        if self.endpoint.take().is_some() {
            state.show_endpoint(&self.webhook, &EndpointState::default());
        }
    }

    /// Applies an outcome to the pause and the circuit breaker. Returns the state of the endpoint if it changed.
    fn judge_endpoint(
        &mut self,
        job: &DeliveryJob,
        outcome: &AttemptOutcome,
        verdict: &RetryDecision,
        now: Instant,
        state: &ShardState,
    ) -> Option<Box<EndpointState>> {
        let clock = &state.setup.clock;
        if outcome.result != Err(AttemptError::Dropped) {
            let breaker = self.breaker.as_deref().unwrap_or(&state.setup.breaker);
            self.rate_control.end(outcome.result.is_ok(), job.is_probe, now, breaker);
        } else if job.is_probe {
            self.rate_control.breaker.cancel_probe();
        }
        if let (Some(until), Err(error)) = (verdict.pause_webhook_until, &outcome.result) {
            let reason = match error {
                AttemptError::Status(status) => PauseReason::of_status(*status),
                _ => None,
            };
            self.rate_control.pause(clock.instant_of(until), reason);
        }
        if verdict.disable && self.ended.is_none() {
            // Settle asks the registry to disable the webhook, and the shard then receives a change. Until then nothing
            // is sent.
            self.rate_control.pause(now + DISABLE_GRACE, None);
        }
        if outcome.result.is_ok() && self.endpoint.is_none() {
            return None;
        }
        let present = self.rate_control.endpoint_state(self.webhook.address_version, clock);
        if present
            == self.endpoint.as_deref().copied().unwrap_or(EndpointState { pause: None, breaker: None, ..present })
        {
            return None;
        }
        state.show_endpoint(&self.webhook, &present);
        self.endpoint = (!present.is_clear()).then(|| Box::new(present));
        Some(Box::new(present))
    }

    /// Puts a delivery of an ordered webhook back, to be attempted again at time `at`. The deliveries behind it wait too;
    /// in order by a field, only those with the same value.
    fn requeue_for_retry(&mut self, job: &DeliveryJob, at: Timestamp) {
        if !self.backlog.has_reached(job.event.id) {
            // Earlier events are still on disk. They are read first, and then the row of this delivery.
            return self.backlog.spilled(job.event.id);
        }
        // The wait may be a day. The bodies are in the log, so memory need not hold them.
        let group = self.group_of(&job.event);
        self.queue.evict_bodies_behind(group);
        let entry = QueueEntry {
            event: job.event.id,
            body: None,
            attempts: job.number(),
            base: job.base,
            has_row: true,
            from_log: false,
            not_before: Some(at),
        };
        self.queue.insert_in(group, entry);
    }

    /// Handles a job that was dropped before its attempt ended. In a stop, the delivery is put back as if it had never
    /// begun. Otherwise it counts as a failed attempt, so that a delivery that makes its worker panic does not do so
    /// forever.
    pub(in crate::dispatch) fn dropped(&mut self, job: DeliveryJob, now: Instant, state: &mut ShardState) {
        if state.is_stopping {
            self.remove_in_flight(job.event.id, state);
            let DeliveryJob { event, attempts, base, has_row, from_log, .. } = job;
            let body = Some(Arc::clone(&event));
            let entry = QueueEntry { event: event.id, body, attempts, base, has_row, from_log, not_before: None };
            return self.requeue(entry);
        }
        let outcome = AttemptOutcome {
            result: Err(AttemptError::Dropped),
            http_status: None,
            retry_after: None,
            response: Box::default(),
            latency: now.saturating_duration_since(job.began.instant),
            sent_at: None,
        };
        self.finished(&job, outcome, now, state);
    }

    /// Removes a delivery from those in flight.
    fn remove_in_flight(&mut self, event: EventId, state: &mut ShardState) {
        if let Some(at) = self.in_flight.iter().position(|id| *id == event) {
            self.in_flight.swap_remove(at);
        }
        self.queue.delivery_finished(event);
        state.in_flight -= 1;
    }
}
