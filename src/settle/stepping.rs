//! Settle without its thread, for the simulation: the caller says when messages are taken and when a flush is made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use super::driver::Driver;
use super::open::{DriverDeps, open_with};
use super::replay::{ReplayEvaluator, ReplayStepRequest};
use super::{DeliveryRecords, OpenSettleError, OpenedStore, Options, SettleDeps, SettleError, SettleLimits};
use crate::handoff::{RetentionRefs, SettleCommand, SettleHandle, ToSettle};
use crate::model::{DeliveryId, EventId, Timestamp};
use crate::storage::delivery::{DeliveryReader, LookupError, RedbDeliveryReader, RedbDeliveryStore, StoreOptions};
use crate::storage::{Disk, ReadLog};

/// Small limits: the checkpoint's list overflows, and jobs take several steps. The limit of wide events is the real one,
/// because commit uses it too.
const SMALL: SettleLimits =
    SettleLimits { checkpoint_list_max: 48, wide_event_webhooks: crate::limits::WIDE_EVENT_WEBHOOKS, job_rows: 7 };
const HISTORY_FILE_BYTES: u64 = 1 << 20;

/// The state of a store that is loaded, before recovery.
pub(crate) struct LoadedSettle {
    pub(crate) opened: OpenedStore,
    reader: RedbDeliveryReader,
}

/// Settle with its store and its messages.
pub(crate) struct SteppedSettle {
    driver: Driver,
    messages: Receiver<ToSettle>,
    reader: RedbDeliveryReader,
    evaluator: ReplayEvaluator,
    replay_requests: Receiver<ReplayStepRequest>,
    /// The reading side.
    pub(crate) records: DeliveryRecords,
}

/// Where the store has each delivery that is not finished or is a dead letter.
#[derive(Debug, Default)]
pub(crate) struct StoredDeliveries {
    pub(crate) rows: BTreeMap<DeliveryId, (u16, Option<Timestamp>)>,
    pub(crate) dead: BTreeSet<DeliveryId>,
}

impl LoadedSettle {
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Self, OpenSettleError> {
        let history_retention = std::time::Duration::from_secs(1_000 * 86_400);
        let store = StoreOptions { disk, dir: dir.into(), two_phase_commit: true, history_retention };
        let store = RedbDeliveryStore::open_with(store, HISTORY_FILE_BYTES)?;
        let reader = store.redb_reader();
        Ok(Self { opened: open_with(Box::new(store), options, SMALL)?, reader })
    }

    pub(crate) fn recover(&mut self, log: &dyn ReadLog) -> Result<(), OpenSettleError> {
        self.opened.recover(log)
    }

    pub(crate) fn start(self, deps: SettleDeps) -> Result<SteppedSettle, LookupError> {
        let SettleDeps { handle, messages, wakeup: _, shards, clock, log, metrics, callbacks } = deps;
        let (to_evaluator, replay_requests) = bounded(1);
        let evaluator = ReplayEvaluator {
            log: Arc::clone(&log),
            targets: Arc::clone(&callbacks.replay_targets),
            is_stopped: Arc::default(),
            heartbeat: metrics.watchdog.watch_background("replay"),
        };
        let deps = DriverDeps { shards, clock, log, metrics, callbacks, replay_requests: to_evaluator };
        let (driver, records) = self.opened.driver(deps, handle)?;
        Ok(SteppedSettle { driver, messages, reader: self.reader, evaluator, replay_requests, records })
    }
}

impl SteppedSettle {
    /// The next message of the channel.
    pub(crate) fn next_message(&self) -> Option<ToSettle> {
        self.messages.try_recv().ok()
    }

    /// Evaluates the step of a replay that settle waits for, if there is one.
    pub(crate) fn evaluate_replay(&self) -> Option<ToSettle> {
        self.replay_requests.try_recv().ok().map(|request| ToSettle::ReplayStep(self.evaluator.evaluate(&request)))
    }

    pub(crate) fn take_in(&mut self, messages: Vec<ToSettle>) -> Result<(), SettleError> {
        Ok(self.driver.take_in(messages)?)
    }

    pub(crate) fn flush(&mut self) -> Result<(), SettleError> {
        self.driver.flush()
    }

    pub(crate) fn finish(&mut self) -> Result<(), SettleError> {
        self.driver.finish()
    }

    pub(crate) fn reopen(&mut self) -> Result<(), SettleError> {
        self.driver.reopen()
    }

    /// Whether a flush waits for room on the disk. Nothing is taken in until it is written.
    pub(crate) fn is_flush_waiting(&self) -> bool {
        self.driver.under_way.is_some()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.driver.state.is_idle(self.driver.now().steady)
    }

    /// The number of announced deliveries that are neither settled nor have a row.
    pub(crate) fn outstanding(&self) -> usize {
        self.driver.state.outstanding.len()
    }

    /// The largest number of outstanding deliveries after a flush.
    pub(crate) fn outstanding_max() -> usize {
        SMALL.checkpoint_list_max
    }

    /// What retention asks settle, answered for this moment.
    pub(crate) fn refs(&self, handle: SettleHandle) -> SteppedRefs {
        let outstanding = self.driver.state.outstanding.newest_first(None, None).map(|(event, _)| event).collect();
        SteppedRefs { outstanding, reader: Arc::clone(&self.driver.state.reader), handle }
    }

    /// The number of running jobs.
    pub(crate) fn jobs(&self) -> usize {
        self.driver.state.jobs.values().filter(|job| job.is_running()).count()
    }

    pub(crate) fn stored(&self) -> Result<StoredDeliveries, LookupError> {
        let (rows, dead) = self.reader.everything()?;
        let rows = rows.into_iter().map(|(id, attempts, due)| (id, (attempts, due))).collect();
        Ok(StoredDeliveries { rows, dead: dead.into_iter().collect() })
    }
}

/// The references of settle at one moment.
pub(crate) struct SteppedRefs {
    outstanding: BTreeSet<EventId>,
    reader: Arc<dyn DeliveryReader>,
    handle: SettleHandle,
}

impl RetentionRefs for SteppedRefs {
    fn needed(&self, first: EventId, last: EventId) -> Option<Vec<EventId>> {
        let is_outstanding = self.outstanding.range(first..=last).next().is_some();
        if is_outstanding { None } else { self.reader.needed(first, last).ok() }
    }

    fn expire(&self, events: Vec<EventId>) {
        self.handle.send(ToSettle::Command(SettleCommand::Expire { events }));
    }
}
