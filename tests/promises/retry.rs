//! A failed delivery is retried by its schedule and ends as a dead letter, which can be replayed.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Reply, Server, Sink};

#[test]
fn a_delivery_that_fails_twice_arrives_with_the_same_id() {
    let server = Server::start(&[]);
    let count = AtomicUsize::new(0);
    let sink =
        Sink::answering(move |_| if count.fetch_add(1, Ordering::Relaxed) < 2 { 500.into() } else { 200.into() });
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({ "retry_policy": { "schedule": [1, 1, 1] } }));
    let event = server.publish("a.b", &json!(1));
    let times: Vec<_> = (0..3).map(|_| sink.next()).map(|d| (d.id().to_owned(), d.at)).collect();
    assert!(times.iter().all(|(id, _)| *id == event));
    for pair in times.windows(2) {
        let gap = pair[1].1 - pair[0].1;
        assert!(gap >= Duration::from_millis(790), "jitter takes at most a fifth: {gap:?}");
    }
    let list = format!("/api/v1/webhooks/{webhook}/deliveries");
    let page = server.until(&list, |page| page["data"][0]["status"] == "delivered");
    let one =
        server.call("GET", &format!("/api/v1/deliveries/{}", page["data"][0]["id"].as_str().unwrap()), None).json();
    let statuses: Vec<_> =
        one["attempts"].as_array().unwrap().iter().map(|a| a["http_status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [500, 500, 200]);
}

#[test]
fn exhausted_retries_end_in_a_dead_letter_that_can_be_replayed() {
    let server = Server::start(&[]);
    let status = Arc::new(AtomicU16::new(400));
    let answer = Arc::clone(&status);
    let sink = Sink::answering(move |_| answer.load(Ordering::Relaxed).into());
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({ "retry_policy": { "schedule": [1] } }));
    let event = server.publish("a.b", &json!({ "keep": "me" }));
    let dead = format!("/api/v1/webhooks/{webhook}/dead-letters");
    let page = server.until(&dead, |page| page["data"].as_array().is_some_and(|d| d.len() == 1));
    let letter = &page["data"][0];
    assert_eq!((&letter["event_id"], &letter["attempt_count"]), (&json!(event), &json!(2)));
    assert_eq!(letter["failure_reason"], "exhausted");
    assert!(letter["error_message"].as_str().unwrap().contains("400"), "{letter}");
    let one = server.call("GET", &format!("{dead}/{}", letter["id"].as_str().unwrap()), None).json();
    assert_eq!(one["payload"], json!({ "keep": "me" }));

    status.store(200, Ordering::Relaxed);
    let before = sink.all().len();
    let replay = format!("{dead}/{}/replay", letter["id"].as_str().unwrap());
    let answer = server.call("POST", &replay, None);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let list = format!("/api/v1/webhooks/{webhook}/deliveries");
    server.until(&list, |page| page["data"][0]["status"] == "delivered");
    let all = sink.all();
    assert_eq!((all.len(), all[before].id()), (before + 1, event.as_str()), "a replay keeps the id");
    server.until(&dead, |page| page["data"].as_array().is_some_and(Vec::is_empty));
}

#[test]
fn a_restart_neither_advances_nor_skips_a_scheduled_retry() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut server = Server::start(&[]);
        let sink = Sink::answering(|_| 500.into());
        let policy = json!({ "retry_policy": { "schedule": [4, 60] } });
        let (webhook, _) = server.webhook(&sink.url("/"), &["*"], policy);
        server.publish("a.b", &json!(1));
        let first = sink.next();
        let list = format!("/api/v1/webhooks/{webhook}/deliveries");
        server.until(&list, |page| page["data"][0]["status"] == "retrying");
        server.restart(signal);
        let second = sink.next();
        let gap = second.at - first.at;
        assert!(gap >= Duration::from_millis(3_190), "{signal}: not before its time: {gap:?}");
        let page = server.until(&list, |page| page["data"][0]["attempt_count"] == 2);
        assert_eq!(page["data"][0]["status"], "retrying", "{signal}: the third attempt is still to come");
    }
}

#[test]
fn deliveries_waiting_for_a_failing_webhook_are_in_the_metrics() {
    let server = Server::start(&[]);
    let sink = Sink::answering(|_| 500.into());
    server.webhook(&sink.url("/"), &["*"], json!({ "retry_policy": { "schedule": [600] } }));
    server.publish("a.b", &json!(1));
    sink.next();
    let figure = |metrics: &str, name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse::<u64>().unwrap()
    };
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let metrics = server.call("GET", "/metrics", None).text();
        let depth = figure(&metrics, "hooktide_queue_depth");
        let age = figure(&metrics, "hooktide_oldest_pending_seconds");
        // The age grows while nothing else changes.
        if depth == 1 && age >= 2 {
            break;
        }
        assert!(Instant::now() < until, "{depth} waiting, the oldest for {age} s");
        std::thread::sleep(Duration::from_millis(50));
    }
    let health = server.until("/health", |health| health["figures"]["queue_depth"] == 1);
    assert!(health["figures"]["oldest_pending_seconds"].as_u64().unwrap() >= 2, "{health}");
}

#[test]
fn status_410_disables_the_webhook_and_reports_it() {
    let server = Server::start(&[]);
    let sink = Sink::answering(|_| 410.into());
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({}));
    server.publish("a.b", &json!(1));
    server.until(&format!("/api/v1/webhooks/{webhook}"), |w| w["status"] == "failed" && w["active"] == false);
    let page = server.until(&format!("/api/v1/webhooks/{webhook}/dead-letters"), |page| page["data"][0].is_object());
    assert_eq!(page["data"][0]["failure_reason"], "gone");
    let answer = server.call("POST", "/api/v1/events", Some(&json!({ "type": "a.b", "data": 2 }))).json();
    assert_eq!(answer["webhooks"], 0, "a failed webhook matches nothing");
}

#[test]
fn retry_after_holds_the_whole_webhook() {
    let server = Server::start(&[]);
    let busy = AtomicUsize::new(0);
    let sink = Sink::answering(move |_| {
        if busy.fetch_add(1, Ordering::Relaxed) == 0 {
            Reply { headers: "Retry-After: 2\r\n".into(), ..503.into() }
        } else {
            200.into()
        }
    });
    server.webhook(&sink.url("/"), &["*"], json!({ "max_in_flight": 1, "retry_policy": { "schedule": [1] } }));
    server.publish("a.b", &json!(1));
    let first = sink.next();
    server.publish("a.b", &json!(2));
    let second = sink.next();
    let gap = second.at - first.at;
    assert!(gap >= Duration::from_millis(1_500), "the other event waits as well: {gap:?}");
    sink.next();
}

#[test]
fn events_can_be_replayed() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    let (webhook, _) = server.webhook(&sink.url("/"), &["order.*"], json!({}));
    // A delivery in flight is not replayed until its outcome is recorded.
    let all_are_delivered = || {
        server.until(&format!("/api/v1/webhooks/{webhook}/deliveries"), |page| {
            let rows = page["data"].as_array().unwrap();
            rows.len() == 20 && rows.iter().all(|one| one["status"] == "delivered")
        });
    };
    let events: Vec<_> = (0..20).map(|n| server.publish("order.created", &json!(n))).collect();
    let other = server.publish("invoice.paid", &json!(1));
    for _ in &events {
        sink.next();
    }
    all_are_delivered();
    let answer = server.call("POST", &format!("/api/v1/events/{}/replay", events[3]), None);
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(sink.next().id(), events[3]);
    all_are_delivered();
    let answer =
        server.call("POST", "/api/v1/replays", Some(&json!({ "since": "2020-01-01T00:00:00Z", "types": ["order.*"] })));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let again: Mutex<Vec<String>> = Mutex::new(events.iter().map(|_| sink.next().id().to_owned()).collect());
    let mut again = again.into_inner().unwrap();
    again.sort();
    assert_eq!(again, events);
    assert!(!again.contains(&other) && sink.within(Duration::from_millis(300)).is_none());
}

#[test]
fn a_rate_limit_holds_in_every_second() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({ "rate_limit_rps": 20, "burst": 5 }));
    let started = Instant::now();
    for n in 0..65 {
        server.publish("a.b", &json!(n));
    }
    let times: Vec<_> = (0..65).map(|_| sink.next().at).collect();
    for (n, begin) in times.iter().enumerate() {
        let within = times[n..].iter().take_while(|at| **at - *begin < Duration::from_secs(1)).count();
        assert!(within <= (20 + 5) * 11 / 10, "{within} in the second from number {n}");
    }
    assert!(started.elapsed() >= Duration::from_millis(2_700), "60 beyond the burst at 20 a second");
}
