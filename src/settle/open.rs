//! Opening: state.redb first, for the high waters that the log and the clock are built on; then recovery from the
//! checkpoint and the log; then the thread.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use redb::{Error, ReadableTableMetadata, TableError};

use super::checkpoint::{CHECKPOINT, Checkpoint, MARKS, Marks, Outstanding, encode_webhooks};
use super::dead::DeadLetters;
use super::gather::Gathered;
use super::history::History;
use super::hours::Hours;
use super::job::{Job, JobKind};
use super::keeper::Keeper;
use super::outbox::Outbox;
use super::pending::{self, PendingRow, Rows};
use super::records::{Depth, Records};
use super::stats::Stats;
use super::table::{DEAD, DUE, HISTORY, HOURS, JOBS, META, OUTBOX, PENDING, STATS, WATCH, WIDE};
use super::thread::Running;
use super::watch::Watches;
use super::{Bounds, Hooks, Options};
use crate::handoff::{SettleHandle, Shards, ToSettle};
use crate::limits::STATE_CACHE_BYTES;
use crate::model::{EventHead, EventId, Timestamp};
use crate::runtime::{Clock, Metrics};
use crate::storage::file::Store;
use crate::storage::format::STATE_FILE;
use crate::storage::{Disk, ReadError, ReadLog};

/// Where settle's files are, and how they are kept.
#[derive(Debug, Clone)]
pub struct OpenState {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The data folder; it must be there.
    pub dir: PathBuf,
    /// From the configuration.
    pub options: Options,
}

/// state.redb, open; nothing is recovered yet.
#[derive(Debug)]
pub struct Opened {
    state: Arc<Store>,
    history: History,
    stats: Arc<Stats>,
    hours: Arc<Hours>,
    watches: Watches,
    outbox: Outbox,
    marks: Marks,
    checkpoint: Checkpoint,
    jobs: Vec<Job>,
    options: Options,
    pub(super) bounds: Bounds,
}

/// What the thread needs beside its files.
pub struct Start {
    /// The way in, as [`SettleHandle::channel`] made it.
    pub handle: SettleHandle,
    /// Its messages.
    pub messages: Receiver<ToSettle>,
    /// Its bell.
    pub bell: Receiver<()>,
    /// The way to the shards.
    pub shards: Shards,
    /// Built on [`Opened::steady`].
    pub clock: Clock,
    /// The log, for replays.
    pub log: Arc<dyn ReadLog>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// What settle calls.
    pub hooks: Hooks,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

/// Why settle could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// redb or the disk.
    #[error("state.redb or the history cannot be opened: {0}")]
    Storage(#[from] Error),
    /// The log.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The checkpoint is not one.
    #[error("the checkpoint in state.redb cannot be read")]
    Checkpoint,
    /// The thread could not be made.
    #[error("the settle thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Heads of the log that recovery takes in one transaction.
const HEADS_PER_STEP: usize = 4_096;

/// Opens `state.redb` and looks at the history files.
pub fn open(place: OpenState) -> Result<Opened, OpenError> {
    open_with(place, Bounds::default())
}

pub(super) fn open_with(place: OpenState, bounds: Bounds) -> Result<Opened, OpenError> {
    let OpenState { disk, dir, options } = place;
    let path = dir.join("state.redb");
    Store::make(&disk, &path, STATE_FILE)?;
    let state = Arc::new(Store::open(Arc::clone(&disk), &path, STATE_CACHE_BYTES, STATE_FILE)?);
    make_tables(&state, options.two_phase_commit)?;
    let (marks, checkpoint, jobs, (figures, hours, watches, outbox)) = state.read(|txn| {
        let meta = txn.open_table(META)?;
        let marks = meta.get(MARKS)?.map_or_else(Marks::default, |marks| Marks::decode(marks.value()));
        let checkpoint = match meta.get(CHECKPOINT)? {
            Some(bytes) => Checkpoint::decode(bytes.value()),
            None => Some(Checkpoint::default()),
        };
        let figures = (Stats::load(txn)?, Hours::load(txn)?, Watches::load(txn)?, Outbox::load(txn)?);
        Ok((marks, checkpoint, Job::load(&txn.open_table(JOBS)?)?, figures))
    })?;
    let checkpoint = checkpoint.ok_or(OpenError::Checkpoint)?;
    let (history_dir, file_bytes) = (dir.join("history"), bounds.history_file_bytes);
    let history = state.read(|txn| {
        let disk = Arc::clone(&disk);
        History::open(disk, &history_dir, file_bytes, options.two_phase_commit, txn, marks.clean, marks.steady)
    })?;
    let (figures, hours) = (Arc::new(figures), Arc::new(hours));
    Ok(Opened { state, history, stats: figures, hours, watches, outbox, marks, checkpoint, jobs, options, bounds })
}

impl Opened {
    /// The last event that settle knows of: the log gives no id that is not later.
    pub fn last_event(&self) -> EventId {
        self.checkpoint.head
    }

    /// The scheduling clock at the last flush: the new one goes on from there.
    pub fn steady(&self) -> Timestamp {
        self.marks.steady
    }

    /// Makes a row of every delivery that the checkpoint's list or the log after its head names.
    pub fn recover(&mut self, log: &dyn ReadLog) -> Result<(), OpenError> {
        loop {
            let heads = log.heads_after(self.checkpoint.head, HEADS_PER_STEP)?;
            if heads.is_empty() && self.checkpoint.list.is_empty() && !self.marks.clean {
                return Ok(());
            }
            let txn = self.state.write(self.options.two_phase_commit)?;
            {
                let mut rows = Rows::open(&txn).map_err(OpenError::Storage)?;
                for (event, webhooks) in &self.checkpoint.list {
                    for webhook in webhooks {
                        rows.put_new(*webhook, *event, PendingRow::READY)?;
                    }
                }
                for (event, bytes) in &heads {
                    let head = EventHead::parse(bytes).map_err(|_| ReadError::Damaged(*event))?;
                    let webhooks = head.webhooks();
                    if webhooks.len() > self.bounds.wide_event_webhooks {
                        let total = Some(webhooks.len() as u64);
                        let (no, kind) = (self.marks.next_job.max(1), JobKind::Wide { event: *event });
                        let job = Job::new(no, kind, total, *event, head.event.received_at);
                        self.marks.next_job = job.no + 1;
                        job.store(&txn)?;
                        let mut encoded = Vec::new();
                        encode_webhooks(&webhooks, &mut encoded);
                        txn.open_table(WIDE)
                            .map_err(Error::from)?
                            .insert(job.no, encoded.as_slice())
                            .map_err(Error::from)?;
                        self.jobs.push(job);
                    } else {
                        for webhook in webhooks {
                            rows.put_new(webhook, *event, PendingRow::READY)?;
                        }
                    }
                }
            }
            self.checkpoint.head = heads.last().map_or(self.checkpoint.head, |(event, _)| *event);
            self.checkpoint.list.clear();
            self.marks.clean = false;
            self.write_marks(&txn)?;
            txn.commit().map_err(Error::from)?;
        }
    }

    /// Starts the thread, which first tells the shards what waits.
    pub fn start(self, start: Start) -> Result<Running, OpenError> {
        let Start { handle, messages, bell, shards, clock, log, metrics, hooks } = start;
        let depth = Arc::new(Depth::default());
        let records = Records::new(
            Arc::clone(&self.state),
            self.history.files(),
            Arc::clone(&self.stats),
            Arc::clone(&self.hours),
            Arc::clone(&depth),
            handle.clone(),
        );
        let keeper = self.keeper(Surroundings { shards, clock, log, metrics, hooks, depth })?;
        Ok(Running::begin(keeper, handle, records, messages, bell)?)
    }

    pub(super) fn keeper(self, around: Surroundings) -> Result<Keeper, Error> {
        let mut keeper = Keeper {
            outstanding: Outstanding::new(self.checkpoint.head),
            state: self.state,
            history: self.history,
            gathered: Gathered::default(),
            next_job: self.marks.next_job.max(1),
            jobs: self.jobs.into_iter().map(|job| (job.no, job)).collect(),
            turn: 0,
            expiring: VecDeque::default(),
            oldest_dead: None,
            stats: self.stats,
            hours: self.hours,
            watches: self.watches,
            outbox: self.outbox,
            depth: around.depth,
            waiting: BTreeMap::default(),
            kept: VecDeque::default(),
            disable: Vec::new(),
            history_written: false,
            scratch: Vec::new(),
            options: self.options,
            bounds: self.bounds,
            shards: around.shards,
            clock: around.clock,
            log: around.log,
            metrics: around.metrics,
            hooks: around.hooks,
            stopping: false,
        };
        let (waiting, rows) = keeper.state.read(|txn| Ok((pending::waiting(txn)?, txn.open_table(PENDING)?.len()?)))?;
        keeper.depth.set(rows, 0, None);
        for waiting in waiting {
            match (keeper.hooks.abandons)(waiting.webhook) {
                None => keeper.nudge(waiting),
                Some(reason) => _ = keeper.add_job(JobKind::Abandon { webhook: waiting.webhook, reason }, None),
            }
        }
        // The first flush makes the start durable and learns what the tables hold.
        keeper.gathered.items += 1;
        Ok(keeper)
    }

    fn write_marks(&self, txn: &redb::WriteTransaction) -> Result<(), Error> {
        let mut meta = txn.open_table(META)?;
        meta.insert(MARKS, self.marks.encode().as_slice())?;
        meta.insert(CHECKPOINT, self.checkpoint.head.as_u128().to_le_bytes().as_slice())?;
        Ok(())
    }

    /// How many rows each table has, for `hooktide log stat`.
    pub fn counts(&self) -> Result<TableCounts, Error> {
        self.state.read(|txn| {
            Ok(TableCounts {
                pending: txn.open_table(PENDING)?.len()?,
                due: txn.open_table(DUE)?.len()?,
                dead: txn.open_table(DEAD)?.len()?,
                jobs: txn.open_table(JOBS)?.len()?,
                webhooks: txn.open_table(STATS)?.len()?,
                history_files: txn.open_table(HISTORY)?.len()?,
            })
        })
    }
}

/// Rows of state.redb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableCounts {
    /// Deliveries that wait.
    pub pending: u64,
    /// Those of them that wait for a time.
    pub due: u64,
    /// Dead letters.
    pub dead: u64,
    /// Jobs, finished replays included.
    pub jobs: u64,
    /// Webhooks with statistics.
    pub webhooks: u64,
    /// History files.
    pub history_files: u64,
}

/// The other threads' ends.
pub(super) struct Surroundings {
    pub(super) shards: Shards,
    pub(super) clock: Clock,
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) hooks: Hooks,
    pub(super) depth: Arc<Depth>,
}

fn make_tables(state: &Store, two_phase: bool) -> Result<(), Error> {
    // The last table that was added says whether all are there: a state of an earlier program has not all.
    let made = state.read(|txn| match txn.open_table(OUTBOX) {
        Ok(_) => Ok(true),
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    })?;
    if made {
        return Ok(());
    }
    let txn = state.write(two_phase)?;
    drop((Rows::open(&txn)?, DeadLetters::open(&txn)?));
    drop((txn.open_table(JOBS)?, txn.open_table(WIDE)?, txn.open_table(STATS)?));
    drop((txn.open_table(HISTORY)?, txn.open_table(META)?));
    drop((txn.open_table(HOURS)?, txn.open_table(WATCH)?, txn.open_table(OUTBOX)?));
    txn.commit()?;
    Ok(())
}
