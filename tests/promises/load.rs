//! A steady load for tests that stop, kill or reload the server meanwhile.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Server, Sink, WAIT_TIMEOUT};

pub const CONNECTIONS: u64 = 64;
/// Events a second, all connections together.
pub const RATE: u64 = 500;
const WEBHOOKS: u64 = 20;
const FAILING: u64 = 4;

/// A server with 20 webhooks, of which 4 answer 500 until the end, and 64 connections that publish 500 events a second.
pub struct LoadedServer {
    pub server: Server,
    sinks: Vec<Sink>,
    healed: Arc<AtomicBool>,
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<Vec<(String, u64)>>>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    stop: AtomicBool,
    sent: AtomicU64,
    /// Requests without a 2xx response.
    failed: AtomicU64,
}

/// The result of a load. No acknowledged event is missing.
pub struct LoadResult {
    pub acknowledged: usize,
    /// How often deliveries to healthy webhooks were repeated.
    pub repeated: usize,
}

impl LoadedServer {
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let breaker = [("DELIVERY__BREAKER__OPEN_SECONDS", "1"), ("DELIVERY__BREAKER__OPEN_SECONDS_MAX", "1")];
        let server = Server::start(&[settings, &breaker].concat());
        let healed = Arc::new(AtomicBool::new(false));
        let sinks: Vec<_> = (0..WEBHOOKS)
            .map(|n| {
                let healed = Arc::clone(&healed);
                let is_ok = move || n >= FAILING || healed.load(Ordering::Relaxed);
                Sink::answering(move |_| if is_ok() { 200.into() } else { 500.into() })
            })
            .collect();
        let policy = json!({ "retry_policy": { "max_retries": 100, "retry_delay": 2, "backoff": 1.0 } });
        for (n, sink) in sinks.iter().enumerate() {
            server.webhook(&sink.url("/"), &[&format!("load.{n}")], policy.clone());
        }
        let shared = Shared::new(server.addr);
        let senders = (0..CONNECTIONS)
            .map(|n| {
                let (shared, key) = (Arc::clone(&shared), server.key.clone());
                thread::spawn(move || shared.publish(n, key))
            })
            .collect();
        Self { server, sinks, healed, shared, senders }
    }

    /// Tells the senders the address of the server that was started again.
    pub fn redirect(&self) {
        *self.shared.target.lock().unwrap() = self.server.addr;
    }

    /// The number of requests without a 2xx response until now.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Ends the load, lets the failing webhooks recover, and waits until every acknowledged event has arrived.
    pub fn finish(self) -> LoadResult {
        thread::sleep(Duration::from_millis(500));
        self.shared.stop.store(true, Ordering::Relaxed);
        let acknowledged: HashMap<String, u64> = self.senders.into_iter().flat_map(|s| s.join().unwrap()).collect();
        self.healed.store(true, Ordering::Relaxed);
        let until = Instant::now() + WAIT_TIMEOUT;
        loop {
            let got: Vec<_> = self.sinks.iter().map(Sink::counts).collect();
            let lost: Vec<_> = acknowledged.iter().filter(|(id, n)| !got[**n as usize].contains_key(*id)).collect();
            if lost.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "{} of {} are lost: {:?}", lost.len(), acknowledged.len(), lost.first());
            thread::sleep(Duration::from_millis(100));
        }
        let healthy = &self.sinks[FAILING as usize..];
        let repeated = healthy.iter().map(|s| s.counts().values().map(|n| n - 1).sum::<usize>()).sum();
        LoadResult { acknowledged: acknowledged.len(), repeated }
    }
}

impl Shared {
    fn new(server: SocketAddr) -> Arc<Self> {
        let target = Mutex::new(server);
        Arc::new(Self { target, stop: AtomicBool::new(false), sent: AtomicU64::new(0), failed: AtomicU64::new(0) })
    }

    /// Publishes at a connection's share of the rate until `stop` is set. Returns the acknowledged ids, each with the
    /// number of its webhook.
    fn publish(&self, connection: u64, key: String) -> Vec<(String, u64)> {
        let mut acknowledged = Vec::new();
        let data = json!({ "from": connection, "pad": "x".repeat(500) });
        let event = |n| json!({ "type": format!("load.{n}"), "data": data });
        self.send(key, WEBHOOKS, event, |n, answer| acknowledged.push((answer["id"].as_str().unwrap().to_owned(), n)));
        acknowledged
    }

    /// Sends `event(n)` with ascending `n` modulo `count` until `stop` is set.
    fn send(&self, key: String, count: u64, event: impl Fn(u64) -> Value, mut acknowledged: impl FnMut(u64, Value)) {
        let mut client = Client::to(*self.target.lock().unwrap(), key);
        while !self.stop.load(Ordering::Relaxed) {
            client.redirect(*self.target.lock().unwrap());
            let n = self.sent.fetch_add(1, Ordering::Relaxed) % count;
            match client.send("POST", "/api/v1/events", &[], &serde_json::to_vec(&event(n)).unwrap()) {
                Ok(answer) if answer.status / 100 == 2 => acknowledged(n, answer.json()),
                _ => _ = self.failed.fetch_add(1, Ordering::Relaxed),
            }
            thread::sleep(Duration::from_millis(1000 * CONNECTIONS / RATE));
        }
    }
}

/// Sends the same events again and again, 500 requests a second on 64 connections.
pub struct RepeatedEvents {
    pub server: Server,
    sink: Sink,
    shared: Arc<Shared>,
    senders: Vec<JoinHandle<HashMap<u64, (String, usize)>>>,
}

/// The number of different events of [`RepeatedEvents`].
const REPEATED: u64 = 50;

impl RepeatedEvents {
    pub fn start() -> Self {
        let server = Server::start(&[]);
        let sink = Sink::start();
        server.webhook(&sink.url("/"), &["*"], json!({}));
        let shared = Shared::new(server.addr);
        let senders = (0..CONNECTIONS)
            .map(|_| {
                let (shared, key) = (Arc::clone(&shared), server.key.clone());
                thread::spawn(move || {
                    let mut ids: HashMap<u64, (String, usize)> = HashMap::new();
                    let event = |n| json!({ "type": "order.paid", "id": format!("order-{n}"), "data": n });
                    shared.send(key, REPEATED, event, |n, answer| {
                        let id = answer["id"].as_str().unwrap();
                        let (first, count) = ids.entry(n).or_insert_with(|| (id.to_owned(), 0));
                        assert_eq!(first, id, "order-{n} got another id");
                        *count += 1;
                    });
                    ids
                })
            })
            .collect();
        Self { server, sink, shared, senders }
    }

    /// Tells the senders the address of the server that was started again.
    pub fn redirect(&self) {
        *self.shared.target.lock().unwrap() = self.server.addr;
    }

    /// Ends the load. Returns the number of acknowledged requests. All requests with an id made the same event, and no
    /// other event was delivered.
    pub fn finish(self) -> usize {
        self.shared.stop.store(true, Ordering::Relaxed);
        let (mut ids, mut acknowledged): (HashMap<u64, String>, usize) = <_>::default();
        for sender in self.senders {
            for (n, (id, count)) in sender.join().unwrap() {
                assert_eq!(*ids.entry(n).or_insert_with(|| id.clone()), id, "order-{n} has two ids");
                acknowledged += count;
            }
        }
        let until = Instant::now() + WAIT_TIMEOUT;
        while self.sink.counts().len() < ids.len() {
            assert!(Instant::now() < until, "{} of {} have arrived", self.sink.counts().len(), ids.len());
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!((ids.len() as u64, self.sink.counts().len() as u64), (REPEATED, REPEATED));
        acknowledged
    }
}
