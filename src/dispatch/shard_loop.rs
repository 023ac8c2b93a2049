//! A shard's thread: its loop, its start and its end.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::backlog::Bounds;
use super::shard::{Input, Shard};
use super::shard_state::Outputs;
use super::worker_pool::WorkerPool;
use super::{Ports, Setup};
use crate::handoff::{ToSettle, ToShard, Transport};
use crate::limits::SHARD_MESSAGES;
use crate::runtime::{Instant, Random};

/// The shards' threads. Dropping it stops them at once, without waiting for what is under way.
pub struct Running {
    stops: Vec<oneshot::Sender<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

/// A shard's thread ended by a panic, which is a fault in this program. What it had not told is in the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dispatch shard {0} panicked")]
pub struct ShardPanicked(pub usize);

/// Starts a thread for each inbox, with a carrier of its own that is made on it.
///
/// # Errors
/// If the system has no thread, or no event queue, to give.
pub fn start<C: Transport>(
    setup: &Setup,
    ports: &Ports,
    inboxes: Vec<mpsc::Receiver<ToShard>>,
    carrier: impl Fn(usize) -> C + Send + Sync + 'static,
) -> io::Result<Running> {
    let (carrier, shards) = (Arc::new(carrier), inboxes.len());
    let mut running = Running { stops: Vec::new(), threads: Vec::new() };
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (stop, stopped) = oneshot::channel();
        let (setup, ports, carrier) = (setup.clone(), ports.clone(), Arc::clone(&carrier));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("dispatch-{index}")).spawn(move || {
            let clock = setup.clock.clone();
            let local = LocalSet::new();
            let crew = local.block_on(&runtime, async {
                let shard = Shard::new(index, shards, setup, Random::system(), Bounds::default());
                let crew = WorkerPool::new(shard, clock, carrier(index));
                run(&crew, &ports, inbox, stopped).await;
                crew
            });
            // Deliveries still under way are dropped with their tasks, and so returned.
            drop(local);
            ports.perform(&mut crew.shard.borrow_mut(), crew.clock.instant());
        })?;
        running.stops.push(stop);
        running.threads.push(thread);
    }
    Ok(running)
}

impl Running {
    /// No delivery begins any more; those under way may go on for this long, and are then returned.
    pub fn stop(&mut self, within: Duration) {
        for stop in self.stops.drain(..) {
            // A shard that ended by a panic is told of by `join`.
            let _ = stop.send(within);
        }
    }

    /// Waits for the threads to end; each has told settle everything by then.
    ///
    /// # Errors
    /// The first shard that panicked.
    pub fn join(self) -> Result<(), ShardPanicked> {
        drop(self.stops);
        let mut result = Ok(());
        for (index, thread) in self.threads.into_iter().enumerate() {
            if thread.join().is_err() {
                result = result.and(Err(ShardPanicked(index)));
            }
        }
        result
    }

    /// Whether a thread has ended, which before a stop it does only by a panic.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Ports {
    /// Does what the shard decided since the last call. Settle is told before it is asked for rows.
    pub(super) fn perform(&self, shard: &mut Shard, now: Instant) {
        let Outputs { settled, spilled, refills } = shard.outputs(now);
        if !settled.is_empty() {
            self.settle.tell(ToSettle::Settled(settled));
        }
        if !spilled.is_empty() {
            self.settle.tell(ToSettle::Spill(spilled));
        }
        for refill in refills {
            self.settle.tell(ToSettle::Refill(refill));
        }
        while let Some(request) = shard.next_recall(now) {
            let webhook = request.webhook;
            if self.recall.try_send(request).is_err() {
                shard.step(now, Input::RecallRefused(webhook));
            }
        }
    }
}

/// A shard's loop, until it is told to stop and what is under way has ended, or the time for that is over.
pub(super) async fn run<C: Transport>(
    crew: &Rc<WorkerPool<C>>,
    ports: &Ports,
    mut inbox: mpsc::Receiver<ToShard>,
    mut stopped: oneshot::Receiver<Duration>,
) {
    let clock = &crew.clock;
    let mut sleep = pin!(tokio::time::sleep_until(clock.instant()));
    let mut messages = Vec::with_capacity(SHARD_MESSAGES);
    let (mut inbox_is_open, mut has_taken, mut deadline) = (true, false, None);
    loop {
        let next_tick = {
            let mut shard = crew.shard.borrow_mut();
            let now = clock.instant();
            shard.step(now, Input::Tick);
            ports.perform(&mut shard, now);
            if deadline.is_some_and(|at| shard.in_flight() == 0 || at <= now) {
                return;
            }
            shard.next_tick()
        };
        crew.assign();
        if std::mem::take(&mut has_taken) {
            // However many messages wait, deliveries go on between two handfuls.
            tokio::task::yield_now().await;
        }
        let wake = [next_tick, deadline].into_iter().flatten().min();
        if let Some(at) = wake.filter(|at| *at != sleep.deadline()) {
            sleep.as_mut().reset(at);
        }
        tokio::select! {
            biased;
            // First, or a flood of messages could hold up the stop.
            within = &mut stopped, if deadline.is_none() => {
                let now = clock.instant();
                crew.shard.borrow_mut().step(now, Input::Stop);
                deadline = Some(now + within.unwrap_or_default());
            }
            count = inbox.recv_many(&mut messages, SHARD_MESSAGES), if inbox_is_open => {
                (inbox_is_open, has_taken) = (count > 0, count > 0);
                for message in messages.drain(..) {
                    match message {
                        ToShard::Probe(probe) => crew.probe(probe),
                        message => crew.shard.borrow_mut().step(clock.instant(), Input::Message(message)),
                    }
                }
            }
            () = sleep.as_mut(), if wake.is_some() => {}
            () = crew.bell.notified() => {}
        }
    }
}
