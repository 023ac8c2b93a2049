//! The same JSON is read everywhere alike: what an event may contain, its filters find, and samples and examples may
//! contain it too.

use serde_json::{Value, json};

use crate::support::{Server, Sink};

/// Data that follow the grammar of JSON, and are hard to represent.
const HARD: [&str; 6] = [
    r#"{"a":"abc\ud83d","n":1}"#,
    r#"{"\udead":0,"a":"\ude00abc","n":1}"#,
    r#"{"a":"abc","n":1,"other":1e400}"#,
    r#"{"a":"abc","n":1,"other":[-0,12345678901234567890123,-1E+999]}"#,
    r#"{"a":"x","a":"abc","n":1}"#,
    r#"{"a":"abc","n":1,"other":{"b":"\ud83d"}}"#,
];

/// The text of a response. It may have values that serde_json does not represent.
fn text_of(server: &Server, method: &str, path: &str, body: &str) -> String {
    let answer = server.client().send(method, path, &[("Content-Type", "application/json")], body.as_bytes()).unwrap();
    assert!(answer.status < 300, "{method} {path} {body}: {} {}", answer.status, answer.text());
    answer.text()
}

fn send(server: &Server, method: &str, path: &str, body: &str) -> Value {
    serde_json::from_str(&text_of(server, method, path, body)).unwrap()
}

fn rule(operator: &str, value: &str) -> Value {
    json!({ "conditions": { "operator": "and", "rules": [{ "field": "a", "operator": operator, "value": value }] } })
}

#[test]
fn text_filters_find_text_beside_half_of_a_surrogate_pair() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    let matching = [
        ("contains", "abc"),
        ("matches", "abc"),
        ("starts_with", "abc"),
        ("not_contains", "xyz"),
        ("not_equals", "abc"),
    ];
    let others = [("not_contains", "abc"), ("contains", "xyz"), ("equals", "abc"), ("ends_with", "abc")];
    for (n, (operator, value)) in matching.iter().chain(&others).enumerate() {
        let settings = json!({ "filters": rule(operator, value) });
        server.webhook(&sink.url(&format!("/{n}")), &["a.b"], settings);
    }
    let accepted = send(&server, "POST", "/api/v1/events", r#"{"type":"a.b","data":{"a":"abc\ud83d"}}"#);
    assert_eq!(accepted["webhooks"], matching.len());
    let mut got: Vec<_> = matching.iter().map(|_| sink.next()).collect();
    got.sort_by(|one, other| one.path.cmp(&other.path));
    for (n, delivery) in got.iter().enumerate() {
        assert_eq!(delivery.path, format!("/{n}"));
        let body = String::from_utf8_lossy(&delivery.body);
        assert!(body.contains(r#"{"a":"abc\ud83d"}"#), "{body}");
    }
}

#[test]
fn what_an_event_may_contain_is_read_everywhere() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({ "filters": rule("contains", "abc") }));
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;
    for (n, data) in HARD.iter().enumerate() {
        // The schema says nothing of the fields that are hard to read.
        let definition = format!(r#"{{"name":"t.{n}","schema":{schema},"validate":true,"example":{data}}}"#);
        text_of(&server, "POST", "/api/v1/event-types", &definition);
        let event = format!(r#"{{"type":"t.{n}","data":{data},"metadata":{data}}}"#);
        assert_eq!(send(&server, "POST", "/api/v1/events", &event)["webhooks"], 1, "{data}");
        let body = String::from_utf8(sink.next().body).unwrap();
        assert!(body.contains(data), "{data} in {body}");
        let batch = send(&server, "POST", "/api/v1/events", &format!("[{event}]"));
        assert_eq!(batch["events"][0]["webhooks"], 1, "{batch}");
        sink.next();
        let tried = format!(r#"{{"filters":{},"event":{event}}}"#, rule("contains", "abc"));
        let found = text_of(&server, "POST", "/api/v1/filters/test", &tried);
        assert!(found.contains(r#"{"matches":true,"#), "{data}: {found}");
        let test = format!(r#"{{"type":"t.{n}","data":{data}}}"#);
        assert_eq!(
            send(&server, "POST", &format!("/api/v1/webhooks/{webhook}/test"), &test)["success"],
            true,
            "{data}"
        );
        sink.next();
        text_of(&server, "PATCH", &format!("/api/v1/webhooks/{webhook}"), &format!(r#"{{"metadata":{data}}}"#));
    }
}

#[test]
fn a_line_that_is_not_utf8_is_refused_alone() {
    let server = Server::start(&[]);
    let mut body = Vec::new();
    for n in 0..1_000 {
        if n == 500 {
            body.extend_from_slice(b"{\"type\":\"a.b\",\"data\":\"\xff\"}\n");
        } else {
            body.extend_from_slice(format!("{{\"type\":\"a.b\",\"data\":{n}}}\n").as_bytes());
        }
    }
    let media = [("Content-Type", "application/x-ndjson")];
    let answer = server.client().send("POST", "/api/v1/events", &media, &body).unwrap().json();
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(999), &json!(1)), "{}", answer["events"][500]);
    let error = &answer["events"][500]["error"];
    assert_eq!(error["code"], "invalid_json");
    assert!(error["detail"].as_str().unwrap().contains("invalid UTF-8 at byte"), "{error}");
}

#[test]
fn the_last_day_of_the_year_9999_is_a_time() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    let end = "9999-12-31T23:59:59Z";
    let filters = json!({ "time_range": { "start": "2020-01-01t00:00:00z", "end": end } });
    server.webhook(&sink.url("/"), &["*"], json!({ "filters": filters }));
    let event = json!({ "type": "a.b", "data": 1, "timestamp": end }).to_string();
    let accepted = send(&server, "POST", "/api/v1/events", &event);
    assert_eq!(accepted["webhooks"], 1);
    assert_eq!(sink.next().json()["timestamp"], "9999-12-31T23:59:59.000Z");
    let path = format!("/api/v1/events/{}", accepted["id"].as_str().unwrap());
    assert_eq!(server.call("GET", &path, None).json()["timestamp"], "9999-12-31T23:59:59.000Z");
    let key = json!({ "name": "k", "role": "viewer", "tenant": "default", "expires_at": end });
    assert_eq!(send(&server, "POST", "/api/v1/keys", &key.to_string())["expires_at"], "9999-12-31T23:59:59.000Z");
    assert_eq!(server.call("GET", &format!("/api/v1/events?until={end}"), None).status, 200);
    assert_eq!(server.call("GET", &format!("/api/v1/deliveries?until={end}"), None).status, 200);
    send(&server, "POST", "/api/v1/replays", &json!({ "since": "2020-01-01T00:00:00Z", "until": end }).to_string());
}

#[test]
fn the_timestamp_of_a_partner_is_a_time_or_an_error() {
    let server = Server::start(&[]);
    let made = send(&server, "POST", "/api/v1/sources", r#"{"name":"partner","kind":"partner"}"#);
    let url = made["url"].as_str().unwrap();
    let path = &url[url.find("/webhook").unwrap()..];
    for (written, expected) in [
        (r#""2026-01-31T12:00:00Z""#, Some("2026-01-31T12:00:00.000Z")),
        ("1711015200", Some("2024-03-21T10:00:00.000Z")),
        ("1711015200.5", Some("2024-03-21T10:00:00.500Z")),
        ("1711015200123", Some("2024-03-21T10:00:00.123Z")),
        (r#""yesterday""#, None),
        ("17", None),
        ("-1", None),
        ("true", None),
        ("1e400", None),
        ("[]", None),
    ] {
        let body = format!(r#"{{"event_type":"user.created","timestamp":{written},"data":{{}}}}"#);
        let headers = [("Content-Type", "application/json")];
        let answer = server.client().send("POST", path, &headers, body.as_bytes()).unwrap();
        let Some(expected) = expected else {
            assert_eq!(answer.status, 422, "{written}: {}", answer.text());
            assert_eq!(answer.json()["errors"][0]["pointer"], "/timestamp", "{written}");
            continue;
        };
        assert!(answer.status < 300, "{written}: {}", answer.text());
        let id = answer.json()["id"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned();
        let stored = server.call("GET", &format!("/api/v1/events/{id}"), None).json();
        assert_eq!(stored["timestamp"], expected, "{written}");
    }
}

#[test]
fn an_event_is_as_deep_as_the_limit_everywhere_and_no_deeper() {
    let mut server = Server::start(&[]);
    let sink = Sink::start();
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({}));
    let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let call = |server: &Server, method: &str, path: &str, body: &str| {
        let headers = [("Content-Type", "application/json")];
        server.client().send(method, path, &headers, body.as_bytes()).unwrap()
    };
    for (levels, is_allowed) in [(128, true), (129, false), (100_000, false)] {
        let event = format!(r#"{{"type":"a","data":{}}}"#, deep(levels));
        let batch = format!("[{event}]");
        let tried = format!(r#"{{"filters":{},"event":{event}}}"#, rule("contains", "x"));
        let test = format!("/api/v1/webhooks/{webhook}/test");
        for (path, body) in
            [("/api/v1/events", &event), ("/api/v1/events", &batch), ("/api/v1/filters/test", &tried), (&*test, &event)]
        {
            let answer = call(&server, "POST", path, body);
            assert_eq!(answer.status < 300, is_allowed, "{levels} {path}: {} {}", answer.status, answer.text());
            let says = answer.text().contains("nested") && answer.text().contains("128");
            assert!(is_allowed || says, "{path}: {}", answer.text());
        }
    }
    for _ in 0..3 {
        assert!(String::from_utf8(sink.next().body).unwrap().contains(&deep(128)));
    }
    // Settings are one object around the value.
    let settings = |levels: usize| format!(r#"{{"metadata":{{"a":{}}}}}"#, deep(levels));
    let path = format!("/api/v1/webhooks/{webhook}");
    let refused = call(&server, "PATCH", &path, &settings(126));
    assert!(refused.status == 400 && refused.text().contains("nested deeper than 127"), "{}", refused.text());
    assert_eq!(call(&server, "PATCH", &path, &settings(125)).status, 200);
    server.restart(nix::sys::signal::Signal::SIGKILL);
    assert!(call(&server, "GET", &path, "").text().contains(&deep(125)));
}
