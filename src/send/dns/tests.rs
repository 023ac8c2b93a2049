//! Tests of name resolution with a DNS server on a real socket, which does not answer for some names.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use super::*;
use crate::limits::{DNS_FAST_LOOKUPS, DNS_SLOW_AFTER, DNS_SLOW_LOOKUPS, DNS_STALE_MAX, DNS_TIMEOUT};
use crate::model::Timestamp;

/// A DNS server. Names that start with `dead` get no answer, names that start with `none` do not exist, `fails` gets a
/// SERVFAIL, and all others have the address 192.0.2.1 with a TTL of 60 s.
struct FakeServer {
    at: SocketAddr,
    queries: Arc<AtomicUsize>,
    names: Arc<Mutex<HashSet<String>>>,
}

impl FakeServer {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let (queries, names) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<HashSet<String>>>::default());
        let (counted, seen) = (Arc::clone(&queries), Arc::clone(&names));
        tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut query).await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (name, answer) = answer(&query[..len]);
                seen.lock().unwrap().insert(name);
                if let Some(answer) = answer {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Self { at, queries, names }
    }
}

/// The name of a query, and the answer, if there is one.
fn answer(query: &[u8]) -> (String, Option<Vec<u8>>) {
    let (mut name, mut at) = (String::new(), 12);
    while query[at] != 0 {
        let len = usize::from(query[at]);
        name.push_str(std::str::from_utf8(&query[at + 1..=at + len]).unwrap());
        name.push('.');
        at += len + 1;
    }
    let is_v4 = query[at + 2] == 1;
    let (code, has_answer) = match () {
        () if name.starts_with("dead") => return (name, None),
        () if name.starts_with("none") => (3, false),
        () if name.starts_with("fails") => (2, false),
        () => (0, is_v4),
    };
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
    answer.extend(&query[12..at + 5]);
    if has_answer {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
    }
    (name, Some(answer))
}

fn resolver(server: &FakeServer, files: &Path) -> DnsResolver {
    let files = SystemFiles::at(files.join("resolv.conf"), files.join("hosts"));
    let clock = Clock::test(Timestamp::from_millis(0));
    DnsResolver::start_with(files, &[server.at], clock, Metrics::new().unwrap()).unwrap()
}

fn public() -> Vec<IpAddr> {
    vec![Ipv4Addr::new(192, 0, 2, 1).into()]
}

fn tenant(name: &str) -> Arc<str> {
    name.into()
}

#[tokio::test]
async fn dead_names_delay_no_other_name() {
    let (server, files) = (FakeServer::start().await, tempfile::tempdir().unwrap());
    let resolver = resolver(&server, files.path());
    let dead: Vec<_> = (0..100)
        .map(|n| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&format!("dead{n}.test"), &tenant("a")).await })
        })
        .collect();
    sleep(Duration::from_millis(20)).await;
    // Another tenant has a place at once, and the same tenant as soon as lookups are slow.
    for (of, name) in [("b", "one.test"), ("b", "two.test"), ("a", "three.test"), ("c", "four.test")] {
        let found = timeout(DNS_TIMEOUT * 3, async {
            loop {
                match timeout(DNS_TIMEOUT, resolver.resolve(name, &tenant(of))).await {
                    Ok(Ok(found)) => break found,
                    _ => assert_eq!(of, "a", "{name}"),
                }
            }
        });
        assert_eq!(found.await.unwrap(), public());
    }
    for lookup in dead {
        lookup.abort();
    }
}

#[tokio::test]
async fn all_who_ask_share_one_lookup_and_the_result_is_kept() {
    let (server, files) = (FakeServer::start().await, tempfile::tempdir().unwrap());
    let resolver = resolver(&server, files.path());
    let asked: Vec<_> = (0..50)
        .map(|n| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve("one.test", &tenant(&n.to_string())).await.unwrap() })
        })
        .collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap(), public());
    }
    assert_eq!(resolver.resolve("one.test", &tenant("a")).await.unwrap(), public());
    assert_eq!(server.queries.load(Ordering::Relaxed), 2, "one for each family");
    let why = resolver.resolve("none.test", &tenant("a")).await.unwrap_err();
    assert!(why.to_string().contains("does not exist"), "{why}");
    assert!(resolver.resolve("none.test", &tenant("a")).await.is_err());
    assert_eq!(server.queries.load(Ordering::Relaxed), 4, "the failure is kept as well");
    let why = resolver.resolve("fails.test", &tenant("a")).await.unwrap_err();
    assert!(why.to_string().contains("answers"), "{why}");
}

#[tokio::test]
async fn a_lookup_that_nobody_waits_for_ends() {
    let (server, files) = (FakeServer::start().await, tempfile::tempdir().unwrap());
    let resolver = resolver(&server, files.path());
    assert!(timeout(Duration::from_millis(100), resolver.resolve("dead.test", &tenant("a"))).await.is_err());
    sleep(TICK * 4).await;
    let sent = server.queries.load(Ordering::Relaxed);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(server.queries.load(Ordering::Relaxed), sent, "nothing is sent again");
}

#[tokio::test]
async fn hosts_and_search_domains_are_honoured_and_read_again() {
    let (server, files) = (FakeServer::start().await, tempfile::tempdir().unwrap());
    let hosts = files.path().join("hosts");
    std::fs::write(&hosts, "192.0.2.7 hooks\n").unwrap();
    std::fs::write(files.path().join("resolv.conf"), "search corp.test\noptions ndots:2\n").unwrap();
    let resolver = resolver(&server, files.path());
    let of = tenant("a");
    assert_eq!(resolver.resolve("hooks", &of).await.unwrap(), [IpAddr::from(Ipv4Addr::new(192, 0, 2, 7))]);
    assert_eq!(server.queries.load(Ordering::Relaxed), 0);
    assert_eq!(resolver.resolve("short", &of).await.unwrap(), public());
    assert_eq!(resolver.resolve("a.b.example", &of).await.unwrap(), public());
    assert_eq!(resolver.resolve("under_score_.internal", &of).await.unwrap(), public());
    let asked = server.names.lock().unwrap().clone();
    assert!(asked.contains("short.corp.test.") && asked.contains("a.b.example."), "{asked:?}");
    std::fs::write(&hosts, "192.0.2.8 hooks # moved\n").unwrap();
    let moved = [IpAddr::from(Ipv4Addr::new(192, 0, 2, 8))];
    let seen = timeout(DNS_FILES_INTERVAL * 4, async {
        while resolver.resolve("hooks", &of).await.unwrap() != moved {
            sleep(TICK).await;
        }
    });
    seen.await.unwrap();
}

/// Lookups without a thread, on a clock that the test sets.
struct Simulation {
    lookups: Lookups,
    now: crate::runtime::Instant,
    metrics: Arc<Metrics>,
}

impl Simulation {
    fn new() -> Self {
        let metrics = Metrics::new().unwrap();
        let now = Clock::test(Timestamp::from_millis(0)).instant();
        Self { lookups: Lookups::new(Arc::clone(&metrics)), now, metrics }
    }

    fn ask(&mut self, name: &str, of: &str) -> oneshot::Receiver<lookups::Resolution> {
        let (reply, resolution) = oneshot::channel();
        self.lookups.ask(Question { name: name.into(), tenant: of.into(), reply }, self.now);
        resolution
    }

    fn started(&mut self) -> Vec<Arc<str>> {
        std::iter::from_fn(|| self.lookups.start_next(self.now)).collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<Arc<str>> {
        self.now += time;
        self.lookups.tick(self.now)
    }

    fn found(&mut self, name: &str, ttl: u64) {
        let result = LookupResult::Found { addresses: public().into(), ttl: Duration::from_secs(ttl) };
        self.lookups.finish(name, result, self.now);
    }

    fn failed(&mut self, name: &str) {
        self.lookups.finish(name, LookupResult::Failed("no answer".into()), self.now);
    }
}

#[test]
fn tenants_share_the_places_and_one_is_always_left_for_another() {
    let mut dns = Simulation::new();
    let mut asked: Vec<_> = (0..100).map(|n| dns.ask(&format!("{n}.a.test"), "a")).collect();
    assert_eq!(dns.started().len(), DNS_FAST_LOOKUPS / 2);
    asked.extend((0..100).map(|n| dns.ask(&format!("{n}.b.test"), "b")));
    assert!((6..DNS_FAST_LOOKUPS / 2).contains(&dns.started().len()));
    asked.push(dns.ask("c.test", "c"));
    assert_eq!(dns.started(), ["c.test".into()]);
    // The webhook with the fewest lookups is next, even if another one has waited for longer.
    dns.found("c.test", 60);
    asked.push(dns.ask("d.test", "d"));
    assert_eq!(dns.started(), ["d.test".into()]);
}

#[test]
fn slow_names_leave_the_fast_lane_and_start_in_the_slow_one() {
    let mut dns = Simulation::new();
    let asked: Vec<_> = (0..200).map(|n| dns.ask(&format!("{n}.test"), "a")).collect();
    let first = dns.started();
    assert!(dns.pass(DNS_SLOW_AFTER).is_empty());
    let second = dns.started();
    assert_eq!((first.len(), second.len()), (DNS_FAST_LOOKUPS / 2, DNS_FAST_LOOKUPS / 2));
    let given_up = dns.pass(DNS_SLOW_AFTER);
    assert_eq!(given_up.len(), DNS_FAST_LOOKUPS - DNS_SLOW_LOOKUPS, "the slow lane is bounded");
    assert!(given_up.iter().all(|name| first.contains(name)), "the oldest are given up");
    drop(asked);
    dns.pass(Duration::from_millis(1));
    assert!(!dns.lookups.is_active(), "nobody waits any longer");
    dns.now += Duration::from_secs(10);
    // Known as slow: half of the slow lane, and the fast lane is free.
    let _slow: Vec<_> = first.iter().map(|name| dns.ask(name, "a")).collect();
    assert_eq!(dns.started().len(), DNS_SLOW_LOOKUPS / 2);
    let _fast: Vec<_> = (0..50).map(|n| dns.ask(&format!("{n}.other.test"), "a")).collect();
    assert_eq!(dns.started().len(), DNS_FAST_LOOKUPS / 2);
}

#[test]
fn expired_addresses_are_used_while_the_lookup_is_slow_or_fails() {
    let mut dns = Simulation::new();
    let mut first = dns.ask("a.test", "a");
    assert_eq!(dns.started().len(), 1);
    dns.found("a.test", 60);
    assert!(first.try_recv().unwrap().is_ok());
    assert!(dns.ask("a.test", "a").try_recv().unwrap().is_ok(), "fresh");
    dns.now += Duration::from_secs(61);
    let mut waits = dns.ask("a.test", "a");
    assert_eq!(dns.started().len(), 1);
    assert!(waits.try_recv().is_err());
    assert!(dns.pass(DNS_SLOW_AFTER).is_empty(), "the refresh goes on");
    assert!(waits.try_recv().unwrap().is_ok());
    assert_eq!(dns.metrics.dns_stale.get(), 1);
    assert_eq!(dns.pass(DNS_TIMEOUT).len(), 1, "until its timeout");
    assert!(dns.ask("a.test", "a").try_recv().unwrap().is_ok(), "no new lookup for a while");
    dns.now += Duration::from_secs(31);
    let mut denied = dns.ask("a.test", "a");
    assert_eq!(dns.started().len(), 1);
    let gone = LookupResult::NotFound { why: "gone".into(), ttl: Duration::ZERO };
    dns.lookups.finish("a.test", gone, dns.now);
    assert!(denied.try_recv().unwrap().is_err(), "the name does not exist any longer");
    dns.now += Duration::from_secs(2);
    drop(dns.ask("a.test", "a"));
    dns.started();
    dns.found("a.test", 0);
    dns.now += DNS_STALE_MAX + Duration::from_secs(2);
    let mut old = dns.ask("a.test", "a");
    dns.started();
    dns.failed("a.test");
    assert!(old.try_recv().unwrap().is_err(), "too old");
}

#[test]
fn the_names_are_bounded_and_the_useless_ones_go_first() {
    let mut dns = Simulation::new();
    drop(dns.ask("good.test", "a"));
    dns.started();
    dns.found("good.test", 3600);
    for n in 0..crate::limits::DNS_NAMES_MAX * 2 {
        let name = format!("{n}.test");
        drop(dns.ask(&name, "b"));
        dns.started();
        dns.failed(&name);
    }
    assert!(dns.lookups.len() <= crate::limits::DNS_NAMES_MAX);
    assert!(dns.ask("good.test", "a").try_recv().unwrap().is_ok());
}

#[test]
fn a_change_of_the_configuration_has_names_looked_up_again() {
    let mut dns = Simulation::new();
    let _ = (dns.ask("a.test", "a"), dns.ask("b.test", "a"));
    dns.started();
    dns.found("a.test", 3600);
    dns.failed("b.test");
    dns.lookups.expire_all(dns.now);
    let _waiting = (dns.ask("a.test", "a"), dns.ask("b.test", "a"));
    assert_eq!(dns.started().len(), 2);
}
