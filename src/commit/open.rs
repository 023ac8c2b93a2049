//! The start: opens the log, rebuilds the dedup table, starts the threads.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use tokio::sync::watch;

use super::body_reader::{Recall, Worker};
use super::committer::{Committer, Hands};
use super::dedup::{Dedup, Entry};
use super::group::Group;
use super::ids::Ids;
use super::retention::{self, Retain};
use crate::config;
use crate::handoff::{CommitHandle, Needs, RecallRequest, SettleHandle, Shards};
use crate::limits::{COMMIT_QUEUE, RECALL_QUEUE};
use crate::model::{EventHead, EventId, Timestamp};
use crate::runtime::{Clock, MemoryBudget, Metrics, Random};
use crate::storage::{Disk, EventLog, FileError, OpenLogError, Poison, ReadError, RedbLog, Room};

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
    /// Its files.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The data folder.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thread.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
}

/// A log that can be read and is ready to be written.
#[derive(Debug)]
pub struct OpenedLog {
    log: Arc<RedbLog>,
    config: config::Log,
    clock: Clock,
    ids: Ids,
    dedup: Dedup,
    room: Room,
}

/// The threads of the log.
pub struct Running {
    handle: CommitHandle,
    recall: Sender<RecallRequest>,
    log: Arc<RedbLog>,
    poison: Poison,
    commit: Option<(Sender<()>, JoinHandle<()>)>,
    reader: Worker,
    retain: Worker,
    needs: retention::NeedsCell,
}

/// Opens the log of a data folder.
pub fn open(with: OpenLog<'_>) -> Result<OpenedLog, OpenError> {
    let OpenLog { disk, dir, config, dedup, clock, mut random, high_water } = with;
    let log = RedbLog::open(Arc::clone(&disk), dir, config, clock.steady())?;
    let dedup = rebuild(&log, dedup, &mut random, clock.steady()).map_err(OpenLogError::from)?;
    let room = Room::new(disk, dir).map_err(|source| OpenError::Io { path: dir.into(), source })?;
    let ids = Ids::after(log.high_water().event().max(high_water), random);
    Ok(OpenedLog { log: Arc::new(log), config: config.clone(), clock, ids, dedup, room })
}

impl OpenedLog {
    /// The log, for who must read it before it is written to.
    pub fn log(&self) -> Arc<RedbLog> {
        Arc::clone(&self.log)
    }

    /// How many ids the dedup table knows.
    pub fn dedup_keys(&self) -> usize {
        self.dedup.len()
    }

    /// The writing side alone, without threads: segments are made when they are needed.
    pub fn into_committer(self, settle: SettleHandle, shards: Shards, metrics: Arc<Metrics>) -> Committer {
        let Self { log, config, clock, ids, dedup, room } = self;
        let group = Group::new(ids, dedup, log.durable(), shards.count());
        let (retention, poison) = (config.retention, Poison::default());
        let hands = Hands { log, retention, clock, room, bell: None, settle, shards, metrics, poison };
        Committer { group, hands, is_narrow: false }
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
        let mut committer = self.into_committer(settle, shards.clone(), Arc::clone(&metrics));
        let poison = committer.hands.poison.clone();
        let (bell, rung) = bounded(1);
        log.prepare_from_now_on();
        committer.hands.bell = Some(bell);
        let needs = retention::NeedsCell::default();
        let retain = Retain {
            log: Arc::<RedbLog>::clone(&log),
            config,
            clock: clock.clone(),
            needs: Arc::clone(&needs),
            metrics: Arc::clone(&metrics),
            poison: poison.clone(),
        };
        let retain = retain.start(rung).map_err(OpenError::Thread)?;
        let (recall, requests) = bounded(RECALL_QUEUE);
        let (quit, end) = bounded(0);
        let reader = Recall { log: Arc::<RedbLog>::clone(&log), shards, memory, clock, poison: poison.clone() };
        // Before anybody can ask.
        metrics.writable.set(1);
        let thread = reader.start(requests, end, metrics).map_err(OpenError::Thread)?;
        let reader = Worker { quit, thread };
        let (to, queue) = bounded(COMMIT_QUEUE);
        let (quit, end) = bounded(0);
        let thread = std::thread::Builder::new().name("commit".into());
        let thread = thread.spawn(move || committer.run(&queue, &end)).map_err(OpenError::Thread)?;
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
    pub fn log(&self) -> Arc<RedbLog> {
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
    pub fn stop(mut self) -> Result<(), FileError> {
        self.drain();
        self.reader.stop();
        self.retain.stop();
        self.log.close()
    }
}

/// Reads the heads backwards as far as the time to live and the number of keys go.
fn rebuild(
    log: &dyn EventLog,
    config: &config::Dedup,
    random: &mut Random,
    now: Timestamp,
) -> Result<Dedup, ReadError> {
    let mut entries: Vec<Entry> = Vec::new();
    log.walk_back(&mut |run| {
        let mut is_over = true;
        for (at, head) in run.iter().rev() {
            let id = at.event();
            let stamp = EventHead::stamp(head).map_err(|_| ReadError::Damaged(id))?;
            let at = stamp.received_at.min(now);
            let is_live = now.since(at) < config.ttl;
            is_over &= !is_live;
            // From the youngest on: the opposite of the order in which they were remembered.
            let nonce = stamp.nonce.map(|key| (key, 0)).into_iter();
            for (key, fingerprint) in nonce.chain(stamp.dedup.map(|(key, _)| (key, stamp.fingerprint))) {
                if is_live {
                    entries.push(Entry { key, id, fingerprint, at });
                }
            }
        }
        let is_enough = is_over || entries.len() >= config.max_keys;
        Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(Dedup::rebuild(config, random, entries.into_iter()))
}
