//! A backlog uses disk space, not memory, and is delivered when its webhook recovers.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Server, Sink, dead_address};

const EVENTS: usize = 20_000;
const BATCH: usize = 500;

#[test]
fn a_backlog_beyond_the_window_survives_restarts_and_is_delivered() {
    let breaker = [("DELIVERY__BREAKER__OPEN_SECONDS", "1"), ("DELIVERY__BREAKER__OPEN_SECONDS_MAX", "1")];
    let mut server = Server::start(&breaker);
    let addr = dead_address();
    let policy =
        json!({ "max_in_flight": 64, "retry_policy": { "max_retries": 100, "retry_delay": 1, "backoff": 1.0 } });
    let (webhook, _) = server.webhook(&format!("http://{addr}/"), &["*"], policy);
    let mut client = server.client();
    let data = "x".repeat(2_000);
    let mut accepted = Vec::new();
    for begin in (0..EVENTS).step_by(BATCH) {
        let batch: Vec<_> = (begin..begin + BATCH).map(|n| json!({ "type": "a.b", "data": [n, data] })).collect();
        let answer = client.call("POST", "/api/v1/events", Some(&json!(batch)));
        assert_eq!(answer.status, 202, "{}", answer.text());
        accepted
            .extend(answer.json()["events"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()));
    }
    let memory = server.memory_kib("VmRSS");
    assert!(memory < 256 * 1024, "{memory} KiB with {EVENTS} deliveries waiting");

    server.restart(Signal::SIGKILL);
    server.restart(Signal::SIGTERM);
    let page = server.call("GET", &format!("/api/v1/webhooks/{webhook}/deliveries?limit=250"), None).json();
    assert_eq!(page["data"].as_array().unwrap().len(), 250);

    let sink = Sink::on(addr, |_| 200.into());
    for _ in 0..accepted.len() {
        sink.next();
    }
    let counts = sink.counts();
    assert!(accepted.iter().all(|id| counts.contains_key(id)), "each arrives");
    let twice = counts.values().filter(|n| **n > 1).count();
    assert_eq!(twice, 0, "no crash since the endpoint came back, so none twice");
}
