//! An endpoint that asks for a pause gets it: over a restart, until its end, for this address, and visibly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Reply, Server, Sink};

/// A sink that responds with a status, and asks for a wait of 30 s unless the status is 200.
fn busy(status: &Arc<AtomicU16>) -> Sink {
    let status = Arc::clone(status);
    Sink::answering(move |_| match status.load(Ordering::Relaxed) {
        200 => 200.into(),
        status => Reply { headers: "Retry-After: 30\r\n".into(), ..status.into() },
    })
}

fn publish(server: &Server, events: usize) {
    for n in 0..events {
        server.publish("a.b", &json!(n));
    }
}

/// Waits until `quiet` has passed without a request to the sink. Returns the number of all requests.
fn settled(sink: &Sink, quiet: Duration) -> usize {
    while sink.within(quiet).is_some() {}
    sink.all().len()
}

fn webhook(server: &Server, id: &str) -> Value {
    server.call("GET", &format!("/api/v1/webhooks/{id}"), None).json()
}

/// The attempts that the deliveries of a webhook have cost.
fn attempts(server: &Server, id: &str) -> u64 {
    let page = server.call("GET", &format!("/api/v1/webhooks/{id}/deliveries?limit=250"), None).json();
    page["data"].as_array().unwrap().iter().map(|one| one["attempt_count"].as_u64().unwrap()).sum()
}

#[test]
fn a_restart_does_not_end_a_pause() {
    for (status, signal) in
        [(429, Signal::SIGTERM), (503, Signal::SIGKILL), (502, Signal::SIGKILL), (504, Signal::SIGTERM)]
    {
        let mut server = Server::start(&[]);
        let sink = busy(&Arc::new(AtomicU16::new(status)));
        // 502 and 504 pause until the time of the next attempt.
        let policy = json!({ "retry_policy": { "schedule": [30, 60, 60] }, "max_in_flight": 1 });
        let (id, _) = server.webhook(&sink.url("/"), &["*"], policy);
        publish(&server, 20);
        sink.next();
        let path = format!("/api/v1/webhooks/{id}");
        let paused = server.until(&path, |webhook| webhook["paused_until"].is_string());
        assert_eq!(paused["pause_reason"], format!("http_{status}"));
        assert_eq!(paused["status"], "active", "the owner has not paused it");
        let before = settled(&sink, Duration::from_millis(500));
        assert_eq!((before, attempts(&server, &id)), (1, 1), "{status}");
        server.restart(signal);
        publish(&server, 5);
        assert!(sink.within(Duration::from_secs(3)).is_none(), "{status} {signal}: the pause holds over a restart");
        assert_eq!(attempts(&server, &id), 1, "{status} {signal}: a paused webhook costs no attempts");
        let shown = webhook(&server, &id);
        assert_eq!(shown["paused_until"], paused["paused_until"], "{status} {signal}");
        assert_eq!(shown["pause_reason"], paused["pause_reason"]);
        let metrics = server.call("GET", &format!("{path}/metrics"), None).json();
        assert_eq!(metrics["paused_until"], paused["paused_until"], "{metrics}");
        assert_eq!(metrics["pause_reason"], paused["pause_reason"]);
        let list = server.call("GET", "/api/v1/webhooks", None).json();
        assert_eq!(list["data"][0]["paused_until"], paused["paused_until"]);
    }
}

#[test]
fn a_pause_ends_by_itself_also_after_a_restart() {
    let mut server = Server::start(&[]);
    let status = Arc::new(AtomicU16::new(429));
    let answer = Arc::clone(&status);
    let sink = Sink::answering(move |_| match answer.load(Ordering::Relaxed) {
        200 => 200.into(),
        status => Reply { headers: "Retry-After: 5\r\n".into(), ..status.into() },
    });
    let (id, _) = server.webhook(&sink.url("/"), &["*"], json!({ "retry_policy": { "schedule": [1, 1, 1] } }));
    publish(&server, 1);
    let first = sink.next();
    server.until(&format!("/api/v1/webhooks/{id}"), |webhook| webhook["pause_reason"] == "http_429");
    // A list waits for the flush, which writes the attempt with its pause.
    assert_eq!(attempts(&server, &id), 1);
    status.store(200, Ordering::Relaxed);
    server.restart(Signal::SIGKILL);
    let second = sink.next();
    assert!(second.at - first.at >= Duration::from_millis(4_900), "{:?}", second.at - first.at);
    server.until(&format!("/api/v1/webhooks/{id}"), |webhook| webhook["paused_until"].is_null());
    server.restart(Signal::SIGKILL);
    assert_eq!(webhook(&server, &id)["paused_until"], Value::Null);
}

#[test]
fn a_resume_another_url_and_an_activation_end_a_pause() {
    let server = Server::start(&[]);
    let status = Arc::new(AtomicU16::new(429));
    let sink = busy(&status);
    let (id, _) = server.webhook(&sink.url("/"), &["*"], json!({ "max_in_flight": 1 }));
    let path = format!("/api/v1/webhooks/{id}");
    let lifts: [(&str, String, Option<Value>); 3] = [
        ("POST", format!("{path}/resume"), None),
        ("PATCH", path.clone(), Some(json!({ "url": sink.url("/other") }))),
        ("PATCH", path.clone(), Some(json!({ "active": false }))),
    ];
    for (method, call, body) in lifts {
        status.store(429, Ordering::Relaxed);
        publish(&server, 3);
        sink.next();
        server.until(&path, |webhook| webhook["paused_until"].is_string());
        settled(&sink, Duration::from_millis(500));
        let before = webhook(&server, &id);
        status.store(200, Ordering::Relaxed);
        let answer = server.call(method, &call, body.as_ref());
        assert_eq!(answer.status, 200, "{}", answer.text());
        if body.as_ref().is_some_and(|body| body["active"] == false) {
            server.call("PATCH", &path, Some(&json!({ "active": true })));
        } else {
            assert_eq!(answer.json()["paused_until"], Value::Null, "{call}");
        }
        let shown = webhook(&server, &id);
        assert_eq!((&shown["paused_until"], &shown["pause_reason"]), (&Value::Null, &Value::Null), "{call}");
        assert!(before["paused_until"].is_string());
        let since = Instant::now();
        // The first delivery keeps the time of its retry, which the endpoint asked for. The others were never sent.
        for _ in 0..2 {
            sink.next();
        }
        assert!(since.elapsed() < Duration::from_secs(15), "{call}: sent at once, not after 30 s");
    }
    // A resume of a webhook that nothing holds changes nothing.
    let tag = |answer: &crate::support::Answer| answer.headers.get("etag").cloned();
    let before = tag(&server.call("GET", &path, None));
    assert_eq!(tag(&server.call("POST", &format!("{path}/resume"), None)), before);
}

#[test]
fn an_open_breaker_survives_a_restart_and_ends_with_a_resume() {
    let mut server = Server::start(&[]);
    let status = Arc::new(AtomicU16::new(500));
    let answer = Arc::clone(&status);
    let sink = Sink::answering(move |_| answer.load(Ordering::Relaxed).into());
    let settings = json!({
        "retry_policy": { "schedule": [600] }, "max_in_flight": 1,
        "breaker": { "min_attempts": 3, "window": 10, "open_seconds": 60 },
    });
    let (id, _) = server.webhook(&sink.url("/"), &["*"], settings);
    publish(&server, 10);
    let path = format!("/api/v1/webhooks/{id}");
    let open = server.until(&path, |webhook| webhook["pause_reason"] == "breaker_open");
    assert_eq!(settled(&sink, Duration::from_millis(500)), 3);
    assert_eq!(attempts(&server, &id), 3);
    server.restart(Signal::SIGKILL);
    assert!(sink.within(Duration::from_secs(2)).is_none(), "the breaker is still open");
    assert_eq!(webhook(&server, &id)["paused_until"], open["paused_until"]);
    assert_eq!(server.call("GET", &format!("{path}/metrics"), None).json()["breaker"], "open");
    status.store(200, Ordering::Relaxed);
    assert_eq!(server.call("POST", &format!("{path}/resume"), None).status, 200);
    for _ in 0..7 {
        sink.next();
    }
    assert_eq!(server.call("GET", &format!("{path}/metrics"), None).json()["breaker"], "closed");
}
