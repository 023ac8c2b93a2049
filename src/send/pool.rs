//! Idle connections of a shard, by origin.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use smallvec::SmallVec;

use super::connection::Connection;
use crate::limits::{IDLE_CONNECTION_TIMEOUT, IDLE_CONNECTIONS_PER_SHARD};
use crate::model::Endpoint;
use crate::runtime::{Clock, Instant};

/// How often old connections are looked for, while there are any.
const SWEEP_INTERVAL: Duration = Duration::from_millis(IDLE_CONNECTION_TIMEOUT.as_millis() as u64 / 4);

/// See the module.
#[derive(Debug)]
pub(super) struct Pool<C = Box<Connection>> {
    idle: Rc<RefCell<Idle<C>>>,
    clock: Clock,
}

#[derive(Debug)]
struct Idle<C> {
    /// By host, so that a look-up needs no key of its own; a host rarely has more than one scheme and port.
    by_host: HashMap<Box<str>, SmallVec<[Origin<C>; 1]>>,
    count: usize,
    is_swept: bool,
}

#[derive(Debug)]
struct Origin<C> {
    tls: bool,
    port: u16,
    /// The one used last is at the end and is used next, so that those beyond the need grow old.
    connections: Vec<(C, Instant)>,
}

impl<C: 'static> Pool<C> {
    /// An empty pool.
    pub(super) fn new(clock: Clock) -> Self {
        let idle = Idle { by_host: HashMap::new(), count: 0, is_swept: false };
        Self { idle: Rc::new(RefCell::new(idle)), clock }
    }

    /// The connection to the endpoint's origin that was used last.
    pub(super) fn take(&self, endpoint: &Endpoint) -> Option<C> {
        let mut idle = self.idle.borrow_mut();
        let origin = idle.by_host.get_mut(&endpoint.host)?;
        let (connection, since) = origin.iter_mut().find(|origin| origin.is_of(endpoint))?.connections.pop()?;
        idle.count -= 1;
        // If the newest is too old, the sweep will soon see to the others.
        (self.clock.instant() - since < IDLE_CONNECTION_TIMEOUT).then_some(connection)
    }

    /// Keeps an idle connection, if there is room.
    pub(super) fn put(&self, endpoint: &Endpoint, connection: C) {
        let now = self.clock.instant();
        let mut idle = self.idle.borrow_mut();
        if idle.count >= IDLE_CONNECTIONS_PER_SHARD {
            return;
        }
        idle.count += 1;
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::task::spawn_local(sweep(Rc::downgrade(&self.idle), self.clock.clone()));
        }
        if !idle.by_host.contains_key(&endpoint.host) {
            idle.by_host.insert(endpoint.host.clone(), SmallVec::new());
        }
        let Some(of_host) = idle.by_host.get_mut(&endpoint.host) else { return };
        match of_host.iter_mut().find(|origin| origin.is_of(endpoint)) {
            Some(origin) => origin.connections.push((connection, now)),
            None => {
                of_host.push(Origin { tls: endpoint.tls, port: endpoint.port, connections: vec![(connection, now)] });
            }
        }
    }

    /// Closes all idle connections.
    pub(super) fn clear(&self) {
        let mut idle = self.idle.borrow_mut();
        idle.by_host.clear();
        idle.count = 0;
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.idle.borrow().count
    }
}

/// Closes old connections until there are none left, or the pool is gone.
async fn sweep<C>(idle: Weak<RefCell<Idle<C>>>, clock: Clock) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = idle.borrow_mut();
        idle.close_old(clock.instant());
        if idle.count == 0 {
            idle.is_swept = false;
            return;
        }
    }
}

impl<C> Idle<C> {
    fn close_old(&mut self, now: Instant) {
        let mut closed = 0;
        self.by_host.retain(|_, of_host| {
            of_host.retain(|origin| {
                // Pushed in the order of time.
                let old = origin.connections.partition_point(|(_, since)| now - *since >= IDLE_CONNECTION_TIMEOUT);
                origin.connections.drain(..old);
                closed += old;
                !origin.connections.is_empty()
            });
            !of_host.is_empty()
        });
        self.count -= closed;
    }
}

impl<C> Origin<C> {
    fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.port == endpoint.port && self.tls == endpoint.tls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Egress;
    use crate::model::Timestamp;
    use crate::send::Guard;
    use tokio::task::LocalSet;

    fn endpoint(url: &str) -> Endpoint {
        let rules = Egress { allow: vec![], deny: vec![], require_https: false, ca_file: None };
        Endpoint::try_new(url, &Guard::new(&rules, [])).unwrap()
    }

    fn pool() -> Pool<u32> {
        Pool::new(Clock::test(Timestamp::from_millis(0)))
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_used_last_is_used_next_and_origins_are_apart() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                let (one, tls, port) = (
                    endpoint("http://a.example/x"),
                    endpoint("https://a.example:80/"),
                    endpoint("http://a.example:81/"),
                );
                pool.put(&one, 1);
                pool.put(&one, 2);
                pool.put(&tls, 3);
                assert_eq!(pool.take(&port), None);
                assert_eq!(pool.take(&endpoint("http://a.example/other")), Some(2));
                assert_eq!(pool.take(&tls), Some(3));
                assert_eq!((pool.take(&one), pool.take(&one)), (Some(1), None));
                assert_eq!(pool.len(), 0);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn old_ones_are_closed_without_anybody_asking() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                let at = endpoint("http://a.example/");
                pool.put(&at, 1);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT / 2).await;
                pool.put(&at, 2);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT / 2 + SWEEP_INTERVAL).await;
                assert_eq!(pool.len(), 1);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT).await;
                assert_eq!(pool.len(), 0);
                assert!(pool.idle.borrow().by_host.is_empty() && !pool.idle.borrow().is_swept);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_too_old_is_not_given() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                let at = endpoint("http://a.example/");
                pool.put(&at, 1);
                // The clock moves in one step, before the sweep has its turn.
                tokio::time::advance(IDLE_CONNECTION_TIMEOUT + Duration::from_millis(1)).await;
                assert_eq!(pool.take(&at), None);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_pool_is_bounded() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                for n in 0..=IDLE_CONNECTIONS_PER_SHARD as u32 {
                    pool.put(&endpoint(&format!("http://h{n}.example/")), n);
                }
                assert_eq!(pool.len(), IDLE_CONNECTIONS_PER_SHARD);
            })
            .await;
    }
}
