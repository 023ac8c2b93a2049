//! What settle's tests share: a world without threads, and small things to make.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::driver::Driver;
use super::open::{Opened, Surroundings, open_with};
use super::{Bounds, Callbacks, DeadLetter, Options, Records, Targets, Wanted};
use crate::filter::Facts;
use crate::handoff::{
    Announced, Command, DisableReason, Lane, Refill, Refilled, SettleHandle, Settled, Shards, ToSettle, ToShard,
    Waiting,
};
use crate::model::{Attempt, DeadReason, Decision, EventId, NewEvent, Timestamp, WebhookNo, Webhooks};
use crate::runtime::{Clock, IngestPermits, Metrics, Permit};
use crate::storage::delivery::testing::{MemoryDisk, failed};
use crate::storage::delivery::{DeliveryReader, RedbDeliveryStore, StoreOptions};
use crate::storage::{Disk, ReadError, ReadLog, Stored};

/// A place at a door of its own.
pub(super) fn permit() -> Arc<Permit> {
    permit_of(&IngestPermits::new(1 << 20))
}

/// A place at this door, which has one.
pub(super) fn permit_of(ingest_permits: &IngestPermits) -> Arc<Permit> {
    ingest_permits.acquire(1, 1).now_or_never().flatten().unwrap()
}

/// The head of an event of this type, of tenant `default`.
pub(super) fn head(event_type: &str) -> bytes::Bytes {
    let mut head = Vec::new();
    NewEvent { tenant: "default", event_type, source: "api", ..NewEvent::default() }.encode(&[], &mut head);
    head.into()
}

/// The heads of a log.
#[derive(Debug, Default)]
pub(super) struct MemoryLog(Mutex<BTreeMap<EventId, bytes::Bytes>>);

impl MemoryLog {
    pub(super) fn append(&self, event: EventId, webhooks: &[WebhookNo]) {
        let mut head = Vec::new();
        let new = NewEvent { tenant: "default", event_type: "order.created", source: "api", ..NewEvent::default() };
        new.encode(webhooks, &mut head);
        self.0.lock().unwrap().insert(event, head.into());
    }
}

impl ReadLog for MemoryLog {
    fn last(&self) -> EventId {
        self.0.lock().unwrap().keys().last().copied().unwrap_or(EventId::MIN)
    }
    fn read(&self, events: &[EventId]) -> Result<Vec<Option<Stored>>, ReadError> {
        let log = self.0.lock().unwrap();
        Ok(events.iter().map(|event| log.get(event).map(|head| (head.clone(), bytes::Bytes::new()))).collect())
    }
    fn heads_after(&self, after: EventId, limit: usize) -> Result<Vec<(EventId, bytes::Bytes)>, ReadError> {
        let log = self.0.lock().unwrap();
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        Ok(log.range(behind).take(limit).map(|(event, head)| (*event, head.clone())).collect())
    }
    fn heads_before(&self, before: EventId, limit: usize) -> Result<Vec<(EventId, bytes::Bytes)>, ReadError> {
        let log = self.0.lock().unwrap();
        Ok(log.range(..before).rev().take(limit).map(|(event, head)| (*event, head.clone())).collect())
    }
}

/// The webhooks as they are today.
#[derive(Debug, Default)]
pub(super) struct Today {
    /// Who wants every event.
    pub(super) matching: Mutex<Vec<u32>>,
    /// Who is paused.
    pub(super) held: Mutex<Vec<u32>>,
}

impl Targets for Today {
    fn matching(&self, _: &Facts<'_>) -> Webhooks {
        self.matching.lock().unwrap().iter().copied().map(WebhookNo).collect()
    }

    fn is_held(&self, webhook: WebhookNo) -> bool {
        self.held.lock().unwrap().contains(&webhook.0)
    }
}

/// Settle without its thread, on a disk in memory, with one shard that the test plays.
pub(super) struct World {
    pub(super) disk: Arc<MemoryDisk>,
    pub(super) log: Arc<MemoryLog>,
    pub(super) clock: Clock,
    pub(super) driver: Driver,
    pub(super) records: Records,
    pub(super) reader: Arc<dyn DeliveryReader>,
    pub(super) shard: mpsc::Receiver<ToShard>,
    pub(super) abandoned: Arc<Mutex<BTreeMap<WebhookNo, DeadReason>>>,
    pub(super) disabled: Arc<Mutex<Vec<(WebhookNo, DisableReason)>>>,
    /// Whether the registry takes changes.
    pub(super) registry_has_room: Arc<AtomicBool>,
    pub(super) today: Arc<Today>,
    /// Operational events that were composed, since the last start.
    pub(super) told: Arc<Mutex<Vec<(WebhookNo, &'static str)>>>,
    /// Webhooks with a `disable_after` of their own.
    pub(super) disable_after: Arc<Mutex<BTreeMap<WebhookNo, Duration>>>,
    last: u128,
}

/// What the configuration says in tests.
pub(super) const OPTIONS: Options =
    Options { dead_letter_retention: Duration::from_secs(48 * 3_600), disable_after: Duration::from_secs(24 * 3_600) };

/// A store whose history keeps a day.
pub(super) fn store(disk: Arc<dyn Disk>, dir: &str, history_file_bytes: u64) -> RedbDeliveryStore {
    let options = StoreOptions { disk, dir: dir.into(), two_phase_commit: true, history_retention: 24 * HOUR };
    RedbDeliveryStore::open_with(options, history_file_bytes).unwrap()
}

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// A small world, in which the list overflows, events are wide, jobs take several steps and history rolls.
const SMALL: Bounds = Bounds { checkpoint_list_max: 8, wide_event_webhooks: 4, job_rows: 3 };
const HISTORY_FILE_BYTES: u64 = 2 << 20;

impl World {
    /// An empty one. Within a tokio runtime whose clock is paused.
    pub(super) fn new() -> Self {
        let clock = Clock::test(Timestamp::from_millis(1_000_000));
        Self::start(MemoryDisk::new(), Arc::default(), clock, Arc::default(), 0)
    }

    /// The state as a start finds it.
    pub(super) fn open(disk: &Arc<MemoryDisk>) -> Opened {
        open_with(Box::new(store(disk.clone(), "/d", HISTORY_FILE_BYTES)), OPTIONS, SMALL).unwrap()
    }

    fn start(
        disk: Arc<MemoryDisk>,
        log: Arc<MemoryLog>,
        clock: Clock,
        abandoned: Arc<Mutex<BTreeMap<WebhookNo, DeadReason>>>,
        last: u128,
    ) -> Self {
        let mut opened = Self::open(&disk);
        opened.recover(&*log).unwrap();
        let (shards, mut ends) = Shards::channels(1);
        let disabled = Arc::new(Mutex::new(Vec::new()));
        let registry_has_room = Arc::new(AtomicBool::new(true));
        let rooms = Arc::clone(&registry_has_room);
        let today = Arc::new(Today::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        let says = Arc::clone(&told);
        let disable_after: Arc<Mutex<BTreeMap<WebhookNo, Duration>>> = Arc::default();
        let (gone, asked, times) = (Arc::clone(&abandoned), Arc::clone(&disabled), Arc::clone(&disable_after));
        let hooks = Callbacks {
            targets: Arc::<Today>::clone(&today),
            abandons: Arc::new(move |webhook| gone.lock().unwrap().get(&webhook).copied()),
            disable: Arc::new(move |webhook, reason| {
                let has_room = rooms.load(Ordering::Relaxed);
                if has_room {
                    asked.lock().unwrap().push((webhook, reason));
                }
                has_room
            }),
            compose: Arc::new(move |happening| {
                let row = format!("{happening:?}");
                says.lock().unwrap().push((happening.webhook, happening.what.event_type()));
                Some(row.into_bytes().into())
            }),
            outbox: Arc::new(|| {}),
            disable_after: Arc::new(move |webhook| times.lock().unwrap().get(&webhook).copied()),
            ballast: Arc::new(|| {}),
            poisoned: Arc::new(|error| panic!("{error}")),
        };
        let metrics = Metrics::new().unwrap();
        let (handle, ..) = SettleHandle::channel();
        let around = Surroundings { shards, clock: clock.clone(), log: log.clone(), metrics, hooks };
        let (driver, records) = opened.driver(around, handle).unwrap();
        let reader = driver.store.reader();
        let shard = ends.remove(0);
        let mut world = Self {
            disk,
            log,
            clock,
            driver,
            records,
            reader,
            shard,
            abandoned,
            disabled,
            registry_has_room,
            today,
            told,
            disable_after,
            last,
        };
        world.flush();
        world
    }

    /// Stops in order and starts again.
    pub(super) fn reopen(mut self) -> Self {
        self.driver.finish().unwrap();
        Self::start(self.disk, self.log, self.clock, self.abandoned, self.last)
    }

    /// Starts from what was durable.
    pub(super) fn crash(self) -> Self {
        Self::start(self.disk.crash(), self.log, self.clock, self.abandoned, self.last)
    }

    /// Until nothing is left to do without a message.
    pub(super) fn flush(&mut self) {
        self.driver.flush().unwrap();
        while self.driver.keeper.is_busy() {
            self.driver.flush().unwrap();
        }
    }

    /// An event in the log, announced.
    pub(super) fn announce(&mut self, webhooks: &[u32]) -> EventId {
        self.announce_with(webhooks, permit())
    }

    pub(super) fn announce_with(&mut self, webhooks: &[u32], permit: Arc<Permit>) -> EventId {
        let event = self.append(webhooks);
        let webhooks = webhooks.iter().copied().map(WebhookNo).collect();
        self.take_in(ToSettle::Announce(vec![Announced { event, webhooks, permit }]));
        event
    }

    /// An event in the log that a crash kept from being announced.
    pub(super) fn append(&mut self, webhooks: &[u32]) -> EventId {
        self.last += 1;
        let event = EventId::from_u128(self.last);
        self.log.append(event, &webhooks.iter().copied().map(WebhookNo).collect::<Vec<_>>());
        event
    }

    pub(super) fn settle(&mut self, webhook: u32, event: EventId, attempt: Option<Attempt>, decision: Decision) {
        self.settle_of("order.created", webhook, event, attempt, decision);
    }

    /// The same of an event of this type.
    pub(super) fn settle_of(
        &mut self,
        event_type: &str,
        webhook: u32,
        event: EventId,
        attempt: Option<Attempt>,
        decision: Decision,
    ) {
        let settled = Settled { webhook: WebhookNo(webhook), event, attempt, decision, head: head(event_type) };
        self.take_in(ToSettle::Settled(vec![settled]));
    }

    pub(super) fn retry(&mut self, webhook: u32, event: EventId, number: u16, after: Duration) -> Timestamp {
        let at = self.clock.steady().plus(after);
        self.settle(webhook, event, Some(failed(number, 500)), Decision::Retry { at });
        at
    }

    pub(super) fn spill(&mut self, webhook: u32, event: EventId) {
        self.take_in(ToSettle::Spill(vec![(WebhookNo(webhook), event)]));
    }

    /// Asks and is answered.
    pub(super) fn refill(&mut self, webhook: u32, lane: Lane, rows: usize) -> Refilled {
        self.take_in(ToSettle::Refill(Refill { shard: 0, webhook: WebhookNo(webhook), lane, rows }));
        self.driver.flush().unwrap();
        loop {
            if let ToShard::Refilled(refilled) = self.shard.try_recv().unwrap() {
                return refilled;
            }
        }
    }

    /// All rows of a lane, three at a time.
    pub(super) fn drain(&mut self, webhook: u32, mut lane: Lane) -> Vec<crate::handoff::Row> {
        let mut rows = Vec::new();
        loop {
            let refilled = self.refill(webhook, lane, 3);
            rows.extend(refilled.rows);
            if refilled.end {
                return rows;
            }
            assert_ne!(lane, refilled.lane, "a cursor that stands still");
            lane = refilled.lane;
        }
    }

    pub(super) fn ready(&mut self, webhook: u32) -> Vec<EventId> {
        self.drain(webhook, Lane::Ready { after: EventId::MIN }).into_iter().map(|row| row.event).collect()
    }

    pub(super) fn due(&mut self, webhook: u32) -> Vec<crate::handoff::Row> {
        let after = (Timestamp::from_millis(0), EventId::MIN);
        self.drain(webhook, Lane::Due { after, until: self.clock.steady() })
    }

    /// A webhook's dead letters, newest event first.
    pub(super) fn letters(&self, webhook: u32) -> Vec<DeadLetter> {
        self.records.dead_letters(&Wanted::all([WebhookNo(webhook)]), 1_000).unwrap().rows
    }

    /// What the shard has been told is waiting.
    pub(super) fn nudges(&mut self) -> Vec<Waiting> {
        let mut all = Vec::new();
        while let Ok(message) = self.shard.try_recv() {
            if let ToShard::Waiting(waiting) = message {
                all.extend(waiting);
            }
        }
        all
    }

    /// A command and its answer.
    pub(super) fn ask<T>(&mut self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.take_in(ToSettle::Command(command(reply)));
        self.flush();
        answer.try_recv().unwrap()
    }

    /// Tells settle.
    pub(super) fn take_in(&mut self, message: ToSettle) {
        self.driver.take_in(vec![message]).unwrap();
    }

    /// Whether settle has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.driver.keeper.is_idle(self.clock.steady())
    }
}
