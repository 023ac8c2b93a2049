//! The one thread that changes the registry. What arrives while it writes gathers, and goes in the next transaction.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::Shared;
use super::change::{Change, ChangeError, Request};
use super::writer_state::{Done, Input, Output, WriterState};
use crate::handoff::{Command, SettleHandle, Shards, ToSettle, ToShard};
use crate::limits::REGISTRY_BATCH;
use crate::runtime::{Clock, Metrics};
use crate::storage::registry::{RegistryStore, RegistryStoreError};

/// The decisions, and what they are carried out with.
pub(super) struct WriterThread {
    pub(super) work: WriterState,
    pub(super) inbox: mpsc::Receiver<Request>,
    pub(super) store: Box<dyn RegistryStore>,
    pub(super) shared: Shared,
    pub(super) clock: Clock,
    pub(super) shards: Shards,
    pub(super) settle: SettleHandle,
    pub(super) metrics: Arc<Metrics>,
}

impl WriterThread {
    /// Until [`Change::Stop`], or nobody is left to ask.
    pub(super) fn run(mut self) -> Result<(), RegistryStoreError> {
        while let Some(first) = self.inbox.blocking_recv() {
            let mut requests = vec![first];
            requests.extend(std::iter::from_fn(|| self.inbox.try_recv().ok()).take(REGISTRY_BATCH - 1));
            let stop = requests.iter().position(|request| matches!(request.change, Change::Stop));
            if let Some(at) = stop {
                requests.truncate(at);
            }
            self.work_off(requests)?;
            if stop.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// One transaction for all, then the snapshot, then whoever must know, then the answers. An error ends the thread.
    fn work_off(&mut self, requests: Vec<Request>) -> Result<(), RegistryStoreError> {
        if let Err(error) = self.reopened() {
            let (refusal, ended) = refused(error);
            for request in requests {
                request.reply.refuse(refusal);
            }
            return ended;
        }
        let (mut input, mut ended) = (Input::Requests(requests), Ok(()));
        loop {
            match self.work.step(self.clock.now(), input) {
                Output::Write(rows) => {
                    input = match self.store.write(&rows) {
                        Ok(()) => Input::Written,
                        Err(error) => {
                            let refusal;
                            (refusal, ended) = refused(error);
                            Input::Refused(refusal)
                        }
                    };
                }
                Output::Done(done) => {
                    self.tell(done);
                    return ended;
                }
                Output::Refuse(replies, refusal) => {
                    for reply in replies {
                        reply.refuse(refusal);
                    }
                    return ended;
                }
            }
        }
    }

    fn reopened(&mut self) -> Result<(), RegistryStoreError> {
        if self.store.is_closed() {
            let snapshot = self.work.reload(&mut *self.store)?;
            self.shared.store(snapshot);
        }
        Ok(())
    }

    /// Tells the shards first: what they settle from then on is of the new status, what waited before is settle's to end.
    fn tell(&self, done: Done) {
        self.metrics.webhooks_active.set(done.snapshot.active() as i64);
        self.shared.store(done.snapshot);
        for shard in 0..self.shards.count() {
            let here: SmallVec<_> = done.changed.iter().copied().filter(|no| self.shards.of(*no) == shard).collect();
            if !here.is_empty() {
                self.shards.tell(shard, ToShard::Changed(here));
            }
        }
        for (webhook, reason) in done.abandon {
            self.settle.tell(ToSettle::Command(Command::Abandon { webhook, reason }));
        }
        for (webhook, noted) in done.noted {
            self.settle.tell(ToSettle::Command(Command::Note { webhook, noted }));
        }
        for (reply, outcome) in done.answers {
            reply.give(outcome, &*self.store);
        }
    }
}

/// What askers are told after a failure, and how the thread goes on: only a full disk passes.
fn refused(error: RegistryStoreError) -> (ChangeError, Result<(), RegistryStoreError>) {
    tracing::error!(target: "hooktide::registry", %error, "changes were not written");
    if error.is_disk_full() { (ChangeError::DiskFull, Ok(())) } else { (ChangeError::Stopped, Err(error)) }
}
