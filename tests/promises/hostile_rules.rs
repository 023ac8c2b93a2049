//! The rules of a partner and the schemas of event types multiply neither memory nor time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Client, Server, Sink};

/// A body that takes about a hundred times its length when it is parsed.
fn multiplying(bytes: usize) -> Vec<u8> {
    let mut body = b"[".to_vec();
    while body.len() < bytes {
        body.extend_from_slice(br#"{"":0},"#);
    }
    body.extend_from_slice(b"0]");
    body
}

/// Creates a partner with these rules and returns the path that it sends to.
fn partner(server: &Server, name: &str, rules: &Value) -> String {
    let source = json!({"name": name, "kind": "partner", "validation_config": rules});
    let made = server.call("POST", "/api/v1/sources", Some(&source));
    assert_eq!(made.status, 201, "{}", made.text());
    format!("/webhook/v1/{}", made.json()["token"].as_str().unwrap())
}

fn send(client: &mut Client, path: &str, body: &[u8]) -> (u16, String) {
    // A server without room refuses a body before its end and closes the connection, which can lose the 503.
    let answer = client.send("POST", path, &[("content-type", "application/json")], body);
    answer.map_or_else(|_| (503, String::new()), |answer| (answer.status, answer.text()))
}

#[test]
fn bodies_that_multiply_take_no_memory_and_delay_no_other_sender() {
    let (server, receiver) = (Server::start(&[]), Sink::start());
    server.webhook(&receiver.url("/healthy"), &["order.*"], json!({}));
    let rules = partner(&server, "rules", &json!({"required_fields": ["a"], "schema": {"type": "array"}}));
    let event_type = json!({"name": "a", "schema": {"type": "array"}, "validate": true});
    assert_eq!(server.call("POST", "/api/v1/event-types", Some(&event_type)).status, 201);
    let before = server.memory_kib("VmRSS");
    let attacks: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, path) = (server.client(), rules.clone());
            std::thread::spawn(move || {
                let body = multiplying(9 << 20);
                (0..3).map(|_| send(&mut client, &path, &body)).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut client = server.client();
    for n in 0..200 {
        let (begun, event) = (Instant::now(), json!({"type": "order.created", "id": format!("h{n}"), "data": {}}));
        assert_eq!(client.call("POST", "/api/v1/events", Some(&event)).status, 202);
        assert!(begun.elapsed() < crate::hostile::accepted_within(), "publish {n} took {:?}", begun.elapsed());
    }
    for (status, text) in attacks.into_iter().flat_map(|attack| attack.join().unwrap()) {
        assert!(
            status == 422 && text.contains("bytes of memory when it is parsed") || status == 503,
            "{status} {text}"
        );
    }
    let event = [br#"{"type":"a","data":"#, &multiplying(900_000)[..], b"}"].concat();
    let (status, text) = send(&mut client, "/api/v1/events", &event);
    assert!(status == 422 && text.contains("\"/data\""), "{status} {text}");
    for _ in 0..200 {
        receiver.within(Duration::from_secs(10)).expect("a delivery within 10 s");
    }
    let peak = server.memory_kib("VmHWM");
    assert!(peak < before + 192 * 1024, "{peak} KiB, {before} before");
}

#[test]
fn the_regular_expressions_of_a_schema_are_bounded_like_filters() {
    let server = Server::start(&[]);
    let costly = json!({"schema": {"properties": {"id": {"pattern": "[ab]*a[ab]{400}c"}}}});
    let path = partner(&server, "rules", &costly);
    let mut client = server.client();
    let body = json!({"event_type": "a", "id": "ab".repeat(128 * 1024)}).to_string();
    let begun = Instant::now();
    let (status, text) = send(&mut client, &path, body.as_bytes());
    assert!(status == 422 && text.contains("more text than can be checked"), "{status} {text}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let short = json!({"event_type": "a", "id": "ab".repeat(2_000)}).to_string();
    assert_eq!(send(&mut client, &path, short.as_bytes()).0, 422, "it does not fit");
    // The work of a tenant in a second is bounded too.
    let limited =
        (0..100).map(|_| send(&mut client, &path, short.as_bytes()).0).filter(|status| *status == 429).count();
    assert!(limited > 0);
    let schema = json!({"properties": {"id": {"pattern": "[ab]*a[ab]{3600}c"}}});
    let source = json!({"name": "b", "kind": "partner", "validation_config": {"schema": schema}});
    let answer = server.call("POST", "/api/v1/sources", Some(&source));
    let pointer = "/validation_config/schema/properties/id/pattern";
    assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &json!(pointer)), "{}", answer.text());
    let answer = server.call("POST", "/api/v1/event-types", Some(&json!({"name": "b", "schema": schema})));
    assert_eq!(answer.json()["errors"][0]["pointer"], "/schema/properties/id/pattern", "{}", answer.text());
}
