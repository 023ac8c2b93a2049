//! What settle's tests share: a disk in memory that can crash, and small things to make.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use redb::StorageBackend;
use tokio::sync::{mpsc, oneshot};

use super::dead::DeadLetter;
use super::gather::Gathered;
use super::keeper::Keeper;
use super::open::{Opened, Surroundings, open_with};
use super::records::Depth;
use super::{Bounds, Hooks, OpenState, Options, Records, Targets, Wanted};
use crate::filter::Facts;
use crate::handoff::{
    Announced, Command, DisableReason, Lane, Refill, Refilled, SettleHandle, Settled, Shards, ToSettle, ToShard,
    Waiting,
};
use crate::model::{Attempt, AttemptError, DeadReason, Decision, EventId, NewEvent, Timestamp, WebhookNo, Webhooks};
use crate::runtime::{Clock, Door, Metrics, Permit};
use crate::storage::{Backend, Disk, FileSize, ReadError, ReadLog, Stored};

/// Files by path; a crash leaves of each what was last synced.
#[derive(Debug, Default)]
pub(super) struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
    /// Writes that still succeed; then the disk is full. Negative: any number.
    room: Arc<AtomicI64>,
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Mutex<(Vec<u8>, Vec<u8>)>,
    room: Arc<AtomicI64>,
}

#[derive(Debug)]
struct Open(Arc<MemoryFile>);

/// For [`MemoryDisk::set_room`]: every write fails, and not for want of room.
pub(super) const BROKEN: i64 = -2;

impl MemoryDisk {
    pub(super) fn new() -> Arc<Self> {
        let disk = Self::default();
        disk.room.store(-1, Ordering::Relaxed);
        Arc::new(disk)
    }

    /// What a restart after a crash finds.
    pub(super) fn crash(&self) -> Arc<Self> {
        let disk = Self::new();
        for (path, file) in self.files.lock().unwrap().iter() {
            let durable = file.bytes.lock().unwrap().1.clone();
            let file = MemoryFile { bytes: Mutex::new((durable.clone(), durable)), room: Arc::clone(&disk.room) };
            disk.files.lock().unwrap().insert(path.clone(), Arc::new(file));
        }
        disk
    }

    /// After this many writes the disk is full; -1: never.
    pub(super) fn set_room(&self, writes: i64) {
        self.room.store(writes, Ordering::Relaxed);
    }

    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        self.files.lock().unwrap().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl MemoryFile {
    fn take_room(&self) -> io::Result<()> {
        match self.room.load(Ordering::Relaxed) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            BROKEN => Err(io::Error::other("the disk is broken")),
            room => {
                if room > 0 {
                    self.room.store(room - 1, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }
}

impl StorageBackend for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().0.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.bytes.lock().unwrap().0[start..start + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.take_room()?;
        self.0.bytes.lock().unwrap().0.resize(len as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut bytes = self.0.bytes.lock().unwrap();
        let live = bytes.0.clone();
        bytes.1 = live;
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.take_room()?;
        let start = offset as usize;
        self.0.bytes.lock().unwrap().0[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Backend> {
        let new = || Arc::new(MemoryFile { room: Arc::clone(&self.room), ..MemoryFile::default() });
        let file = Arc::clone(self.files.lock().unwrap().entry(path.to_owned()).or_insert_with(new));
        Ok(Backend::new(Open(file)))
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.lock().unwrap().keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.file(path)?.bytes.lock().unwrap().0.truncate(len as usize);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().unwrap().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn size(&self, path: &Path) -> io::Result<FileSize> {
        let len = self.file(path)?.bytes.lock().unwrap().0.len() as u64;
        Ok(FileSize { len, allocated: len })
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    fn reserve(&self, path: &Path, _: u64) -> io::Result<()> {
        self.open(path).map(drop)
    }
}

/// A place at a door of its own.
pub(super) fn permit() -> Arc<Permit> {
    permit_of(&Door::new(1 << 20))
}

/// A place at this door, which has one.
pub(super) fn permit_of(door: &Door) -> Arc<Permit> {
    door.enter(1, 1).now_or_never().flatten().unwrap()
}

/// An attempt that succeeded.
pub(super) fn attempt(number: u16) -> Attempt {
    Attempt {
        number,
        at: Timestamp::from_millis(1_000),
        latency: Duration::from_millis(3),
        http_status: Some(200),
        error: None,
        response: "".into(),
    }
}

/// An attempt that failed.
pub(super) fn failed(number: u16, status: u16) -> Attempt {
    Attempt { http_status: Some(status), error: Some(AttemptError::Status(status)), ..attempt(number) }
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
    pub(super) keeper: Keeper,
    pub(super) records: Records,
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

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// A small world, in which the list overflows, events are wide, jobs take several steps and history rolls.
const SMALL: Bounds =
    Bounds { checkpoint_list_max: 8, wide_event_webhooks: 4, job_rows: 3, history_file_bytes: 2 << 20 };

impl World {
    /// An empty one. Within a tokio runtime whose clock is paused.
    pub(super) fn new() -> Self {
        let clock = Clock::test(Timestamp::from_millis(1_000_000));
        Self::start(MemoryDisk::new(), Arc::default(), clock, Arc::default(), 0)
    }

    /// The state as a start finds it.
    pub(super) fn open(disk: &Arc<MemoryDisk>) -> Opened {
        let options = Options {
            two_phase_commit: true,
            history_retention: 24 * HOUR,
            dead_letter_retention: 48 * HOUR,
            disable_after: 24 * HOUR,
        };
        open_with(OpenState { disk: disk.clone(), dir: "/d".into(), options }, SMALL).unwrap()
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
        let hooks = Hooks {
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
        let depth = Arc::new(Depth::default());
        let (handle, ..) = SettleHandle::channel();
        let around =
            Surroundings { shards, clock: clock.clone(), log: log.clone(), metrics, hooks, depth: depth.clone() };
        let keeper = opened.keeper(around).unwrap();
        let (store, files, ledger) = (keeper.state.clone(), keeper.history.files(), keeper.ledger.clone());
        let records = Records::new(store, files, ledger, depth, handle);
        let shard = ends.remove(0);
        let mut world = Self {
            disk,
            log,
            clock,
            keeper,
            records,
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
        self.keeper.finish().unwrap();
        Self::start(self.disk, self.log, self.clock, self.abandoned, self.last)
    }

    /// Starts from what was durable.
    pub(super) fn crash(self) -> Self {
        Self::start(self.disk.crash(), self.log, self.clock, self.abandoned, self.last)
    }

    /// Until nothing is left to do without a message.
    pub(super) fn flush(&mut self) {
        self.keeper.flush().unwrap();
        while self.keeper.is_busy() {
            self.keeper.flush().unwrap();
        }
    }

    /// An event in the log, announced.
    pub(super) fn announce(&mut self, webhooks: &[u32]) -> EventId {
        self.announce_with(webhooks, permit())
    }

    pub(super) fn announce_with(&mut self, webhooks: &[u32], permit: Arc<Permit>) -> EventId {
        let event = self.append(webhooks);
        let webhooks = webhooks.iter().copied().map(WebhookNo).collect();
        self.keeper.apply(ToSettle::Announce(vec![Announced { event, webhooks, permit }]));
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
        self.keeper.apply(ToSettle::Settled(vec![settled]));
    }

    pub(super) fn retry(&mut self, webhook: u32, event: EventId, number: u16, after: Duration) -> Timestamp {
        let at = self.clock.steady().plus(after);
        self.settle(webhook, event, Some(failed(number, 500)), Decision::Retry { at });
        at
    }

    pub(super) fn spill(&mut self, webhook: u32, event: EventId) {
        self.keeper.apply(ToSettle::Spill(vec![(WebhookNo(webhook), event)]));
    }

    /// Asks and is answered.
    pub(super) fn refill(&mut self, webhook: u32, lane: Lane, rows: usize) -> Refilled {
        self.keeper.apply(ToSettle::Refill(Refill { shard: 0, webhook: WebhookNo(webhook), lane, rows }));
        self.keeper.flush().unwrap();
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
        self.keeper.apply(ToSettle::Command(command(reply)));
        self.flush();
        answer.try_recv().unwrap()
    }

    pub(super) fn gathered(&self) -> &Gathered {
        &self.keeper.gathered
    }
}
