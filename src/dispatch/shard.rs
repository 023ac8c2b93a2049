//! A shard without its thread: messages, times and outcomes in; deliveries, and what settle is told, out. Nothing here
//! waits, so a test can put any order of events before it.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Setup;
use super::backlog::Bounds;
use super::common::Common;
use super::target::{Job, Target};
use super::timer::Key;
use crate::handoff::{Arrival, Outcome, Refill, ToSettle, ToShard, Waiting};
use crate::limits::RECALL_FULL_PAUSE;
use crate::model::{DeadReason, WebhookNo};
use crate::outbound::Webhook;
use crate::runtime::{Instant, Moment, Random};

/// See the module.
pub(super) struct Shard {
    /// By number / shards: numbers are dense, so this costs a pointer per webhook that ever was.
    targets: Vec<Option<Box<Target>>>,
    shards: u32,
    refills: usize,
    recall_again_at: Option<Instant>,
    common: Common,
}

impl Shard {
    /// Shard `index` of `shards`.
    pub(super) fn new(index: usize, shards: usize, setup: Setup, random: Random, bounds: Bounds) -> Self {
        Self {
            targets: Vec::new(),
            shards: shards.max(1) as u32,
            refills: 0,
            recall_again_at: None,
            common: Common::new(index, setup, random, bounds),
        }
    }

    /// Does what a message says.
    pub(super) fn handle(&mut self, message: ToShard) {
        if self.common.is_stopping {
            // All of it is settle's as well, which keeps it for the next start.
            return;
        }
        let now = self.common.setup.clock.instant();
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
                    None => self.common.bury(no, event.id, DeadReason::Removed),
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
    pub(super) fn tick(&mut self) {
        let now = self.common.setup.clock.instant();
        while let Some(key) = self.common.timers.pop(now) {
            if let Some((target, common)) = self.at(key) {
                target.woke(common);
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
    pub(super) fn next_job(&mut self) -> Option<Job> {
        self.next_job_at(self.common.setup.clock.instant())
    }

    fn next_job_at(&mut self, now: Instant) -> Option<Job> {
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

    /// A delivery ended, and the next one begins.
    pub(super) fn relay(&mut self, job: &Job, outcome: Outcome) -> Option<Job> {
        let now = self.common.setup.clock.instant();
        self.finished_at(job, outcome, now);
        self.next_job_at(now)
    }

    /// A delivery ended.
    #[cfg(test)]
    pub(super) fn finished(&mut self, job: &Job, outcome: Outcome) {
        self.finished_at(job, outcome, self.common.setup.clock.instant());
    }

    fn finished_at(&mut self, job: &Job, outcome: Outcome, now: Instant) {
        // A webhook with a delivery under way is never forgotten.
        if let Some((target, common)) = self.at(job.key) {
            target.finished(job, outcome, now, common);
            target.serve(now, common);
        }
    }

    /// A delivery was dropped unfinished.
    pub(super) fn dropped(&mut self, job: Job) {
        let now = self.common.setup.clock.instant();
        if let Some((target, common)) = self.at(job.key) {
            target.dropped(job, now, common);
            target.serve(now, common);
        }
    }

    /// Tells the metrics and settle what has gathered, then asks for rows: settle looks for them after what it was told
    /// before. Asks for bodies as far as there is room.
    pub(super) fn flush(&mut self) {
        let refills = self.next_refills();
        let Common { settled, spilled, setup, tally, in_flight, .. } = &mut self.common;
        tally.flush(*in_flight);
        if !settled.is_empty() {
            setup.settle.tell(ToSettle::Settled(std::mem::take(settled)));
        }
        if !spilled.is_empty() {
            setup.settle.tell(ToSettle::Spill(std::mem::take(spilled)));
        }
        for refill in refills {
            setup.settle.tell(ToSettle::Refill(refill));
        }
        self.recall();
    }

    fn next_refills(&mut self) -> Vec<Refill> {
        let mut refills = Vec::new();
        while self.refills < self.common.bounds.refills && !self.common.is_stopping {
            let Some(key) = self.common.refill_turns.pop_front() else { break };
            let Some((target, common)) = self.at(key) else { continue };
            let refill = target.next_refill(common);
            // It may want its other lane as well.
            target.serve(common.setup.clock.instant(), common);
            if refill.is_some() {
                self.refills += 1;
                refills.extend(refill);
            }
        }
        refills
    }

    fn recall(&mut self) {
        let now = self.common.setup.clock.instant();
        if self.recall_again_at.is_some_and(|at| now < at) {
            return;
        }
        self.recall_again_at = None;
        if self.common.is_stopping {
            return;
        }
        while let Some(key) = self.common.recall_turns.pop_front() {
            let Some((target, common)) = self.at(key) else { continue };
            let Some(request) = target.next_recall(common) else {
                target.serve(now, common);
                continue;
            };
            if common.setup.recall.try_send(request).is_err() {
                target.recall_refused();
                common.recall_turns.push_front(key);
                self.recall_again_at = Some(now + RECALL_FULL_PAUSE);
                return;
            }
        }
    }

    /// From now on no delivery begins.
    pub(super) fn stop(&mut self) {
        self.common.is_stopping = true;
    }

    /// The time that a test delivery may take, and when it begins; none any more in a stop.
    pub(super) fn probe_begins(&self, webhook: &Webhook) -> Option<(Duration, Moment)> {
        let Setup { delivery, clock, .. } = &self.common.setup;
        let begins = || (webhook.timeout.unwrap_or(delivery.timeout), clock.moment(clock.instant()));
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

    fn at(&mut self, key: Key) -> Option<(&mut Target, &mut Common)> {
        let target = self.targets.get_mut(key as usize)?.as_deref_mut()?;
        Some((target, &mut self.common))
    }

    /// The webhook, if there is something to know of it.
    fn known(&mut self, no: WebhookNo) -> Option<(&mut Target, &mut Common)> {
        self.at(no.0 / self.shards)
    }

    /// The webhook, made if it is not there; `None`: it was removed.
    fn open(&mut self, no: WebhookNo) -> Option<(&mut Target, &mut Common)> {
        let key = no.0 / self.shards;
        let at = key as usize;
        if self.targets.get(at).is_none_or(Option::is_none) {
            let webhook = self.common.setup.webhooks.webhook(no)?;
            if self.targets.len() <= at {
                self.targets.resize_with(at + 1, || None);
            }
            self.targets[at] = Some(Box::new(Target::new(key, Arc::clone(&webhook), &self.common)));
        }
        self.at(key)
    }
}

#[cfg(test)]
impl Shard {
    /// Entries of a webhook in memory.
    pub(super) fn held(&self, no: WebhookNo) -> usize {
        self.targets.get((no.0 / self.shards) as usize).and_then(Option::as_deref).map_or(0, Target::held)
    }

    /// Webhooks that something is known of.
    pub(super) fn webhooks(&self) -> usize {
        self.targets.iter().flatten().count()
    }
}
