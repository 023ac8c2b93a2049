//! Costly filters of one tenant delay no other tenant: they make dead letters, which can be replayed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::{Client, Server, Sink};

/// A text on which a search for the expressions of [`costly`] makes a new state for each byte.
fn text(bytes: usize) -> String {
    let mut random = 12_345_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 63 == 1 { 'a' } else { 'b' }
    };
    (0..bytes).map(|_| next()).collect()
}

/// A filter with six expressions, each as costly as a new one may be.
fn costly() -> Value {
    let rule =
        |n: usize| json!({"field": "text", "operator": "matches", "value": format!("[ab]*a[ab]{{{}}}c", 400 + n)});
    json!({"conditions": {"operator": "or", "rules": (0..6).map(rule).collect::<Vec<_>>()}})
}

fn value_of(server: &Server, metric: &str) -> u64 {
    let text = server.call("GET", "/metrics", None).text();
    let line = text.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
    line.unwrap_or_else(|| panic!("no {metric} in {text}"))
}

/// Creates a tenant and returns a client with a key of this tenant.
fn tenant(server: &Server, name: &str) -> Client {
    assert_eq!(server.call("POST", "/api/v1/tenants", Some(&json!({"name": name}))).status, 201);
    let key = json!({"name": name, "role": "admin", "tenant": name});
    let made = server.call("POST", "/api/v1/keys", Some(&key));
    assert_eq!(made.status, 201, "{}", made.text());
    Client::to(server.addr, made.json()["key"].as_str().unwrap().to_owned())
}

#[test]
fn costly_filters_become_dead_letters_and_delay_no_other_tenant() {
    let (server, receiver) = (Server::start(&[]), Sink::start());
    let mut attacker = tenant(&server, "attacker");
    let mut ids = Vec::new();
    for _ in 0..6 {
        let webhook = json!({"url": receiver.url("/costly"), "events": ["*"], "filters": costly()});
        let made = attacker.call("POST", "/api/v1/webhooks", Some(&webhook));
        assert_eq!(made.status, 201, "{}", made.text());
        ids.push(made.json()["id"].as_str().unwrap().to_owned());
    }
    let usual = json!({"url": receiver.url("/usual"), "events": ["*"], "filters": {"fields": {"n": 1}}});
    assert_eq!(attacker.call("POST", "/api/v1/webhooks", Some(&usual)).status, 201);
    server.webhook(&receiver.url("/healthy"), &["order.*"], json!({"filters": {"fields": {"n": 1}}}));
    let event = json!({"type": "a", "data": {"n": 1, "text": text(64_000)}});
    let attack = std::thread::spawn(move || {
        let mut answers = Vec::new();
        for _ in 0..20 {
            let answer = attacker.call("POST", "/api/v1/events", Some(&event));
            answers.push((answer.status, answer.json()["webhooks"].as_u64()));
        }
        (attacker, answers)
    });
    let mut client = server.client();
    for n in 0..200 {
        let (begun, event) =
            (Instant::now(), json!({"type": "order.created", "id": format!("h{n}"), "data": {"n": 1}}));
        assert_eq!(client.call("POST", "/api/v1/events", Some(&event)).status, 202);
        assert!(begun.elapsed() < Duration::from_secs(1), "publish {n} took {:?}", begun.elapsed());
    }
    let (mut attacker, answers) = attack.join().unwrap();
    assert!(answers.iter().all(|answer| *answer == (202, Some(7))), "each counts as matched: {answers:?}");
    let mut delivered = (0, 0);
    while delivered != (200, 20) {
        let delivery = receiver.within(Duration::from_secs(10)).expect("a delivery within 10 s");
        match delivery.path.as_str() {
            "/healthy" => delivered.0 += 1,
            "/usual" => delivered.1 += 1,
            path => panic!("a delivery to {path}"),
        }
    }
    let page = format!("/api/v1/webhooks/{}/dead-letters", ids[0]);
    let dead = server.until(&page, |page| page["data"].as_array().is_some_and(|rows| rows.len() == 20));
    assert_eq!(
        (&dead["data"][0]["failure_reason"], &dead["data"][0]["attempt_count"]),
        (&json!("filter_too_costly"), &json!(0))
    );
    assert_eq!(value_of(&server, "hooktide_filters_too_costly_total"), 120);
    let id = dead["data"][0]["id"].as_str().unwrap();
    let replayed = attacker.call("POST", &format!("{page}/{id}/replay"), None);
    assert!((200..300).contains(&replayed.status), "{}", replayed.text());
    assert_eq!(receiver.next().path, "/costly");
}

#[test]
fn a_filter_test_is_bounded_and_new_expressions_are_too() {
    let server = Server::start(&[]);
    let tried = json!({"filter": costly(), "event": {"type": "a", "data": {"text": text(64_000)}}});
    let begun = Instant::now();
    let answer = server.call("POST", "/api/v1/filters/test", Some(&tried));
    assert_eq!((answer.status, &answer.json()["code"]), (422, &json!("invalid_body")), "{}", answer.text());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let rule = json!({"field": "text", "operator": "matches", "value": "[ab]*a[ab]{3600}c"});
    let webhook = json!({"url": "https://example.com/", "events": ["*"], "filters": {"conditions": rule}});
    let answer = server.call("POST", "/api/v1/webhooks", Some(&webhook));
    assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &json!("/filters/conditions/value")));
    let (id, _) = server.webhook("http://127.0.0.1:4000/", &["a"], json!({}));
    let subscription = json!({"event_type": "*", "filters": {"conditions": rule}});
    let answer = server.call("POST", &format!("/api/v1/webhooks/{id}/subscriptions"), Some(&subscription));
    assert_eq!(answer.status, 422, "{}", answer.text());
}

#[test]
fn the_memory_of_searches_does_not_grow_with_the_number_of_expressions() {
    const WEBHOOKS: usize = 40;
    let (server, receiver) = (Server::start(&[]), Sink::start());
    let mut attacker = tenant(&server, "attacker");
    for webhook in 0..WEBHOOKS {
        // Each of these expressions makes a new state for almost each byte of the text.
        let rule = |n: usize| {
            let pattern = format!("[ab]*a[ab]{{{}}}c", 200 + webhook + n);
            json!({"field": "text", "operator": "matches", "value": pattern})
        };
        let filters = json!({"conditions": {"operator": "or", "rules": (0..12).map(rule).collect::<Vec<_>>()}});
        let events = [format!("t.{webhook}")];
        let webhook = json!({"url": receiver.url("/"), "events": events, "filters": filters});
        let made = attacker.call("POST", "/api/v1/webhooks", Some(&webhook));
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let before = server.memory_kib("VmRSS");
    for webhook in 0..WEBHOOKS {
        let event = json!({"type": format!("t.{webhook}"), "data": {"text": text(700)}});
        let until = Instant::now() + Duration::from_secs(30);
        // The work of a second may be used up.
        while attacker.call("POST", "/api/v1/filters/test", Some(&json!({"filters": {}, "event": event}))).status == 429
        {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
        let accepted = attacker.call("POST", "/api/v1/events", Some(&event));
        assert_eq!(accepted.status, 202, "{}", accepted.text());
    }
    let grown = (server.memory_kib("VmHWM") - before) / 1024;
    println!("the memory grew by {grown} MiB");
    assert!(grown < 64, "{grown} MiB");
    let too_costly = value_of(&server, "hooktide_filters_too_costly_total");
    assert!(too_costly < WEBHOOKS as u64 / 2, "most searches were made: {too_costly}");
}
