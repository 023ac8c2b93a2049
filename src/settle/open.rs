//! Opening: what the store knows first, for the high waters that the log and the clock are built on; then recovery from the
//! checkpoint and the log; then the thread.

use std::fmt;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::delivery_records::{Depth, Records};
use super::driver::Driver;
use super::hourly_stats::Hours;
use super::ledger::{Counts, Ledger};
use super::outstanding::Outstanding;
use super::pending_batch::PendingBatch;
use super::state::SettleState;
use super::stats::Stats;
use super::step::Now;
use super::thread::Running;
use super::webhook_health::Watches;
use super::{Bounds, Callbacks, Options};
use crate::handoff::{SettleHandle, Shards, ToSettle};
use crate::model::{EventHead, EventId, Timestamp};
use crate::runtime::{Clock, Metrics};
use crate::storage::delivery::{
    Checkpoint, DeliveryStore, Flush, FlushError, Job, JobKind, Loaded, LookupError, OpenError as StoreError,
    TableCounts, What,
};
use crate::storage::{ReadError, ReadLog};

/// What the store knows, loaded; nothing is recovered yet.
#[derive(Debug)]
pub struct Opened {
    store: Box<dyn DeliveryStore>,
    loaded: Loaded,
    options: Options,
    bounds: Bounds,
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
    pub hooks: Callbacks,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

/// Why settle could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store could not be loaded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store could not be read.
    #[error("state.redb or the history cannot be opened: {0}")]
    Lookup(#[from] LookupError),
    /// What recovery found could not be written.
    #[error("state.redb or the history cannot be opened: {0}")]
    Flush(#[from] FlushError),
    /// The log.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The thread could not be made.
    #[error("the settle thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Heads of the log that recovery looks at in one step.
const HEADS_PER_STEP: usize = 4_096;
/// Rows that it writes in one, but for those of the last event.
const ROWS_PER_STEP: usize = 65_536;

/// Loads what the store knows.
pub fn open(store: Box<dyn DeliveryStore>, options: Options) -> Result<Opened, OpenError> {
    open_with(store, options, Bounds::default())
}

pub(super) fn open_with(store: Box<dyn DeliveryStore>, options: Options, bounds: Bounds) -> Result<Opened, OpenError> {
    let loaded = store.load()?;
    Ok(Opened { store, loaded, options, bounds })
}

impl Opened {
    /// The last event that settle knows of: the log gives no id that is not later.
    pub fn last_event(&self) -> EventId {
        self.loaded.checkpoint.head
    }

    /// The scheduling clock at the last flush: the new one goes on from there.
    pub fn steady(&self) -> Timestamp {
        self.loaded.marks.steady
    }

    /// How many rows each table has.
    pub fn counts(&self) -> Result<TableCounts, LookupError> {
        self.store.reader().counts()
    }

    /// Makes a row of every delivery that the checkpoint's list or the log after its head names.
    pub fn recover(&mut self, log: &dyn ReadLog) -> Result<(), OpenError> {
        loop {
            let heads = log.heads_after(self.loaded.checkpoint.head, HEADS_PER_STEP)?;
            if heads.is_empty() && self.loaded.checkpoint.list.is_empty() && !self.loaded.marks.clean {
                return Ok(());
            }
            let mut flush = Flush::default();
            for (event, webhooks) in self.loaded.checkpoint.list.drain(..) {
                webhooks.into_iter().for_each(|webhook| flush.change(webhook, event, What::Ready));
            }
            for (event, bytes) in heads {
                if flush.changes.len() >= ROWS_PER_STEP {
                    break;
                }
                self.recover_event(event, &bytes, &mut flush)?;
                self.loaded.checkpoint.head = event;
            }
            flush.now = self.loaded.marks.steady;
            flush.next_job = self.loaded.marks.next_job;
            flush.outbox_first = self.loaded.outbox.next;
            Checkpoint::begin(self.loaded.checkpoint.head, &mut flush.checkpoint);
            self.store.flush(&mut flush)?;
            self.loaded.marks.clean = false;
        }
    }

    /// Rows for an event of the log; a job that writes them if they are very many.
    fn recover_event(&mut self, event: EventId, bytes: &[u8], flush: &mut Flush) -> Result<(), ReadError> {
        let head = EventHead::parse(bytes).map_err(|_| ReadError::Damaged(event))?;
        let webhooks = head.webhooks();
        if webhooks.len() > self.bounds.wide_event_webhooks {
            let (no, total) = (self.loaded.marks.next_job.max(1), Some(webhooks.len() as u64));
            let job = Job::new(no, JobKind::Wide { event }, total, event, head.event.received_at);
            self.loaded.marks.next_job = no + 1;
            flush.jobs.push(job.clone());
            flush.wide.push((no, webhooks));
            self.loaded.jobs.push(job);
        } else {
            webhooks.into_iter().for_each(|webhook| flush.change(webhook, event, What::Ready));
        }
        Ok(())
    }

    /// Starts the thread, which first tells the shards what waits.
    pub fn start(self, start: Start) -> Result<Running, OpenError> {
        let Start { handle, messages, bell, shards, clock, log, metrics, hooks } = start;
        let (driver, records) = self.driver(Surroundings { shards, clock, log, metrics, hooks }, handle.clone())?;
        Ok(Running::begin(driver, handle, records, messages, bell)?)
    }

    /// Everything but the thread, with the reading side.
    pub(super) fn driver(self, around: Surroundings, handle: SettleHandle) -> Result<(Driver, Records), LookupError> {
        let Surroundings { shards, clock, log, metrics, hooks } = around;
        let Loaded { marks, checkpoint, jobs, stats, figures_number, standings, outbox } = self.loaded;
        let reader = self.store.reader();
        let counts = Counts { stats: Stats::new(stats), hours: Hours::after(figures_number) };
        let (ledger, depth) = (Arc::new(Ledger::new(counts)), Arc::<Depth>::default());
        let records = Records::new(Arc::clone(&reader), Arc::clone(&ledger), Arc::clone(&depth), handle);
        let mut keeper = SettleState {
            now: Now { steady: clock.steady(), wall: clock.now() },
            outstanding: Outstanding::new(checkpoint.head),
            gathered: PendingBatch::default(),
            in_flush: None,
            next_job: marks.next_job.max(1),
            jobs: jobs.into_iter().map(|job| (job.no, job)).collect(),
            turn: 0,
            expiring: <_>::default(),
            oldest_dead: None,
            is_retiring: false,
            ledger,
            watches: Watches::new(standings),
            outbox,
            depth,
            waiting: <_>::default(),
            kept: <_>::default(),
            disable: Vec::new(),
            options: self.options,
            bounds: self.bounds,
            shards: shards.clone(),
            log,
            reader,
            metrics,
            hooks: hooks.clone(),
            stopping: false,
        };
        keeper.begin()?;
        let driver = Driver { keeper, store: self.store, shards, clock, hooks, under_way: None };
        Ok((driver, records))
    }
}

impl SettleState {
    /// Takes in what waits on the disk: the shards are to be told of it, or it is to be abandoned.
    fn begin(&mut self) -> Result<(), LookupError> {
        let backlog = self.reader.backlog()?;
        self.depth.set(backlog.rows, 0, None);
        for waiting in backlog.waiting {
            match (self.hooks.abandons)(waiting.webhook) {
                None => self.nudge(waiting),
                Some(reason) => _ = self.add_job(JobKind::Abandon { webhook: waiting.webhook, reason }, None),
            }
        }
        // The first flush makes the start durable and learns what the tables hold.
        self.gathered.items += 1;
        Ok(())
    }
}

/// The other threads' ends.
pub(super) struct Surroundings {
    pub(super) shards: Shards,
    pub(super) clock: Clock,
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) hooks: Callbacks,
}
