//! The log and the state together on one disk, which loses power at any moment: what was acknowledged reads back, and what
//! is still to be delivered is exactly what a flush said, the last that was completed or the one under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use tokio::sync::{mpsc, oneshot};

use super::driver::Driver;
use super::open::{Surroundings, open_with};
use super::testing::{HOUR, OPTIONS, permit, store};
use super::{Bounds, Callbacks};
use crate::commit::{self, Committer, OpenLog};
use crate::config;
use crate::handoff::{Admitted, Command, Lane, Refill, SettleHandle, Settled, Shards, Submission, ToSettle, ToShard};
use crate::model::{DeadReason, Decision, DeliveryId, EventHead, EventId, NewEvent, Timestamp, WebhookNo};
use crate::runtime::{Clock, MemoryBudget, Metrics, Random};
use crate::storage::delivery::testing::{attempt, failed};
use crate::storage::delivery::{DeliveryReader, RedbDeliveryReader};
use crate::storage::sim::{Loss, SimDisk};
use crate::storage::{Disk, ReadLog, RedbLog};

const DIR: &str = "/data";
/// Images of a crash in the normal test run.
const IMAGES: u64 = 500;
const SEGMENT_BYTES: u64 = 24 * 1024;
/// The list overflows, events are wide, and jobs take several steps.
const SMALL: Bounds = Bounds { checkpoint_list_max: 8, wide_event_webhooks: 4, job_rows: 3 };
const HISTORY_FILE_BYTES: u64 = 1 << 20;
const START: Timestamp = Timestamp::from_millis(1_711_015_200_000);
/// The webhook that is disabled in the midst.
const DISABLED: WebhookNo = WebhookNo(5);

/// What has become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Waits { attempts: u16, due: Option<Timestamp> },
    Delivered,
    Dead,
}

const READY: Stands = Stands::Waits { attempts: 0, due: None };

/// What settle was told by the time of a flush: how each delivery stands, and how many attempts were made at it.
#[derive(Debug, Clone, Default)]
struct Told {
    stands: BTreeMap<DeliveryId, Stands>,
    attempts: BTreeMap<DeliveryId, u16>,
}

/// What happened behind which operation of the disk.
#[derive(Default)]
struct Ledger {
    acked: BTreeMap<EventId, (usize, Bytes)>,
    told: Told,
    /// Before and behind which operation, and what was told by then.
    flushes: Vec<(usize, usize, Told)>,
}

impl Ledger {
    /// What may be on the disk after a crash behind `at` operations.
    fn candidates(&self, at: usize) -> Vec<Told> {
        let done = self.flushes.partition_point(|(_, done, _)| *done <= at);
        let last = done.checked_sub(1).map_or_else(Told::default, |last| self.flushes[last].2.clone());
        let under_way = self.flushes.get(done).filter(|(begun, ..)| *begun < at);
        [Some(last), under_way.map(|(.., told)| told.clone())].into_iter().flatten().collect()
    }
}

/// Commit and settle without their threads; the test is the shard.
struct Node {
    disk: SimDisk,
    group: Committer,
    log: Arc<RedbLog>,
    told: Receiver<ToSettle>,
    driver: Driver,
    reader: RedbDeliveryReader,
    shard: mpsc::Receiver<ToShard>,
    memory: Arc<MemoryBudget>,
    /// Deliveries that the shard has in memory.
    held: BTreeSet<DeliveryId>,
}

/// Starts as the server does.
fn start(disk: &SimDisk, seed: u64) -> Node {
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
    let (handle, told, _) = SettleHandle::channel();
    let metrics = Metrics::new().unwrap();
    let hooks = Callbacks {
        abandons: Arc::new(|_| None),
        targets: Arc::new(()),
        disable: Arc::new(|no, reason| panic!("{no:?} is to be disabled: {reason:?}")),
        compose: Arc::new(|_| None),
        outbox: Arc::new(|| {}),
        disable_after: Arc::new(|_| None),
        ballast: Arc::new(|| {}),
        poisoned: Arc::new(|error| panic!("{error}")),
    };
    let events = Arc::<RedbLog>::clone(&log);
    let around = Surroundings { shards: shards.clone(), clock, log: events, metrics: Arc::clone(&metrics), hooks };
    let (mut driver, _) = state.driver(around, handle.clone()).unwrap();
    until_idle(&mut driver);
    let (group, shard) = (opened.into_committer(handle, shards, metrics), ends.remove(0));
    let (disk, memory) = (disk.clone(), MemoryBudget::new(usize::MAX));
    Node { disk, group, log, told, driver, reader, shard, memory, held: BTreeSet::new() }
}

/// Flushes until no job is left.
fn until_idle(driver: &mut Driver) {
    driver.flush().unwrap();
    while driver.keeper.is_busy() {
        driver.flush().unwrap();
    }
}

impl Node {
    /// Commits requests as one batch, and lets settle hear of them.
    fn publish(&mut self, ledger: &mut Ledger, requests: &[(Vec<WebhookNo>, Bytes)]) -> Vec<EventId> {
        let (batch, replies): (Vec<_>, Vec<_>) =
            requests.iter().map(|(webhooks, data)| self.submission(webhooks, data)).unzip();
        self.group.commit(batch);
        let acked = self.disk.operations();
        let mut ids = Vec::new();
        for (mut reply, (webhooks, data)) in replies.into_iter().zip(requests) {
            let id = reply.try_recv().unwrap()[0].unwrap().id();
            ledger.acked.insert(id, (acked, data.clone()));
            for webhook in webhooks {
                let delivery = DeliveryId { event: id, webhook: *webhook };
                ledger.told.stands.insert(delivery, READY);
                if webhooks.len() <= SMALL.wide_event_webhooks {
                    self.held.insert(delivery);
                }
            }
            ids.push(id);
        }
        self.told.try_iter().for_each(|message| self.driver.take_in(vec![message]).unwrap());
        while self.shard.try_recv().is_ok() {}
        ids
    }

    fn submission(
        &self,
        webhooks: &[WebhookNo],
        data: &Bytes,
    ) -> (Submission, oneshot::Receiver<crate::handoff::Verdicts>) {
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
        let webhooks = webhooks.iter().copied().collect();
        let admitted = Admitted { head: head.into(), body: data.clone(), dedup: None, nonce: None, webhooks };
        let (reply, answer) = crate::handoff::Reply::direct();
        let events = [admitted].into_iter().collect();
        (Submission { events, permit: permit(), lease: self.memory.lease(1), reply }, answer)
    }

    /// An attempt at something the shard holds, or its spilling.
    fn attempt(&mut self, ledger: &mut Ledger, random: &mut Random) {
        let count = self.held.len() as u64;
        let Some(id) =
            (count > 0).then(|| random.between(0..=count - 1) as usize).and_then(|n| self.held.iter().nth(n))
        else {
            return;
        };
        let id = *id;
        self.held.remove(&id);
        let Stands::Waits { attempts, .. } = ledger.told.stands[&id] else { panic!("{id:?} is held and settled") };
        let number = attempts + 1;
        let (stands, made, decision) = match random.between(0..=9) {
            0..=3 => (Stands::Delivered, attempt(number), Decision::Delivered),
            4..=6 => {
                let at = START.plus(Duration::from_millis(random.between(1..=9_999)));
                (Stands::Waits { attempts: number, due: Some(at) }, failed(number, 500), Decision::Retry { at })
            }
            7 => (Stands::Dead, failed(number, 500), Decision::Dead(DeadReason::Exhausted)),
            _ if ledger.told.stands[&id] == READY => {
                return self.take_in(ToSettle::Spill(vec![(id.webhook, id.event)]));
            }
            _ => (Stands::Delivered, attempt(number), Decision::Delivered),
        };
        ledger.told.stands.insert(id, stands);
        let made_before = ledger.told.attempts.entry(id).or_default();
        *made_before = number.max(*made_before);
        self.settle(id, Some(made), decision);
    }

    fn take_in(&mut self, message: ToSettle) {
        self.driver.take_in(vec![message]).unwrap();
    }

    fn settle(&mut self, id: DeliveryId, attempt: Option<crate::model::Attempt>, decision: Decision) {
        let settled = Settled { webhook: id.webhook, event: id.event, attempt, decision, head: Bytes::new() };
        self.take_in(ToSettle::Settled(vec![settled]));
    }

    fn flush(&mut self, ledger: &mut Ledger) {
        let begun = self.disk.operations();
        self.driver.flush().unwrap();
        ledger.flushes.push((begun, self.disk.operations(), ledger.told.clone()));
        until_idle(&mut self.driver);
    }

    fn refill(&mut self, ledger: &mut Ledger, webhook: WebhookNo) {
        let lane = Lane::Ready { after: EventId::MIN };
        self.take_in(ToSettle::Refill(Refill { shard: 0, webhook, lane, rows: 5 }));
        self.flush(ledger);
        while let Ok(message) = self.shard.try_recv() {
            if let ToShard::Refilled(refilled) = message {
                self.held.extend(refilled.rows.iter().map(|row| DeliveryId { event: row.event, webhook }));
            }
        }
    }

    fn replay_dead(&mut self, ledger: &mut Ledger, webhook: WebhookNo) {
        let (reply, mut answer) = oneshot::channel();
        self.take_in(ToSettle::Command(Command::ReplayDead { webhook, events: None, reply }));
        let mut back = 0;
        for (id, stands) in ledger.told.stands.iter_mut().filter(|(id, _)| id.webhook == webhook) {
            if *stands == Stands::Dead {
                *stands = Stands::Waits { attempts: ledger.told.attempts[id], due: Some(START) };
                back += 1;
            }
        }
        self.flush(ledger);
        assert_eq!(answer.try_recv(), Ok(back));
    }

    fn disable(&mut self, ledger: &mut Ledger) {
        for id in self.held.iter().copied().filter(|id| id.webhook == DISABLED).collect::<Vec<_>>() {
            self.held.remove(&id);
            self.settle(id, None, Decision::Dead(DeadReason::Disabled));
        }
        let abandon = Command::Abandon { webhook: DISABLED, reason: DeadReason::Disabled };
        self.take_in(ToSettle::Command(abandon));
        for (_, stands) in ledger.told.stands.iter_mut().filter(|(id, _)| id.webhook == DISABLED) {
            if matches!(stands, Stands::Waits { .. }) {
                *stands = Stands::Dead;
            }
        }
        self.flush(ledger);
    }

    /// Rows and dead letters, as they are on the disk.
    fn stands(&self) -> BTreeMap<DeliveryId, Stands> {
        let (rows, dead) = self.reader.everything().unwrap();
        let mut stands: BTreeMap<_, _> =
            rows.into_iter().map(|(id, attempts, due)| (id, Stands::Waits { attempts, due })).collect();
        for id in dead {
            assert_eq!(stands.insert(id, Stands::Dead), None, "a dead letter that waits");
        }
        stands
    }

    /// Everything in the log, with its webhooks.
    fn events(&self) -> BTreeMap<EventId, Vec<WebhookNo>> {
        let heads = self.log.heads_after(EventId::MIN, usize::MAX).unwrap();
        heads.into_iter().map(|(id, head)| (id, EventHead::parse(&head).unwrap().webhooks().to_vec())).collect()
    }
}

/// Two runs, the first with an orderly stop: batches, outcomes of every kind, spills, refills, jobs.
fn workload(disk: &SimDisk, ledger: &mut Ledger) {
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
            node.publish(ledger, &requests);
            for _ in 0..random.between(0..=6) {
                node.attempt(ledger, &mut random);
            }
            match random.between(0..=5) {
                0 | 1 => node.flush(ledger),
                2 => node.refill(ledger, WebhookNo(random.between(1..=4) as u32)),
                3 => node.refill(ledger, WebhookNo(random.between(10..=16) as u32)),
                4 => node.replay_dead(ledger, WebhookNo(random.between(1..=4) as u32)),
                _ => {}
            }
        }
        if run == 0 {
            node.disable(ledger);
            node.driver.finish().unwrap();
        }
    }
}

/// Holds what a start finds on `disk` against what had been said by operation `at`.
fn compare(disk: &SimDisk, at: usize, ledger: &Ledger, random: &mut Random, what: &str) {
    let mut node = start(disk, 5);
    let events = node.events();
    let acked: Vec<_> = ledger.acked.iter().filter(|(_, (op, _))| *op <= at).collect();
    let ids: Vec<_> = acked.iter().map(|(id, _)| **id).collect();
    for ((id, (_, body)), stored) in acked.iter().zip(node.log.read(&ids).unwrap()) {
        assert_eq!(stored.map(|(_, data)| data).as_ref(), Some(body), "{what}: {id} was acknowledged and is lost");
    }
    let found = node.stands();
    let expected = |told: &Told| -> BTreeMap<DeliveryId, Stands> {
        let all = events.iter().flat_map(|(event, webhooks)| {
            webhooks.iter().map(|webhook| DeliveryId { event: *event, webhook: *webhook })
        });
        let all = all.map(|id| (id, told.stands.get(&id).copied().unwrap_or(READY)));
        all.filter(|(_, stands)| *stands != Stands::Delivered).collect()
    };
    let candidates = ledger.candidates(at);
    let Some(told) = candidates.iter().find(|told| expected(told) == found) else {
        panic!("{what}: what is to be delivered is none of what was told\n{:?}\n{found:?}", expected(&candidates[0]));
    };
    for (id, made) in told.attempts.iter().filter(|_| random.between(0..=9) == 0) {
        let attempts = node.reader.attempts(*id).unwrap();
        assert!(
            attempts.len() >= usize::from(*made),
            "{what}: of {made} attempts at {id:?} {} are known",
            attempts.len()
        );
    }
    // It goes on from there.
    let id = node.publish(&mut Ledger::default(), &[(vec![WebhookNo(1)], Bytes::from_static(b"{}"))])[0];
    assert!(events.range(id..).next().is_none() && ids.last().is_none_or(|last| *last < id), "{what}: ids rise");
}

#[test]
fn a_crash_at_any_moment_loses_no_delivery_and_brings_none_back() {
    // Its clock stands still.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _paused = runtime.enter();
    let disk = SimDisk::default();
    let mut ledger = Ledger::default();
    workload(&disk, &mut ledger);
    let total = disk.operations() as u64;
    let mut replay = disk.replay();
    let mut under_way = 0;
    for image in 0..IMAGES {
        let at = (image * (total + 1) / IMAGES) as usize;
        while replay.at() < at {
            assert!(replay.step());
        }
        under_way += u32::from(ledger.candidates(at).len() > 1);
        let mut random = Random::seeded(image);
        let crashed = replay.crash(Loss::of(image), &mut random);
        let what = format!("image {image} at {at} of {total}");
        if image % 4 == 3 {
            // Crash again inside the recovery.
            drop(start(&crashed, 4));
            let again = random.between(0..=crashed.operations() as u64) as usize;
            let loss = Loss::of(random.between(0..=7));
            let twice = crashed.crash_at(again, loss, &mut random);
            compare(&twice, at, &ledger, &mut random, &format!("{what}, again at {again}"));
        } else {
            compare(&crashed, at, &ledger, &mut random, &what);
        }
    }
    assert!(under_way > 100, "only {under_way} images fall into a flush");
}
