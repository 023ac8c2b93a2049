//! The start: finishes what the last run left, finds the last event, rebuilds the dedup table.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use tokio::sync::watch;

use super::Log;
use super::dedup::{Dedup, Entry};
use super::group::{Active, Group, Scratch, Spares};
use super::ids::Ids;
use super::log::records;
use super::recall::{Recall, Worker};
use super::retain::{self, Retain};
use super::room::Room;
use super::segment::Segment;
use crate::config;
use crate::handoff::{CommitHandle, Needs, RecallRequest, SettleHandle, Shards};
use crate::limits::{COMMIT_QUEUE, RECALL_QUEUE};
use crate::model::{EventHead, EventId, Timestamp, file};
use crate::runtime::{Clock, MemoryBudget, Metrics, Random};
use crate::storage::{Disk, Poison, ReadError, ReadLog};

/// What the log is opened with.
#[derive(Debug)]
pub struct OpenLog<'a> {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The data folder; the log is in `log/` and `carry/` there.
    pub dir: &'a Path,
    /// `[log]`
    pub config: &'a config::Log,
    /// `[dedup]`
    pub dedup: &'a config::Dedup,
    /// Both clocks.
    pub clock: Clock,
    /// For ids.
    pub random: Random,
    /// An id that new ones must be after, beside those in the log: settle's, as the log may have been retired since.
    pub high_water: EventId,
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or a file in it.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The segment that was written last.
    #[error("{path}: {source}")]
    Segment {
        /// Which.
        path: PathBuf,
        /// Why.
        source: redb::Error,
    },
    /// What is in it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A thread.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
}

/// A log that can be read and is ready to be written.
#[derive(Debug)]
pub struct OpenedLog {
    log: Arc<Log>,
    config: config::Log,
    clock: Clock,
    ids: Ids,
    dedup: Dedup,
    room: Room,
    active: Option<Active>,
}

/// The threads of the log.
pub struct Running {
    handle: CommitHandle,
    recall: Sender<RecallRequest>,
    log: Arc<Log>,
    poison: Poison,
    commit: Option<(Sender<()>, JoinHandle<()>)>,
    reader: Worker,
    retain: Worker,
    needs: retain::NeedsCell,
}

/// Opens the log of a data folder.
pub fn open(with: OpenLog<'_>) -> Result<OpenedLog, OpenError> {
    let OpenLog { disk, dir, config, dedup, clock, mut random, high_water } = with;
    let segments = files(&*disk, &dir.join(file::LOG))?;
    let carried = files(&*disk, &dir.join(file::CARRY))?;
    disk.sync_dir(dir).map_err(|source| OpenError::Io { path: dir.into(), source })?;
    if let Some(newest) = segments.last() {
        newest.open_writing(&*disk).map_err(|source| OpenError::Segment { path: newest.path().into(), source })?;
    }
    let log = Log::new(Arc::clone(&disk), dir, segments, carried, EventId::MIN);
    let newest = log.segments().last().cloned();
    let floor = newest.as_ref().map_or(EventId::MIN, |newest| newest.first);
    let last = log.heads_before(EventId::MAX, 1)?.first().map_or(EventId::MIN, |(id, _)| *id);
    log.advance(last);
    let active = match newest {
        None => None,
        Some(segment) => {
            let bytes =
                disk.size(segment.path()).map_err(|source| OpenError::Io { path: segment.path().into(), source })?;
            let since = segment.span(&*disk)?.map(|span| span.first.1.min(clock.steady()));
            Some(Active { segment, bytes: bytes.allocated, since })
        }
    };
    let dedup = rebuild(&log, dedup, &mut random, clock.steady())?;
    let room = Room::new(disk, dir).map_err(|source| OpenError::Io { path: dir.into(), source })?;
    let ids = Ids::after(last.max(floor).max(high_water), random);
    Ok(OpenedLog { log: Arc::new(log), config: config.clone(), clock, ids, dedup, room, active })
}

impl OpenedLog {
    /// The log, for who must read it before it is written to.
    pub fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    /// How many ids the dedup table knows.
    pub fn dedup_keys(&self) -> usize {
        self.dedup.len()
    }

    /// The writing side alone, without threads: segments are made when they are needed.
    pub fn into_group(self, settle: SettleHandle, shards: Shards, metrics: Arc<Metrics>) -> Group {
        let Self { log, config, clock, ids, dedup, room, active } = self;
        Group {
            log,
            config,
            clock,
            ids,
            dedup,
            room,
            active,
            spares: Spares::Inline,
            settle,
            shards,
            metrics,
            poison: Poison::default(),
            scratch: Scratch::default(),
            narrow: false,
        }
    }

    /// Starts the threads: commit, recall, and the one that makes segments ahead, seals and retires them.
    pub fn start(
        self,
        settle: SettleHandle,
        shards: Shards,
        metrics: Arc<Metrics>,
        memory: Arc<MemoryBudget>,
    ) -> Result<Running, OpenError> {
        let (clock, config, log) = (self.clock.clone(), self.config.clone(), self.log());
        let mut group = self.into_group(settle, shards.clone(), Arc::clone(&metrics));
        let poison = group.poison.clone();
        let (spare, ready) = bounded(1);
        let (bell, rung) = bounded(1);
        group.spares = Spares::Ahead { ready, bell };
        let needs = retain::NeedsCell::default();
        let retain = Retain {
            log: Arc::clone(&log),
            config,
            clock: clock.clone(),
            needs: Arc::clone(&needs),
            metrics: Arc::clone(&metrics),
            poison: poison.clone(),
        };
        let retain = retain.start(spare, rung).map_err(OpenError::Thread)?;
        let (recall, requests) = bounded(RECALL_QUEUE);
        let (quit, end) = bounded(0);
        let reader = Recall { log: Arc::clone(&log), shards, memory, clock, poison: poison.clone() };
        let thread = reader.start(requests, end, metrics).map_err(OpenError::Thread)?;
        let reader = Worker { quit, thread };
        let (to, queue) = bounded(COMMIT_QUEUE);
        let (quit, end) = bounded(0);
        // Before anybody can ask.
        group.metrics.writable.set(1);
        let thread = std::thread::Builder::new().name("commit".into());
        let thread = thread.spawn(move || group.run(&queue, &end)).map_err(OpenError::Thread)?;
        let handle = CommitHandle { to, poison: poison.clone() };
        Ok(Running { handle, recall, log, poison, commit: Some((quit, thread)), reader, retain, needs })
    }
}

impl Running {
    /// The way in.
    pub fn handle(&self) -> CommitHandle {
        self.handle.clone()
    }

    /// The way to the recall thread: `try_send` only.
    pub fn recall(&self) -> Sender<RecallRequest> {
        self.recall.clone()
    }

    /// The log, for readers.
    pub fn log(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    /// Whether the log is poisoned: for readiness, and to end the process when it changes.
    pub fn poison(&self) -> &Poison {
        &self.poison
    }

    /// Turns to the reason when the log is poisoned.
    pub fn poisoned(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.poison.watch()
    }

    /// Lets retention begin: from now on somebody can say which bodies are still needed.
    pub fn retain(&self, needs: Arc<dyn Needs>) {
        // Only the first counts; there is one settle in a process.
        let _ = self.needs.set(needs);
    }

    /// Ends submissions: what is queued is committed and answered, what comes later is refused. Reading goes on.
    pub fn drain(&mut self) {
        if let Some((quit, thread)) = self.commit.take() {
            drop(quit);
            // A panic in it has poisoned the log.
            let _ = thread.join();
        }
    }

    /// Ends all threads and closes every file, so that the next start has nothing to repair.
    pub fn stop(mut self) -> Result<(), redb::Error> {
        self.drain();
        self.reader.stop();
        self.retain.stop();
        self.log.close()
    }
}

/// The segments in a folder, after what the last run left was finished: files not yet in use are removed, and what was
/// being retired goes.
fn files(disk: &dyn Disk, dir: &Path) -> Result<Vec<Arc<Segment>>, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::Io { path, source }
    };
    disk.create_dir(dir).map_err(failed(dir))?;
    let mut segments = Vec::new();
    for path in disk.list(dir).map_err(failed(dir))? {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("new") => disk.remove(&path).map_err(failed(&path))?,
            Some("gone") => retain::remove_in_steps(disk, &path, &mut || {}).map_err(failed(&path))?,
            _ => {
                if let Some(segment) = Segment::at(path.clone()) {
                    segments.push(Arc::new(segment));
                } else {
                    tracing::warn!(target: "hooktide::commit", path = %path.display(), "not a file of the log");
                }
            }
        }
    }
    segments.sort_by_key(|segment| segment.first);
    disk.sync_dir(dir).map_err(failed(dir))?;
    Ok(segments)
}

/// Reads the heads backwards as far as the time to live and the number of keys go.
fn rebuild(log: &Log, config: &config::Dedup, random: &mut Random, now: Timestamp) -> Result<Dedup, OpenError> {
    let mut entries: Vec<Entry> = Vec::new();
    for segment in log.segments().iter().rev() {
        let done = log.read_segment(segment, |tables| {
            for entry in tables.heads.range::<u128>(..).map_err(redb::Error::from)?.rev() {
                let (key, block) = entry.map_err(redb::Error::from)?;
                let begin = entries.len();
                let mut over = true;
                for record in records(key.value(), block.value())? {
                    let (id, head) = record?;
                    let stamp = EventHead::stamp(head).map_err(|_| ReadError::Damaged(id))?;
                    let at = stamp.received_at.min(now);
                    let live = now.since(at) < config.ttl;
                    over &= !live;
                    // In the order in which they were remembered.
                    let keys = stamp.dedup.map(|(key, _)| (key, stamp.fingerprint)).into_iter();
                    for (key, fingerprint) in keys.chain(stamp.once.map(|key| (key, 0))).filter(|_| live) {
                        entries.push(Entry { key, id, fingerprint, at });
                    }
                }
                entries[begin..].reverse();
                if over || entries.len() >= config.max_keys {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if done != Some(false) {
            break;
        }
    }
    Ok(Dedup::rebuild(config, random, entries.into_iter()))
}
