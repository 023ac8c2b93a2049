//! A shard without its thread: [`Shard::step`] takes an input at a time; deliveries and [`Outputs`] come out. Nothing here
//! waits, sends or asks for the time, so that a test or a simulation can put any order of inputs before it.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Setup;
use super::backlog::Bounds;
use super::shard_state::{Outputs, ShardState};
use super::timer::Key;
use super::webhook_queue::{Job, WebhookQueue};
use crate::handoff::{Arrival, Outcome, RecallRequest, ToShard, Waiting};
use crate::limits::RECALL_FULL_PAUSE;
use crate::model::{DeadReason, WebhookNo};
use crate::outbound::Webhook;
use crate::runtime::{Instant, Moment, Random};

/// What a shard is told.
#[derive(Debug)]
pub(super) enum Input {
    /// By commit, settle, the registry or the recall thread.
    Message(ToShard),
    /// The time of [`Shard::next_tick`] has come.
    Tick,
    /// A delivery ended.
    Finished(Job, Outcome),
    /// A delivery was dropped unfinished.
    Dropped(Job),
    /// The recall thread had no room for the last request, which was for this webhook.
    RecallRefused(WebhookNo),
    /// From now on no delivery begins.
    Stop,
}

/// See the module.
pub(super) struct Shard {
    /// By number / shards: numbers are dense, so this costs a pointer per webhook that ever was.
    targets: Vec<Option<Box<WebhookQueue>>>,
    shards: u32,
    refills: usize,
    recall_again_at: Option<Instant>,
    common: ShardState,
}

impl Shard {
    /// Shard `index` of `shards`.
    pub(super) fn new(index: usize, shards: usize, setup: Setup, random: Random, bounds: Bounds) -> Self {
        Self {
            targets: Vec::new(),
            shards: shards.max(1) as u32,
            refills: 0,
            recall_again_at: None,
            common: ShardState::new(index, setup, random, bounds),
        }
    }

    /// Takes an input in, at this time. What follows is in [`Self::outputs`] and [`Self::next_job`].
    pub(super) fn step(&mut self, now: Instant, input: Input) {
        match input {
            Input::Message(message) => self.handle(message, now),
            Input::Tick => self.tick(now),
            Input::Finished(job, outcome) => self.finished(&job, outcome, now),
            Input::Dropped(job) => self.dropped(job, now),
            Input::RecallRefused(webhook) => self.recall_refused(webhook, now),
            Input::Stop => self.common.is_stopping = true,
        }
    }

    fn handle(&mut self, message: ToShard, now: Instant) {
        if self.common.is_stopping {
            // Settle has all of the message as well, and keeps it for the next start.
            return;
        }
        match message {
            ToShard::Arrivals(arrivals) => self.arrived(&arrivals, now),
            ToShard::Refilled(reply) => {
                self.refills = self.refills.saturating_sub(1);
                if let Some((target, common)) = self.known(reply.webhook) {
                    target.refilled(&reply, common);
                    target.serve(now, common);
                }
            }
            ToShard::Recalled { webhook, events } => {
                // There is room at the recall thread again.
                self.recall_again_at = None;
                if let Some((target, common)) = self.known(webhook) {
                    target.recalled(&events, now, common);
                    target.serve(now, common);
                }
            }
            ToShard::Waiting(list) => {
                for Waiting { webhook, ready, due } in list {
                    if let Some((target, common)) = self.open(webhook) {
                        target.rows_wait(ready, due, common);
                        target.serve(now, common);
                    }
                }
            }
            ToShard::Wide(event) => {
                self.common.early.arrived(event);
                // One that is not here now begins by reading its rows.
                for target in self.targets.iter_mut().flatten() {
                    target.wide();
                    target.serve(now, &mut self.common);
                }
            }
            // The workers' matter: see `Crew::probe`.
            ToShard::Probe(_) => {}
            ToShard::Changed(webhooks) => {
                for no in webhooks {
                    let latest = self.common.setup.webhooks.webhook(no);
                    if let Some((target, common)) = self.known(no) {
                        target.changed(latest, common);
                        target.serve(now, common);
                    }
                }
            }
        }
    }

    fn arrived(&mut self, arrivals: &[Arrival], now: Instant) {
        let keep_bodies = !self.common.setup.memory.is_over();
        for Arrival { event, webhooks } in arrivals {
            let mut taken = SmallVec::<[WebhookNo; 4]>::new();
            for no in webhooks.iter().copied() {
                if self.common.early.is_taken(event.id, no) {
                    taken.push(no);
                    continue;
                }
                match self.open(no) {
                    Some((target, common)) => {
                        target.arrived(event, keep_bodies, common);
                        target.serve(now, common);
                    }
                    None => self.common.dead_letter(no, event.id, DeadReason::Removed),
                }
            }
            self.common.early.arrived(event.id);
            // An ordered webhook has waited for that.
            for no in taken {
                if let Some((target, common)) = self.known(no) {
                    target.serve(now, common);
                }
            }
        }
    }

    /// Does what is due.
    fn tick(&mut self, now: Instant) {
        while let Some(key) = self.common.timers.pop(now) {
            if let Some((target, common)) = self.at(key) {
                target.woke(now, common);
                target.serve(now, common);
            }
        }
        while self.common.idle.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.common.idle.pop_front() else { break };
            let is_forgettable = self.at(key).is_some_and(|(target, common)| target.is_forgettable(now, common));
            if is_forgettable && let Some(target) = self.targets[key as usize].take() {
                target.forget(&mut self.common);
            }
        }
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let idle = self.common.idle.front().map(|(at, _)| *at);
        [self.common.timers.first(), idle, self.recall_again_at].into_iter().flatten().min()
    }

    /// The next delivery, of the webhook whose turn it is.
    pub(super) fn next_job(&mut self, now: Instant) -> Option<Job> {
        if self.common.is_stopping {
            return None;
        }
        while let Some(key) = self.common.ready.pop_front() {
            let Some((target, common)) = self.at(key) else { continue };
            let job = target.take(now, common);
            target.serve(now, common);
            if job.is_some() {
                return job;
            }
        }
        None
    }

    fn finished(&mut self, job: &Job, outcome: Outcome, now: Instant) {
        // A webhook with a delivery under way is never forgotten.
        if let Some((target, common)) = self.at(job.key) {
            target.finished(job, outcome, now, common);
            target.serve(now, common);
        }
    }

    fn dropped(&mut self, job: Job, now: Instant) {
        if let Some((target, common)) = self.at(job.key) {
            target.dropped(job, now, common);
            target.serve(now, common);
        }
    }

    /// What has gathered since the last call. Refills come last: settle looks for rows after what it was told before.
    pub(super) fn outputs(&mut self, now: Instant) -> Outputs {
        self.ask_for_rows(now);
        let ShardState { outputs, tally, in_flight, .. } = &mut self.common;
        tally.flush(*in_flight);
        std::mem::take(outputs)
    }

    fn ask_for_rows(&mut self, now: Instant) {
        while self.refills < self.common.bounds.refills && !self.common.is_stopping {
            let Some(key) = self.common.refill_turns.pop_front() else { break };
            let Some((target, common)) = self.at(key) else { continue };
            let refill = target.next_refill(now, common);
            // The webhook may want its other lane as well.
            target.serve(now, common);
            if let Some(refill) = refill {
                self.common.outputs.refills.push(refill);
                self.refills += 1;
            }
        }
    }

    /// The next request for bodies, until the recall thread has no room: see [`Input::RecallRefused`].
    pub(super) fn next_recall(&mut self, now: Instant) -> Option<RecallRequest> {
        if self.recall_again_at.is_some_and(|at| now < at) {
            return None;
        }
        self.recall_again_at = None;
        if self.common.is_stopping {
            return None;
        }
        while let Some(key) = self.common.recall_turns.pop_front() {
            let Some((target, common)) = self.at(key) else { continue };
            match target.next_recall(common) {
                Some(request) => return Some(request),
                None => target.serve(now, common),
            }
        }
        None
    }

    fn recall_refused(&mut self, webhook: WebhookNo, now: Instant) {
        if let Some((target, common)) = self.known(webhook) {
            let key = target.recall_refused();
            common.recall_turns.push_front(key);
        }
        self.recall_again_at = Some(now + RECALL_FULL_PAUSE);
    }

    /// The time that a test delivery may take, and when it begins; none any more in a stop.
    pub(super) fn probe_begins(&self, webhook: &Webhook, now: Instant) -> Option<(Duration, Moment)> {
        let Setup { delivery, clock, .. } = &self.common.setup;
        let begins = || (webhook.timeout.unwrap_or(delivery.timeout), clock.moment(now));
        (!self.common.is_stopping).then(begins)
    }

    /// Whether something waits for a worker.
    pub(super) fn has_work(&self) -> bool {
        !self.common.ready.is_empty() && !self.common.is_stopping
    }

    /// Deliveries under way.
    pub(super) fn in_flight(&self) -> usize {
        self.common.in_flight
    }

    /// Deliveries that may be under way at once.
    pub(super) fn in_flight_max(&self) -> usize {
        self.common.bounds.in_flight
    }

    fn at(&mut self, key: Key) -> Option<(&mut WebhookQueue, &mut ShardState)> {
        let target = self.targets.get_mut(key as usize)?.as_deref_mut()?;
        Some((target, &mut self.common))
    }

    /// The webhook, if there is something to know of it.
    fn known(&mut self, no: WebhookNo) -> Option<(&mut WebhookQueue, &mut ShardState)> {
        self.at(no.0 / self.shards)
    }

    /// The webhook, made if it is not there; `None`: it was removed.
    fn open(&mut self, no: WebhookNo) -> Option<(&mut WebhookQueue, &mut ShardState)> {
        let key = no.0 / self.shards;
        let at = key as usize;
        if self.targets.get(at).is_none_or(Option::is_none) {
            let webhook = self.common.setup.webhooks.webhook(no)?;
            if self.targets.len() <= at {
                self.targets.resize_with(at + 1, || None);
            }
            self.targets[at] = Some(Box::new(WebhookQueue::new(key, Arc::clone(&webhook), &self.common)));
        }
        self.at(key)
    }
}

#[cfg(test)]
impl Shard {
    /// Entries of a webhook in memory.
    pub(super) fn held(&self, no: WebhookNo) -> usize {
        self.targets.get((no.0 / self.shards) as usize).and_then(Option::as_deref).map_or(0, WebhookQueue::held)
    }

    /// Webhooks that something is known of.
    pub(super) fn webhooks(&self) -> usize {
        self.targets.iter().flatten().count()
    }
}
