//! A delivery from its beginning to its outcome, and what the outcome means for its webhook.

use std::sync::Arc;
use std::time::Duration;

use super::WebhookQueue;
use crate::dispatch::breaker::Stands;
use crate::dispatch::queue::Entry;
use crate::dispatch::rate_control::Gate;
use crate::dispatch::shard_state::ShardState;
use crate::dispatch::timer::Key;
use crate::handoff::{Outcome, Settled};
use crate::limits::DISABLE_GRACE;
use crate::model::{Attempt, AttemptError, Decision, EventId, Timestamp};
use crate::outbound::{Event, Webhook};
use crate::runtime::{Instant, Moment};

/// A delivery under way.
#[derive(Debug)]
pub(in crate::dispatch) struct Job {
    pub(in crate::dispatch) key: Key,
    pub(in crate::dispatch) webhook: Arc<Webhook>,
    pub(in crate::dispatch) event: Arc<Event>,
    pub(in crate::dispatch) timeout: Duration,
    /// Before this one.
    pub(in crate::dispatch) attempts: u16,
    /// Those of them before the last replay.
    base: u16,
    has_row: bool,
    recalled: bool,
    is_probe: bool,
    pub(in crate::dispatch) began: Moment,
}

impl Job {
    /// This attempt's number.
    pub(in crate::dispatch) fn number(&self) -> u16 {
        self.attempts.saturating_add(1)
    }

    /// Its number in the retry schedule, which a replay begins anew.
    fn number_in_schedule(&self) -> u16 {
        self.number().saturating_sub(self.base)
    }
}

impl WebhookQueue {
    /// Its turn: begins a delivery, if that may still be.
    pub(in crate::dispatch) fn take(&mut self, now: Instant, common: &mut ShardState) -> Option<Job> {
        self.is_listed = false;
        if self.gate(now, common) != Gate::Open {
            return None;
        }
        let Entry { event, body, attempts, base, has_row, recalled, .. } = self.queue.pop()?;
        let body = body?;
        let is_probe = self.pace.begin(self.webhook.rate_limit.as_ref(), now);
        self.in_flight.push(event);
        common.in_flight += 1;
        Some(Job {
            key: self.key,
            webhook: Arc::clone(&self.webhook),
            event: body,
            timeout: self.webhook.timeout.unwrap_or(common.setup.delivery.timeout),
            attempts,
            base,
            has_row,
            recalled,
            is_probe,
            began: common.setup.clock.moment(now),
        })
    }

    /// A delivery ended.
    pub(in crate::dispatch) fn finished(&mut self, job: &Job, outcome: Outcome, now: Instant, common: &mut ShardState) {
        self.land(job.event.id, common);
        common
            .tally
            .count(&outcome, (job.attempts == 0 && !job.has_row && !job.recalled).then_some(job.event.committed_at));
        let policy = self.webhook.retry_policy.as_ref().unwrap_or(&common.setup.delivery.retry_policy);
        let verdict = (common.setup.decide)(
            &outcome.result,
            outcome.retry_after,
            job.number_in_schedule(),
            policy,
            self.webhook.retry_on,
            common.setup.clock.steady_at(now),
            common.random.between(0..=u64::MAX),
        );
        let ok = outcome.result.is_ok();
        let breaker = self.breaker.as_deref().unwrap_or(&common.setup.breaker);
        if outcome.result != Err(AttemptError::Dropped) {
            self.pace.end(ok, job.is_probe, now, breaker);
        } else if job.is_probe {
            self.pace.breaker.forget_probe();
        }
        if let Some(until) = verdict.pause_webhook_until {
            self.pace.pause(common.setup.clock.instant_of(until));
        }
        if verdict.disable && self.ended.is_none() {
            // Settle has the registry disable it, which comes back as a change. Until then nothing more is sent.
            self.pace.pause(now + DISABLE_GRACE);
        }
        if !ok && self.pace.breaker.stands() == Stands::Open {
            self.queue.shed_bodies();
        }
        // Whoever ended the webhook has seen to what waits; a retry decided after that must not wait for ever.
        let decision = match (verdict.decision, self.ended) {
            (Decision::Retry { .. }, Some(reason)) => Decision::Dead(reason),
            (decision, _) => decision,
        };
        match decision {
            Decision::Retry { at } if self.webhook.is_ordered() => self.hold_back(job, at),
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
        common.outputs.settled.push(Settled { webhook, event, attempt: Some(attempt), decision, head });
    }

    /// A delivery of an ordered webhook is to be made again: it stays, and all that waits behind it, or those of its value.
    fn hold_back(&mut self, job: &Job, at: Timestamp) {
        if !self.backlog.has_reached(job.event.id) {
            // What is before it is read first, and then its row.
            return self.backlog.spilled(job.event.id);
        }
        // It may be a day; the log has what was held.
        let group = self.group_of(&job.event);
        self.queue.shed_behind(group);
        let entry = Entry {
            event: job.event.id,
            body: None,
            attempts: job.number(),
            base: job.base,
            has_row: true,
            recalled: false,
            not_before: Some(at),
        };
        self.queue.insert_in(group, entry);
    }

    /// A delivery was dropped unfinished. In a stop that is as if it had never begun; else it is a failed attempt, so that
    /// one that breaks its worker does not do so for ever.
    pub(in crate::dispatch) fn dropped(&mut self, job: Job, now: Instant, common: &mut ShardState) {
        if common.is_stopping {
            self.land(job.event.id, common);
            let Job { event, attempts, base, has_row, recalled, .. } = job;
            let body = Some(Arc::clone(&event));
            let entry = Entry { event: event.id, body, attempts, base, has_row, recalled, not_before: None };
            return self.put_back(entry);
        }
        let outcome = Outcome {
            result: Err(AttemptError::Dropped),
            http_status: None,
            retry_after: None,
            response: Box::default(),
            latency: now.saturating_duration_since(job.began.instant),
            sent_at: None,
        };
        self.finished(&job, outcome, now, common);
    }

    /// It is not under way any more.
    fn land(&mut self, event: EventId, common: &mut ShardState) {
        if let Some(at) = self.in_flight.iter().position(|id| *id == event) {
            self.in_flight.swap_remove(at);
        }
        self.queue.landed(event);
        common.in_flight -= 1;
    }
}
