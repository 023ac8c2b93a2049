//! Opens the log, rebuilds the dedup table, and starts the threads.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};
use tokio::sync::watch;

use super::body_reader::{BodyReader, StoppableThread};
use super::committer::{CommitIo, Committer};
use super::dedup::{DedupEntry, DedupTable};
use super::group::GroupCommit;
use super::ids::IdGenerator;
use super::notifier::Notifier;
use super::retention::{self, RetentionThread};
use crate::config;
use crate::handoff::{BodyRequest, CommitHandle, RetentionRefs, SettleHandle, Shards};
use crate::limits::{BODY_READ_QUEUE, COMMIT_QUEUE, RETENTION_INTERVAL};
use crate::model::{DedupKind, EventHead, EventId, Timestamp};
use crate::runtime::{Clock, MemoryBudget, Metrics, Random};
use crate::storage::{Disk, DiskSpace, EventLog, FileError, OpenLogError, Poison, ReadError, RedbLog};

/// What is needed to open the log.
#[derive(Debug)]
pub struct OpenLog<'a> {
    /// The disk of the log.
    pub disk: Arc<dyn Disk>,
    /// The data folder. The log is in its folders `log/` and `carry/`.
    pub dir: &'a Path,
    /// The `[log]` section of the configuration.
    pub config: &'a config::Log,
    /// The `[dedup]` section of the configuration.
    pub dedup: &'a config::Dedup,
    /// Both clocks.
    pub clock: Clock,
    /// Random numbers for ids and for the dedup table's hash seeds.
    pub random: Random,
    /// New ids are greater than this id and than every id in the log. It is settle's newest event: the log may no
    /// longer have it.
    pub high_water: EventId,
}

/// Why the log or its threads cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenCommitError {
    /// The files of the log cannot be opened.
    #[error(transparent)]
    Log(#[from] OpenLogError),
    /// The data folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The path of the folder.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The operating system cannot start a thread.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
}

/// A log that is readable and ready for writes.
#[derive(Debug)]
pub struct OpenedLog {
    log: Arc<RedbLog>,
    config: config::Log,
    clock: Clock,
    ids: IdGenerator,
    dedup: DedupTable,
    disk_space: DiskSpace,
}

/// The running threads of the log.
pub struct CommitThreads {
    handle: CommitHandle,
    body_requests: Sender<BodyRequest>,
    log: Arc<RedbLog>,
    poison: Poison,
    commit: Option<(Sender<()>, JoinHandle<()>)>,
    reader: StoppableThread,
    retain: StoppableThread,
    refs: retention::RetentionRefsCell,
}

/// Opens the log of a data folder and rebuilds the dedup table from it.
///
/// # Errors
/// If the files of the log or the data folder cannot be read.
pub fn open(with: OpenLog<'_>) -> Result<OpenedLog, OpenCommitError> {
    let OpenLog { disk, dir, config, dedup, clock, mut random, high_water } = with;
    let log = RedbLog::open(Arc::clone(&disk), dir, config, clock.steady())?;
    let dedup = rebuild_dedup_window(&log, dedup, &mut random, clock.steady()).map_err(OpenLogError::from)?;
    let disk_space = DiskSpace::new(disk, dir).map_err(|source| OpenCommitError::Io { path: dir.into(), source })?;
    let ids = IdGenerator::after(log.high_water().event().max(high_water), random);
    Ok(OpenedLog { log: Arc::new(log), config: config.clone(), clock, ids, dedup, disk_space })
}

impl OpenedLog {
    /// The log, for reads before the first write.
    pub fn log(&self) -> Arc<RedbLog> {
        Arc::clone(&self.log)
    }

    /// The number of keys in the dedup table.
    pub fn dedup_keys(&self) -> usize {
        self.dedup.len()
    }

    /// The writing side alone, without threads. Segments are created when they are needed.
    pub fn into_committer(self, settle: SettleHandle, shards: Shards, metrics: Arc<Metrics>) -> Committer {
        let Self { log, config, clock, ids, dedup, disk_space } = self;
        let group = GroupCommit::new(ids, dedup, log.durable(), shards.count());
        let (retention, poison) = (config.retention, Poison::default());
        let notifier = Notifier::new(settle, shards, Arc::clone(&metrics));
        let io = CommitIo { log, retention, clock, disk_space, wakeup: None, notifier, metrics, poison };
        Committer { group, io, is_window_short: false }
    }

    /// Starts the threads `commit`, `body_requests` and `retain`.
    pub fn start(
        self,
        settle: SettleHandle,
        shards: Shards,
        metrics: Arc<Metrics>,
        memory: Arc<MemoryBudget>,
    ) -> Result<CommitThreads, OpenCommitError> {
        let (clock, config, log) = (self.clock.clone(), self.config.clone(), self.log());
        let mut committer = self.into_committer(settle, shards.clone(), Arc::clone(&metrics));
        let (poison, handover) = (committer.io.poison.clone(), committer.io.notifier.state());
        let (wakeup, wakeups) = bounded(1);
        log.enable_background_prepare();
        committer.io.wakeup = Some(wakeup);
        let refs = retention::RetentionRefsCell::default();
        let retain = RetentionThread {
            log: Arc::<RedbLog>::clone(&log),
            config,
            clock: clock.clone(),
            refs: Arc::clone(&refs),
            metrics: Arc::clone(&metrics),
            poison: poison.clone(),
            interval: RETENTION_INTERVAL,
        };
        let retain = retain.start(wakeups).map_err(OpenCommitError::Thread)?;
        let (body_requests, requests) = bounded(BODY_READ_QUEUE);
        let (quit, end) = bounded(0);
        let reader = BodyReader { log: Arc::<RedbLog>::clone(&log), shards, memory, clock, poison: poison.clone() };
        // Set before the first request can arrive.
        metrics.writable.set(1);
        let thread = reader.start(requests, end, metrics).map_err(OpenCommitError::Thread)?;
        let reader = StoppableThread { quit, thread };
        let (to, queue) = bounded(COMMIT_QUEUE);
        let (pings, pinged) = bounded(1);
        let (quit, end) = bounded(0);
        let thread = std::thread::Builder::new().name("commit".into());
        let thread = thread.spawn(move || committer.run(&queue, pinged, &end)).map_err(OpenCommitError::Thread)?;
        let handle = CommitHandle { to, pings, poison: poison.clone(), handover };
        Ok(CommitThreads { handle, body_requests, log, poison, commit: Some((quit, thread)), reader, retain, refs })
    }
}

impl CommitThreads {
    /// Submits events to the commit thread.
    pub fn handle(&self) -> CommitHandle {
        self.handle.clone()
    }

    /// Sends requests to the body reader. Use `try_send` only.
    pub fn body_requests(&self) -> Sender<BodyRequest> {
        self.body_requests.clone()
    }

    /// The log, for reads.
    pub fn log(&self) -> Arc<RedbLog> {
        Arc::clone(&self.log)
    }

    /// Whether the log is poisoned, for readiness.
    pub fn poison(&self) -> &Poison {
        &self.poison
    }

    /// Changes to the reason when the log is poisoned. The process must end then.
    pub fn poisoned(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.poison.watch()
    }

    /// Starts the retention of the log. `refs` says which bodies are still needed.
    pub fn start_retention(&self, refs: Arc<dyn RetentionRefs>) {
        // Only the first call has an effect: a process has one settle.
        let _ = self.refs.set(refs);
    }

    /// Ends submissions. Queued events are committed and answered, later ones are refused. The log stays readable.
    pub fn drain(&mut self) {
        if let Some((quit, thread)) = self.commit.take() {
            drop(quit);
            // A panic in the thread has already poisoned the log.
            let _ = thread.join();
        }
    }

    /// Ends all threads and closes every file. The next start then has nothing to repair.
    pub fn stop(mut self) -> Result<(), FileError> {
        self.drain();
        self.reader.stop();
        self.retain.stop();
        self.log.close()
    }
}

/// Builds the dedup table from the event heads, read backwards until the time to live or the number of keys is reached.
fn rebuild_dedup_window(
    log: &dyn EventLog,
    config: &config::Dedup,
    random: &mut Random,
    now: Timestamp,
) -> Result<DedupTable, ReadError> {
    let mut entries: Vec<DedupEntry> = Vec::new();
    let mut batch_key = None;
    log.walk_back(&mut |run| {
        let mut is_over = true;
        for (at, head) in run.iter().rev() {
            let id = at.event();
            let fields = EventHead::dedup_fields(head).map_err(|_| ReadError::Damaged(id))?;
            let at = fields.received_at.min(now);
            let is_live = now.since(at) < config.ttl;
            is_over &= !is_live;
            // Entries are read from the newest on: the reverse of the order in which they are inserted.
            let is_batch = matches!(fields.dedup, Some((_, DedupKind::IdempotencyKey)));
            let nonce = fields.nonce.map(|key| (key, if is_batch { fields.fingerprint } else { 0 }));
            // All events of a batch have the same key of the batch.
            let nonce = nonce.filter(|(key, _)| !is_batch || batch_key.replace(*key) != Some(*key));
            for (key, fingerprint) in nonce.into_iter().chain(fields.dedup.map(|(key, _)| (key, fields.fingerprint))) {
                if is_live {
                    entries.push(DedupEntry { key, id, fingerprint, at });
                }
            }
        }
        let is_enough = is_over || entries.len() >= config.max_keys;
        Ok(if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(DedupTable::rebuild(config, random, entries.into_iter()))
}
