//! The body reader thread (`read`): reads event bodies from the log for the shards, which never wait for a disk.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, select};

use crate::handoff::{BodyRequest, LoadedBody, Shards, ToShard};
use crate::model::EventId;
use crate::outbound::Event;
use crate::runtime::{Clock, MemoryBudget, Metrics};
use crate::storage::{Poison, ReadError, ReadLog};

/// The state of the body reader thread.
pub(super) struct BodyReader {
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) shards: Shards,
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) clock: Clock,
    pub(super) poison: Poison,
}

impl BodyReader {
    /// Starts the thread. It ends when the sender of `quit` is dropped.
    pub(super) fn start(
        self,
        requests: Receiver<BodyRequest>,
        quit: Receiver<()>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("recall".into()).spawn(move || {
            let heartbeat = metrics.watchdog.watch("recall");
            let _guard = self.poison.guard("recall", metrics);
            loop {
                heartbeat.idle();
                select! {
                    recv(requests) -> request => match request {
                        Ok(request) => {
                            heartbeat.working();
                            self.answer(&request);
                        }
                        Err(_) => break,
                    },
                    recv(quit) -> _ => break,
                }
            }
        })
    }

    pub(super) fn answer(&self, request: &BodyRequest) {
        let recalled = match self.read(&request.events) {
            Err(ReadError::Damaged(_)) => self.read_one_by_one(&request.events),
            recalled => recalled,
        };
        match recalled {
            Ok(events) => {
                self.shards.send(request.shard, ToShard::BodiesLoaded { webhook: request.webhook, events });
            }
            // There is no answer: an absent body would turn deliveries whose bodies are on the disk into dead letters.
            Err(error) => self.poison.set(&format!("an event could not be read back: {error}")),
        }
    }

    /// Reads the events one by one, so that a damaged record does not affect the others. Only its own deliveries become
    /// dead letters.
    fn read_one_by_one(&self, ids: &[EventId]) -> Result<Vec<LoadedBody>, ReadError> {
        let mut events = Vec::with_capacity(ids.len());
        for &id in ids {
            match self.read(&[id]) {
                Err(ReadError::Damaged(_)) => {
                    tracing::error!(target: "hooktide::commit", event = %id, "a damaged event cannot be delivered");
                    events.push((id, None));
                }
                recalled => events.extend(recalled?),
            }
        }
        Ok(events)
    }

    fn read(&self, ids: &[EventId]) -> Result<Vec<LoadedBody>, ReadError> {
        let stored = self.log.read(ids)?;
        let now = self.clock.instant();
        let event = |id, (head, body): crate::storage::LogRecord| {
            let lease = self.memory.lease(body.len());
            Arc::new(Event { id, head, body, committed_at: now, lease })
        };
        Ok(ids.iter().zip(stored).map(|(&id, stored)| (id, stored.map(|stored| event(id, stored)))).collect())
    }
}

/// A thread that can be stopped.
#[derive(Debug)]
pub(super) struct StoppableThread {
    /// Dropped to stop the thread.
    pub(super) quit: Sender<()>,
    /// Joined to wait for the end of the thread.
    pub(super) thread: JoinHandle<()>,
}

impl StoppableThread {
    /// Stops the thread and waits for its end. A panic in the thread has already poisoned the log.
    pub(super) fn stop(self) {
        drop(self.quit);
        let _ = self.thread.join();
    }
}
