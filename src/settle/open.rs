//! Starts settle in three steps: load the store, recover from the checkpoint and the log, start the thread.
//!
//! The store is loaded first because the log and the clock are built on its high-water marks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::delivery_records::{BacklogDepth, DeliveryRecords};
use super::driver::Driver;
use super::endpoint_states::EndpointStates;
use super::hourly_stats::HourlyStatsBuffer;
use super::outstanding::Outstanding;
use super::pending_batch::PendingBatch;
use super::replay::{ReplayEvaluator, ReplayStepRequest, ReplayTurns};
use super::shared_stats::{LiveStats, SharedStats};
use super::state::SettleState;
use super::step::SettleTime;
use super::thread::SettleThread;
use super::webhook_health::HealthTable;
use super::webhook_stats::StatsTable;
use super::{Callbacks, Options, SettleLimits};
use crate::handoff::{SettleHandle, SettledDelivery, Shards, ToSettle, WebhookBacklog};
use crate::model::{DeadReason, Decision, EndpointState, EventHead, EventId, MatchedWebhooks, Timestamp, WebhookNo};
use crate::runtime::{Clock, Metrics};
use crate::storage::delivery::{
    ChangeKind, Checkpoint, DeliveryStore, Flush, FlushError, HighWaterMarks, Job, JobKind, LoadedState, LookupError,
    NewDeadLetter, OpenStoreError as StoreError, TableCounts,
};
use crate::storage::{ReadError, ReadLog};

/// The loaded store, before recovery.
#[derive(Debug)]
pub struct OpenedStore {
    store: Box<dyn DeliveryStore>,
    loaded: LoadedState,
    options: Options,
    bounds: SettleLimits,
    /// Dead letters that recovery wrote and that are not counted yet.
    recovered: Vec<SettledDelivery>,
}

/// What the settle thread needs besides its store.
pub struct SettleDeps {
    /// The sending side of [`SettleHandle::channel`].
    pub handle: SettleHandle,
    /// The messages of that channel.
    pub messages: Receiver<ToSettle>,
    /// The wakeups of that channel. A wakeup ends the gathering of a batch early.
    pub wakeup: Receiver<()>,
    /// Senders to the shards.
    pub shards: Shards,
    /// Both clocks. The scheduling clock starts at [`OpenedStore::steady`].
    pub clock: Clock,
    /// The log, read by replays.
    pub log: Arc<dyn ReadLog>,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// Functions of the process that settle calls.
    pub callbacks: Callbacks,
}

impl fmt::Debug for SettleDeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start")
    }
}

/// Why settle cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenSettleError {
    /// The store cannot be loaded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store cannot be read.
    #[error("state.redb or the history cannot be opened: {0}")]
    Lookup(#[from] LookupError),
    /// The result of recovery cannot be written.
    #[error("state.redb or the history cannot be opened: {0}")]
    Flush(#[from] FlushError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The operating system cannot start the thread.
    #[error("the settle thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Event heads that recovery reads from the log in one step.
const HEADS_PER_STEP: usize = 4_096;
/// Rows that recovery writes in one step. The rows of the last event may exceed this.
const ROWS_PER_STEP: usize = 65_536;

/// Loads the store.
///
/// # Errors
/// [`OpenSettleError::Store`] if the store cannot be loaded.
pub fn open(store: Box<dyn DeliveryStore>, options: Options) -> Result<OpenedStore, OpenSettleError> {
    open_with(store, options, SettleLimits::default())
}

pub(super) fn open_with(
    store: Box<dyn DeliveryStore>,
    options: Options,
    bounds: SettleLimits,
) -> Result<OpenedStore, OpenSettleError> {
    let loaded = store.load()?;
    Ok(OpenedStore { store, loaded, options, bounds, recovered: Vec::new() })
}

impl OpenedStore {
    /// The newest event in the checkpoint. Every id that the log assigns from now on must be greater.
    pub fn last_event(&self) -> EventId {
        self.loaded.checkpoint.head
    }

    /// The scheduling clock at the last flush. The new scheduling clock starts there.
    pub fn steady(&self) -> Timestamp {
        self.loaded.marks.steady
    }

    /// The states of the endpoints that were paused or failing, for the shards.
    pub fn endpoint_states(&self) -> HashMap<WebhookNo, EndpointState> {
        self.loaded.endpoint_states.iter().copied().collect()
    }

    /// The number of rows in each table.
    pub fn counts(&self) -> Result<TableCounts, LookupError> {
        self.store.reader().counts()
    }

    /// Writes a row for every delivery in the checkpoint's list, and for every delivery in the log after the
    /// checkpoint's head.
    pub fn recover(&mut self, log: &dyn ReadLog) -> Result<(), OpenSettleError> {
        loop {
            let heads = log.heads_after(self.loaded.checkpoint.head, HEADS_PER_STEP)?;
            if heads.is_empty() && self.loaded.checkpoint.list.is_empty() && !self.loaded.marks.clean {
                return Ok(());
            }
            let mut flush = Flush::default();
            for (event, webhooks) in self.loaded.checkpoint.list.drain(..) {
                webhooks.into_iter().for_each(|webhook| flush.change(webhook, event, ChangeKind::Ready));
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

    /// Adds the rows of an event to the flush. An event with very many webhooks gets a job that writes them instead.
    fn recover_event(&mut self, event: EventId, bytes: &[u8], flush: &mut Flush) -> Result<(), ReadError> {
        let head = EventHead::parse(bytes).map_err(|_| ReadError::Damaged(event))?;
        let MatchedWebhooks { receivers: webhooks, too_costly } = head.matched();
        for webhook in too_costly {
            let reason = DeadReason::FilterTooCostly;
            let (at, steady) = (head.event.received_at, self.loaded.marks.steady);
            let dead = NewDeadLetter { reason, attempts: 0, at, steady, http_status: None, error: Box::default() };
            flush.add_dead_letter(webhook, event, dead);
            let (decision, head) = (Decision::Dead(reason), Bytes::copy_from_slice(bytes));
            self.recovered.push(SettledDelivery { webhook, event, attempt: None, decision, head, endpoint: None });
        }
        if webhooks.len() > self.bounds.wide_event_webhooks {
            let (no, total) = (self.loaded.marks.next_job.max(1), Some(webhooks.len() as u64));
            let job = Job::new(no, JobKind::Wide { event }, total, event, head.event.received_at);
            self.loaded.marks.next_job = no + 1;
            flush.jobs.push(job.clone());
            flush.wide.push((no, webhooks));
            self.loaded.jobs.push(job);
        } else {
            webhooks.into_iter().for_each(|webhook| flush.change(webhook, event, ChangeKind::Ready));
        }
        Ok(())
    }

    /// Starts the thread. Its first step sends the backlog of each webhook to the shards.
    pub fn start(self, start: SettleDeps) -> Result<SettleThread, OpenSettleError> {
        let SettleDeps { handle, messages, wakeup, shards, clock, log, metrics, callbacks } = start;
        let (replay_requests, requests) = bounded(1);
        let (targets, is_stopped) = (Arc::clone(&callbacks.replay_targets), Arc::<AtomicBool>::default());
        let heartbeat = metrics.watchdog.watch_background("replay");
        let evaluator =
            ReplayEvaluator { log: Arc::clone(&log), targets, is_stopped: Arc::clone(&is_stopped), heartbeat };
        let deps = DriverDeps { shards, clock, log, metrics, callbacks, replay_requests };
        let (driver, records) = self.driver(deps, handle.clone())?;
        evaluator.start(requests, handle.clone())?;
        Ok(SettleThread::begin(driver, handle, records, (messages, wakeup), is_stopped)?)
    }

    /// Builds everything except the thread, and the reading side.
    pub(super) fn driver(
        self,
        deps: DriverDeps,
        handle: SettleHandle,
    ) -> Result<(Driver, DeliveryRecords), LookupError> {
        let DriverDeps { shards, clock, log, metrics, callbacks, replay_requests } = deps;
        let LoadedState {
            marks,
            mut downtimes,
            checkpoint,
            jobs,
            stats,
            hourly_stats_number,
            webhook_health,
            endpoint_states,
            outbox,
        } = self.loaded;
        // The last flush was the last sign of the program before this one.
        if marks != HighWaterMarks::default() {
            downtimes.push(marks.steady, clock.steady());
        }
        let reader = self.store.reader();
        let mut counts = LiveStats {
            stats: StatsTable::new(stats, downtimes),
            hours: HourlyStatsBuffer::after(hourly_stats_number),
        };
        counts.stats.count_dead(&self.recovered.iter().map(|outcome| outcome.webhook).collect::<Vec<_>>());
        let (shared_stats, depth) = (Arc::new(SharedStats::new(counts)), Arc::<BacklogDepth>::default());
        let records = DeliveryRecords::new(Arc::clone(&reader), Arc::clone(&shared_stats), Arc::clone(&depth), handle);
        let mut state = SettleState {
            now: SettleTime { steady: clock.steady(), wall: clock.now() },
            outstanding: Outstanding::new(checkpoint.head),
            pending: PendingBatch::default(),
            in_flush: None,
            next_job: marks.next_job.max(1),
            jobs: jobs.into_iter().map(|job| (job.no, job)).collect(),
            last_job: 0,
            replays: ReplayTurns::default(),
            expiring: <_>::default(),
            oldest_dead: None,
            is_retiring: false,
            shared_stats,
            health: HealthTable::new(webhook_health),
            endpoint_states: EndpointStates::new(endpoint_states),
            outbox,
            depth,
            waiting: <_>::default(),
            unsent: <_>::default(),
            disable: Vec::new(),
            options: self.options,
            bounds: self.bounds,
            shards: shards.clone(),
            log,
            reader,
            metrics,
            callbacks: callbacks.clone(),
            stopping: false,
        };
        // The flush that moves the marks also stores the period between them.
        state.pending.flush.downtimes = Some(state.shared_stats.lock().stats.downtimes().clone());
        state.begin()?;
        state.report_too_costly(&self.recovered);
        let driver = Driver { state, store: self.store, shards, clock, callbacks, replay_requests, under_way: None };
        Ok((driver, records))
    }
}

impl SettleState {
    /// Reads the backlog from the disk. The shards are notified of it, or it is abandoned if the webhook takes no
    /// deliveries.
    fn begin(&mut self) -> Result<(), LookupError> {
        let backlog = self.reader.backlog()?;
        self.depth.set(backlog.rows, 0, None);
        for waiting in backlog.waiting {
            match (self.callbacks.abandon_reason)(waiting.webhook) {
                None => self.notify_shard(waiting),
                Some(reason) => _ = self.add_job(JobKind::Abandon { webhook: waiting.webhook, reason }, None),
            }
        }
        // A shard that knows of the webhook shows its pause.
        for webhook in self.endpoint_states.webhooks().collect::<Vec<_>>() {
            self.notify_shard(WebhookBacklog { webhook, ready: false, due: None });
        }
        // The first flush makes the start durable and reads the table sizes.
        self.pending.items += 1;
        Ok(())
    }
}

/// What a [`Driver`] needs besides its store.
pub(super) struct DriverDeps {
    pub(super) shards: Shards,
    pub(super) clock: Clock,
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) callbacks: Callbacks,
    pub(super) replay_requests: Sender<ReplayStepRequest>,
}
