//! A subscriber of the gateway's own events gets one event for each change of the tenant's webhooks, also after a
//! crash. Statistics are correct and survive a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Delivery, Server, Sink};

const OWN: &str = "/api/v1/events?source=hooktide";

/// A sink that responds with the current value of the returned status.
fn sink_with_status(status: u16) -> (Sink, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let answer = Arc::clone(&status);
    (Sink::answering(move |_| answer.load(Ordering::Relaxed).into()), status)
}

fn type_and_data(delivery: &Delivery) -> (String, Value) {
    let body = delivery.json();
    (body["type"].as_str().unwrap().to_owned(), body["data"].clone())
}

#[test]
fn a_subscriber_gets_each_operational_event_once_and_none_about_itself() {
    let mut server = Server::start(&[]);
    let (listener, everything) = (Sink::start(), Sink::start());
    let (subject, response_status) = sink_with_status(500);
    let (deaf, _) = sink_with_status(500);
    let nonce = json!({ "retry_policy": { "schedule": [0.001] } });
    server.webhook(&listener.url("/"), &["hooktide.*"], json!({}));
    server.webhook(&everything.url("/"), &["*"], json!({}));
    server.webhook(&deaf.url("/"), &["hooktide.delivery.exhausted"], nonce.clone());
    let (webhook, _) = server.webhook(&subject.url("/in?token=canary"), &["order.*"], nonce);
    let place = format!("/api/v1/webhooks/{webhook}");

    let event = server.publish("order.created", &json!({ "n": 1 }));
    let first = listener.next();
    let (event_type, data) = type_and_data(&first);
    assert_eq!(event_type, "hooktide.delivery.exhausted");
    assert_eq!((&data["webhook_id"], &data["event_id"]), (&json!(webhook), &json!(event)));
    assert_eq!((&data["event_type"], &data["reason"]), (&json!("order.created"), &json!("exhausted")));
    assert_eq!((&data["attempt_count"], &data["http_status"]), (&json!(2), &json!(500)));
    assert_eq!(data["host"], "127.0.0.1");
    assert!(!String::from_utf8_lossy(&first.body).contains("canary"), "{data}");
    let delivery = format!("/api/v1/deliveries/{}", data["delivery_id"].as_str().unwrap());
    assert_eq!(server.call("GET", &delivery, None).json()["status"], "failed");

    // The deliveries to the failing endpoint are given up too. No event reports that.
    assert_eq!((deaf.next().id(), deaf.next().id()), (first.id(), first.id()));

    response_status.store(410, Ordering::Relaxed);
    server.publish("order.created", &json!({ "n": 2 }));
    let (event_type, data) = type_and_data(&listener.next());
    assert_eq!((event_type.as_str(), &data["reason"]), ("hooktide.webhook.disabled", &json!("gone")));
    let metrics = server.until(&format!("{place}/metrics"), |metrics| metrics["totals"]["failed"] == 2);
    assert_eq!((&metrics["health"], &metrics["status"]), (&json!("failing"), &json!("failed")));

    server.restart(Signal::SIGKILL);
    response_status.store(200, Ordering::Relaxed);
    assert_eq!(server.call("POST", &format!("{place}/resume"), None).status, 200);
    let (event_type, data) = type_and_data(&listener.next());
    assert_eq!(event_type, "hooktide.webhook.recovered");
    assert_eq!((&data["was"], &data["by"]), (&json!("disabled"), &json!("resume")));
    server.publish("order.created", &json!({ "n": 3 }));
    // The pending count is read before the statistics, because the delivery may end between the two reads.
    let is_done = |metrics: &Value| metrics["totals"]["successful"] == 1 && metrics["queue_depth"] == 0;
    let metrics = server.until(&format!("{place}/metrics"), is_done);
    let day = &metrics["last_24h"];
    assert_eq!((&day["successful"], &day["failed"], &day["attempts"]), (&json!(1), &json!(2), &json!(4)));
    assert_eq!(day["attempts_histogram"], json!([{"attempts": 1, "deliveries": 2}, {"attempts": 2, "deliveries": 1}]));
    assert_eq!((&metrics["queue_depth"], &metrics["failing_since"]), (&json!(0), &Value::Null));
    // The webhook that matches all events got the three events as well, the last one perhaps a little later.
    let of_order = |stats: &Value| {
        stats["data"].as_array().unwrap().iter().find(|row| row["event_type"] == "order.created").cloned()
    };
    let stats = server.until("/api/v1/stats", |stats| of_order(stats).is_some_and(|order| order["total"] == 6));
    let order = of_order(&stats).unwrap();
    assert_eq!((&order["total"], &order["successful"], &order["failed"]), (&json!(6), &json!(4), &json!(2)));

    let own = server.call("GET", OWN, None).json();
    let types: Vec<_> = own["data"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["hooktide.webhook.recovered", "hooktide.webhook.disabled", "hooktide.delivery.exhausted"]);
    let taken: Vec<_> = everything.all().iter().map(|delivery| type_and_data(delivery).0).collect();
    assert!(taken.iter().all(|event_type| event_type == "order.created"), "{taken:?}");
}

#[test]
fn without_a_subscriber_no_event_is_created_and_statistics_are_counted() {
    let server = Server::start(&[]);
    let (subject, _) = sink_with_status(410);
    let (webhook, _) = server.webhook(&subject.url("/"), &["order.*"], json!({}));
    server.publish("order.created", &json!({}));
    server.until(&format!("/api/v1/webhooks/{webhook}"), |webhook| webhook["status"] == "failed");
    let metrics =
        server.until(&format!("/api/v1/webhooks/{webhook}/metrics"), |metrics| metrics["totals"]["failed"] == 1);
    assert_eq!(metrics["last_24h"]["failed"], 1);
    let text = server.call("GET", "/metrics", None).text();
    assert!(text.contains("hooktide_operational_events_total{type=\"hooktide.webhook.disabled\"} 1"), "{text}");
    assert_eq!(server.call("GET", OWN, None).json()["data"], json!([]));
}
