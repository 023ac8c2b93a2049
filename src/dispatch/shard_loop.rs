//! The threads of the shards: start, loop and stop.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::bounds::ShardBounds;
use super::shard::{Shard, ShardInput};
use super::shard_state::ShardOutputs;
use super::worker_pool::WorkerPool;
use super::{DispatchSetup, Ports};
use crate::handoff::{ToSettle, ToShard, Transport};
use crate::limits::{SHARD_MESSAGES, STALL_CHECK_INTERVAL};
use crate::runtime::{Heartbeat, Instant, Random};

/// The running shard threads. Dropping this value stops them immediately, without waiting for deliveries in flight.
pub struct ShardThreads {
    stops: Vec<oneshot::Sender<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

/// A shard's thread panicked, which is a bug in this program. Deliveries whose outcomes it had not sent are still in
/// settle's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dispatch shard {0} panicked")]
pub struct ShardPanicked(pub usize);

/// Starts one shard thread for each inbox. `transport` creates the shard's transport on that thread; its argument is the
/// shard's index.
///
/// # Errors
/// If the system cannot create a thread or an event queue.
pub fn start<C: Transport>(
    setup: &DispatchSetup,
    ports: &Ports,
    inboxes: Vec<mpsc::Receiver<ToShard>>,
    transport: impl Fn(usize) -> C + Send + Sync + 'static,
) -> io::Result<ShardThreads> {
    let (transport, shards) = (Arc::new(transport), inboxes.len());
    let mut running = ShardThreads { stops: Vec::new(), threads: Vec::new() };
    for (index, inbox) in inboxes.into_iter().enumerate() {
        let (stop, stopped) = oneshot::channel();
        let (setup, ports, transport) = (setup.clone(), ports.clone(), Arc::clone(&transport));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("dispatch-{index}")).spawn(move || {
            let clock = setup.clock.clone();
            let heartbeat = setup.metrics.watchdog.watch(format!("dispatch-{index}"));
            let local = LocalSet::new();
            let pool = local.block_on(&runtime, async {
                let shard = Shard::new(index, shards, setup, Random::system(), ShardBounds::default());
                let pool = WorkerPool::new(shard, clock, transport(index));
                tokio::task::spawn_local(beat(heartbeat));
                run(&pool, &ports, inbox, stopped).await;
                pool
            });
            // This drops the tasks of the deliveries in flight, which returns the deliveries to the shard.
            drop(local);
            ports.send_outputs(&mut pool.shard.borrow_mut(), pool.clock.instant());
        })?;
        running.stops.push(stop);
        running.threads.push(thread);
    }
    Ok(running)
}

impl ShardThreads {
    /// Stops all shards. No further delivery begins. Deliveries in flight have the time `within` to end. After that they
    /// are returned to the queue without an outcome.
    pub fn stop(&mut self, within: Duration) {
        for stop in self.stops.drain(..) {
            // `join` reports a shard that panicked.
            let _ = stop.send(within);
        }
    }

    /// Waits for the threads to end. By then each thread has sent all its outcomes to settle.
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

    /// Whether a thread has ended. Before a stop a thread ends only by a panic.
    pub fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Ports {
    /// Sends the shard's outputs since the last call. Outcomes are sent to settle before refill requests.
    pub(super) fn send_outputs(&self, shard: &mut Shard, now: Instant) {
        let ShardOutputs { settled, spilled, refills } = shard.outputs(now);
        if !settled.is_empty() {
            self.settle.send(ToSettle::Settled(settled));
        }
        if !spilled.is_empty() {
            self.settle.send(ToSettle::Spill(spilled));
        }
        for refill in refills {
            self.settle.send(ToSettle::Refill(refill));
        }
        while let Some(request) = shard.next_body_request(now) {
            let webhook = request.webhook;
            if self.body_requests.try_send(request).is_err() {
                shard.step(now, ShardInput::BodyRequestRefused(webhook));
            }
        }
    }
}

/// Shows that the thread of a shard is not blocked, by nothing but the time that its other tasks leave.
async fn beat(heartbeat: Heartbeat) {
    loop {
        heartbeat.working();
        tokio::time::sleep(STALL_CHECK_INTERVAL).await;
    }
}

/// Runs a shard's loop. After a stop, it returns when no delivery is in flight or the time for the stop is over.
pub(super) async fn run<C: Transport>(
    pool: &Rc<WorkerPool<C>>,
    ports: &Ports,
    mut inbox: mpsc::Receiver<ToShard>,
    mut stopped: oneshot::Receiver<Duration>,
) {
    let clock = &pool.clock;
    let mut sleep = pin!(tokio::time::sleep_until(clock.instant()));
    let mut messages = Vec::with_capacity(SHARD_MESSAGES);
    let (mut inbox_is_open, mut has_taken, mut deadline) = (true, false, None);
    loop {
        let next_tick = {
            let mut shard = pool.shard.borrow_mut();
            let now = clock.instant();
            shard.step(now, ShardInput::Tick);
            ports.send_outputs(&mut shard, now);
            if deadline.is_some_and(|at| shard.in_flight() == 0 || at <= now) {
                return;
            }
            shard.next_tick()
        };
        pool.assign();
        if std::mem::take(&mut has_taken) {
            // Deliveries must go on between two batches of messages, however many messages wait.
            tokio::task::yield_now().await;
        }
        let wake = [next_tick, deadline].into_iter().flatten().min();
        if let Some(at) = wake.filter(|at| *at != sleep.deadline()) {
            sleep.as_mut().reset(at);
        }
        tokio::select! {
            biased;
            // The stop comes first, because a flood of messages could delay it otherwise.
            within = &mut stopped, if deadline.is_none() => {
                let now = clock.instant();
                pool.shard.borrow_mut().step(now, ShardInput::Stop);
                deadline = Some(now + within.unwrap_or_default());
            }
            count = inbox.recv_many(&mut messages, SHARD_MESSAGES), if inbox_is_open => {
                (inbox_is_open, has_taken) = (count > 0, count > 0);
                for message in messages.drain(..) {
                    match message {
                        ToShard::TestDelivery(request) => pool.send_test(request),
                        message => pool.shard.borrow_mut().step(clock.instant(), ShardInput::Message(message)),
                    }
                }
            }
            () = sleep.as_mut(), if wake.is_some() => {}
            () = pool.wakeup.notified() => {}
        }
    }
}
