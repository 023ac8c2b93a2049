//! The settle thread: waits for messages, gathers a batch, flushes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, after};

use super::SettleError;
use super::delivery_records::DeliveryRecords;
use super::driver::Driver;
use crate::handoff::{SettleCommand, SettleHandle, ToSettle};
use crate::limits::{DRAIN_INTERVAL, FLUSH_INTERVAL, FLUSH_INTERVAL_MIN, FLUSH_ITEMS};
use crate::runtime::Heartbeat;
use crate::storage::delivery::LookupError;

/// Time between two tries on a full disk.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// A stop gives up after this many tries on a full disk. The next start recovers from the log and the last checkpoint.
const FULL_TRIES_STOPPING: usize = 4;

/// The running settle thread.
#[derive(Debug)]
pub struct SettleThread {
    /// Sends messages to settle.
    pub handle: SettleHandle,
    /// The reading side.
    pub records: DeliveryRecords,
    thread: JoinHandle<()>,
    poisoned: Arc<AtomicBool>,
    replays_are_stopped: Arc<AtomicBool>,
}

impl SettleThread {
    /// Starts the thread.
    pub(super) fn begin(
        driver: Driver,
        handle: SettleHandle,
        records: DeliveryRecords,
        (messages, wakeup): (Receiver<ToSettle>, Receiver<()>),
        replays_are_stopped: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let poisoned = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&poisoned);
        let work = move || {
            let poison = Arc::clone(&driver.callbacks.poisoned);
            let heartbeat = driver.state.metrics.watchdog.watch("settle");
            let mut worker = SettleLoop { driver, messages, wakeup, heartbeat };
            if let Err(error) = worker.run() {
                tracing::error!(%error, "the state cannot be written: nothing more is settled");
                flag.store(true, Ordering::Release);
                poison(&error);
            }
        };
        let thread = std::thread::Builder::new().name("settle".into()).spawn(work)?;
        Ok(Self { handle, records, thread, poisoned, replays_are_stopped })
    }

    /// Whether a write failed for another reason than a full disk.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Flushes everything, closes the files and waits for the end of the thread. `false` if something could not be
    /// written. The replay thread is not waited for: its step is not written any more, and the next start repeats it.
    pub fn stop(self) -> bool {
        self.replays_are_stopped.store(true, Ordering::Relaxed);
        self.handle.send(ToSettle::Command(SettleCommand::Stop));
        self.thread.join().is_ok() && !self.poisoned.load(Ordering::Acquire)
    }
}

struct SettleLoop {
    driver: Driver,
    messages: Receiver<ToSettle>,
    wakeup: Receiver<()>,
    heartbeat: Heartbeat,
}

impl SettleLoop {
    fn run(&mut self) -> Result<(), SettleError> {
        // The backlog that recovery found must reach the shards.
        self.try_until_room(Driver::flush)?;
        let mut flushed_at = self.driver.clock.instant();
        while !self.is_stopping() {
            if self.driver.state.is_idle(self.driver.clock.steady()) {
                self.heartbeat.idle();
                let Ok(message) = self.messages.recv() else { break };
                self.driver.take_in(vec![message])?;
            }
            self.heartbeat.working();
            if !self.driver.state.is_busy() {
                self.gather()?;
                // Refills of many webhooks send wakeups all the time, and each flush costs two fsyncs.
                let since = self.driver.clock.instant().duration_since(flushed_at);
                let _ = after(FLUSH_INTERVAL_MIN.saturating_sub(since)).recv();
            }
            self.drain()?;
            self.heartbeat.working();
            self.try_until_room(Driver::flush)?;
            flushed_at = self.driver.clock.instant();
        }
        self.driver.take_in(self.messages.try_iter().collect())?;
        self.try_until_room(Driver::finish)
    }

    fn is_stopping(&self) -> bool {
        self.driver.state.stopping
    }

    fn items(&self) -> usize {
        self.driver.state.pending.items
    }

    /// Gathers messages for a flush. They are taken every few milliseconds: one wake-up takes many messages, and the
    /// event heads that they hold are freed while they are still in the processor's caches.
    fn gather(&mut self) -> Result<(), LookupError> {
        let mut waited = Duration::ZERO;
        while waited < FLUSH_INTERVAL && self.items() < FLUSH_ITEMS && !self.is_stopping() {
            match self.wakeup.recv_timeout(DRAIN_INTERVAL) {
                // A wakeup is sent for messages that cannot wait.
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => self.driver.state.stopping = true,
                Err(RecvTimeoutError::Timeout) => {
                    waited += DRAIN_INTERVAL;
                    self.drain()?;
                }
            }
        }
        Ok(())
    }

    /// Takes the messages in the queue, up to the size of one transaction.
    fn drain(&mut self) -> Result<(), LookupError> {
        let mut room = (2 * FLUSH_ITEMS).saturating_sub(self.items());
        let mut messages = Vec::new();
        let mut stops = self.is_stopping();
        while room > 0 && !stops {
            let Ok(message) = self.messages.try_recv() else { break };
            room = room.saturating_sub(items_of(&message));
            stops = matches!(message, ToSettle::Command(SettleCommand::Stop));
            messages.push(message);
        }
        if messages.is_empty() { Ok(()) } else { self.driver.take_in(messages) }
    }

    /// Repeats a write while the disk is full.
    fn try_until_room(&mut self, write: impl Fn(&mut Driver) -> Result<(), SettleError>) -> Result<(), SettleError> {
        let mut tries = 0;
        let mut done = write(&mut self.driver);
        loop {
            match done {
                Err(error) if error.is_disk_full() => {
                    tries += 1;
                    self.heartbeat.working();
                    tracing::warn!(%error, tries, "the disk is full; settle tries again");
                    if self.is_stopping() && tries > FULL_TRIES_STOPPING {
                        return Err(error);
                    }
                    (self.driver.callbacks.ballast)();
                    if tries > 1 {
                        let _ = after(FULL_PAUSE).recv();
                    }
                    done = self.driver.reopen().and_then(|()| write(&mut self.driver));
                }
                done => return done,
            }
        }
    }
}

/// The approximate number of items that a message adds to a transaction.
fn items_of(message: &ToSettle) -> usize {
    match message {
        ToSettle::Announce(events) => events.iter().map(|event| event.webhooks.len().max(1)).sum(),
        ToSettle::Settled(outcomes) => outcomes.len(),
        ToSettle::Spill(deliveries) => deliveries.len(),
        ToSettle::Refill(_) => 0,
        ToSettle::ReplayStep(_) | ToSettle::Command(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::testing::{MemoryLog, World, head, permit};
    use super::super::{Callbacks, ReplayTargets, SettleDeps, SettleRetentionRefs};
    use super::*;
    use crate::filter::EventFields;
    use crate::handoff::{AnnouncedEvent, ReplayFilter, RetentionRefs, SettledDelivery, Shards};
    use crate::model::{
        Decision, DeliveryId, DeliveryStatus, EventId, MatchedWebhooks, Timestamp, WebhookNo, Webhooks,
    };
    use crate::runtime::{Clock, Metrics};
    use crate::storage::delivery::testing::{BROKEN, MemoryDisk, attempt};
    use crate::storage::delivery::{Hour, JobState};

    struct Thread {
        disk: Arc<MemoryDisk>,
        running: SettleThread,
        poisoned: Receiver<()>,
        ballasts: Arc<AtomicUsize>,
    }

    /// A thread on this disk, whose ballast, when given up, makes room.
    fn start(disk: Arc<MemoryDisk>) -> Thread {
        start_with(disk, Arc::default(), Arc::new(()))
    }

    fn start_with(disk: Arc<MemoryDisk>, log: Arc<MemoryLog>, replay_targets: Arc<dyn ReplayTargets>) -> Thread {
        let mut opened = World::open(&disk);
        opened.recover(&*log).unwrap();
        let (handle, messages, wakeup) = SettleHandle::channel();
        let (poison, poisoned) = crossbeam_channel::bounded(1);
        let ballasts = Arc::new(AtomicUsize::new(0));
        let (given, room) = (Arc::clone(&ballasts), Arc::clone(&disk));
        let callbacks = Callbacks {
            abandon_reason: Arc::new(|_| None),
            replay_targets,
            disable: Arc::new(|_, _| true),
            compose_event: Arc::new(|_| None),
            notify_outbox: Arc::new(|| {}),
            disable_after: Arc::new(|_| None),
            ballast: Arc::new(move || {
                given.fetch_add(1, Ordering::Relaxed);
                room.set_room(-1);
            }),
            poisoned: Arc::new(move |_| poison.send(()).unwrap()),
        };
        let (shards, _) = Shards::channels(1);
        let (clock, metrics) = (Clock::test(Timestamp::from_millis(1_000)), Metrics::new().unwrap());
        let start = SettleDeps { handle, messages, wakeup, shards, clock, log, metrics, callbacks };
        Thread { disk, running: opened.start(start).unwrap(), poisoned, ballasts }
    }

    impl Thread {
        fn announce(&self, event: u128) -> DeliveryId {
            let id = DeliveryId { event: EventId::from_u128(event), webhook: WebhookNo(1) };
            let webhooks = [id.webhook].into_iter().collect();
            let announced = AnnouncedEvent { event: id.event, webhooks, too_costly: None, permit: permit() };
            self.running.handle.send(ToSettle::Announce(vec![announced]));
            id
        }

        fn deliver(&self, id: DeliveryId) {
            self.running.handle.send(ToSettle::Settled(vec![delivered(id, bytes::Bytes::new())]));
        }

        fn status(&self, id: DeliveryId) -> Option<DeliveryStatus> {
            self.running.records.delivery(id).unwrap().map(|record| record.status)
        }
    }

    fn delivered(id: DeliveryId, head: bytes::Bytes) -> SettledDelivery {
        let (attempt, decision) = (Some(attempt(1)), Decision::Delivered);
        SettledDelivery { webhook: id.webhook, event: id.event, attempt, decision, head, endpoint: None }
    }

    #[tokio::test]
    async fn outcomes_sent_before_a_sync_can_be_read_after_it() {
        let thread = start(MemoryDisk::new());
        let (one, two) = (thread.announce(1), thread.announce(2));
        thread.deliver(one);
        let outstanding = thread.running.records.sync(None, None, 9).await;
        assert_eq!(outstanding, Some(vec![(two.event, two.webhook)]));
        assert_eq!(thread.status(one), Some(DeliveryStatus::Delivered));
        assert_eq!(thread.running.records.depth(), 1);
        assert!(thread.running.stop());
    }

    #[test]
    fn a_stop_writes_everything_and_the_next_start_finds_it() {
        let thread = start(MemoryDisk::new());
        let (one, two) = (thread.announce(1), thread.announce(2));
        thread.deliver(one);
        let disk = Arc::clone(&thread.disk);
        assert!(thread.running.stop());
        let thread = start(disk.crash());
        assert_eq!(thread.status(one), Some(DeliveryStatus::Delivered));
        assert_eq!(thread.status(two), Some(DeliveryStatus::Pending));
        assert!(thread.running.stop());
    }

    #[tokio::test]
    async fn a_snapshot_counts_each_delivery_once_while_deliveries_end() {
        const DELIVERIES: u64 = 400;
        let thread = start(MemoryDisk::new());
        let ids: Vec<_> = (1..=u128::from(DELIVERIES)).map(|n| thread.announce(n)).collect();
        thread.running.handle.send(ToSettle::Spill(ids.iter().step_by(2).map(|id| (id.webhook, id.event)).collect()));
        let hour = Hour::of(Timestamp::from_millis(1_000));
        let handle = thread.running.handle.clone();
        let delivering = std::thread::spawn(move || {
            for id in ids {
                handle.send(ToSettle::Settled(vec![delivered(id, head("order.paid"))]));
            }
        });
        loop {
            let snapshot = thread.running.records.snapshot(WebhookNo(1), hour, hour).await.unwrap();
            let delivered = snapshot.totals().delivered;
            let (waiting, is_minimum, hours) = snapshot.read(1_000).unwrap();
            let of_hour = hours.get(&hour).map_or(0, |row| u64::from(row.sum().delivered));
            assert!(!is_minimum);
            assert_eq!((delivered + waiting as u64, of_hour), (DELIVERIES, delivered));
            if delivered == DELIVERIES {
                break;
            }
        }
        delivering.join().unwrap();
        assert!(thread.running.stop());
    }

    /// Matches no webhook, after it got a message or its sender was dropped.
    struct SlowTargets(Receiver<()>);

    impl ReplayTargets for SlowTargets {
        fn matching(&self, _: &EventFields<'_>) -> Webhooks {
            let _ = self.0.recv();
            Webhooks::new()
        }

        fn is_held(&self, _: WebhookNo) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn settle_works_and_stops_while_the_filters_of_a_replay_are_evaluated() {
        let log = Arc::new(MemoryLog::default());
        log.append(EventId::from_u128(1), &MatchedWebhooks::default());
        let (slow, entered) = crossbeam_channel::bounded(0);
        let thread = start_with(MemoryDisk::new(), log, Arc::new(SlowTargets(entered)));
        let filter = ReplayFilter { tenant: "default".into(), include_unmatched: true, ..ReplayFilter::default() };
        thread.running.records.replay(filter, None).await.unwrap();
        let one = thread.announce(2);
        thread.deliver(one);
        assert_eq!(thread.running.records.sync(None, None, 9).await, Some(vec![]));
        assert_eq!(thread.status(one), Some(DeliveryStatus::Delivered));
        assert!(thread.running.records.jobs().unwrap()[0].is_running());
        assert!(thread.running.stop());
        drop(slow);
    }

    #[tokio::test]
    async fn a_panic_in_a_filter_ends_only_the_replay() {
        let log = Arc::new(MemoryLog::default());
        log.append(EventId::from_u128(1), &Webhooks::from_slice(&[WebhookNo(1)]).into());
        let thread = start_with(MemoryDisk::new(), log, Arc::new(PanickingTargets));
        let all = ReplayFilter { tenant: "default".into(), ..ReplayFilter::default() };
        for (include_unmatched, expected) in [(true, JobState::Failed), (false, JobState::Done)] {
            let filter = ReplayFilter { include_unmatched, include_paused: true, ..all.clone() };
            let no = thread.running.records.replay(filter, None).await.unwrap();
            let state = || {
                let jobs = thread.running.records.jobs().unwrap();
                jobs.iter().find(|job| job.no == no).unwrap().state
            };
            while state() == JobState::Running {
                thread.running.records.sync(None, None, 0).await;
            }
            assert_eq!(state(), expected);
        }
        assert!(thread.running.stop());
    }

    struct PanickingTargets;

    impl ReplayTargets for PanickingTargets {
        fn matching(&self, _: &EventFields<'_>) -> Webhooks {
            panic!("of the test")
        }

        fn is_held(&self, _: WebhookNo) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn a_full_disk_releases_the_ballast_and_settle_continues() {
        let thread = start(MemoryDisk::new());
        thread.running.records.sync(None, None, 0).await;
        thread.disk.set_room(3);
        let one = thread.announce(1);
        thread.deliver(one);
        thread.running.records.sync(None, None, 0).await;
        assert_eq!(thread.ballasts.load(Ordering::Relaxed), 1);
        assert_eq!(thread.status(one), Some(DeliveryStatus::Delivered));
        assert!(thread.running.stop());
    }

    #[tokio::test]
    async fn any_other_error_poisons() {
        let thread = start(MemoryDisk::new());
        thread.running.records.sync(None, None, 0).await;
        thread.disk.set_room(BROKEN);
        thread.announce(1);
        thread.running.handle.send(ToSettle::Command(SettleCommand::Expire { events: vec![] }));
        thread.poisoned.recv().unwrap();
        assert!(thread.running.is_poisoned());
        assert!(!thread.running.stop());
    }

    #[test]
    fn retention_keeps_needed_bodies_and_waits_for_outstanding_deliveries() {
        let thread = start(MemoryDisk::new());
        let ids: Vec<_> = (1..=4).map(|n| thread.announce(n)).collect();
        thread.deliver(ids[1]);
        thread.running.handle.send(ToSettle::Spill(vec![(WebhookNo(1), ids[0].event), (WebhookNo(1), ids[2].event)]));
        let needs = SettleRetentionRefs::new(thread.running.handle.clone(), thread.running.records.clone());
        assert_eq!(needs.needed(ids[0].event, ids[2].event), Some(vec![ids[0].event, ids[2].event]));
        assert_eq!(needs.needed(ids[1].event, ids[1].event), Some(vec![]));
        assert_eq!(needs.needed(ids[0].event, ids[3].event), None);
        needs.expire(vec![ids[0].event]);
        assert_eq!(needs.needed(ids[0].event, ids[1].event), Some(vec![]), "its body may go");
        assert_eq!(thread.status(ids[0]), Some(DeliveryStatus::Abandoned));
        assert_eq!(needs.needed(ids[2].event, ids[2].event), Some(vec![ids[2].event]));
        assert!(thread.running.stop());
    }
}
