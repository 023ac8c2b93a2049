//! Failed and delivered events can be delivered again: one event, all events since a time, and events that matched no
//! webhook then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::support::{Server, Sink};

/// A sink whose status the test changes.
fn sink_with_status(status: u16) -> (Arc<AtomicU16>, Sink) {
    let status = Arc::new(AtomicU16::new(status));
    let answer = Arc::clone(&status);
    (status, Sink::answering(move |_| answer.load(Ordering::Relaxed).into()))
}

fn rows(page: &Value) -> &[Value] {
    page["data"].as_array().unwrap()
}

#[test]
fn failed_deliveries_are_listed_in_pages_and_retried_one_by_one() {
    let server = Server::start(&[]);
    let (status, sink) = sink_with_status(500);
    let settings = json!({ "retry_policy": { "schedule": [] }, "headers": { "x-api-key": "canary" } });
    let (id_of_webhook, _) = server.webhook(&sink.url("/"), &["order.*"], settings);
    let (good, _) = server.webhook(&sink.url("/good"), &["invoice.*"], json!({}));
    let event = server.publish("order.created", &json!({ "n": 1 }));
    let failed = "/api/v1/webhooks/deliveries?status=failed&page=1&limit=10";
    let page = server.until(failed, |page| rows(page).len() == 1);
    let id = page["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&page["data"][0]["event_id"], &page["data"][0]["response_status"]), (&json!(event), &json!(500)));

    status.store(200, Ordering::Relaxed);
    let retry = format!("/api/v1/webhooks/deliveries/{id}/retry");
    assert_eq!(server.call("POST", &retry, None).status, 202);
    let one = format!("/api/v1/deliveries/{id}");
    server.until(&one, |delivery| delivery["status"] == "delivered");
    assert!(rows(&server.call("GET", failed, None).json()).is_empty());
    // A successful delivery can be retried too. The receiver recognizes it by its id.
    assert_eq!(server.call("POST", &retry, None).status, 202);
    let again = server.until(&one, |delivery| delivery["attempt_count"] == 3 && delivery["status"] == "delivered");
    assert_eq!(again["attempts"].as_array().unwrap().len(), 3);
    let sent = sink.all();
    assert!(sent.iter().all(|delivery| delivery.id() == event));
    let (request, received) = (&again["request"], &sent.last().unwrap().headers);
    assert_eq!(request["changed_since"], false);
    let shown = request["headers"].as_object().unwrap();
    assert!(shown.len() > 5, "{shown:?}");
    for (name, value) in shown {
        let expected = if name == "x-api-key" { "***" } else { received[name].as_str() };
        assert_eq!(value, expected, "{name}");
    }
    let place = format!("/api/v1/webhooks/{id_of_webhook}");
    assert_eq!(server.call("PATCH", &place, Some(&json!({ "profile": "raw" }))).status, 200);
    assert_eq!(server.call("GET", &one, None).json()["request"]["changed_since"], true);

    let other = server.publish("invoice.paid", &json!({}));
    let list = format!("/api/v1/deliveries?event_type=invoice.*&webhook_id={good}");
    let page = server.until(&list, |page| rows(page).len() == 1);
    assert_eq!(page["data"][0]["event_id"], other);
    assert_eq!(rows(&server.call("GET", "/api/v1/deliveries?limit=250", None).json()).len(), 2);
}

#[test]
fn a_recovery_replays_failures_since_a_time_but_no_discarded_dead_letter() {
    let server = Server::start(&[]);
    let (status, sink) = sink_with_status(400);
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({ "retry_policy": { "schedule": [] } }));
    let events: Vec<_> = (0..3).map(|n| server.publish("a.b", &json!(n))).collect();
    let page = server.until("/api/v1/dead-letters", |page| rows(page).len() == 3);
    let letter = page["data"][2]["id"].as_str().unwrap().to_owned();
    assert_eq!(page["data"][2]["event_id"], json!(events[0]), "newest first");
    let place = format!("/api/v1/webhooks/{webhook}/dead-letters/{letter}");
    assert_eq!(server.call("DELETE", &place, None).status, 204);
    assert_eq!(server.call("GET", &place, None).status, 404);

    status.store(200, Ordering::Relaxed);
    let since = json!({ "since": "2020-01-01T00:00:00Z" });
    let started = server.call("POST", &format!("/api/v1/webhooks/{webhook}/recover"), Some(&since));
    assert_eq!(started.status, 202, "{}", started.text());
    let done = server.until(&started.headers["location"], |replay| replay["status"] == "done");
    assert_eq!((&done["deliveries"], &done["kind"]), (&json!(2), &json!("dead_letters")));
    assert!(done["ended_at"].is_string(), "{done}");
    let delivered = "/api/v1/deliveries?status=delivered";
    let page = server.until(delivered, |page| rows(page).len() == 2);
    assert!(rows(&page).iter().all(|row| row["event_id"] != json!(events[0])));
}

#[test]
fn a_replay_reaches_webhooks_created_after_the_event() {
    let server = Server::start(&[]);
    let (_, sink) = sink_with_status(200);
    let event = server.publish("order.created", &json!({ "n": 1 }));
    let (webhook, _) = server.webhook(&sink.url("/"), &["order.*"], json!({}));
    server.webhook(&sink.url("/other"), &["invoice.*"], json!({}));
    let replay = |body: Value| {
        let started = server.call("POST", "/api/v1/replays", Some(&body));
        assert_eq!(started.status, 202, "{}", started.text());
        server.until(&started.headers["location"], |replay| replay["status"] == "done")
    };
    assert_eq!(replay(json!({}))["deliveries"], 0);
    let done = replay(json!({ "include_unmatched": true }));
    assert_eq!((&done["deliveries"], &done["events"]), (&json!(1), &json!(1)));
    assert_eq!(sink.next().id(), event);

    assert_eq!(server.call("POST", &format!("/api/v1/webhooks/{webhook}/pause"), None).status, 200);
    assert_eq!(replay(json!({ "include_unmatched": true }))["deliveries"], 0, "it is paused");
    let done = replay(json!({ "include_unmatched": true, "include_paused": true }));
    assert_eq!(done["deliveries"], 1);
    assert_eq!(server.call("POST", &format!("/api/v1/webhooks/{webhook}/resume"), None).status, 200);
    assert_eq!(sink.next().id(), event);
}

#[test]
fn lists_of_dead_letters_have_payloads_up_to_a_mebibyte_a_page() {
    let server = Server::start(&[]);
    let (_, sink) = sink_with_status(500);
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({ "max_retries": 0 }));
    let list = format!("/api/v1/webhooks/{webhook}/dead-letters");
    let long = "x".repeat(600_000);
    for (n, data) in [json!(long), json!({ "n": 1 }), json!(long), json!({ "n": 2 })].iter().enumerate() {
        server.publish("order.paid", data);
        server.until(&format!("{list}?limit=10"), |page| rows(page).len() == n + 1);
    }
    // Newest first.
    for path in [&*list, "/api/v1/dead-letters"] {
        let page = server.call("GET", path, None).json();
        let shown: Vec<_> = rows(&page).iter().map(|row| (row.get("payload"), row.get("payload_omitted"))).collect();
        let (two, one) = (json!({ "n": 2 }), json!({ "n": 1 }));
        let expected = [(Some(&two), None), (Some(&json!(long)), None), (Some(&one), None), (None, Some(&json!(true)))];
        assert!(shown == expected, "{path}: {:?}", shown.iter().map(|(p, o)| (p.is_some(), o)).collect::<Vec<_>>());
    }
    let oldest = rows(&server.call("GET", &list, None).json())[3]["id"].as_str().unwrap().to_owned();
    let single = server.call("GET", &format!("{list}/{oldest}"), None).json();
    assert_eq!((&single["payload"], single.get("payload_omitted")), (&json!(long), None));
}
