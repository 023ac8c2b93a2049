//! A 2xx response means that the event is on disk. A refused event gets a specific error, and no other event is lost.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Server, Sink};

#[test]
fn an_accepted_event_can_be_read_at_once_and_after_kill_9() {
    let mut server = Server::start(&[]);
    let data = json!({ "order": 1, "raw": "\u{1F41A} <&>" });
    let id = server.publish("order.created", &data);
    let read = server.call("GET", &format!("/api/v1/events/{id}"), None);
    assert_eq!((read.status, &read.json()["data"]), (200, &data));

    server.restart(Signal::SIGKILL);
    let read = server.call("GET", &format!("/api/v1/events/{id}"), None);
    assert_eq!((read.status, &read.json()["data"]), (200, &data), "after kill -9");
}

#[test]
fn a_repeated_id_is_a_duplicate_also_after_a_restart() {
    let mut server = Server::start(&[]);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    let event = json!({ "type": "order.created", "id": "ord-1", "data": 1 });
    let first = server.call("POST", "/api/v1/events", Some(&event)).json();
    assert_eq!((first["duplicate"].as_bool(), first["webhooks"].as_u64()), (Some(false), Some(1)));

    for signal in [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
        if let Some(signal) = signal {
            server.restart(signal);
        }
        let again = server.call("POST", "/api/v1/events", Some(&event));
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!((again.json()["duplicate"].as_bool(), &again.json()["id"]), (Some(true), &first["id"]));
    }
}

#[test]
fn a_repeated_idempotency_key_is_a_duplicate_and_with_another_body_an_error() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut send = |key: &str, body: &str| {
        client.send("POST", "/api/v1/events", &[("Idempotency-Key", key)], body.as_bytes()).unwrap()
    };
    let first = send("k-1", r#"{"type":"a.b","data":1}"#);
    let again = send("k-1", r#"{"type":"a.b","data":1}"#);
    let other = send("k-1", r#"{"type":"a.b","data":2}"#);
    assert_eq!((first.status, again.status, other.status), (202, 200, 422), "{}", other.text());
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(other.json()["code"], "idempotency_key_reused");
}

#[test]
fn each_item_of_a_batch_has_its_own_error() {
    let server = Server::start(&[]);
    let batch = json!([
        { "type": "a.good", "id": "one", "data": {} },
        { "type": "-bad", "data": {} },
        { "data": {} },
        { "type": "a.nodata" },
        { "type": "a.extra", "data": 1, "colour": "red" },
        { "type": "hooktide.webhook.disabled", "data": 1 },
        { "type": "a.time", "data": 1, "timestamp": "yesterday" },
        { "type": "a.good", "id": "one", "data": {} },
        "text",
        { "type": "a.good", "data": null },
    ]);
    let answer = server.call("POST", "/api/v1/events", Some(&batch));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let report = answer.json();
    assert_eq!((&report["accepted"], &report["duplicates"], &report["rejected"]), (&json!(2), &json!(1), &json!(7)));
    let events = report["events"].as_array().unwrap();
    let good: Vec<usize> = (0..events.len()).filter(|&i| events[i]["id"].is_string()).collect();
    assert_eq!(good, [0, 7, 9], "{report}");
    assert_eq!(events[0]["id"], events[7]["id"], "a duplicate within the batch has the first one's id");
    for (i, pointer) in [
        (1, "/1/type"),
        (2, "/2/type"),
        (3, "/3/data"),
        (4, "/4/colour"),
        (5, "/5/type"),
        (6, "/6/timestamp"),
        (8, "/8"),
    ] {
        assert!(events[i]["error"].to_string().contains(pointer), "item {i}: {}", events[i]);
    }
}

#[test]
fn lines_of_json_are_accepted_one_by_one() {
    let server = Server::start(&[]);
    let body = "{\"type\":\"a.b\",\"data\":1}\n{\"type\":\"a.b\",\"data\":2}\n\n{\"type\":\"a.b\"}\n";
    let answer = server
        .client()
        .send("POST", "/api/v1/events", &[("Content-Type", "application/x-ndjson")], body.as_bytes())
        .unwrap();
    assert_eq!((answer.status, &answer.json()["accepted"], &answer.json()["rejected"]), (202, &json!(2), &json!(1)));
}

#[test]
fn invalid_requests_get_specific_errors() {
    let server = Server::start(&[("SERVER__MAX_BODY_BYTES", "64 KiB"), ("SERVER__MAX_BATCH_BYTES", "64 KiB")]);
    let mut client = server.client();
    let mut send = |key: &str, path: &str, body: &str| {
        client.key = key.to_owned();
        client
            .send("POST", path, &[("X-Request-ID", "mine-1"), ("Content-Type", "application/json")], body.as_bytes())
            .unwrap()
    };
    let long = format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(70_000));
    for (key, path, body, status, code) in [
        ("", "/api/v1/events", "{}", 401, "unauthenticated"),
        ("hk_wrong", "/api/v1/events", "{}", 401, "unauthenticated"),
        (&*server.key, "/api/v1/nothing", "{}", 404, "not_found"),
        (&server.key, "/api/v1/events", r#"{"type":"a.b","data":"#, 400, "invalid_json"),
        (&server.key, "/api/v1/events", r#"{"type":"a b","data":1}"#, 422, "invalid_body"),
        (&server.key, "/api/v1/events", &long, 413, "too_large"),
        (&server.key, "/health", "{}", 405, "method_not_allowed"),
    ] {
        let answer = send(key, path, body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{path}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(
            (answer.headers["x-request-id"].as_str(), answer.json()["request_id"].as_str()),
            ("mine-1", Some("mine-1"))
        );
    }
}

#[test]
fn health_is_public_and_metrics_need_a_key() {
    let server = Server::start(&[]);
    let mut open = server.client();
    open.key = String::new();
    for path in ["/health", "/api/v1/health", "/ready", "/api/v1/health/ready", "/api/v1/health/live"] {
        assert_eq!(open.call("GET", path, None).status, 200, "{path}");
    }
    assert_eq!(open.call("GET", "/metrics", None).status, 401, "figures need a key");
    server.publish("a.b", &json!(1));
    let metrics = server.call("GET", "/metrics", None).text();
    assert!(metrics.contains("hooktide_events_accepted_total 1"), "{metrics}");
}

/// Each form of a request with one idempotency key, then every other form with the same key: nothing of it is stored.
#[test]
fn an_idempotency_key_belongs_to_one_body_whatever_its_form() {
    let mut server = Server::start(&[]);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    let event = |n: u32| json!({ "type": "a.b", "data": n }).to_string();
    let array = |numbers: &[u32]| format!("[{}]", numbers.iter().map(|n| event(*n)).collect::<Vec<_>>().join(","));
    let lines = |numbers: &[u32]| numbers.iter().map(|n| event(*n) + "\n").collect::<String>();
    let own_id = r#"{"type":"a.b","id":"own","data":0}"#;
    let bodies = [
        event(1),
        array(&[1]),
        array(&[1, 2]),
        array(&[2, 1]),
        array(&[1, 2, 3]),
        lines(&[1]),
        lines(&[1, 2]),
        format!("[{own_id},{}]", event(1)),
        format!(r#"[{{"type":"not a type","data":0}},{}]"#, event(1)),
    ];
    let send = |server: &Server, key: usize, body: &String| {
        let media = if body.ends_with('\n') { "application/x-ndjson" } else { "application/json" };
        let key = format!("key-{key}");
        let headers = [("Idempotency-Key", &*key), ("Content-Type", media)];
        server.client().send("POST", "/api/v1/events", &headers, body.as_bytes()).unwrap()
    };
    let mut events = 0;
    for restart in [None, Some(Signal::SIGKILL)] {
        if let Some(signal) = restart {
            server.restart(signal);
        }
        for (key, body) in bodies.iter().enumerate() {
            let first = send(&server, key, body);
            assert!(!first.text().contains("idempotency_key_reused"), "{body}: {}", first.text());
            assert_eq!(first.text().contains("\"duplicate\":true"), restart.is_some(), "{}", first.text());
            events += if restart.is_none() { body.matches("\"a.b\"").count() } else { 0 };
            for other in bodies.iter().filter(|other| *other != body) {
                let refused = send(&server, key, other);
                let code = refused.json()["code"].as_str().map(str::to_owned);
                let expected = (422, Some("idempotency_key_reused".to_owned()));
                assert_eq!((refused.status, code), expected, "{body} then {other}: {}", refused.text());
            }
        }
    }
    // The event with an id of its own is in one body only.
    let stored = server.call("GET", "/api/v1/events?limit=100", None).json();
    assert_eq!(stored["data"].as_array().unwrap().len(), events, "{stored}");
}
