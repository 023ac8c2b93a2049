//! The idle connections of a shard, by origin. A webhook with its own TLS settings shares its connections with no other
//! webhook.

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

/// How often expired connections are closed while the pool has connections.
const TIMEOUT_CHECK_INTERVAL: Duration = Duration::from_millis(IDLE_CONNECTION_TIMEOUT.as_millis() as u64 / 4);

/// A pool of idle connections. A connection is closed after [`IDLE_CONNECTION_TIMEOUT`].
#[derive(Debug)]
pub(super) struct ConnectionPool<C = Box<Connection>> {
    idle: Rc<RefCell<IdleConnections<C>>>,
    clock: Clock,
}

#[derive(Debug)]
struct IdleConnections<C> {
    /// Connections with the default TLS settings, and without TLS.
    default_tls: PoolsByHost<C>,
    /// Connections with a webhook's own TLS settings, by the address of the settings in memory. The settings are kept
    /// here, so that no other settings get the same address.
    custom_tls: HashMap<*const EndpointTls, (Arc<EndpointTls>, PoolsByHost<C>)>,
    count: usize,
    is_swept: bool,
}

/// Connections by host, so that a lookup needs no allocated key. A host rarely has more than one scheme and port.
type PoolsByHost<C> = HashMap<Box<str>, SmallVec<[OriginPool<C>; 1]>>;

#[derive(Debug)]
struct OriginPool<C> {
    tls: bool,
    port: u16,
    /// The connections with the time since which they are idle. The last one is used next, so that unneeded ones
    /// expire.
    connections: Vec<(C, Instant)>,
}

impl<C: 'static> ConnectionPool<C> {
    /// An empty pool.
    pub(super) fn new(clock: Clock) -> Self {
        let idle =
            IdleConnections { default_tls: HashMap::new(), custom_tls: HashMap::new(), count: 0, is_swept: false };
        Self { idle: Rc::new(RefCell::new(idle)), clock }
    }

    /// Takes the most recently used connection to the endpoint's origin with the same TLS settings. `None` if there is
    /// none, or if it has expired at the time `now`.
    pub(super) fn take(&self, endpoint: &Endpoint, custom_tls: Option<&Arc<EndpointTls>>, now: Instant) -> Option<C> {
        let mut idle = self.idle.borrow_mut();
        let hosts = match custom_tls {
            None => &mut idle.default_tls,
            Some(custom_tls) => &mut idle.custom_tls.get_mut(&Arc::as_ptr(custom_tls))?.1,
        };
        let origin = hosts.get_mut(&endpoint.host)?;
        let (connection, since) = origin.iter_mut().find(|origin| origin.is_of(endpoint))?.connections.pop()?;
        idle.count -= 1;
        // If the newest connection has expired, the sweep soon closes the others.
        (now.saturating_duration_since(since) < IDLE_CONNECTION_TIMEOUT).then_some(connection)
    }

    /// Adds an idle connection, or closes it if the pool is full.
    pub(super) fn put(&self, endpoint: &Endpoint, custom_tls: Option<&Arc<EndpointTls>>, connection: C, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        if idle.count >= IDLE_CONNECTIONS_PER_SHARD {
            return;
        }
        idle.count += 1;
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::task::spawn_local(sweep(Rc::downgrade(&self.idle), self.clock.clone()));
        }
        let hosts = match custom_tls {
            None => &mut idle.default_tls,
            Some(custom_tls) => {
                &mut idle
                    .custom_tls
                    .entry(Arc::as_ptr(custom_tls))
                    .or_insert_with(|| (Arc::clone(custom_tls), HashMap::new()))
                    .1
            }
        };
        let new =
            |connection| OriginPool { tls: endpoint.tls, port: endpoint.port, connections: vec![(connection, now)] };
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
        idle.default_tls.clear();
        idle.custom_tls.clear();
        idle.count = 0;
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.idle.borrow().count
    }
}

/// Closes expired connections until none is left or the pool is dropped.
async fn sweep<C>(idle: Weak<RefCell<IdleConnections<C>>>, clock: Clock) {
    loop {
        tokio::time::sleep(TIMEOUT_CHECK_INTERVAL).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut idle = idle.borrow_mut();
        idle.close_old(clock.instant());
        if idle.count == 0 {
            idle.is_swept = false;
            return;
        }
    }
}

impl<C> IdleConnections<C> {
    fn close_old(&mut self, now: Instant) {
        let mut closed = close_old(&mut self.default_tls, now);
        self.custom_tls.retain(|_, (_, hosts)| {
            closed += close_old(hosts, now);
            !hosts.is_empty()
        });
        self.count -= closed;
    }
}

/// Closes expired connections and returns their number.
fn close_old<C>(hosts: &mut PoolsByHost<C>, now: Instant) -> usize {
    let mut closed = 0;
    hosts.retain(|_, of_host| {
        of_host.retain(|origin| {
            // Connections are in the order of their idle times.
            let old = origin.connections.partition_point(|(_, since)| now - *since >= IDLE_CONNECTION_TIMEOUT);
            origin.connections.drain(..old);
            closed += old;
            !origin.connections.is_empty()
        });
        !of_host.is_empty()
    });
    closed
}

impl<C> OriginPool<C> {
    fn is_of(&self, endpoint: &Endpoint) -> bool {
        self.port == endpoint.port && self.tls == endpoint.tls
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Egress;
    use crate::model::Timestamp;
    use crate::outbound::EgressGuard;
    use crate::outbound::tls::TlsSettings;
    use tokio::task::LocalSet;

    fn endpoint(url: &str) -> Endpoint {
        let rules = Egress { allow: vec![], deny: vec![], require_https: false, ca_file: None, dns_servers: vec![] };
        Endpoint::try_new(url, &EgressGuard::new(&rules, [])).unwrap()
    }

    fn pool() -> ConnectionPool<u32> {
        ConnectionPool::new(Clock::test(Timestamp::from_millis(0)))
    }

    impl ConnectionPool<u32> {
        fn take_now(&self, endpoint: &Endpoint, custom_tls: Option<&Arc<EndpointTls>>) -> Option<u32> {
            self.take(endpoint, custom_tls, self.clock.instant())
        }

        fn put_now(&self, endpoint: &Endpoint, custom_tls: Option<&Arc<EndpointTls>>, connection: u32) {
            self.put(endpoint, custom_tls, connection, self.clock.instant());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_used_connection_is_reused_first_and_origins_are_separate() {
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
    async fn own_tls_settings_share_no_connection() {
        LocalSet::new()
            .run_until(async {
                let (pool, at) = (pool(), endpoint("https://a.example/"));
                let custom_tls = || Arc::new(EndpointTls::stored(TlsSettings::default()));
                let (one, other) = (custom_tls(), custom_tls());
                pool.put_now(&at, Some(&one), 1);
                pool.put_now(&at, None, 2);
                assert_eq!(pool.take_now(&at, Some(&other)), None, "equal ones are others");
                assert_eq!(pool.take_now(&endpoint("https://b.example/"), Some(&one)), None);
                assert_eq!((pool.take_now(&at, None), pool.take_now(&at, None)), (Some(2), None));
                assert_eq!((pool.take_now(&at, Some(&one)), pool.take_now(&at, Some(&one))), (Some(1), None));
                pool.put_now(&at, Some(&other), 3);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT * 2).await;
                assert_eq!(pool.len(), 0);
                assert!(pool.idle.borrow().custom_tls.is_empty(), "nor are the settings held any more");
                pool.put_now(&at, Some(&one), 4);
                pool.clear();
                assert_eq!((pool.len(), pool.take_now(&at, Some(&one))), (0, None));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn expired_connections_are_closed_in_the_background() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                let at = endpoint("http://a.example/");
                pool.put_now(&at, None, 1);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT / 2).await;
                pool.put_now(&at, None, 2);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT / 2 + TIMEOUT_CHECK_INTERVAL).await;
                assert_eq!(pool.len(), 1);
                tokio::time::sleep(IDLE_CONNECTION_TIMEOUT).await;
                assert_eq!(pool.len(), 0);
                assert!(pool.idle.borrow().default_tls.is_empty() && !pool.idle.borrow().is_swept);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_connection_is_not_returned() {
        LocalSet::new()
            .run_until(async {
                let pool = pool();
                let at = endpoint("http://a.example/");
                pool.put_now(&at, None, 1);
                // The clock moves in one step, before the sweep runs.
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
