//! The recall thread: reads bodies back for the shards, which never wait for a disk.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, select};

use crate::handoff::{RecallRequest, Recalled, Shards, ToShard};
use crate::model::EventId;
use crate::outbound::Event;
use crate::runtime::{Clock, MemoryBudget, Metrics};
use crate::storage::{Poison, ReadError, ReadLog};

/// What the recall thread works with.
pub(super) struct Recall {
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) shards: Shards,
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) clock: Clock,
    pub(super) poison: Poison,
}

impl Recall {
    /// Starts the thread; it ends when `quit`'s other end is dropped.
    pub(super) fn start(
        self,
        requests: Receiver<RecallRequest>,
        quit: Receiver<()>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("recall".into()).spawn(move || {
            let _guard = self.poison.guard("recall", metrics);
            loop {
                select! {
                    recv(requests) -> request => match request {
                        Ok(request) => self.answer(&request),
                        Err(_) => break,
                    },
                    recv(quit) -> _ => break,
                }
            }
        })
    }

    fn answer(&self, request: &RecallRequest) {
        let recalled = match self.recall(&request.events) {
            Err(ReadError::Damaged(_)) => self.recall_sound(&request.events),
            recalled => recalled,
        };
        match recalled {
            Ok(events) => {
                self.shards.tell(request.shard, ToShard::Recalled { webhook: request.webhook, events });
            }
            // No answer: "gone" would make dead letters of deliveries whose bodies are on the disk.
            Err(error) => self.poison.set(&format!("an event could not be read back: {error}")),
        }
    }

    /// One by one, so that a damaged record takes no other with it. Only its own delivery ends, as a dead letter.
    fn recall_sound(&self, ids: &[EventId]) -> Result<Vec<Recalled>, ReadError> {
        let mut events = Vec::with_capacity(ids.len());
        for &id in ids {
            match self.recall(&[id]) {
                Err(ReadError::Damaged(_)) => {
                    tracing::error!(target: "hooktide::commit", event = %id, "a damaged event cannot be delivered");
                    events.push((id, None));
                }
                recalled => events.extend(recalled?),
            }
        }
        Ok(events)
    }

    fn recall(&self, ids: &[EventId]) -> Result<Vec<Recalled>, ReadError> {
        let stored = self.log.read(ids)?;
        let now = self.clock.instant();
        let event = |id, (head, body): crate::storage::Stored| {
            let lease = self.memory.lease(body.len());
            Arc::new(Event { id, head, body, committed_at: now, lease })
        };
        Ok(ids.iter().zip(stored).map(|(&id, stored)| (id, stored.map(|stored| event(id, stored)))).collect())
    }
}

/// The ways to end a thread and to wait for its end.
#[derive(Debug)]
pub(super) struct Worker {
    /// Dropped to end it.
    pub(super) quit: Sender<()>,
    /// Its end.
    pub(super) thread: JoinHandle<()>,
}

impl Worker {
    /// Ends the thread; a panic in it has poisoned the log.
    pub(super) fn stop(self) {
        drop(self.quit);
        let _ = self.thread.join();
    }
}
