//! The settle thread: waits, gathers, flushes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use redb::Error;

use super::keeper::Keeper;
use super::records::Records;
use super::store::is_full;
use super::{Command, Handle, ToSettle};
use crate::limits::{FLUSH_INTERVAL, FLUSH_ITEMS};

/// How long a full disk is left alone before the next try.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// Tries on a full disk after which a stop no longer waits: the log and the last checkpoint say what is to be done.
const FULL_TRIES_STOPPING: usize = 4;

/// The thread, running.
#[derive(Debug)]
pub struct Running {
    /// The way in.
    pub handle: Handle,
    /// The reading side.
    pub records: Records,
    thread: JoinHandle<()>,
    poisoned: Arc<AtomicBool>,
}

impl Running {
    /// Begins the thread.
    pub(super) fn begin(
        keeper: Keeper,
        handle: Handle,
        records: Records,
        messages: Receiver<ToSettle>,
        bell: Receiver<()>,
    ) -> std::io::Result<Self> {
        let poisoned = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&poisoned);
        let work = move || {
            let poison = Arc::clone(&keeper.hooks.poisoned);
            let mut worker = Worker { keeper, messages, bell };
            if let Err(error) = worker.run() {
                tracing::error!(%error, "the state cannot be written: nothing more is settled");
                flag.store(true, Ordering::Release);
                poison(&error);
            }
        };
        let thread = std::thread::Builder::new().name("settle".into()).spawn(work)?;
        Ok(Self { handle, records, thread, poisoned })
    }

    /// Whether a write failed for good.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Flushes everything, closes the files, waits for the end; `false` if something could not be written.
    pub fn stop(self) -> bool {
        self.handle.tell(ToSettle::Command(Command::Stop));
        self.thread.join().is_ok() && !self.poisoned.load(Ordering::Acquire)
    }
}

struct Worker {
    keeper: Keeper,
    messages: Receiver<ToSettle>,
    bell: Receiver<()>,
}

impl Worker {
    fn run(&mut self) -> Result<(), Error> {
        // What recovery found waits to be told.
        self.try_until_room(Keeper::flush)?;
        while !self.keeper.stopping {
            if self.keeper.is_idle() {
                let Ok(message) = self.messages.recv() else { break };
                self.keeper.apply(message);
            }
            if !self.keeper.is_busy() {
                // Many messages, one wake-up: the bell rings for what cannot wait.
                if self.bell.recv_timeout(FLUSH_INTERVAL) == Err(RecvTimeoutError::Disconnected) {
                    self.keeper.stopping = true;
                }
            }
            self.drain();
            self.try_until_room(Keeper::flush)?;
        }
        while let Ok(message) = self.messages.try_recv() {
            self.keeper.apply(message);
        }
        self.try_until_room(Keeper::finish)
    }

    /// Takes what is there, up to what one transaction should hold.
    fn drain(&mut self) {
        while self.keeper.gathered.items < 2 * FLUSH_ITEMS && !self.keeper.stopping {
            let Ok(message) = self.messages.try_recv() else { return };
            self.keeper.apply(message);
        }
    }

    /// Repeats a write for as long as the disk is full.
    fn try_until_room(&mut self, write: impl Fn(&mut Keeper) -> Result<(), Error>) -> Result<(), Error> {
        let mut tries = 0;
        let mut done = write(&mut self.keeper);
        loop {
            match done {
                Err(error) if is_full(&error) => {
                    tries += 1;
                    tracing::warn!(%error, tries, "the disk is full; settle tries again");
                    if self.keeper.stopping && tries > FULL_TRIES_STOPPING {
                        return Err(error);
                    }
                    (self.keeper.hooks.ballast)();
                    if tries > 1 {
                        let _ = crossbeam_channel::after(FULL_PAUSE).recv();
                    }
                    done = self.keeper.reopen().and_then(|()| write(&mut self.keeper));
                }
                done => return done,
            }
        }
    }
}
