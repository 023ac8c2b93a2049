//! Crash tests of the log and the state together on one disk, which loses power at any moment.
//!
//! Acknowledged events read back. The pending deliveries are exactly those of the last completed flush or of the
//! interrupted flush.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use tokio::sync::{mpsc, oneshot};

use super::driver::Driver;
use super::open::{DriverDeps, open_with};
use super::testing::{HOUR, OPTIONS, permit, store};
use super::{Callbacks, SettleLimits};
use crate::commit::{self, Committer, OpenLog};
use crate::config;
use crate::handoff::{
    AdmittedEvent, Refill, RefillKind, SettleCommand, SettleHandle, SettledDelivery, Shards, Submission, ToSettle,
    ToShard,
};
use crate::model::{DeadReason, Decision, DeliveryId, EventHead, EventId, NewEvent, Timestamp, WebhookNo, Webhooks};
use crate::runtime::{Clock, MemoryBudget, Metrics, Random};
use crate::storage::delivery::testing::{attempt, failed};
use crate::storage::delivery::{DeliveryReader, RedbDeliveryReader};
use crate::storage::sim::{Loss, SimDisk, scaled};
use crate::storage::{Disk, ReadLog, RedbLog};

const DIR: &str = "/data";
/// The number of crash images in the normal test run.
const IMAGES: u64 = 500;
const SEGMENT_BYTES: u64 = 24 * 1024;
/// The list overflows, events are wide, and jobs take several steps.
const SMALL: SettleLimits = SettleLimits { checkpoint_list_max: 8, wide_event_webhooks: 4, job_rows: 3 };
const HISTORY_FILE_BYTES: u64 = 1 << 20;
const START: Timestamp = Timestamp::from_millis(1_711_015_200_000);
/// The webhook that is disabled during the run.
const DISABLED: WebhookNo = WebhookNo(5);

/// The state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeliveryState {
    Waits { attempts: u16, due: Option<Timestamp> },
    Delivered,
    Dead,
}

const READY: DeliveryState = DeliveryState::Waits { attempts: 0, due: None };

/// What settle has received before a flush: the state of each delivery, and its number of attempts.
#[derive(Debug, Clone, Default)]
struct ExpectedState {
    states: BTreeMap<DeliveryId, DeliveryState>,
    attempts: BTreeMap<DeliveryId, u16>,
}

/// What must be on the disk, by the number of disk operations.
#[derive(Default)]
struct Expectations {
    acked: BTreeMap<EventId, (usize, Bytes)>,
    expected_state: ExpectedState,
    /// Flushes: the operations before and after, and the state that was written.
    flushes: Vec<(usize, usize, ExpectedState)>,
}

impl Expectations {
    /// The states that may be on the disk after a crash after `at` operations.
    fn candidates(&self, at: usize) -> Vec<ExpectedState> {
        let done = self.flushes.partition_point(|(_, done, _)| *done <= at);
        let last = done.checked_sub(1).map_or_else(ExpectedState::default, |last| self.flushes[last].2.clone());
        let under_way = self.flushes.get(done).filter(|(begun, ..)| *begun < at);
        [Some(last), under_way.map(|(.., expected_state)| expected_state.clone())].into_iter().flatten().collect()
    }
}

/// Commit and settle without their threads. The test plays the shard.
struct TestNode {
    disk: SimDisk,
    group: Committer,
    log: Arc<RedbLog>,
    messages: Receiver<ToSettle>,
    driver: Driver,
    reader: RedbDeliveryReader,
    shard: mpsc::Receiver<ToShard>,
    memory: Arc<MemoryBudget>,
    /// The deliveries that the shard has in memory.
    held: BTreeSet<DeliveryId>,
}

/// Starts as the server does.
fn start(disk: &SimDisk, seed: u64) -> TestNode {
    let files: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = store(Arc::clone(&files), DIR, HISTORY_FILE_BYTES);
    let reader = store.redb_reader();
    let mut state = open_with(Box::new(store), OPTIONS, SMALL).unwrap();
    let clock = Clock::test(state.steady().max(START));
    let opened = commit::open(OpenLog {
        disk: files,
        dir: DIR.as_ref(),
        config: &config::Log {
            segment_bytes: SEGMENT_BYTES,
            segment_age: HOUR,
            retention: 24 * HOUR,
            retention_bytes: u64::MAX,
            carry_bytes: u64::MAX,
            two_phase_commit: true,
        },
        dedup: &config::Dedup { ttl: HOUR, max_keys: 1_000 },
        clock: clock.clone(),
        random: Random::seeded(seed),
        high_water: state.last_event(),
    })
    .unwrap();
    let log = opened.log();
    state.recover(&*log).unwrap();
    let (shards, mut ends) = Shards::channels(1);
    let (handle, messages, _) = SettleHandle::channel();
    let metrics = Metrics::new().unwrap();
    let callbacks = Callbacks {
        abandon_reason: Arc::new(|_| None),
        replay_targets: Arc::new(()),
        disable: Arc::new(|no, reason| panic!("{no:?} is to be disabled: {reason:?}")),
        compose_event: Arc::new(|_| None),
        notify_outbox: Arc::new(|| {}),
        disable_after: Arc::new(|_| None),
        ballast: Arc::new(|| {}),
        poisoned: Arc::new(|error| panic!("{error}")),
    };
    let events = Arc::<RedbLog>::clone(&log);
    let metrics_of_settle = Arc::clone(&metrics);
    // These tests start no replay of events.
    let (replay_requests, _) = crossbeam_channel::bounded(1);
    let deps = DriverDeps {
        shards: shards.clone(),
        clock,
        log: events,
        metrics: metrics_of_settle,
        callbacks,
        replay_requests,
    };
    let (mut driver, _) = state.driver(deps, handle.clone()).unwrap();
    until_idle(&mut driver);
    let (group, shard) = (opened.into_committer(handle, shards, metrics), ends.remove(0));
    let (disk, memory) = (disk.clone(), MemoryBudget::new(usize::MAX));
    TestNode { disk, group, log, messages, driver, reader, shard, memory, held: BTreeSet::new() }
}

/// Flushes until no job is left.
fn until_idle(driver: &mut Driver) {
    driver.flush().unwrap();
    while driver.state.is_busy() {
        driver.flush().unwrap();
    }
}

impl TestNode {
    /// Commits requests as one batch and passes the announcements to settle.
    fn publish(&mut self, expectations: &mut Expectations, requests: &[(Vec<WebhookNo>, Bytes)]) -> Vec<EventId> {
        let (batch, replies): (Vec<_>, Vec<_>) =
            requests.iter().map(|(webhooks, data)| self.submission(webhooks, data)).unzip();
        self.group.commit(batch);
        let acked = self.disk.operations();
        let mut ids = Vec::new();
        for (mut reply, (webhooks, data)) in replies.into_iter().zip(requests) {
            let id = reply.try_recv().unwrap()[0].unwrap().id();
            expectations.acked.insert(id, (acked, data.clone()));
            for webhook in webhooks {
                let delivery = DeliveryId { event: id, webhook: *webhook };
                expectations.expected_state.states.insert(delivery, READY);
                if webhooks.len() <= SMALL.wide_event_webhooks {
                    self.held.insert(delivery);
                }
            }
            ids.push(id);
        }
        self.messages.try_iter().for_each(|message| self.driver.take_in(vec![message]).unwrap());
        while self.shard.try_recv().is_ok() {}
        ids
    }

    fn submission(
        &self,
        webhooks: &[WebhookNo],
        data: &Bytes,
    ) -> (Submission, oneshot::Receiver<crate::handoff::CommitResults>) {
        let mut head = Vec::new();
        let event = NewEvent {
            tenant: "default",
            event_type: "order.created",
            source: "api",
            received_at: START,
            data_len: data.len() as u32,
            ..NewEvent::default()
        };
        event.encode(webhooks, &mut head);
        let matched = webhooks.iter().copied().collect::<Webhooks>().into();
        let admitted = AdmittedEvent { head: head.into(), body: data.clone(), dedup: None, nonce: None, matched };
        let (reply, answer) = crate::handoff::CommitReply::direct();
        let events = [admitted].into_iter().collect();
        (Submission { events, permit: permit(), lease: self.memory.lease(1), reply }, answer)
    }

    /// Makes an attempt of a delivery that the shard holds, or spills it.
    fn attempt(&mut self, expectations: &mut Expectations, random: &mut Random) {
        let count = self.held.len() as u64;
        let Some(id) =
            (count > 0).then(|| random.between(0..=count - 1) as usize).and_then(|n| self.held.iter().nth(n))
        else {
            return;
        };
        let id = *id;
        self.held.remove(&id);
        let DeliveryState::Waits { attempts, .. } = expectations.expected_state.states[&id] else {
            panic!("{id:?} is held and settled")
        };
        let number = attempts + 1;
        let (states, made, decision) = match random.between(0..=9) {
            0..=3 => (DeliveryState::Delivered, attempt(number), Decision::Delivered),
            4..=6 => {
                let at = START.plus(Duration::from_millis(random.between(1..=9_999)));
                (DeliveryState::Waits { attempts: number, due: Some(at) }, failed(number, 500), Decision::Retry { at })
            }
            7 => (DeliveryState::Dead, failed(number, 500), Decision::Dead(DeadReason::Exhausted)),
            _ if expectations.expected_state.states[&id] == READY => {
                return self.take_in(ToSettle::Spill(vec![(id.webhook, id.event)]));
            }
            _ => (DeliveryState::Delivered, attempt(number), Decision::Delivered),
        };
        expectations.expected_state.states.insert(id, states);
        let made_before = expectations.expected_state.attempts.entry(id).or_default();
        *made_before = number.max(*made_before);
        self.settle(id, Some(made), decision);
    }

    fn take_in(&mut self, message: ToSettle) {
        self.driver.take_in(vec![message]).unwrap();
    }

    fn settle(&mut self, id: DeliveryId, attempt: Option<crate::model::Attempt>, decision: Decision) {
        let settled = SettledDelivery {
            webhook: id.webhook,
            event: id.event,
            attempt,
            decision,
            head: Bytes::new(),
            endpoint: None,
        };
        self.take_in(ToSettle::Settled(vec![settled]));
    }

    fn flush(&mut self, expectations: &mut Expectations) {
        let begun = self.disk.operations();
        self.driver.flush().unwrap();
        expectations.flushes.push((begun, self.disk.operations(), expectations.expected_state.clone()));
        until_idle(&mut self.driver);
    }

    fn refill(&mut self, expectations: &mut Expectations, webhook: WebhookNo) {
        let kind = RefillKind::Ready { after: EventId::MIN };
        self.take_in(ToSettle::Refill(Refill { shard: 0, webhook, kind, rows: 5 }));
        self.flush(expectations);
        while let Ok(message) = self.shard.try_recv() {
            if let ToShard::Refilled(refilled) = message {
                self.held.extend(refilled.rows.iter().map(|row| DeliveryId { event: row.event, webhook }));
            }
        }
    }

    fn replay_dead(&mut self, expectations: &mut Expectations, webhook: WebhookNo) {
        let (reply, mut answer) = oneshot::channel();
        self.take_in(ToSettle::Command(SettleCommand::ReplayDead { webhook, events: None, reply }));
        let mut back = 0;
        for (id, states) in expectations.expected_state.states.iter_mut().filter(|(id, _)| id.webhook == webhook) {
            if *states == DeliveryState::Dead {
                *states = DeliveryState::Waits { attempts: expectations.expected_state.attempts[id], due: Some(START) };
                back += 1;
            }
        }
        self.flush(expectations);
        assert_eq!(answer.try_recv(), Ok(back));
    }

    fn disable(&mut self, expectations: &mut Expectations) {
        for id in self.held.iter().copied().filter(|id| id.webhook == DISABLED).collect::<Vec<_>>() {
            self.held.remove(&id);
            self.settle(id, None, Decision::Dead(DeadReason::Disabled));
        }
        let abandon = SettleCommand::Abandon { webhook: DISABLED, reason: DeadReason::Disabled };
        self.take_in(ToSettle::Command(abandon));
        for (_, states) in expectations.expected_state.states.iter_mut().filter(|(id, _)| id.webhook == DISABLED) {
            if matches!(states, DeliveryState::Waits { .. }) {
                *states = DeliveryState::Dead;
            }
        }
        self.flush(expectations);
    }

    /// The rows and dead letters on the disk.
    fn states(&self) -> BTreeMap<DeliveryId, DeliveryState> {
        let (rows, dead) = self.reader.everything().unwrap();
        let mut states: BTreeMap<_, _> =
            rows.into_iter().map(|(id, attempts, due)| (id, DeliveryState::Waits { attempts, due })).collect();
        for id in dead {
            assert_eq!(states.insert(id, DeliveryState::Dead), None, "a dead letter that waits");
        }
        states
    }

    /// The events in the log with their webhooks.
    fn events(&self) -> BTreeMap<EventId, Vec<WebhookNo>> {
        let heads = self.log.heads_after(EventId::MIN, usize::MAX).unwrap();
        heads.into_iter().map(|(id, head)| (id, EventHead::parse(&head).unwrap().webhooks().to_vec())).collect()
    }
}

/// Two runs, the first with an orderly stop: batches, outcomes of every kind, spills, refills, jobs.
fn workload(disk: &SimDisk, expectations: &mut Expectations) {
    let mut random = Random::seeded(11);
    for run in 0..2 {
        let mut node = start(disk, run);
        for round in 0..24 {
            let webhooks = if run == 0 { 5 } else { 4 };
            let requests: Vec<_> = (0..random.between(1..=3))
                .map(|_| {
                    let is_wide = random.between(0..=9) == 0;
                    let to: BTreeSet<_> =
                        (0..random.between(1..=3)).map(|_| random.between(1..=webhooks) as u32).collect();
                    let to = if is_wide { (10..17).collect() } else { to };
                    let body = vec![round; random.between(0..=2_500) as usize];
                    (to.into_iter().map(WebhookNo).collect(), Bytes::from(body))
                })
                .collect();
            node.publish(expectations, &requests);
            for _ in 0..random.between(0..=6) {
                node.attempt(expectations, &mut random);
            }
            match random.between(0..=5) {
                0 | 1 => node.flush(expectations),
                2 => node.refill(expectations, WebhookNo(random.between(1..=4) as u32)),
                3 => node.refill(expectations, WebhookNo(random.between(10..=16) as u32)),
                4 => node.replay_dead(expectations, WebhookNo(random.between(1..=4) as u32)),
                _ => {}
            }
        }
        if run == 0 {
            node.disable(expectations);
            node.driver.finish().unwrap();
        }
    }
}

/// Compares what a start finds on `disk` with what must be there after operation `at`.
fn compare(disk: &SimDisk, at: usize, expectations: &Expectations, random: &mut Random, what: &str) {
    let mut node = start(disk, 5);
    let events = node.events();
    let acked: Vec<_> = expectations.acked.iter().filter(|(_, (op, _))| *op <= at).collect();
    let ids: Vec<_> = acked.iter().map(|(id, _)| **id).collect();
    for ((id, (_, body)), stored) in acked.iter().zip(node.log.read(&ids).unwrap()) {
        assert_eq!(stored.map(|(_, data)| data).as_ref(), Some(body), "{what}: {id} was acknowledged and is lost");
    }
    let found = node.states();
    let expected = |expected_state: &ExpectedState| -> BTreeMap<DeliveryId, DeliveryState> {
        let all = events.iter().flat_map(|(event, webhooks)| {
            webhooks.iter().map(|webhook| DeliveryId { event: *event, webhook: *webhook })
        });
        let all = all.map(|id| (id, expected_state.states.get(&id).copied().unwrap_or(READY)));
        all.filter(|(_, states)| *states != DeliveryState::Delivered).collect()
    };
    let candidates = expectations.candidates(at);
    let Some(expected_state) = candidates.iter().find(|expected_state| expected(expected_state) == found) else {
        panic!("{what}: what is to be delivered is none of what was told\n{:?}\n{found:?}", expected(&candidates[0]));
    };
    for (id, made) in expected_state.attempts.iter().filter(|_| random.between(0..=9) == 0) {
        let attempts = node.reader.attempts(*id).unwrap();
        assert!(
            attempts.len() >= usize::from(*made),
            "{what}: of {made} attempts at {id:?} {} are known",
            attempts.len()
        );
    }
    // New events are accepted.
    let id = node.publish(&mut Expectations::default(), &[(vec![WebhookNo(1)], Bytes::from_static(b"{}"))])[0];
    assert!(events.range(id..).next().is_none() && ids.last().is_none_or(|last| *last < id), "{what}: ids rise");
}

#[test]
fn a_crash_at_any_moment_loses_no_delivery_and_brings_none_back() {
    // The clock is paused.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _paused = runtime.enter();
    let disk = SimDisk::default();
    let mut expectations = Expectations::default();
    workload(&disk, &mut expectations);
    let total = disk.operations() as u64;
    let mut replay = disk.replay();
    let mut under_way = 0;
    let images = scaled(IMAGES);
    for image in 0..images {
        let at = (image * (total + 1) / images) as usize;
        while replay.at() < at {
            assert!(replay.step());
        }
        under_way += u32::from(expectations.candidates(at).len() > 1);
        let mut random = Random::seeded(image);
        let crashed = replay.crash(Loss::of(image), &mut random);
        let what = format!("image {image} at {at} of {total}");
        if image % 4 == 3 {
            // Crash again during the recovery.
            drop(start(&crashed, 4));
            let again = random.between(0..=crashed.operations() as u64) as usize;
            let loss = Loss::of(random.between(0..=7));
            let twice = crashed.crash_at(again, loss, &mut random);
            compare(&twice, at, &expectations, &mut random, &format!("{what}, again at {again}"));
        } else {
            compare(&crashed, at, &expectations, &mut random, &what);
        }
    }
    assert!(under_way > 100, "only {under_way} images fall into a flush");
}
