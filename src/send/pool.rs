//! Idle connections of a shard, by origin; those of a webhook with TLS settings of its own are its own.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use super::connection::Connection;
use crate::limits::{IDLE_CONNECTION_TIMEOUT, IDLE_CONNECTIONS_PER_SHARD};
use crate::outbound::Endpoint;
use crate::outbound::tls::EndpointTls;
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
    /// Of the server's own way of TLS, and without TLS.
    usual: Hosts<C>,
    /// Of settings of their own, by where these are in memory. They are held here, so that no others come to be there.
    own: HashMap<*const EndpointTls, (Arc<EndpointTls>, Hosts<C>)>,
    count: usize,
    is_swept: bool,
}

/// By host, so that a look-up needs no key of its own; a host rarely has more than one scheme and port.
type Hosts<C> = HashMap<Box<str>, SmallVec<[Origin<C>; 1]>>;

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
        let idle = Idle { usual: HashMap::new(), own: HashMap::new(), count: 0, is_swept: false };
        Self { idle: Rc::new(RefCell::new(idle)), clock }
    }

    /// The connection to the endpoint's origin that was used last, of those made with the same settings.
    pub(super) fn take(&self, endpoint: &Endpoint, own: Option<&Arc<EndpointTls>>, now: Instant) -> Option<C> {
        let mut idle = self.idle.borrow_mut();
        let hosts = match own {
            None => &mut idle.usual,
            Some(own) => &mut idle.own.get_mut(&Arc::as_ptr(own))?.1,
        };
        let origin = hosts.get_mut(&endpoint.host)?;
        let (connection, since) = origin.iter_mut().find(|origin| origin.is_of(endpoint))?.connections.pop()?;
        idle.count -= 1;
        // If the newest is too old, the sweep will soon see to the others.
        (now.saturating_duration_since(since) < IDLE_CONNECTION_TIMEOUT).then_some(connection)
    }

    /// Keeps an idle connection, if there is room.
    pub(super) fn put(&self, endpoint: &Endpoint, own: Option<&Arc<EndpointTls>>, connection: C, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.count >= IDLE_CONNECTIONS_PER_SHARD {
            return;
        }
        idle.count += 1;
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::task::spawn_local(sweep(Rc::downgrade(&self.idle), self.clock.clone()));
        }
        let hosts = match own {
            None => &mut idle.usual,
            Some(own) => &mut idle.own.entry(Arc::as_ptr(own)).or_insert_with(|| (Arc::clone(own), HashMap::new())).1,
        };
        let new = |connection| Origin { tls: endpoint.tls, port: endpoint.port, connections: vec![(connection, now)] };
        let Some(of_host) = hosts.get_mut(&endpoint.host) else {
            hosts.insert(endpoint.host.clone(), smallvec![new(connection)]);
            return;
        };
        match of_host.iter_mut().find(|origin| origin.is_of(endpoint)) {
            Some(origin) => origin.connections.push((connection, now)),
            None => of_host.push(new(connection)),
        }
    }

    /// Closes all idle connections.
    pub(super) fn clear(&self) {
        let mut idle = self.idle.borrow_mut();
        idle.usual.clear();
        idle.own.clear();
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
        let mut closed = close_old(&mut self.usual, now);
        self.own.retain(|_, (_, hosts)| {
            closed += close_old(hosts, now);
            !hosts.is_empty()
        });
        self.count -= closed;
    }
}

/// Closes old connections and says how many there were.
fn close_old<C>(hosts: &mut Hosts<C>, now: Instant) -> usize {
    let mut closed = 0;
    hosts.retain(|_, of_host| {
        of_host.retain(|origin| {
            // Pushed in the order of time.
            let old = origin.connections.partition_point(|(_, since)| now - *since >= IDLE_CONNECTION_TIMEOUT);
            origin.connections.drain(..old);
            closed += old;
            !origin.connections.is_empty()
        });
        !of_host.is_empty()
    });
    closed
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
    use crate::outbound::Guard;
    use crate::outbound::tls::TlsSettings;
    use tokio::task::LocalSet;

    fn endpoint(url: &str) -> Endpoint {
        let rules = Egress { allow: vec![], deny: vec![], require_https: false, ca_file: None };
        Endpoint::try_new(url, &Guard::new(&rules, [])).unwrap()
    }

    fn pool() -> Pool<u32> {
        Pool::new(Clock::test(Timestamp::from_millis(0)))
    }

    impl Pool<u32> {
        fn take_now(&self, endpoint: &Endpoint, own: Option<&Arc<EndpointTls>>) -> Option<u32> {
            self.take(endpoint, own, self.clock.instant())
        }

        fn put_now(&self, endpoint: &Endpoint, own: Option<&Arc<EndpointTls>>, connection: u32) {
            self.put(endpoint, own, connection, self.clock.instant());
        }
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
                pool.put_now(&one, None, 1);
                pool.put_now(&one, None, 2);
                pool.put_now(&tls, None, 3);
                assert_eq!(pool.take_now(&port, None), None);
                assert_eq!(pool.take_now(&endpoint("http://a.example/other"), None), Some(2));
                assert_eq!(pool.take_now(&tls, None), Some(3));
                assert_eq!((pool.take_now(&one, None), pool.take_now(&one, None)), (Some(1), None));
                assert_eq!(pool.len(), 0);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn settings_of_their_own_share_with_nobody() {
        LocalSet::new()
            .run_until(async {
                let (pool, at) = (pool(), endpoint("https://a.example/"));
                let own = || Arc::new(EndpointTls::stored(TlsSettings::default()));
                let (one, other) = (own(), own());
                pool.put_now(&at, Some(&one), 1);
                pool.put_now(&at, None, 2);
                assert_eq!(pool.take_now(&at, Some(&other)), None, "equal ones are others");
                assert_eq!(pool.take_now(&endpoint("https://b.example/"), Some(&one)), None);
                assert_eq!((pool.take_now(&at, None), pool.take_now(&at, None)), (Some(2), None));
                assert_eq!((pool.take_now(&at, Some(&one)), pool.take_now(&at, Some(&one))), (Some(1), None));
                pool.put_now(&at, Some(&other), 3);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT * 2).await;
                assert_eq!(pool.len(), 0);
                assert!(pool.idle.borrow().own.is_empty(), "nor are the settings held any more");
                pool.put_now(&at, Some(&one), 4);
                pool.clear();
                assert_eq!((pool.len(), pool.take_now(&at, Some(&one))), (0, None));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn old_ones_are_closed_without_anybody_asking() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                let at = endpoint("http://a.example/");
                pool.put_now(&at, None, 1);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT / 2).await;
                pool.put_now(&at, None, 2);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT / 2 + SWEEP_INTERVAL).await;
                assert_eq!(pool.len(), 1);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT).await;
                assert_eq!(pool.len(), 0);
                assert!(pool.idle.borrow().usual.is_empty() && !pool.idle.borrow().is_swept);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_too_old_is_not_given() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                let at = endpoint("http://a.example/");
                pool.put_now(&at, None, 1);
                // The clock moves in one step, before the sweep has its turn.
                tokio::time::advance(IDLE_CONNECTION_TIMEOUT + Duration::from_millis(1)).await;
                assert_eq!(pool.take_now(&at, None), None);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_pool_is_bounded() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                for n in 0..=IDLE_CONNECTIONS_PER_SHARD as u32 {
                    pool.put_now(&endpoint(&format!("http://h{n}.example/")), None, n);
                }
                assert_eq!(pool.len(), IDLE_CONNECTIONS_PER_SHARD);
            })
            .await;
    }
}
