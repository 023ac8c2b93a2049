//! The tasks that carry deliveries. They are reused: a worker whose webhook has nothing more parks, the one that parked last
//! is woken first, and a new one is hired only when all are busy. A delivery costs no task and no timer.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use tokio::sync::Notify;

use super::shard::{Input, Shard};
use super::webhook_queue::Job;
use crate::handoff::{AttemptRequest, Transport};
use crate::model::WebhookNo;
use crate::runtime::Clock;

/// A shard's workers, and what they share.
pub(super) struct WorkerPool<C: Transport> {
    pub(super) shard: RefCell<Shard>,
    pub(super) clock: Clock,
    pub(super) carrier: C,
    /// The webhooks of the test deliveries under way.
    pub(super) probes: RefCell<Vec<WebhookNo>>,
    parked: RefCell<Vec<Rc<Slot<C>>>>,
    hired: Cell<usize>,
    /// Rung when the shard's loop has something to do: outcomes to tell, a worker to replace.
    pub(super) bell: Notify,
}

/// Where a parked worker finds its next delivery.
struct Slot<C: Transport> {
    delivery: Cell<Option<Delivery<C>>>,
    waker: Cell<Option<Waker>>,
}

/// A delivery under way. It ends with an outcome; if it is dropped before, it goes back to its webhook.
struct Delivery<C: Transport> {
    job: Option<Job>,
    crew: Rc<WorkerPool<C>>,
}

impl<C: Transport> WorkerPool<C> {
    pub(super) fn new(shard: Shard, clock: Clock, carrier: C) -> Rc<Self> {
        Rc::new(Self {
            shard: RefCell::new(shard),
            clock,
            carrier,
            probes: RefCell::default(),
            parked: RefCell::default(),
            hired: Cell::new(0),
            bell: Notify::new(),
        })
    }

    /// Gives what is ready to workers, as long as there are any.
    pub(super) fn assign(self: &Rc<Self>) {
        loop {
            let mut shard = self.shard.borrow_mut();
            if !shard.has_work() || (self.parked.borrow().is_empty() && self.hired.get() >= shard.in_flight_max()) {
                return;
            }
            let Some(job) = shard.next_job(self.clock.instant()) else { return };
            drop(shard);
            let delivery = Delivery { job: Some(job), crew: Rc::clone(self) };
            let parked = self.parked.borrow_mut().pop();
            match parked {
                Some(seat) => seat.give(delivery),
                None => self.spawn_worker(delivery),
            }
        }
    }

    fn spawn_worker(self: &Rc<Self>, first: Delivery<C>) {
        let seat = Rc::new(Slot { delivery: Cell::new(Some(first)), waker: Cell::default() });
        self.hired.set(self.hired.get() + 1);
        tokio::task::spawn_local(work(ActiveWorker(Rc::clone(self)), seat));
    }
}

async fn work<C: Transport>(hired: ActiveWorker<C>, seat: Rc<Slot<C>>) {
    loop {
        let mut next = Some(seat.delivery().await);
        while let Some(delivery) = next {
            next = delivery.carry().await;
            // Even a receiver that always answers at once must let the others go on.
            tokio::task::coop::consume_budget().await;
        }
        hired.0.parked.borrow_mut().push(Rc::clone(&seat));
    }
}

impl<C: Transport> Slot<C> {
    fn give(&self, delivery: Delivery<C>) {
        self.delivery.set(Some(delivery));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    async fn delivery(&self) -> Delivery<C> {
        poll_fn(|cx| {
            let delivery = self.delivery.take();
            if delivery.is_none() {
                self.waker.set(Some(cx.waker().clone()));
            }
            delivery.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

impl<C: Transport> Delivery<C> {
    /// Makes the attempt and says how it ended; becomes the next delivery whose turn it is.
    async fn carry(mut self) -> Option<Self> {
        let job = self.job.as_ref()?;
        let Job { webhook, event, timeout, began, .. } = job;
        let parcel = AttemptRequest { webhook, event, attempt: job.number(), timeout: *timeout, began: *began };
        let outcome = self.crew.carrier.carry(parcel).await;
        let job = self.job.take()?;
        let now = self.crew.clock.instant();
        let mut shard = self.crew.shard.borrow_mut();
        shard.step(now, Input::Finished(job, outcome));
        self.job = shard.next_job(now);
        drop(shard);
        self.crew.bell.notify_one();
        self.job.is_some().then_some(self)
    }
}

impl<C: Transport> Drop for Delivery<C> {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            let now = self.crew.clock.instant();
            self.crew.shard.borrow_mut().step(now, Input::Dropped(job));
            self.crew.bell.notify_one();
        }
    }
}

/// A worker's place; a worker that ends, by a panic of the carrier, leaves it to another.
struct ActiveWorker<C: Transport>(Rc<WorkerPool<C>>);

impl<C: Transport> Drop for ActiveWorker<C> {
    fn drop(&mut self) {
        self.0.hired.set(self.0.hired.get() - 1);
        self.0.bell.notify_one();
    }
}
