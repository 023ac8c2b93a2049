//! The response to a management POST with an `Idempotency-Key` is durable together with the change that it reports. It
//! takes a bounded part of the disk, and contains no secret.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Server, Sink};

/// Members that only the first response has.
const SECRETS: [&str; 4] = ["secret", "key", "token", "guide"];

fn post(client: &mut Client, key: &str, path: &str, body: Option<&Value>) -> Answer {
    let body = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    client.send("POST", path, &headers, &body).unwrap()
}

/// Creates a webhook with dead letters, an event and two sources. Returns a request for each route that stores its
/// response.
fn requests(server: &Server, sink: &Sink) -> Vec<(String, Option<Value>)> {
    let (webhook, _) = server.webhook(&sink.url("/dead"), &["order.*"], json!({ "max_retries": 0 }));
    let event = server.publish("order.created", &json!({ "n": 1 }));
    for n in 2..5 {
        server.publish("order.created", &json!({ "n": n }));
    }
    let list = format!("/api/v1/webhooks/{webhook}/dead-letters");
    let dead = server.until(&list, |page| page["data"].as_array().unwrap().len() == 4);
    let dead: Vec<&str> = dead["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    let made = |body: Value| {
        let answer = server.call("POST", "/api/v1/sources", Some(&body));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let standard = made(json!({ "name": "standard", "kind": "standard-webhooks" }));
    let asana = made(json!({ "name": "asana", "kind": "asana", "secrets": ["a-secret-of-asana"] }));
    let partner = made(json!({ "name": "partner", "kind": "partner" }));
    let deleted = made(json!({ "name": "deleted", "kind": "partner" }));
    assert_eq!(server.call("DELETE", &format!("/api/v1/sources/{deleted}"), None).status, 204);
    let at = format!("/api/v1/webhooks/{webhook}");
    vec![
        ("/api/v1/webhooks".into(), Some(json!({ "url": sink.url("/new"), "events": ["new.*"] }))),
        (format!("{at}/subscriptions"), Some(json!({ "event_type": "record.updated" }))),
        (format!("{at}/regenerate-secret"), None),
        ("/api/v1/sources".into(), Some(json!({ "name": "acme", "kind": "partner" }))),
        (format!("/api/v1/sources/{standard}/rotate-secret"), None),
        (format!("/api/v1/sources/{partner}/rotate-token"), None),
        (format!("/api/v1/sources/{asana}/forget-secret"), None),
        ("/api/v1/event-types".into(), Some(json!({ "name": "order.created" }))),
        ("/api/v1/keys".into(), Some(json!({ "role": "viewer" }))),
        ("/api/v1/tenants".into(), Some(json!({ "name": "acme" }))),
        (format!("{at}/dead-letters/{}/replay", dead[0]), None),
        (format!("{at}/dead-letters/bulk-replay"), Some(json!({ "ids": [dead[1]] }))),
        (format!("/api/v1/deliveries/{}/retry", dead[2]), None),
        (format!("{at}/recover"), Some(json!({ "since": "2020-01-01T00:00:00Z" }))),
        (format!("/api/v1/events/{event}/replay"), None),
        ("/api/v1/replays".into(), Some(json!({ "types": ["order.*"] }))),
        (format!("/api/v1/sources/{deleted}/restore"), None),
        (format!("{at}/pause"), None),
        (format!("{at}/resume"), None),
    ]
}

/// The number of resources of each kind.
fn counts(server: &Server) -> Vec<usize> {
    let kinds = ["webhooks", "sources", "event-types", "keys", "tenants", "replays"];
    let count = |kind: &&str| {
        let page = server.call("GET", &format!("/api/v1/{kind}?limit=250"), None).json();
        page["data"].as_array().unwrap().len()
    };
    kinds.iter().map(count).collect()
}

/// Whether a path fits a path of the OpenAPI document, such as `/api/v1/webhooks/{webhook_id}`.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(of, part)| of.starts_with('{') || of == part)
}

/// Every POST of the OpenAPI document is one of `requests`, or one of these:
/// - events, which have their own keys in the log
/// - what stores and changes nothing: a test delivery, and a filter that is tried
fn are_all_posts(server: &Server, requests: &[(String, Option<Value>)]) {
    const EVENTS: [&str; 3] = ["publishEvents", "receive", "receiveFromPartner"];
    const NO_CHANGE: [&str; 2] = ["testWebhook", "testFilter"];
    let document = server.call("GET", "/openapi.json", None).json();
    let mut found = 0;
    for (template, operations) in document["paths"].as_object().unwrap() {
        let Some(operation) = operations.get("post") else { continue };
        let id = operation["operationId"].as_str().unwrap();
        let is_tried = requests.iter().any(|(path, _)| fits(template, path));
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let takes_key = parameters.iter().any(|one| one["$ref"] == "#/components/parameters/IdempotencyKey");
        if EVENTS.contains(&id) || NO_CHANGE.contains(&id) {
            assert!(!is_tried, "{id}");
            continue;
        }
        assert!(is_tried, "POST {template} ({id}) is not tried with an Idempotency-Key");
        assert!(takes_key, "{id} does not name the parameter Idempotency-Key");
        found += 1;
    }
    assert!(found >= 18, "{found}");
}

/// 1. Each POST that creates something is sent with a key, and the server is killed.
/// 2. After the restart, the same requests get the same responses, without secrets, and create nothing.
/// 3. A request with the same key and another body is refused.
#[test]
fn the_response_to_each_post_outlives_a_kill() {
    let sink = Sink::answering(|delivery| if delivery.path == "/dead" { 500.into() } else { 204.into() });
    let mut server = Server::start(&[]);
    let requests = requests(&server, &sink);
    are_all_posts(&server, &requests);
    let mut client = server.client();
    let event = json!({ "type": "order.created", "data": 1 });
    let published = post(&mut client, "event-1", "/api/v1/events", Some(&event)).json();
    let first: Vec<Answer> = requests
        .iter()
        .map(|(path, body)| {
            let answer = post(&mut client, "attempt-1", path, body.as_ref());
            assert!((200..300).contains(&answer.status), "{path}: {}", answer.text());
            answer
        })
        .collect();
    let before = counts(&server);
    server.restart(Signal::SIGKILL);
    let mut client = server.client();
    for ((path, body), first) in requests.iter().zip(&first) {
        let again = post(&mut client, "attempt-1", path, body.as_ref());
        assert_eq!(again.status, first.status, "{path}: {}", again.text());
        for header in ["location", "etag", "content-type"] {
            assert_eq!(again.headers.get(header), first.headers.get(header), "{path}: {header}");
        }
        let (mut expected, found) = (first.json(), again.json());
        let expected = expected.as_object_mut().unwrap();
        expected.retain(|name, _| !SECRETS.contains(&name.as_str()));
        for (name, value) in found.as_object().unwrap() {
            // The URL of a partner has the token, or a part of it once the token was shown.
            assert!(name == "url" || expected.get(name) == Some(value), "{path}: {name} is {value}");
        }
        assert_eq!(found.as_object().unwrap().len(), expected.len(), "{path}: {found}");
        let other = post(&mut client, "attempt-1", path, Some(&json!({ "other": 1 })));
        assert_eq!((other.status, &other.json()["code"]), (422, &json!("idempotency_key_reused")), "{path}");
    }
    assert_eq!(counts(&server), before);
    let resumed = &requests.last().unwrap().0;
    let webhook = server.call("GET", resumed.strip_suffix("/resume").unwrap(), None).json();
    assert_eq!(webhook["status"], "active", "the repeated pause is not the second one");
    let again = post(&mut client, "event-1", "/api/v1/events", Some(&event)).json();
    assert_eq!((&again["id"], &again["duplicate"]), (&published["id"], &json!(true)));
    let files = ["registry.redb", "state.redb"].map(|name| std::fs::read(server.data_dir().join(name)).unwrap());
    for secret in first.iter().flat_map(|answer| SECRETS.map(|name| answer.json()[name].clone())) {
        let Some(secret) = secret.as_str().filter(|text| text.len() < 200) else { continue };
        for file in &files {
            assert!(!file.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} is on the disk");
        }
    }
}

/// A tenant that uses a new key for each request deletes its own oldest responses. Neither memory nor the file grows
/// with the number of requests.
#[test]
fn stored_responses_take_a_bounded_part_of_the_disk() {
    let server = Server::start(&[]);
    let events: Vec<_> = (0..256).map(|n| format!("{}.{n}.*", "a".repeat(100))).collect();
    let (webhook, _) = server.webhook("http://127.0.0.1:9999/", &[], json!({ "events": events }));
    let key = json!({ "role": "member", "tenant": "default" });
    let member = server.call("POST", "/api/v1/keys", Some(&key)).json()["key"].as_str().unwrap().to_owned();
    let at = format!("/api/v1/webhooks/{webhook}/regenerate-secret");
    let mut calm = server.client();
    let kept = post(&mut calm, "calm", &at, None);
    assert_eq!(kept.status, 200, "{}", kept.text());
    let mut busy = Client::to(server.addr, member);
    let size = kept.body.len();
    assert!(size > 20_000, "{size}");
    let (memory, rounds) = (server.memory_kib("VmRSS"), 24 * 1024 * 1024 / size);
    for n in 0..rounds {
        assert_eq!(post(&mut busy, &format!("busy-{n}"), &at, None).status, 200);
    }
    let grown = server.memory_kib("VmRSS").saturating_sub(memory);
    let file = std::fs::metadata(server.data_dir().join("registry.redb")).unwrap().len();
    println!("{rounds} answers of {size} bytes: {grown} KiB more memory, registry.redb {file} bytes");
    assert!(grown < 16 * 1024, "{grown} KiB");
    assert!(file < 40 << 20, "registry.redb has {file} bytes");
    // The response of another tenant is still stored, and so is the newest one of this tenant.
    assert_eq!(post(&mut calm, "calm", &at, None).headers["etag"], kept.headers["etag"]);
    let newest = post(&mut busy, &format!("busy-{}", rounds - 1), &at, None);
    assert_eq!(newest.headers["etag"], format!("\"{}\"", rounds + 2));
}
