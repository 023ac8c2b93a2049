//! No acknowledged event is lost in a crash. After a crash, only deliveries whose outcome was not yet recorded are
//! repeated.
//!
//! 1. 64 connections publish 500 events a second, spread over 20 webhooks of which 4 answer 500.
//! 2. The server is killed (SIGKILL) at a random time and started again, 25 times.
//! 3. At the end the failing webhooks recover. Every event acknowledged with 202 or 200 must have arrived.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Client, Server, Sink, WAIT_TIMEOUT};

const KILLS: usize = 25;
const CONNECTIONS: u64 = 64;
const RATE: u64 = 500;
const WEBHOOKS: u64 = 20;
const FAILING: u64 = 4;

#[test]
fn kill_9_under_load_loses_nothing_acknowledged() {
    let breaker = [("DELIVERY__BREAKER__OPEN_SECONDS", "1"), ("DELIVERY__BREAKER__OPEN_SECONDS_MAX", "1")];
    let mut server = Server::start(&breaker);
    let healed = Arc::new(AtomicBool::new(false));
    let sinks: Vec<_> = (0..WEBHOOKS)
        .map(|n| {
            let healed = Arc::clone(&healed);
            let ok = move || n >= FAILING || healed.load(Ordering::Relaxed);
            Sink::answering(move |_| if ok() { 200.into() } else { 500.into() })
        })
        .collect();
    let policy = json!({ "retry_policy": { "max_retries": 100, "retry_delay": 2, "backoff": 1.0 } });
    for (n, sink) in sinks.iter().enumerate() {
        server.webhook(&sink.url("/"), &[&format!("load.{n}")], policy.clone());
    }

    let load =
        Arc::new(Load { target: Mutex::new(server.addr), stop: AtomicBool::new(false), sent: AtomicU64::new(0) });
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|n| {
            let (load, key) = (Arc::clone(&load), server.key.clone());
            thread::spawn(move || load.run(n, key))
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..KILLS {
        thread::sleep(Duration::from_millis(random.u64(150..900)));
        server.restart(Signal::SIGKILL);
        *load.target.lock().unwrap() = server.addr;
    }
    thread::sleep(Duration::from_millis(500));
    load.stop.store(true, Ordering::Relaxed);
    let acknowledged: HashMap<String, u64> = senders.into_iter().flat_map(|s| s.join().unwrap()).collect();
    healed.store(true, Ordering::Relaxed);

    assert!(acknowledged.len() > KILLS * 50, "the load was too small to tell anything: {}", acknowledged.len());
    let until = Instant::now() + WAIT_TIMEOUT;
    loop {
        let got: Vec<_> = sinks.iter().map(Sink::counts).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|(id, n)| !got[**n as usize].contains_key(*id)).collect();
        if lost.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "{} of {} are lost: {:?}", lost.len(), acknowledged.len(), lost.first());
        thread::sleep(Duration::from_millis(100));
    }

    // A healthy webhook receives a delivery twice if the server died between the attempt and the record of its outcome.
    // That is about one second of deliveries.
    let twice: usize =
        sinks[FAILING as usize..].iter().map(|s| s.counts().values().map(|n| n - 1).sum::<usize>()).sum();
    let bound = KILLS * (RATE as usize + CONNECTIONS as usize);
    assert!(twice <= bound, "{twice} delivered again after {KILLS} kills, more than {bound}");
    println!("{} acknowledged, 0 lost, {twice} delivered again over {KILLS} kills", acknowledged.len());
}

struct Load {
    target: Mutex<SocketAddr>,
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Load {
    /// Publishes at its share of the rate until `stop` is set. Returns the acknowledged ids, each with the number of
    /// its webhook.
    fn run(&self, connection: u64, key: String) -> Vec<(String, u64)> {
        let pause = Duration::from_millis(1000 * CONNECTIONS / RATE);
        let mut acknowledged = Vec::new();
        let mut client = Client::to(*self.target.lock().unwrap(), key);
        while !self.stop.load(Ordering::Relaxed) {
            client.redirect(*self.target.lock().unwrap());
            let n = self.sent.fetch_add(1, Ordering::Relaxed) % WEBHOOKS;
            let body = json!({ "type": format!("load.{n}"), "data": { "from": connection, "pad": "x".repeat(500) } });
            let answer = client.send("POST", "/api/v1/events", &[], &serde_json::to_vec(&body).unwrap());
            if let Ok(answer) = answer
                && answer.status == 202
            {
                acknowledged.push((answer.json()["id"].as_str().unwrap().to_owned(), n));
            }
            thread::sleep(pause);
        }
        acknowledged
    }
}
