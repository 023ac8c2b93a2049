//! A shard without its thread, for the simulation: the caller passes inputs and makes the attempts.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::bounds::ShardBounds;
use super::shard::{Shard, ShardInput};
use super::webhook_queue::DeliveryJob;
use super::{DispatchSetup, Ports};
use crate::handoff::{AttemptOutcome, ToShard};
use crate::model::WebhookNo;
use crate::outbound::{Event, Webhook};
use crate::runtime::{Clock, Instant, Random};

/// Small bounds, so that windows overflow often.
const SMALL: ShardBounds = ShardBounds {
    window_entries: 24,
    window_bytes: 64 << 10,
    fresh_entries: 4,
    refill_rows: 8,
    refills: 3,
    body_read_events: 4,
    in_flight: 24,
};

/// The largest number of entries of a webhook in memory.
pub(crate) const HELD_MAX: usize = SMALL.window_entries + SMALL.fresh_entries;

/// A shard with its inbox and the senders of its outputs.
pub(crate) struct SteppedShard {
    shard: Shard,
    ports: Ports,
    inbox: mpsc::Receiver<ToShard>,
    clock: Clock,
    jobs: BTreeMap<u64, DeliveryJob>,
    next_job: u64,
}

/// An attempt that the caller must make.
pub(crate) struct BegunAttempt {
    /// Identifies the attempt in [`SteppedShard::end`].
    pub(crate) key: u64,
    pub(crate) webhook: Arc<Webhook>,
    pub(crate) event: Arc<Event>,
    pub(crate) number: u16,
    pub(crate) timeout: std::time::Duration,
}

impl SteppedShard {
    pub(crate) fn new(
        (index, shards): (usize, usize),
        setup: DispatchSetup,
        ports: Ports,
        inbox: mpsc::Receiver<ToShard>,
        random: Random,
    ) -> Self {
        let clock = setup.clock.clone();
        let shard = Shard::new(index, shards, setup, random, SMALL);
        Self { shard, ports, inbox, clock, jobs: BTreeMap::new(), next_job: 0 }
    }

    /// The number of messages in the inbox.
    pub(crate) fn inbox(&self) -> usize {
        self.inbox.len()
    }

    /// Takes at most `most` messages. Returns how many there were.
    pub(crate) fn take_in(&mut self, most: usize) -> usize {
        let mut taken = 0;
        while taken < most
            && let Ok(message) = self.inbox.try_recv()
        {
            self.shard.step(self.clock.instant(), ShardInput::Message(message));
            taken += 1;
        }
        taken
    }

    pub(crate) fn tick(&mut self) {
        self.shard.step(self.clock.instant(), ShardInput::Tick);
    }

    /// Begins the next delivery, if one is ready and the shard has room for another attempt.
    pub(crate) fn begin(&mut self) -> Option<BegunAttempt> {
        if self.shard.in_flight() >= self.shard.in_flight_max() {
            return None;
        }
        let job = self.shard.next_job(self.clock.instant())?;
        self.next_job += 1;
        let (key, webhook, event) = (self.next_job, Arc::clone(&job.webhook), Arc::clone(&job.event));
        let begun = BegunAttempt { key, webhook, event, number: job.number(), timeout: job.timeout };
        self.jobs.insert(key, job);
        Some(begun)
    }

    /// Ends an attempt. `None`: its worker was dropped.
    pub(crate) fn end(&mut self, key: u64, outcome: Option<AttemptOutcome>) {
        let Some(job) = self.jobs.remove(&key) else { return };
        let input = match outcome {
            Some(outcome) => ShardInput::Finished(job, outcome),
            None => ShardInput::Dropped(job),
        };
        self.shard.step(self.clock.instant(), input);
    }

    /// Sends the outputs, as the shard's loop does.
    pub(crate) fn send_outputs(&mut self) {
        let now = self.clock.instant();
        self.ports.send_outputs(&mut self.shard, now);
    }

    /// Stops the shard: no further delivery begins, and the attempts in flight are dropped.
    pub(crate) fn stop(&mut self) {
        self.shard.step(self.clock.instant(), ShardInput::Stop);
        for (_, job) in std::mem::take(&mut self.jobs) {
            self.shard.step(self.clock.instant(), ShardInput::Dropped(job));
        }
        self.send_outputs();
    }

    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.shard.next_tick()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// The number of a webhook's entries in memory.
    pub(crate) fn held(&self, no: WebhookNo) -> usize {
        self.shard.held(no)
    }
}
