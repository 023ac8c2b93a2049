//! The slots of connections. When all are in use, connections that wait for their clients give way to new ones.
//!
//! In this order: those of an address with more than its part of all connections before others; those that never sent a
//! byte, idle ones, those that send a head slowly, those that send a body slowly; and of these the oldest first. A
//! connection whose request is being handled never gives way.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::body_budget::network_of;
use super::connection::{ConnectionMonitor, Connections};
use super::socket::{SocketState, WaitingFor};
use crate::limits::{CROWD_PART, GIVE_WAY_RETRY, GIVING_WAY_PART};
use crate::runtime::Metrics;

/// The slots that all workers share.
#[derive(Debug)]
pub(super) struct ConnectionSlots {
    max: usize,
    metrics: Arc<Metrics>,
    permits: Arc<Semaphore>,
    table: Mutex<SlotTable>,
    /// Wakes the task of each worker that closes connections.
    workers: Box<[Notify]>,
}

#[derive(Debug, Default)]
struct SlotTable {
    next: u64,
    open: HashMap<u64, OpenConnection>,
    by_network: HashMap<u64, usize>,
}

#[derive(Debug)]
struct OpenConnection {
    state: Weak<SocketState>,
    network: u64,
    worker: usize,
}

/// The slot of an open connection. It is free again on drop.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    id: u64,
    _permit: OwnedSemaphorePermit,
}

/// The position of a connection in the order of giving way. The smallest is first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GiveWayOrder {
    is_of_no_crowd: bool,
    waiting_for: WaitingFor,
    age: Reverse<Duration>,
    id: u64,
}

impl ConnectionSlots {
    /// Slots for `max` connections of this number of workers.
    pub(super) fn new(max: usize, workers: usize, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            max,
            metrics: Arc::clone(metrics),
            permits: Arc::new(Semaphore::new(max)),
            table: Mutex::default(),
            workers: (0..workers).map(|_| Notify::new()).collect(),
        })
    }

    /// A permit for one connection. Without a free one, other connections give way.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        let mut permit = pin!(Arc::clone(&self.permits).acquire_owned());
        loop {
            let give_way = async {
                self.give_way();
                tokio::time::sleep(GIVE_WAY_RETRY).await;
            };
            tokio::select! {
                biased;
                // The semaphore is never closed.
                permit = &mut permit => return permit.ok(),
                () = give_way => {}
            }
        }
    }

    /// Puts a connection of a worker into its slot.
    pub(super) fn occupy(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        (monitor, peer, worker): (&ConnectionMonitor, IpAddr, usize),
    ) -> ConnectionSlot {
        let network = network_of(peer);
        let mut table = self.table();
        let id = table.next;
        table.next += 1;
        *table.by_network.entry(network).or_default() += 1;
        table.open.insert(id, OpenConnection { state: Arc::downgrade(monitor.socket_state()), network, worker });
        drop(table);
        ConnectionSlot { slots: Arc::clone(self), id, _permit: permit }
    }

    /// Closes the connections of a worker that give way. Runs as long as the worker.
    pub(super) async fn close_giving_way(&self, worker: usize, connections: &Connections) {
        if let Some(wake) = self.workers.get(worker) {
            loop {
                wake.notified().await;
                connections.close_giving_way();
            }
        }
    }

    /// Marks the connections that give way, and wakes their workers. Returns their number.
    fn give_way(&self) -> usize {
        let table = self.table();
        let mut waiting: Vec<_> = table
            .open
            .iter()
            .filter_map(|(id, connection)| {
                let state = connection.state.upgrade().filter(|state| !state.gives_way.get())?;
                let (waiting_for, age) = state.waiting()?;
                let crowd = table.by_network.get(&connection.network).copied().unwrap_or_default();
                let is_of_no_crowd = crowd <= self.max / CROWD_PART;
                Some((
                    GiveWayOrder { is_of_no_crowd, waiting_for, age: Reverse(age), id: *id },
                    connection.worker,
                    state,
                ))
            })
            .collect();
        let count = waiting.len().div_ceil(GIVING_WAY_PART);
        if count > 0 && count < waiting.len() {
            waiting.select_nth_unstable_by(count, |one, other| one.0.cmp(&other.0));
        }
        for (_, worker, state) in waiting.iter().take(count) {
            state.gives_way.set(true);
            if let Some(wake) = self.workers.get(*worker) {
                wake.notify_one();
            }
        }
        self.metrics.connections_gave_way.inc_by(count as u64);
        count
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut table = self.slots.table();
        if let Some(OpenConnection { network, .. }) = table.open.remove(&self.id)
            && let Some(count) = table.by_network.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                table.by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::socket::ConnectionPhase;
    use crate::limits::{BODY_SLOW_RATE, SLOW_CONNECTION_AGE, TIMEOUT_CHECK_INTERVAL};

    /// Connections of one worker, and their slots.
    struct World {
        slots: Arc<ConnectionSlots>,
        connections: Connections,
        open: Vec<(std::rc::Rc<ConnectionMonitor>, ConnectionSlot)>,
    }

    impl World {
        fn new(max: usize) -> Self {
            Self {
                slots: ConnectionSlots::new(max, 1, &Metrics::new().unwrap()),
                connections: Connections::default(),
                open: Vec::new(),
            }
        }

        fn connect(&mut self, peer: u8, phase: ConnectionPhase) -> usize {
            let monitor = self.connections.register();
            monitor.socket_state().enter(phase);
            let permit = Arc::clone(&self.slots.permits).try_acquire_owned().unwrap();
            let slot = self.slots.occupy(permit, (&monitor, [10, 0, 0, peer].into(), 0));
            self.open.push((monitor, slot));
            self.open.len() - 1
        }

        fn pass(&self, time: Duration) {
            for _ in 0..time.as_millis() / TIMEOUT_CHECK_INTERVAL.as_millis() {
                self.connections.sweep();
            }
        }

        /// The connections in the order of giving way, one at a time.
        fn order(&self) -> Vec<usize> {
            let mut order = Vec::new();
            while self.slots.give_way() > 0 {
                let marked = |n: &usize| self.open[*n].0.socket_state().gives_way.get() && !order.contains(n);
                order.push((0..self.open.len()).find(marked).unwrap());
            }
            order
        }
    }

    #[test]
    fn those_that_wait_for_their_clients_give_way_in_order() {
        let mut world = World::new(40);
        let body = world.connect(1, ConnectionPhase::Body);
        let fast_body = world.connect(1, ConnectionPhase::Body);
        let head = world.connect(1, ConnectionPhase::Head);
        for phase in [ConnectionPhase::Busy, ConnectionPhase::Offloaded, ConnectionPhase::Streaming] {
            world.connect(1, phase);
        }
        let old = world.connect(1, ConnectionPhase::Idle);
        world.pass(SLOW_CONNECTION_AGE);
        let young = world.connect(1, ConnectionPhase::Idle);
        let new = world.connect(1, ConnectionPhase::New);
        let young_head = world.connect(1, ConnectionPhase::Head);
        let rate = BODY_SLOW_RATE * SLOW_CONNECTION_AGE.as_secs();
        world.open[fast_body].0.body_received(rate as usize);
        world.open[body].0.body_received(rate as usize - 1);
        assert_eq!(world.order(), [new, old, young, head, body], "not {young_head}, which is young");
    }

    #[test]
    fn an_address_with_many_connections_gives_way_first() {
        let mut world = World::new(40);
        let alone = world.connect(1, ConnectionPhase::New);
        world.pass(SLOW_CONNECTION_AGE);
        let crowd: Vec<_> = (0..=40 / CROWD_PART).map(|_| world.connect(2, ConnectionPhase::Idle)).collect();
        assert_eq!(world.order(), [crowd, vec![alone]].concat());
        assert_eq!(world.slots.metrics.connections_gave_way.get(), world.open.len() as u64);
        world.open.clear();
        assert!(world.slots.table().open.is_empty() && world.slots.table().by_network.is_empty());
        assert_eq!(world.slots.permits.available_permits(), 40);
    }

    #[test]
    fn a_connection_that_got_its_request_meanwhile_stays() {
        let mut world = World::new(2);
        let idle = world.connect(1, ConnectionPhase::Idle);
        assert_eq!(world.slots.give_way(), 1);
        world.open[idle].0.socket_state().enter(ConnectionPhase::Busy);
        world.connections.close_giving_way();
        assert!(!world.open[idle].0.closes_now());
        world.open[idle].0.socket_state().enter(ConnectionPhase::Idle);
        assert_eq!(world.slots.give_way(), 1);
        world.connections.close_giving_way();
        assert!(world.open[idle].0.closes_now());
    }
}
