//! The writer thread of the registry. Changes that arrive during a transaction form the next batch.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::Shared;
use super::change::{ChangeError, ChangeRequest, RegistryChange};
use super::writer_state::{AppliedBatch, WriterInput, WriterOutput, WriterState};
use crate::handoff::{SettleCommand, SettleHandle, Shards, ToSettle, ToShard};
use crate::limits::REGISTRY_BATCH;
use crate::runtime::{Clock, Metrics};
use crate::storage::registry::{RegistryStore, RegistryStoreError};

/// The writer's state, and the means to apply its decisions.
pub(super) struct WriterThread {
    pub(super) state: WriterState,
    pub(super) inbox: mpsc::Receiver<ChangeRequest>,
    pub(super) store: Box<dyn RegistryStore>,
    pub(super) shared: Shared,
    pub(super) clock: Clock,
    pub(super) shards: Shards,
    pub(super) settle: SettleHandle,
    pub(super) metrics: Arc<Metrics>,
}

impl WriterThread {
    /// Runs until [`RegistryChange::Stop`] arrives or no sender is left.
    pub(super) fn run(mut self) -> Result<(), RegistryStoreError> {
        let heartbeat = self.metrics.watchdog.watch_background("registry");
        while let Some(first) = self.inbox.blocking_recv() {
            heartbeat.working();
            let mut requests = vec![first];
            requests.extend(std::iter::from_fn(|| self.inbox.try_recv().ok()).take(REGISTRY_BATCH - 1));
            let stop = requests.iter().position(|request| matches!(request.change, RegistryChange::Stop));
            if let Some(at) = stop {
                requests.truncate(at);
            }
            self.process(requests)?;
            if stop.is_some() {
                break;
            }
            heartbeat.idle();
        }
        Ok(())
    }

    /// Applies a batch: one transaction, then the new snapshot, then messages to shards and settle, then the results.
    /// An error ends the thread.
    pub(super) fn process(&mut self, requests: Vec<ChangeRequest>) -> Result<(), RegistryStoreError> {
        if let Err(error) = self.reload_if_closed() {
            let (refusal, ended) = refused(error);
            for request in requests {
                request.reply.refuse(refusal);
            }
            return ended;
        }
        let (mut input, mut ended) = (WriterInput::Requests(requests), Ok(()));
        loop {
            match self.state.step(self.clock.now(), input) {
                WriterOutput::Write(rows) => {
                    input = match self.store.write(&rows) {
                        Ok(()) => WriterInput::Written,
                        Err(error) => {
                            let refusal;
                            (refusal, ended) = refused(error);
                            WriterInput::Refused(refusal)
                        }
                    };
                }
                WriterOutput::Publish(applied) => {
                    self.publish(applied);
                    return ended;
                }
                WriterOutput::Refuse(replies, refusal) => {
                    for reply in replies {
                        reply.refuse(refusal);
                    }
                    return ended;
                }
            }
        }
    }

    fn reload_if_closed(&mut self) -> Result<(), RegistryStoreError> {
        if self.store.is_closed() {
            let snapshot = self.state.reload(&mut *self.store)?;
            self.shared.store(snapshot);
        }
        Ok(())
    }

    /// Informs the shards before settle: from then on the shards use the new status, and settle ends the deliveries
    /// that waited before.
    fn publish(&self, applied: AppliedBatch) {
        self.metrics.webhooks_active.set(applied.snapshot.active() as i64);
        self.shared.store(applied.snapshot);
        for shard in 0..self.shards.count() {
            let here: SmallVec<_> = applied.changed.iter().copied().filter(|no| self.shards.of(*no) == shard).collect();
            if !here.is_empty() {
                self.shards.send(shard, ToShard::Changed(here));
            }
        }
        for (webhook, reason) in applied.abandon {
            self.settle.send(ToSettle::Command(SettleCommand::Abandon { webhook, reason }));
        }
        for (webhook, change) in applied.status_changes {
            self.settle.send(ToSettle::Command(SettleCommand::StatusChanged { webhook, change }));
        }
        for (reply, outcome) in applied.replies {
            reply.send(outcome, &*self.store);
        }
    }
}

/// The error for the callers, and the result of the thread: after a full disk the thread goes on, after any other error
/// it ends.
fn refused(error: RegistryStoreError) -> (ChangeError, Result<(), RegistryStoreError>) {
    tracing::error!(target: "hooktide::registry", %error, "changes were not written");
    if error.is_disk_full() { (ChangeError::DiskFull, Ok(())) } else { (ChangeError::Stopped, Err(error)) }
}
