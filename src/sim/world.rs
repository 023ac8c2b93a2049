//! The simulated world: a disk, a process that runs or not, endpoints and clients.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clients::PendingPublish;
use super::endpoint::ModelEndpoint;
use super::ledger::Ledger;
use super::node::{Node, SHARDS};
use crate::dispatch::stepping::SteppedShard;
use crate::handoff::{AttemptOutcome, ToSettle};
use crate::limits::SETTLE_QUEUE;
use crate::model::{DeliveryId, EventHead, EventId, Timestamp, WebhookNo};
use crate::runtime::{Instant, Random};
use crate::settle::SettleError;
use crate::settle::stepping::SteppedSettle;
use crate::storage::ReadLog;
use crate::storage::sim::{Loss, SimDisk};

/// The time at the beginning, by both clocks.
const START: Timestamp = Timestamp::from_millis(1_711_015_200_000);
/// Messages that settle's channel may hold before settle has to take some.
const MESSAGES_MAX: usize = SETTLE_QUEUE / 2;
/// A delivery to a healthy endpoint ends within this time of running undisturbed.
const HEALTHY_BOUND: Duration = Duration::from_secs(240);

/// An attempt that ends at a time.
struct AttemptEnd {
    shard: usize,
    key: u64,
    delivery: DeliveryId,
    outcome: Option<AttemptOutcome>,
    has_taken: bool,
}

/// What has happened in a run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunCounts {
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) duplicates: u64,
    pub(super) crashes: u64,
    pub(super) failed_starts: u64,
    pub(super) replays: u64,
}

pub(super) struct World {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) random: Random,
    disk: SimDisk,
    dir: tempfile::TempDir,
    pub(super) node: Option<Node>,
    pub(super) ledger: Ledger,
    pub(super) endpoints: BTreeMap<WebhookNo, ModelEndpoint>,
    pub(super) publishes: Vec<PendingPublish>,
    /// Attempts by their end.
    attempts: BTreeMap<(Instant, u64), AttemptEnd>,
    next_attempt: u64,
    /// The event of each id that clients gave and that was acknowledged.
    pub(super) names: BTreeMap<u64, EventId>,
    pub(super) next_name: u64,
    /// The difference of the wall clock from the simulated time in milliseconds.
    skew: i64,
    began: Instant,
    /// When the run was last disturbed: by a crash or a fault of the disk.
    pub(super) disturbed: Instant,
    pub(super) counts: RunCounts,
    /// A checksum of everything that was sent.
    trace: u64,
}

impl World {
    /// A world with a running process and no webhooks. The caller has entered the runtime.
    pub(super) fn new(runtime: tokio::runtime::Runtime, seed: u64) -> Self {
        let now = crate::runtime::Clock::test(START).instant();
        let mut world = Self {
            runtime,
            random: Random::seeded(seed),
            disk: SimDisk::default(),
            dir: tempfile::tempdir().unwrap(),
            node: None,
            ledger: Ledger::default(),
            endpoints: BTreeMap::new(),
            publishes: Vec::new(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            names: BTreeMap::new(),
            next_name: 0,
            skew: 0,
            began: now,
            disturbed: now,
            counts: RunCounts::default(),
            trace: seed,
        };
        world.start();
        world
    }

    pub(super) fn node(&mut self) -> &mut Node {
        self.node.as_mut().expect("the process runs between two steps")
    }

    pub(super) fn now(&self) -> Instant {
        self.node.as_ref().map_or(self.disturbed, |node| node.clock.instant())
    }

    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.random.between(0..=99) < percent
    }

    pub(super) fn pick(&mut self, below: usize) -> usize {
        self.random.between(0..=below.max(1) as u64 - 1) as usize
    }

    // Time

    /// Lets time pass, and ends the attempts whose time has come.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now() + time;
        while let Some(entry) = self.attempts.first_entry().filter(|entry| entry.key().0 <= until) {
            let at = entry.key().0;
            let end = entry.remove();
            self.advance_to(at);
            self.end_attempt(end);
        }
        self.advance_to(until);
        self.poll_publishes();
        for shard in 0..SHARDS {
            self.node().shards[shard].tick();
            self.send_outputs(shard);
        }
    }

    fn advance_to(&mut self, at: Instant) {
        let left = at.saturating_duration_since(self.now());
        self.runtime.block_on(tokio::time::advance(left));
    }

    /// The time until something happens by itself.
    pub(super) fn until_next(&self) -> Option<Duration> {
        let node = self.node.as_ref()?;
        let ticks = node.shards.iter().filter_map(SteppedShard::next_tick);
        let next = ticks.chain(self.attempts.first_key_value().map(|((at, _), _)| *at)).min()?;
        Some(next.saturating_duration_since(node.clock.instant()))
    }

    // Commit

    pub(super) fn commit(&mut self, most: usize) -> bool {
        if self.node().shards.iter().any(|shard| shard.inbox() > 8_000) {
            return false;
        }
        let batch: Vec<_> = self.node().submissions.try_iter().take(most).map(|submission| *submission).collect();
        let did = !batch.is_empty();
        if did {
            self.node().log.commit(batch);
            self.collect();
            self.poll_publishes();
            self.crash_if_poisoned();
        }
        did
    }

    pub(super) fn read_bodies(&mut self) -> bool {
        let Ok(request) = self.node().body_requests.try_recv() else { return false };
        self.node().log.read_bodies(&request);
        self.crash_if_poisoned();
        true
    }

    pub(super) fn retain(&mut self) {
        // Retention asks settle to flush first.
        self.settle_all();
        let Some(node) = &self.node else { return };
        if node.settle.is_flush_waiting() {
            return;
        }
        let refs = node.settle.refs(node.settle_handle.clone());
        match node.log.retain(&refs) {
            Err(error) if !error.is_retryable() => self.kill(),
            _ => self.collect(),
        }
    }

    fn crash_if_poisoned(&mut self) {
        if self.node().log.poison.is_set() {
            self.kill();
        }
    }

    // Dispatch and send

    pub(super) fn shard_takes(&mut self, shard: usize, most: usize) -> bool {
        let did = self.node().shards[shard].take_in(most) > 0;
        self.send_outputs(shard);
        did
    }

    /// Begins up to `most` attempts.
    pub(super) fn begin(&mut self, shard: usize, most: usize) -> bool {
        for done in 0..most {
            let Some(begun) = self.node().shards[shard].begin() else { return done > 0 };
            let delivery = DeliveryId { event: begun.event.id, webhook: begun.webhook.no };
            self.ledger.begin(delivery);
            let answer = match self.endpoints.get(&delivery.webhook) {
                Some(endpoint) => endpoint.answer(begun.timeout, &mut self.random),
                None => panic!("{delivery:?} is sent to a webhook that never was"),
            };
            self.next_attempt += 1;
            let at = self.now() + answer.after;
            for part in [delivery.event.as_u128() as u64, u64::from(delivery.webhook.0), u64::from(begun.number)] {
                self.trace = (self.trace ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
            }
            let end =
                AttemptEnd { shard, key: begun.key, delivery, outcome: answer.outcome, has_taken: answer.has_taken };
            self.attempts.insert((at, self.next_attempt), end);
        }
        true
    }

    fn end_attempt(&mut self, end: AttemptEnd) {
        if end.has_taken {
            self.ledger.taken(end.delivery);
        }
        self.node().shards[end.shard].end(end.key, end.outcome);
        self.send_outputs(end.shard);
    }

    fn send_outputs(&mut self, shard: usize) {
        let no = WebhookNo(self.pick(self.endpoints.len()) as u32);
        let node = self.node();
        node.shards[shard].send_outputs();
        assert!(node.shards[shard].held(no) <= crate::dispatch::stepping::HELD_MAX, "{no:?} holds too much");
        self.collect();
    }

    // Settle

    /// Takes the messages out of settle's channel, and notes what they promise.
    pub(super) fn collect(&mut self) {
        let Some(node) = &mut self.node else { return };
        let now = node.clock.instant();
        while let Some(message) = node.settle.next_message() {
            match &message {
                ToSettle::Announce(events) => {
                    for event in events {
                        let key = key_of(&*node.log.log, event.event);
                        self.ledger.accepted(event.event, &event.webhooks, key, now);
                    }
                }
                ToSettle::Settled(outcomes) => {
                    for outcome in outcomes {
                        let id = DeliveryId { event: outcome.event, webhook: outcome.webhook };
                        self.ledger.outcome(id, outcome.decision);
                    }
                }
                _ => {}
            }
            node.to_settle.push_back(message);
        }
    }

    /// The thread of replays evaluates a step.
    pub(super) fn evaluate_replay(&mut self) -> bool {
        self.collect();
        let node = self.node();
        let step = node.settle.evaluate_replay();
        let did = step.is_some();
        node.to_settle.extend(step);
        did
    }

    /// Takes up to `most` messages for settle out of the queue, and notes them. None while a flush waits.
    pub(super) fn next_messages(&mut self, most: usize) -> Vec<ToSettle> {
        self.collect();
        let Some(node) = &mut self.node else { return Vec::new() };
        let most = if node.to_settle.len() > MESSAGES_MAX { node.to_settle.len() } else { most };
        if node.settle.is_flush_waiting() {
            return Vec::new();
        }
        let messages: Vec<_> = node.to_settle.drain(..most.min(node.to_settle.len())).collect();
        for message in &messages {
            match message {
                ToSettle::Settled(outcomes) => {
                    for outcome in outcomes {
                        let id = DeliveryId { event: outcome.event, webhook: outcome.webhook };
                        self.ledger.taken_in(id, outcome.decision);
                    }
                }
                ToSettle::Command(command) => self.ledger.commanded(command),
                _ => {}
            }
        }
        messages
    }

    /// Settle takes up to `most` messages.
    pub(super) fn settle_takes(&mut self, most: usize) -> bool {
        let messages = self.next_messages(most);
        if messages.is_empty() {
            return false;
        }
        let done = self.node().settle.take_in(messages);
        self.settled(done, false);
        true
    }

    pub(super) fn flush(&mut self) {
        let Some(node) = &mut self.node else { return };
        let mut done = node.settle.flush();
        if done.as_ref().is_err_and(SettleError::is_disk_full) {
            done = node.settle.reopen().and_then(|()| node.settle.flush());
        }
        self.settled(done, true);
    }

    fn settled(&mut self, done: Result<(), SettleError>, is_flush: bool) {
        match done {
            Ok(()) if is_flush => {
                self.ledger.flushed();
                let outstanding = self.node().settle.outstanding();
                if self.node().settle.jobs() == 0 {
                    self.ledger.replays_end();
                }
                assert!(outstanding <= SteppedSettle::outstanding_max(), "{outstanding} deliveries are only in memory");
            }
            Ok(()) => {}
            Err(error) if error.is_disk_full() => {}
            Err(_) => self.kill(),
        }
    }

    /// Settle takes everything and flushes.
    pub(super) fn settle_all(&mut self) {
        while self.settle_takes(usize::MAX) {}
        self.flush();
    }

    // Faults

    pub(super) fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The wall clock jumps.
    pub(super) fn jump(&mut self, ms: i64) {
        self.skew += ms;
        self.node().clock.jump_wall(ms);
    }

    /// The process is killed. The kernel keeps what it wrote.
    pub(super) fn kill(&mut self) {
        let disk = self.disk.after_kill();
        self.restart(disk);
    }

    /// The power fails after operation `at` of the disk.
    pub(super) fn power_cut(&mut self, at: usize) {
        let loss = Loss::of(self.random.between(0..=7));
        let disk = self.disk.crash_at(at, loss, &mut self.random);
        self.restart(disk);
    }

    /// The power fails during a step: its outputs never leave the process.
    pub(super) fn power_cut_during(&mut self, step: impl FnOnce(&mut Node)) {
        let before = self.disk.operations();
        step(self.node());
        let at = self.random.between(before as u64..=self.disk.operations() as u64) as usize;
        self.power_cut(at);
    }

    /// An orderly stop, and a start.
    pub(super) fn stop(&mut self) {
        for shard in 0..SHARDS {
            self.node().shards[shard].stop();
        }
        self.process_registry();
        self.settle_all();
        let Some(node) = &mut self.node else { return };
        if !node.settle.is_flush_waiting() {
            let _ = node.settle.finish().is_ok() && node.log.close().is_ok();
        }
        self.kill();
    }

    fn restart(&mut self, disk: SimDisk) {
        self.counts.crashes += 1;
        self.publishes.clear();
        self.attempts.clear();
        self.disturbed = self.now();
        self.ledger.crashed();
        self.node = None;
        self.disk = disk;
        let down = Duration::from_millis(self.random.between(0..=20_000));
        self.runtime.block_on(tokio::time::advance(down));
        self.disturbed += down;
        self.start();
    }

    /// Starts the process. A start that fails, because the disk does, is tried again.
    fn start(&mut self) {
        if self.chance(15) {
            let fault = crate::storage::sim::DiskFault::Io;
            self.disk.fail_at(self.random.between(1..=60), fault);
        }
        let mut errors = Vec::new();
        for _ in 0..10 {
            let since = self.disturbed.saturating_duration_since(self.began);
            let wall = Timestamp::from_millis(START.as_millis() + since.as_millis() as i64 + self.skew);
            match Node::start(&self.disk, self.dir.path(), wall, &mut self.random) {
                Ok(node) => {
                    self.disk.forget_fault();
                    self.node = Some(node);
                    return self.after_start();
                }
                Err(error) => {
                    self.counts.failed_starts += 1;
                    errors.push(error);
                    let loss = Loss::of(self.random.between(0..=7));
                    self.disk = self.disk.crash_at(self.disk.operations(), loss, &mut self.random);
                }
            }
        }
        panic!("the process does not start: {errors:#?}");
    }

    /// Compares the ledger with what the start found, and adds events whose acknowledgement was lost.
    fn after_start(&mut self) {
        let now = self.now();
        let node = self.node.as_mut().expect("it has just started");
        for (event, head) in node.log.log.heads_after(EventId::MIN, usize::MAX).unwrap() {
            if !self.ledger.knows(event) {
                let webhooks = EventHead::parse(&head).unwrap().webhooks();
                let key = key_of(&*node.log.log, event);
                self.ledger.accepted(event, &webhooks, key, now);
            }
        }
        let stored = node.settle.stored().unwrap();
        let records = node.settle.records.clone();
        self.ledger.restarted(&stored, |id| records.delivery(id).unwrap());
        self.flush();
    }

    // Checks

    /// A delivery to a healthy webhook ends within a bound, whatever the others do.
    pub(super) fn check_progress(&mut self, healthy: WebhookNo) {
        let Some((event, since)) = self.ledger.oldest(healthy) else { return };
        let waited = self.now().saturating_duration_since(since.max(self.disturbed));
        assert!(waited < HEALTHY_BOUND, "{event} waits {waited:?} for the healthy webhook {healthy:?}");
    }

    pub(super) fn is_quiet(&self) -> bool {
        let Some(node) = &self.node else { return false };
        self.publishes.is_empty()
            && self.attempts.is_empty()
            && node.submissions.is_empty()
            && node.body_requests.is_empty()
            && node.to_settle.is_empty()
            && node.settle.is_idle()
            && node.settle.outstanding() == 0
            && node.settle.jobs() == 0
            && node.shards.iter().all(|shard| shard.inbox() == 0 && shard.in_flight() == 0)
    }
}

/// The value of the field `k` of an event.
fn key_of(log: &impl ReadLog, event: EventId) -> Option<u64> {
    let (_, body) = log.read(&[event]).ok()?.pop().flatten()?;
    let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
    body["k"].as_u64()
}
