//! The log's stages without their threads, for the simulation: the caller says when a batch is committed, bodies are read
//! and segments are retired.

use std::sync::Arc;

use super::body_reader::BodyReader;
use super::committer::Committer;
use super::open::OpenedLog;
use super::retention::{delete_oldest_segment, tidy_carried};
use crate::config;
use crate::handoff::{BodyRequest, HandoverState, RetentionRefs, SettleHandle, Shards, Submission};
use crate::runtime::{Clock, MemoryBudget, Metrics};
use crate::storage::{EventLog, FileError, Poison, RedbLog, RetireError};

/// The writing side of the log, the reader of bodies, and retention.
pub(crate) struct SteppedLog {
    committer: Committer,
    body_reader: BodyReader,
    config: config::Log,
    clock: Clock,
    pub(crate) log: Arc<RedbLog>,
    pub(crate) poison: Poison,
    /// Whether new events are refused because a queue is full.
    pub(crate) handover: Arc<HandoverState>,
}

impl SteppedLog {
    pub(crate) fn new(
        opened: OpenedLog,
        (config, clock): (config::Log, Clock),
        (settle, shards): (SettleHandle, Shards),
        metrics: Arc<Metrics>,
        memory: Arc<MemoryBudget>,
    ) -> Self {
        let log = opened.log();
        let committer = opened.into_committer(settle, shards.clone(), metrics);
        let poison = committer.io.poison.clone();
        let handover = committer.io.notifier.state();
        let reading = Arc::<RedbLog>::clone(&log);
        let body_reader = BodyReader { log: reading, shards, memory, clock: clock.clone(), poison: poison.clone() };
        Self { committer, body_reader, config, clock, log, poison, handover }
    }

    pub(crate) fn commit(&mut self, batch: Vec<Submission>) {
        self.committer.io.notifier.retry(self.clock.instant());
        self.committer.commit(batch);
    }

    pub(crate) fn read_bodies(&self, request: &BodyRequest) {
        self.body_reader.answer(request);
    }

    /// Retires the oldest segment if it exceeds the limits, and rewrites the files of carried bodies.
    pub(crate) fn retain(&self, refs: &dyn RetentionRefs) -> Result<(), RetireError> {
        self.log.seal()?;
        delete_oldest_segment(&*self.log, &self.config, self.clock.steady(), refs, &mut || {})?;
        tidy_carried(&*self.log, &self.config, refs, &mut || {})
    }

    pub(crate) fn close(&self) -> Result<(), FileError> {
        self.log.close()
    }
}
