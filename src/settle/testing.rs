//! Fixtures of settle's tests: a settle without threads, and helper functions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::driver::Driver;
use super::open::{DriverDeps, OpenedStore, open_with};
use super::replay::{ReplayEvaluator, ReplayStepRequest};
use super::{Callbacks, DeadLetterRecord, DeliveryQuery, DeliveryRecords, Options, ReplayTargets, SettleLimits};
use crate::filter::EventFields;
use crate::handoff::{
    AnnouncedEvent, CostlyDeliveries, DisableReason, Refill, RefillKind, RefillReply, SettleCommand, SettleHandle,
    SettledDelivery, Shards, ToSettle, ToShard, WebhookBacklog,
};
use crate::model::{Attempt, DeadReason, Decision, EventId, MatchedWebhooks, NewEvent, Timestamp, WebhookNo, Webhooks};
use crate::runtime::{Clock, IngestPermit, IngestPermits, Metrics};
use crate::storage::delivery::testing::{MemoryDisk, failed};
use crate::storage::delivery::{DeliveryReader, RedbDeliveryStore, StoreOptions};
use crate::storage::{Disk, LogRecord, ReadError, ReadLog};

/// An ingest permit of a new semaphore.
pub(super) fn permit() -> Arc<IngestPermit> {
    permit_of(&IngestPermits::new(1 << 20))
}

/// An ingest permit of this semaphore, which must have a free one.
pub(super) fn permit_of(ingest_permits: &IngestPermits) -> Arc<IngestPermit> {
    ingest_permits.acquire(1, 1).now_or_never().flatten().unwrap()
}

/// The head of an event of this type and of tenant `default`.
pub(super) fn head(event_type: &str) -> bytes::Bytes {
    let mut head = Vec::new();
    NewEvent { tenant: "default", event_type, source: "api", ..NewEvent::default() }.encode(&[], &mut head);
    head.into()
}

/// A log in memory that has only event heads.
#[derive(Debug, Default)]
pub(super) struct MemoryLog(Mutex<BTreeMap<EventId, bytes::Bytes>>);

impl MemoryLog {
    pub(super) fn append(&self, event: EventId, matched: &MatchedWebhooks) {
        let mut head = Vec::new();
        let new = NewEvent { tenant: "default", event_type: "order.created", source: "api", ..NewEvent::default() };
        new.encode_matched(matched, &mut head);
        self.0.lock().unwrap().insert(event, head.into());
    }
}

impl ReadLog for MemoryLog {
    fn last(&self) -> EventId {
        self.0.lock().unwrap().keys().last().copied().unwrap_or(EventId::MIN)
    }
    fn read(&self, events: &[EventId]) -> Result<Vec<Option<LogRecord>>, ReadError> {
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

/// The webhooks that replays may deliver to.
#[derive(Debug, Default)]
pub(super) struct FakeReplayTargets {
    /// Webhooks that match every event.
    pub(super) matching: Mutex<Vec<u32>>,
    /// Paused webhooks.
    pub(super) held: Mutex<Vec<u32>>,
}

impl ReplayTargets for FakeReplayTargets {
    fn matching(&self, _: &EventFields<'_>) -> Webhooks {
        self.matching.lock().unwrap().iter().copied().map(WebhookNo).collect()
    }

    fn is_held(&self, webhook: WebhookNo) -> bool {
        self.held.lock().unwrap().contains(&webhook.0)
    }
}

/// Settle without its thread, on a disk in memory. The test plays the only shard.
pub(super) struct World {
    pub(super) disk: Arc<MemoryDisk>,
    pub(super) log: Arc<MemoryLog>,
    pub(super) clock: Clock,
    pub(super) driver: Driver,
    pub(super) records: DeliveryRecords,
    pub(super) reader: Arc<dyn DeliveryReader>,
    pub(super) shard: mpsc::Receiver<ToShard>,
    pub(super) abandoned: Arc<Mutex<BTreeMap<WebhookNo, DeadReason>>>,
    pub(super) disabled: Arc<Mutex<Vec<(WebhookNo, DisableReason)>>>,
    /// Whether the registry accepts disable requests.
    pub(super) registry_has_room: Arc<AtomicBool>,
    pub(super) replay_targets: Arc<FakeReplayTargets>,
    /// The replay thread. The test runs it between two flushes.
    evaluator: ReplayEvaluator,
    replay_requests: Receiver<ReplayStepRequest>,
    /// Operational events that were composed since the last start.
    pub(super) emitted: Arc<Mutex<Vec<(WebhookNo, &'static str)>>>,
    /// Webhooks with their own `disable_after`.
    pub(super) disable_after: Arc<Mutex<BTreeMap<WebhookNo, Duration>>>,
    last: u128,
}

/// The configuration of tests.
pub(super) const OPTIONS: Options =
    Options { dead_letter_retention: Duration::from_secs(48 * 3_600), disable_after: Duration::from_secs(24 * 3_600) };

/// A store that keeps history for a day.
pub(super) fn store(disk: Arc<dyn Disk>, dir: &str, history_file_bytes: u64) -> RedbDeliveryStore {
    let options = StoreOptions { disk, dir: dir.into(), two_phase_commit: true, history_retention: 24 * HOUR };
    RedbDeliveryStore::open_with(options, history_file_bytes).unwrap()
}

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// Small limits: the list overflows, events are wide, jobs take several steps and history files roll over.
const SMALL: SettleLimits = SettleLimits { checkpoint_list_max: 8, wide_event_webhooks: 4, job_rows: 3 };
const HISTORY_FILE_BYTES: u64 = 2 << 20;

impl World {
    /// An empty state. Must be called within a tokio runtime with a paused clock.
    pub(super) fn new() -> Self {
        let clock = Clock::test(Timestamp::from_millis(1_000_000));
        Self::start(MemoryDisk::new(), Arc::default(), clock, Arc::default(), 0)
    }

    /// Opens the state as a start does.
    pub(super) fn open(disk: &Arc<MemoryDisk>) -> OpenedStore {
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
        let replay_targets = Arc::new(FakeReplayTargets::default());
        let emitted = Arc::new(Mutex::new(Vec::new()));
        let says = Arc::clone(&emitted);
        let disable_after: Arc<Mutex<BTreeMap<WebhookNo, Duration>>> = Arc::default();
        let (gone, asked, times) = (Arc::clone(&abandoned), Arc::clone(&disabled), Arc::clone(&disable_after));
        let callbacks = Callbacks {
            replay_targets: Arc::<FakeReplayTargets>::clone(&replay_targets),
            abandon_reason: Arc::new(move |webhook| gone.lock().unwrap().get(&webhook).copied()),
            disable: Arc::new(move |webhook, reason| {
                let has_room = rooms.load(Ordering::Relaxed);
                if has_room {
                    asked.lock().unwrap().push((webhook, reason));
                }
                has_room
            }),
            compose_event: Arc::new(move |health_event| {
                let row = format!("{health_event:?}");
                says.lock().unwrap().push((health_event.webhook, health_event.kind.event_type()));
                Some(row.into_bytes().into())
            }),
            notify_outbox: Arc::new(|| {}),
            disable_after: Arc::new(move |webhook| times.lock().unwrap().get(&webhook).copied()),
            ballast: Arc::new(|| {}),
            poisoned: Arc::new(|error| panic!("{error}")),
        };
        let metrics = Metrics::new().unwrap();
        let (handle, ..) = SettleHandle::channel();
        let (to, replay_requests) = bounded(1);
        let targets = Arc::<FakeReplayTargets>::clone(&replay_targets);
        let heartbeat = metrics.watchdog.watch_background("replay");
        let evaluator = ReplayEvaluator { log: log.clone(), targets, is_stopped: Arc::default(), heartbeat };
        let deps =
            DriverDeps { shards, clock: clock.clone(), log: log.clone(), metrics, callbacks, replay_requests: to };
        let (driver, records) = opened.driver(deps, handle).unwrap();
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
            replay_targets,
            evaluator,
            replay_requests,
            emitted,
            disable_after,
            last,
        };
        world.flush();
        world
    }

    /// Stops cleanly and starts again.
    pub(super) fn reopen(mut self) -> Self {
        self.driver.finish().unwrap();
        Self::start(self.disk, self.log, self.clock, self.abandoned, self.last)
    }

    /// Stops cleanly and starts again after this time.
    pub(super) async fn off_for(mut self, time: Duration) -> Self {
        self.driver.finish().unwrap();
        tokio::time::advance(time).await;
        Self::start(self.disk, self.log, self.clock, self.abandoned, self.last)
    }

    /// Starts from the durable state.
    pub(super) fn crash(self) -> Self {
        Self::start(self.disk.crash(), self.log, self.clock, self.abandoned, self.last)
    }

    /// Flushes until nothing is left to do without a message.
    pub(super) fn flush(&mut self) {
        self.driver.flush().unwrap();
        while self.evaluate_replay() || self.driver.state.is_busy() {
            self.driver.flush().unwrap();
        }
    }

    /// Evaluates the requested step of a replay. `false` if there is none.
    pub(super) fn evaluate_replay(&mut self) -> bool {
        let Ok(request) = self.replay_requests.try_recv() else { return false };
        let step = self.evaluator.evaluate(&request);
        self.take_in(ToSettle::ReplayStep(step));
        true
    }

    /// Appends an event to the log and announces it.
    pub(super) fn announce(&mut self, webhooks: &[u32]) -> EventId {
        self.announce_with(webhooks, permit())
    }

    pub(super) fn announce_with(&mut self, webhooks: &[u32], permit: Arc<IngestPermit>) -> EventId {
        let event = self.append(webhooks);
        let webhooks = webhooks.iter().copied().map(WebhookNo).collect();
        self.take_in(ToSettle::Announce(vec![AnnouncedEvent { event, webhooks, too_costly: None, permit }]));
        event
    }

    /// Appends and announces an event to `webhooks`. The filters of `too_costly` were too costly.
    pub(super) fn announce_costly(&mut self, webhooks: &[u32], too_costly: &[u32]) -> EventId {
        let event = self.append_costly(webhooks, too_costly);
        let nos = |nos: &[u32]| nos.iter().copied().map(WebhookNo).collect::<Vec<_>>();
        let (head, costly) = (self.log.0.lock().unwrap()[&event].clone(), nos(too_costly).into());
        let too_costly = Some(Box::new(CostlyDeliveries { head, webhooks: costly }));
        let webhooks = nos(webhooks).into();
        self.take_in(ToSettle::Announce(vec![AnnouncedEvent { event, webhooks, too_costly, permit: permit() }]));
        event
    }

    /// Appends the event of [`Self::announce_costly`] without announcing it, as a crash does.
    pub(super) fn append_costly(&mut self, webhooks: &[u32], too_costly: &[u32]) -> EventId {
        self.last += 1;
        let event = EventId::from_u128(self.last);
        let nos = |nos: &[u32]| nos.iter().copied().map(WebhookNo).collect::<Vec<_>>();
        let matched = MatchedWebhooks { receivers: nos(webhooks).into(), too_costly: nos(too_costly).into() };
        self.log.append(event, &matched);
        event
    }

    /// Appends an event to the log without announcing it, as a crash does.
    pub(super) fn append(&mut self, webhooks: &[u32]) -> EventId {
        self.append_costly(webhooks, &[])
    }

    pub(super) fn settle(&mut self, webhook: u32, event: EventId, attempt: Option<Attempt>, decision: Decision) {
        self.settle_of("order.created", webhook, event, attempt, decision);
    }

    /// Settles a delivery of an event of this type.
    pub(super) fn settle_of(
        &mut self,
        event_type: &str,
        webhook: u32,
        event: EventId,
        attempt: Option<Attempt>,
        decision: Decision,
    ) {
        let settled = SettledDelivery {
            webhook: WebhookNo(webhook),
            event,
            attempt,
            decision,
            head: head(event_type),
            endpoint: None,
        };
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

    /// Sends a refill request and returns the reply.
    pub(super) fn refill(&mut self, webhook: u32, kind: RefillKind, rows: usize) -> RefillReply {
        self.take_in(ToSettle::Refill(Refill { shard: 0, webhook: WebhookNo(webhook), kind, rows }));
        self.driver.flush().unwrap();
        loop {
            if let ToShard::Refilled(refilled) = self.shard.try_recv().unwrap() {
                return refilled;
            }
        }
    }

    /// All rows of a refill, three at a time.
    pub(super) fn drain(&mut self, webhook: u32, mut kind: RefillKind) -> Vec<crate::handoff::BacklogRow> {
        let mut rows = Vec::new();
        loop {
            let refilled = self.refill(webhook, kind, 3);
            rows.extend(refilled.rows);
            if refilled.end {
                return rows;
            }
            assert_ne!(kind, refilled.kind, "a cursor that stands still");
            kind = refilled.kind;
        }
    }

    pub(super) fn ready(&mut self, webhook: u32) -> Vec<EventId> {
        self.drain(webhook, RefillKind::Ready { after: EventId::MIN }).into_iter().map(|row| row.event).collect()
    }

    pub(super) fn due(&mut self, webhook: u32) -> Vec<crate::handoff::BacklogRow> {
        let after = (Timestamp::from_millis(0), EventId::MIN);
        self.drain(webhook, RefillKind::Due { after, until: self.clock.steady() })
    }

    /// A webhook's dead letters, newest event first.
    pub(super) fn letters(&self, webhook: u32) -> Vec<DeadLetterRecord> {
        self.records.dead_letters(&DeliveryQuery::all([WebhookNo(webhook)]), 1_000).unwrap().rows
    }

    /// The backlogs that were sent to the shard.
    pub(super) fn notifications(&mut self) -> Vec<WebhookBacklog> {
        let mut all = Vec::new();
        while let Ok(message) = self.shard.try_recv() {
            if let ToShard::Waiting(waiting) = message {
                all.extend(waiting);
            }
        }
        all
    }

    /// Sends a command and returns its reply.
    pub(super) fn ask<T>(&mut self, command: impl FnOnce(oneshot::Sender<T>) -> SettleCommand) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.take_in(ToSettle::Command(command(reply)));
        self.flush();
        answer.try_recv().unwrap()
    }

    /// Sends a message to settle.
    pub(super) fn take_in(&mut self, message: ToSettle) {
        self.driver.take_in(vec![message]).unwrap();
    }

    /// Whether settle is idle.
    pub(super) fn is_idle(&self) -> bool {
        self.driver.state.is_idle(self.clock.steady())
    }
}
