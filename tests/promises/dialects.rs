//! Compatibility with the systems that Hooktide replaces. Their clients keep their requests, and their receivers keep
//! their verification. Every call is tested as the clients make it, against a server with one `[[tenants]]` entry per
//! system.

use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Delivery, Server, Sink, run};

const JWT_SECRET: &str = "a secret of the old services, long enough";

/// The configuration of the migration guide: three tenants, three catalogues, the old token secret.
fn config() -> String {
    let catalogue = |name: &str| format!("{}/docs/catalogues/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
data_dir = "data"

[auth]
jwt_secret = "{JWT_SECRET}"

[egress]
allow = ["127.0.0.0/8"]

[events]
catalogues = [
    {{ file = "{}", tenant = "homechef" }},
    {{ file = "{}", tenant = "pyairtable" }},
    {{ file = "{}", tenant = "epic" }},
]

[[tenants]]
name = "homechef"
profile = "homechef"
retry_policy = {{ max_retries = 3, retry_delay = 60 }}

[[tenants]]
name = "pyairtable"
profile = "pyairtable"

[[tenants]]
name = "epic"
profile = "epic"
retry_policy = {{ schedule = [60, 300, 900, 3600, 7200] }}
"#,
        catalogue("homechef"),
        catalogue("pyairtable"),
        catalogue("epic"),
    )
}

/// A server for all three systems.
fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hooktide.toml");
    std::fs::write(&file, config()).unwrap();
    let file = file.to_str().unwrap().to_owned();
    Server::start_in(dir.into(), &[("CONFIG", &file)])
}

/// A token in the format of the old services' identity provider.
fn token(tenant: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": "123", "org_id": tenant, "role": "member", "exp": now + 600 });
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT" })), part(&claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, JWT_SECRET.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(hmac::sign(&key, signed.as_bytes()).as_ref()))
}

/// A client of the old system of a tenant.
struct LegacyClient(Client);

impl LegacyClient {
    fn of(server: &Server, tenant: &str) -> Self {
        Self(Client::to(server.addr, token(tenant)))
    }

    fn call(&mut self, status: u16, method: &str, path: &str, body: Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        let answer: Answer = self.0.call(method, path, body.as_ref());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    fn get(&mut self, path: &str) -> Value {
        self.call(200, "GET", path, Value::Null)
    }

    /// Polls until the list has this number of entries.
    fn until(&mut self, path: &str, count: usize) -> Value {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let got = self.get(path);
            if got["data"].as_array().unwrap().len() == count {
                return got;
            }
            assert!(std::time::Instant::now() < until, "{path} stays {got}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn hex(secret: &str, parts: &[&[u8]]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()));
    for part in parts {
        context.update(part);
    }
    HEXLOWER.encode(context.sign().as_ref())
}

/// How each old receiver verifies a request.
mod receiver {
    use super::{Delivery, hex};

    pub fn homechef(delivery: &Delivery, secret: &str) {
        let expected = format!("sha256={}", hex(secret, &[&delivery.body]));
        assert_eq!(delivery.headers["x-homechef-signature"], expected);
    }

    pub fn pyairtable(delivery: &Delivery, secret: &str) {
        let timestamp = &delivery.headers["x-pyairtable-timestamp"];
        let expected = format!("sha256={}", hex(secret, &[timestamp.as_bytes(), b".", &delivery.body]));
        assert_eq!(delivery.headers["x-pyairtable-signature"], expected);
        assert_eq!(delivery.headers["user-agent"], "PyAirtable-Webhooks/1.0");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(timestamp.parse().unwrap()) < 300, "unix seconds");
    }

    pub fn epic(delivery: &Delivery, secret: &str) {
        assert_eq!(delivery.headers["x-webhook-signature"], hex(secret, &[&delivery.body]));
    }
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn homechef_clients_create_change_test_and_delete_webhooks() {
    let (server, sink) = (server(), Sink::start());
    let mut old = LegacyClient::of(&server, "homechef");
    let body = json!({
        "url": sink.url("/hooks"), "events": ["order.created", "order.completed", "payment.success"],
        "description": "Orders", "retry_policy": { "max_retries": 3, "retry_delay": 60 },
    });
    let made = old.call(201, "POST", "/api/v1/webhooks", body);
    let (id, secret) = (text(&made, "id").to_owned(), text(&made, "secret").to_owned());
    assert_eq!(
        (&made["is_active"], &made["user_id"], &made["retry_policy"]["max_retries"]),
        (&json!(true), &json!("123"), &json!(3))
    );
    assert!(made["created_at"].is_string() && made["updated_at"].is_string());
    let place = format!("/api/v1/webhooks/{id}");
    assert_eq!(old.get("/api/v1/webhooks")["data"][0]["id"], id.as_str());
    assert!(old.get(&place).get("secret").is_none(), "shown once");

    let tested = old.call(200, "POST", &format!("{place}/test"), json!({ "event_type": "order.created" }));
    assert_eq!((&tested["success"], &tested["status"]), (&json!(true), &json!(204)), "{tested}");
    let delivery = sink.next();
    receiver::homechef(&delivery, &secret);
    assert_eq!(names(&delivery.json()), ["data", "delivery_id", "event", "timestamp", "webhook_id"]);
    assert_eq!((text(&delivery.json(), "event"), text(&delivery.json(), "webhook_id")), ("order.created", &*id));

    old.call(202, "POST", "/api/v1/events", json!({ "event": "payment.success", "data": { "amount": 12.50 } }));
    let delivery = sink.next();
    receiver::homechef(&delivery, &secret);
    assert_eq!(
        (text(&delivery.json(), "event"), &delivery.json()["data"]["amount"]),
        ("payment.success", &json!(12.50))
    );

    let body = json!({ "url": sink.url("/new"), "events": ["tip.received"], "is_active": false });
    let put = old.call(200, "PUT", &place, body);
    assert_eq!(
        (&put["is_active"], &put["events"], &put["user_id"]),
        (&json!(false), &json!(["tip.received"]), &json!("123"))
    );
    old.call(204, "DELETE", &place, Value::Null);
    old.call(404, "GET", &place, Value::Null);
    assert_eq!(old.get("/health")["status"], "ok");
}

#[test]
fn homechef_clients_find_failed_deliveries_and_retry_them() {
    let server = server();
    let up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_up = std::sync::Arc::clone(&up);
    let sink =
        Sink::answering(move |_| if is_up.load(std::sync::atomic::Ordering::Relaxed) { 204 } else { 500 }.into());
    let mut old = LegacyClient::of(&server, "homechef");
    let body = json!({ "url": sink.url("/hooks"), "events": ["order.created"], "retry_policy": { "max_retries": 0, "retry_delay": 60 } });
    let made = old.call(201, "POST", "/api/v1/webhooks", body);
    old.call(202, "POST", "/api/v1/events", json!({ "event": "order.created", "data": {} }));
    sink.next();
    let failed = old.until("/api/v1/webhooks/deliveries?status=failed&page=1&limit=10", 1);
    let row = &failed["data"][0];
    assert_eq!((text(row, "status"), text(row, "webhook_id")), ("failed", text(&made, "id")));
    assert_eq!(
        (&row["http_status"], &row["attempt_count"], &row["delivered_at"]),
        (&json!(500), &json!(1), &Value::Null)
    );
    assert!(row["failed_at"].is_string() && row["error_message"].is_string(), "{row}");
    for name in ["response", "next_retry_at"] {
        assert!(row.get(name).is_some(), "{name} in {row}");
    }
    up.store(true, std::sync::atomic::Ordering::Relaxed);
    let delivery = format!("/api/v1/webhooks/deliveries/{}", text(row, "id"));
    old.call(202, "POST", &format!("{delivery}/retry"), Value::Null);
    receiver::homechef(&sink.next(), text(&made, "secret"));
    old.until("/api/v1/webhooks/deliveries?status=delivered", 1);
    old.until("/api/v1/webhooks/deliveries?status=failed", 0);
}

#[test]
fn each_catalogue_is_at_the_path_of_its_clients() {
    let server = server();
    for (tenant, path, types) in [
        ("homechef", "/api/v1/webhooks/events", ["order.created", "tip.received", "delivery.assigned"]),
        ("pyairtable", "/api/v1/event-types", ["table.created", "record.updated", "user.joined"]),
        (
            "epic",
            "/api/v1/webhooks/events/available",
            ["user.created", "subscription.payment_failed", "alert.resolved"],
        ),
    ] {
        let all = LegacyClient::of(&server, tenant).get(&format!("{path}?limit=250"));
        let all = all["data"].as_array().unwrap();
        for name in types {
            let one = all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} in {path}"));
            assert!(one["category"].is_string() && one["description"].is_string(), "{one}");
        }
    }
}

#[test]
fn pyairtable_clients_create_webhooks_and_rotate_their_secrets() {
    let (server, sink) = (server(), Sink::start());
    let mut old = LegacyClient::of(&server, "pyairtable");
    let body = json!({
        "name": "Production", "url": sink.url("/hooks"), "description": "Records", "max_retries": 3, "timeout_seconds": 30,
        "rate_limit_rps": 10, "headers": { "Authorization": "Bearer token", "X-Custom-Header": "value" },
        "metadata": { "environment": "production", "version": "1.0" },
    });
    let made = old.call(201, "POST", "/api/v1/webhooks", body);
    assert_eq!((&made["user_id"], &made["max_retries"], &made["status"]), (&json!("123"), &json!(3), &json!("active")));
    let place = format!("/api/v1/webhooks/{}", text(&made, "id"));
    let tested = old.call(200, "POST", &format!("{place}/test"), Value::Null);
    assert_eq!(tested["request"]["headers"]["authorization"], "***");
    let delivery = sink.next();
    receiver::pyairtable(&delivery, text(&made, "secret"));
    assert_eq!((&*delivery.headers["authorization"], &*delivery.headers["x-custom-header"]), ("Bearer token", "value"));
    let expected = ["data", "id", "metadata", "resource_id", "timestamp", "type", "user_id", "workspace_id"];
    assert_eq!(names(&delivery.json()), expected);
    assert_eq!(text(&delivery.json(), "id"), delivery.headers["x-pyairtable-event-id"]);
    assert_eq!(text(&delivery.json(), "type"), delivery.headers["x-pyairtable-event-type"]);
    assert_eq!(text(&made, "id"), delivery.headers["x-pyairtable-webhook-id"]);

    let renewed = old.call(200, "POST", &format!("{place}/regenerate-secret"), json!({ "overlap_seconds": 0 }));
    assert_ne!(renewed["secret"], made["secret"]);
    old.call(200, "POST", &format!("{place}/test"), Value::Null);
    receiver::pyairtable(&sink.next(), text(&renewed, "secret"));

    for status in ["paused", "inactive", "active"] {
        assert_eq!(text(&old.call(200, "PATCH", &place, json!({ "status": status })), "status"), status);
    }
    assert!(old.get(&format!("{place}/metrics")).is_object());
    assert_eq!(old.get(&format!("{place}/deliveries"))["data"], json!([]), "tests are in no history");
}

#[test]
fn pyairtable_subscriptions_filter_in_each_of_the_four_ways() {
    let (server, sink) = (server(), Sink::start());
    let mut old = LegacyClient::of(&server, "pyairtable");
    let rules = json!([
        { "field": "amount", "operator": "greater_than", "value": 1000 },
        { "field": "status", "operator": "equals", "value": "pending" },
    ]);
    let range = json!({ "start": "2024-01-01T00:00:00Z", "end": "2024-01-31T23:59:59Z" });
    for (kind, filters, wanted, other) in [
        (
            "fields",
            json!({ "fields": { "status": "completed", "priority": "high" } }),
            json!({ "data": { "id": "rec1", "fields": { "status": "completed", "priority": "high" } } }),
            json!({ "data": { "id": "rec1", "fields": { "status": "completed", "priority": "low" } } }),
        ),
        (
            "conditions",
            json!({ "conditions": { "operator": "and", "rules": rules } }),
            json!({ "data": { "amount": 1000.5, "status": "pending" } }),
            json!({ "data": { "amount": 1000, "status": "pending" } }),
        ),
        (
            "user",
            json!({ "user_id": [123, 456, 789] }),
            json!({ "data": {}, "user_id": "456" }),
            json!({ "data": {}, "user_id": 12 }),
        ),
        (
            "time",
            json!({ "time_range": range }),
            json!({ "data": {}, "timestamp": "2024-01-31T23:59:59Z" }),
            json!({ "data": {}, "timestamp": "2024-02-01T00:00:00Z" }),
        ),
    ] {
        let made =
            old.call(201, "POST", "/api/v1/webhooks", json!({ "name": kind, "url": sink.url(&format!("/{kind}")) }));
        let place = format!("/api/v1/webhooks/{}", text(&made, "id"));
        let body = json!({ "event_type": "record.updated", "is_active": true, "filters": filters });
        let subscription = old.call(201, "POST", &format!("{place}/subscriptions"), body);
        let publish = |old: &mut LegacyClient, event: &Value| {
            let mut event = event.clone();
            event["type"] = "record.updated".into();
            old.call(202, "POST", "/api/v1/events", event)["webhooks"].as_u64().unwrap()
        };
        assert_eq!((publish(&mut old, &other), publish(&mut old, &wanted)), (0, 1), "{kind}");
        let delivery = sink.next();
        assert_eq!(delivery.path, format!("/{kind}"));
        receiver::pyairtable(&delivery, text(&made, "secret"));
        let one = format!("{place}/subscriptions/{}", text(&subscription, "id"));
        assert_eq!(old.get(&one)["filters"], filters, "{kind}");
        assert_eq!(old.get(&format!("{place}/subscriptions"))["data"].as_array().unwrap().len(), 1);
        let body = json!({ "event_type": "record.updated", "is_active": false, "filters": filters });
        old.call(200, "PUT", &one, body);
        assert_eq!(publish(&mut old, &wanted), 0, "{kind}: not active");
        old.call(204, "DELETE", &one, Value::Null);
        old.call(204, "DELETE", &place, Value::Null);
    }
}

#[test]
fn pyairtable_dead_letters_are_listed_read_and_replayed() {
    let server = server();
    let up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_up = std::sync::Arc::clone(&up);
    let sink =
        Sink::answering(move |_| if is_up.load(std::sync::atomic::Ordering::Relaxed) { 204 } else { 400 }.into());
    let mut old = LegacyClient::of(&server, "pyairtable");
    let body = json!({ "name": "n", "url": sink.url("/hooks"), "events": ["record.*"], "max_retries": 0 });
    let made = old.call(201, "POST", "/api/v1/webhooks", body);
    let letters = format!("/api/v1/webhooks/{}/dead-letters", text(&made, "id"));
    for n in 0..4 {
        old.call(202, "POST", "/api/v1/events", json!({ "type": "record.created", "data": { "n": n } }));
        sink.next();
    }
    let listed = old.until(&letters, 4);
    assert_eq!(old.get("/api/v1/dead-letters")["data"].as_array().unwrap().len(), 4);
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|one| text(one, "id").to_owned()).collect();
    let one = old.get(&format!("{letters}/{}", ids[0]));
    assert_eq!(
        (&one["attempt_count"], &one["is_processed"], &one["payload"]["n"]),
        (&json!(1), &json!(false), &json!(3)),
        "{one}"
    );
    assert!(one["failure_reason"].is_string() && one["event_id"].is_string() && one["created_at"].is_string(), "{one}");

    up.store(true, std::sync::atomic::Ordering::Relaxed);
    old.call(202, "POST", &format!("{letters}/{}/replay", ids[0]), Value::Null);
    receiver::pyairtable(&sink.next(), text(&made, "secret"));
    old.until(&letters, 3);
    old.call(202, "POST", &format!("{letters}/bulk-replay"), json!({ "ids": [ids[1]] }));
    sink.next();
    old.until(&letters, 2);
    old.call(204, "DELETE", &format!("{letters}/{}", ids[2]), Value::Null);
    old.call(202, "POST", &format!("{letters}/bulk-replay"), json!({}));
    sink.next();
    old.until(&letters, 0);
}

#[test]
fn epic_clients_create_disable_and_delete_webhooks() {
    let (server, sink) = (server(), Sink::start());
    let mut old = LegacyClient::of(&server, "epic");
    let body = json!({
        "url": sink.url("/hooks"), "events": ["user.created", "subscription.created"], "description": "Accounts", "active": true,
    });
    let made = old.call(201, "POST", "/api/v1/webhooks", body);
    assert_eq!((&made["active"], &made["max_retries"]), (&json!(true), &json!(5)), "six attempts");
    assert_eq!(made["retry_policy"]["schedule"], json!([60, 300, 900, 3600, 7200]));
    let all = old.call(201, "POST", "/api/v1/webhooks", json!({ "url": sink.url("/all"), "events": ["*"] }));
    old.call(204, "DELETE", &format!("/api/v1/webhooks/{}", text(&all, "id")), Value::Null);

    let place = format!("/api/v1/webhooks/{}", text(&made, "id"));
    let tested = old.call(200, "POST", &format!("{place}/test"), Value::Null);
    assert_eq!((&tested["success"], &tested["event_type"]), (&json!(true), &json!("user.created")));
    receiver::epic(&sink.next(), text(&made, "secret"));

    // The application publishes with organisation, event and data; a key of all tenants names the organisation.
    let event = json!({ "org_id": "epic", "event": "user.created", "data": { "id": 7 } });
    let answer = server.call("POST", "/api/v1/events", Some(&event));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let delivery = sink.next();
    receiver::epic(&delivery, text(&made, "secret"));
    assert_eq!(names(&delivery.json()), ["data", "event", "timestamp", "webhook_id"]);
    let listed = old.until(&format!("{place}/deliveries"), 1);
    let row = &listed["data"][0];
    let shown = (&row["event"], &row["response_status"], &row["attempt_number"]);
    assert_eq!(shown, (&json!("user.created"), &json!(204), &json!(1)), "{row}");
    assert!(
        row["delivered_at"].is_string() && row["created_at"].is_string() && row.get("response_body").is_some(),
        "{row}"
    );

    let patched = old.call(200, "PATCH", &place, json!({ "active": false }));
    assert_eq!((&patched["active"], text(&patched, "status")), (&json!(false), "inactive"));
    let published = old.call(202, "POST", "/api/v1/events", event);
    assert_eq!(published["webhooks"], 0);
    old.call(204, "DELETE", &place, Value::Null);
}

#[test]
fn monitoring_of_the_old_services_finds_its_metrics() {
    let (server, sink) = (server(), Sink::start());
    let mut old = LegacyClient::of(&server, "epic");
    old.call(201, "POST", "/api/v1/webhooks", json!({ "url": sink.url("/"), "events": ["user.created"] }));
    old.call(202, "POST", "/api/v1/events", json!({ "event": "user.created", "data": {} }));
    sink.next();
    let stats = old.until("/api/v1/stats", 1);
    let row = &stats["data"][0];
    assert_eq!(
        (&row["event_type"], &row["total"], &row["successful"], row["average_attempts"].as_f64()),
        (&json!("user.created"), &json!(1), &json!(1), Some(1.0)),
        "{row}"
    );
    assert_eq!(old.get("/health")["status"], "ok");
    assert_eq!(server.call("GET", "/ready", None).status, 200);
    let metrics = server.call("GET", "/metrics", None).text();
    for name in [
        "webhook_delivery_attempts_total",
        "webhook_delivery_successes_total",
        "webhook_delivery_failures_total",
        "webhook_delivery_duration_seconds",
        "webhook_active_total",
        "webhook_dead_letters_total",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(name)), "{name} in {metrics}");
    }
}

#[test]
fn old_ids_are_kept_as_uids() {
    let (server, sink) = (server(), Sink::start());
    for (tenant, uid) in
        [("homechef", "webhook_123"), ("pyairtable", "1"), ("epic", "6f1c1f9e-8f5e-4a56-9c1b-1f4f4f0c7a11")]
    {
        let mut old = LegacyClient::of(&server, tenant);
        let made =
            old.call(201, "POST", "/api/v1/webhooks", json!({ "uid": uid, "url": sink.url("/"), "events": ["*"] }));
        let place = format!("/api/v1/webhooks/{uid}");
        assert_eq!(old.get(&place)["id"], made["id"]);
        old.call(200, "POST", &format!("{place}/test"), Value::Null);
        let delivery = sink.next();
        let received = delivery.headers.get("x-pyairtable-webhook-id").cloned();
        assert_eq!(received.unwrap_or_else(|| text(&delivery.json(), "webhook_id").to_owned()), uid);
    }
}

#[test]
fn a_test_delivery_shows_request_and_response_and_is_not_in_the_history() {
    let server = Server::start(&[]);
    let sink = Sink::answering(|_| 503.into());
    let (id, secret) =
        server.webhook(&sink.url("/hook"), &["order.*"], json!({ "headers": { "X-Api-Key": "canary" } }));
    let place = format!("/api/v1/webhooks/{id}");
    assert_eq!(server.call("POST", &format!("{place}/pause"), None).status, 200);
    for n in 1..=12 {
        let answer = server.call("POST", &format!("{place}/test"), Some(&json!({ "data": { "n": n } })));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let tested = answer.json();
        assert_eq!(
            (&tested["success"], &tested["status"], text(&tested, "event_type")),
            (&json!(false), &json!(503), "order.test")
        );
        assert_eq!(text(&tested, "error"), "the endpoint answered 503");
        let (delivery, request) = (sink.next(), &tested["request"]);
        assert_eq!(text(request, "body").as_bytes(), delivery.body, "as it was sent");
        assert_eq!((&delivery.json()["data"], &*delivery.headers["x-api-key"]), (&json!({ "n": n }), "canary"));
        assert_eq!(request["headers"]["x-api-key"], "***");
        assert_eq!(text(&request["headers"], "webhook-signature"), delivery.headers["webhook-signature"]);
        assert!(!answer.text().contains("canary") && !answer.text().contains(&secret));
    }
    let list = server.call("GET", &format!("{place}/deliveries"), None).json();
    assert_eq!(list["data"], json!([]));
    assert!(
        !server.call("GET", "/metrics", None).text().contains("webhook_circuit_breaker_state{"),
        "no breaker opened"
    );

    let url = format!("http://{}", server.addr);
    let environment = [("HOOKTIDE_URL", url.as_str()), ("HOOKTIDE_KEY", server.key.as_str())];
    let (code, out, err) = run(&server.data_dir(), &["webhook", "test", &id, "--type", "order.paid"], &environment);
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("event_type: order.paid\nstatus: 503\n"), "{out}");
    assert!(err.contains("the endpoint did not take the test delivery"), "{err}");
}

#[test]
fn the_guides_webhook_can_be_tested_from_the_command_line() {
    let (server, sink) = (Server::start(&[]), Sink::start());
    let (id, _) = server.webhook(&sink.url("/hook"), &["order.created"], json!({}));
    let url = format!("http://{}", server.addr);
    let environment = [("HOOKTIDE_URL", url.as_str()), ("HOOKTIDE_KEY", server.key.as_str())];
    let arguments = ["webhook", "test", id.as_str(), "--data", r#"{"order_id":"ord_1"}"#];
    let (code, out, err) = run(&server.data_dir(), &arguments, &environment);
    assert_eq!((code, &*err), (0, ""), "{out}");
    assert!(out.contains("event_type: order.created\nstatus: 204\n"), "{out}");
    assert_eq!(sink.next().json()["data"], json!({ "order_id": "ord_1" }));
}
