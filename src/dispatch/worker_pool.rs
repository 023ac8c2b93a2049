//! The worker tasks of a shard, which make the attempts.
//!
//! Workers are reused, so a delivery costs no new task and no timer. A worker parks when the shard has no further job. The
//! worker that parked last is woken first. A new worker is spawned only when all workers are busy.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use tokio::sync::Notify;

use super::shard::{Shard, ShardInput};
use super::webhook_queue::DeliveryJob;
use crate::handoff::{AttemptRequest, Transport};
use crate::outbound::Webhook;
use crate::runtime::Clock;

/// A shard's workers and the state they share.
pub(super) struct WorkerPool<C: Transport> {
    /// The shard's state machine.
    pub(super) shard: RefCell<Shard>,
    /// The clocks.
    pub(super) clock: Clock,
    /// Makes the attempts.
    pub(super) transport: C,
    /// The webhooks of the test deliveries in flight. A webhook with two test deliveries is listed twice.
    pub(super) test_deliveries: RefCell<Vec<Arc<Webhook>>>,
    parked: RefCell<Vec<Rc<WorkerSlot<C>>>>,
    /// The number of workers, parked ones included.
    active: Cell<usize>,
    /// Notified when the shard's loop must send outcomes or replace a worker.
    pub(super) wakeup: Notify,
}

/// The place where a parked worker receives its next job.
struct WorkerSlot<C: Transport> {
    guard: Cell<Option<JobGuard<C>>>,
    waker: Cell<Option<Waker>>,
}

/// A job that a worker holds. Dropping the guard before the attempt ended returns the job to its shard.
struct JobGuard<C: Transport> {
    job: Option<DeliveryJob>,
    pool: Rc<WorkerPool<C>>,
}

impl<C: Transport> WorkerPool<C> {
    /// Creates a pool without workers.
    pub(super) fn new(shard: Shard, clock: Clock, transport: C) -> Rc<Self> {
        Rc::new(Self {
            shard: RefCell::new(shard),
            clock,
            transport,
            test_deliveries: RefCell::default(),
            parked: RefCell::default(),
            active: Cell::new(0),
            wakeup: Notify::new(),
        })
    }

    /// Assigns ready jobs to workers, until no job is ready or all workers are busy.
    pub(super) fn assign(self: &Rc<Self>) {
        loop {
            let mut shard = self.shard.borrow_mut();
            if !shard.has_work() || (self.parked.borrow().is_empty() && self.active.get() >= shard.in_flight_max()) {
                return;
            }
            let Some(job) = shard.next_job(self.clock.instant()) else { return };
            drop(shard);
            let guard = JobGuard { job: Some(job), pool: Rc::clone(self) };
            let parked = self.parked.borrow_mut().pop();
            match parked {
                Some(slot) => slot.give(guard),
                None => self.spawn_worker(guard),
            }
        }
    }

    fn spawn_worker(self: &Rc<Self>, first: JobGuard<C>) {
        let slot = Rc::new(WorkerSlot { guard: Cell::new(Some(first)), waker: Cell::default() });
        self.active.set(self.active.get() + 1);
        tokio::task::spawn_local(work(ActiveWorker(Rc::clone(self)), slot));
    }
}

async fn work<C: Transport>(active: ActiveWorker<C>, slot: Rc<WorkerSlot<C>>) {
    loop {
        let mut next = Some(slot.guard().await);
        while let Some(guard) = next {
            next = guard.deliver().await;
            // A receiver that always responds immediately must not block the other tasks.
            tokio::task::coop::consume_budget().await;
        }
        active.0.parked.borrow_mut().push(Rc::clone(&slot));
    }
}

impl<C: Transport> WorkerSlot<C> {
    fn give(&self, guard: JobGuard<C>) {
        self.guard.set(Some(guard));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn guard(&self) -> JobGuard<C> {
        poll_fn(|cx| {
            let guard = self.guard.take();
            if guard.is_none() {
                self.waker.set(Some(cx.waker().clone()));
            }
            guard.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl<C: Transport> JobGuard<C> {
    /// Makes the attempt and reports its outcome to the shard. Returns a guard for the shard's next job, or `None` if no
    /// job is ready.
    async fn deliver(mut self) -> Option<Self> {
        let job = self.job.as_ref()?;
        let DeliveryJob { webhook, event, timeout, began, .. } = job;
        let attempt = AttemptRequest { webhook, event, attempt: job.number(), timeout: *timeout, began: *began };
        let outcome = self.pool.transport.deliver(attempt).await;
        let job = self.job.take()?;
        let now = self.pool.clock.instant();
        let mut shard = self.pool.shard.borrow_mut();
        shard.step(now, ShardInput::Finished(job, outcome));
        self.job = shard.next_job(now);
        drop(shard);
        self.pool.wakeup.notify_one();
        self.job.is_some().then_some(self)
    }
}

impl<C: Transport> Drop for JobGuard<C> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            let now = self.pool.clock.instant();
            self.pool.shard.borrow_mut().step(now, ShardInput::Dropped(job));
            self.pool.wakeup.notify_one();
        }
    }
}

/// Counts one worker as active. A worker ends only by a panic of the transport; dropping this value then frees its place
/// for a new worker.
struct ActiveWorker<C: Transport>(Rc<WorkerPool<C>>);

impl<C: Transport> Drop for ActiveWorker<C> {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.wakeup.notify_one();
    }
}
