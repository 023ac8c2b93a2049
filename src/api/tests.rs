//! The whole API, over a real registry and test stores.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use serde_json::{Value, json};

use super::*;
use crate::http::ProblemCode;
use crate::inbound::source::Rejections;
use crate::model::{
    DeliveryId, DeliveryStatus, EventId, InboundInfo, Mapping, NewEvent, Principal, Role, SubscriptionId, Timestamp,
    WebhookId, WebhookNo, WebhookStatus,
};
use crate::registry::{Shared, Writer, tests as registry_tests};
use crate::runtime::Clock;
use crate::service::TestRefused;
use crate::service::testing::{self, RecordingTestSender, TestDeliveryBackend, TestLog, TestStatistics};

mod access;
mod apply;
mod delivery;
mod endpoint_auth;
mod event_type;
mod filter;
mod secret;
mod source;
mod stats;
mod subscription;
mod webhook;
mod webhook_test;

struct World {
    api: Api,
    registry: Shared,
    writer: Writer,
    clock: Clock,
    rejections: Arc<Rejections>,
    store: Arc<TestDeliveryBackend>,
    statistics: Arc<TestStatistics>,
    log: Arc<TestLog>,
    test_sender: Arc<RecordingTestSender>,
    _service: testing::TestService,
}

fn world() -> World {
    let world = testing::world();
    World {
        api: Api::new(Arc::clone(&world.service), Arc::new(routes::router().unwrap()), BackgroundTasks::default()),
        registry: Arc::clone(&world.registry),
        writer: world.writer.clone(),
        clock: world.clock.clone(),
        rejections: Arc::clone(&world.rejections),
        store: Arc::clone(&world.store),
        statistics: Arc::clone(&world.statistics),
        log: Arc::clone(&world.log),
        test_sender: Arc::clone(&world.test_sender),
        _service: world,
    }
}

struct Got {
    status: u16,
    headers: hyper::HeaderMap,
    body: Value,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    fn text(&self, key: &str) -> &str {
        self.body[key].as_str().unwrap_or_default()
    }

    fn ids(&self) -> Vec<&str> {
        self.body["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
    }

    /// The pointers of the invalid fields.
    fn wrong(&self) -> Vec<&str> {
        assert_eq!(self.status, 422, "{}", self.body);
        self.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }
}

struct Ask<'a> {
    tenant: Option<&'a str>,
    role: Role,
    headers: Vec<(&'a str, &'a str)>,
    body: Vec<u8>,
}

/// An admin of tenant `default`.
fn ask<'a>() -> Ask<'a> {
    Ask { tenant: Some("default"), role: Role::Admin, headers: Vec::new(), body: Vec::new() }
}

impl<'a> Ask<'a> {
    fn tenant(self, tenant: Option<&'a str>) -> Self {
        Self { tenant, ..self }
    }

    fn role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn json(self, body: &Value) -> Self {
        Self { body: body.to_string().into_bytes(), ..self.header("content-type", "application/json") }
    }

    async fn send(self, world: &World, method: &str, target: &str) -> Got {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let principal = Principal::new(self.tenant.map(Into::into), self.role);
        let call = ManagementRequest { parts, body: self.body.into(), principal, request_id: "req_1".into() };
        let (head, body) = world.api.handle(call).await.into_parts();
        #[expect(clippy::disallowed_methods, reason = "the body is whole in memory already")]
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Got { status: head.status.as_u16(), headers: head.headers, body }
    }
}

const WEBHOOKS: &str = "/api/v1/webhooks";

async fn create(world: &World, body: &Value) -> Got {
    ask().json(body).send(world, "POST", WEBHOOKS).await
}

async fn made(world: &World) -> String {
    let got = create(world, &json!({"url": "https://example.com/hook", "events": ["order.*"]})).await;
    assert_eq!(got.status, 201, "{}", got.body);
    format!("{WEBHOOKS}/{}", got.text("id"))
}

impl World {
    fn event(&self, n: u128, tenant: &str, event_type: &str, webhooks: &[u32]) -> EventId {
        self.log.put(n, tenant, event_type, webhooks)
    }

    fn row(&self, event: EventId, webhook: u32, status: DeliveryStatus) -> DeliveryId {
        self.store.put_row(event, webhook, status)
    }

    fn dead(&self, event: EventId, webhook: u32) -> DeliveryId {
        self.store.put_dead(event, webhook)
    }

    fn wait(&self, event: EventId, webhook: u32) -> DeliveryId {
        self.store.waiting.lock().unwrap().push((event, WebhookNo(webhook)));
        DeliveryId { event, webhook: WebhookNo(webhook) }
    }
}

#[tokio::test]
async fn a_webhook_can_be_created_read_changed_and_deleted() {
    let world = world();
    let body = json!({
        "url": "https://example.com/hook", "events": ["order.*", "a", "a"], "description": "d", "name": "n",
        "retry_policy": {"max_retries": 3, "retry_delay": 60}, "timeout_seconds": 2.5, "rate_limit_rps": 10,
        "max_in_flight": 4, "headers": {"Authorization": "Bearer canary", "X-Team": "a"},
        "metadata": {"environment": "production"}, "user_id": 7, "org_id": "default",
    });
    let created = create(&world, &body).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let place = created.header("location").to_owned();
    assert_eq!(place, format!("{WEBHOOKS}/{}", created.text("id")));
    assert!(created.text("secret").starts_with("whsec_"));
    assert_eq!(created.body["warnings"], json!([]));

    let read = ask().send(&world, "GET", &place).await;
    assert_eq!((read.status, read.header("etag")), (200, "\"1\""));
    let expected = json!({
        "id": created.text("id"), "tenant": "default", "user_id": "7", "name": "n",
        "url": "https://example.com/hook", "description": "d", "status": "active", "active": true,
        "is_active": true, "events": ["order.*", "a"], "subscription_count": 0, "profile": "standard",
        "retry_policy": {"max_retries": 3, "retry_delay": 60, "backoff": 2.0, "max_delay": 86400},
        "max_retries": 3, "timeout_seconds": 2.5, "rate_limit_rps": 10, "burst": 10, "max_in_flight": 4,
        "ordered": false, "headers": {"authorization": "***", "x-team": "a"}, "metadata": {"environment": "production"},
        "created_at": created.body["created_at"], "updated_at": created.body["created_at"],
        "secret_hint": read.text("secret_hint"),
    });
    assert_eq!(read.body, expected);

    let patch = json!({"description": null, "headers": {"authorization": "***", "x-team": null, "X-New": "1"},
        "metadata": {"environment": null, "v": [1]}, "burst": 20, "timeout_seconds": null, "max_retries": 5});
    let changed = ask().json(&patch).send(&world, "PATCH", &place).await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""), "{}", changed.body);
    assert_eq!(changed.body["headers"], json!({"authorization": "***", "x-new": "1"}));
    assert_eq!(changed.body["metadata"], json!({"v": [1]}));
    assert_eq!((&changed.body["description"], &changed.body["timeout_seconds"]), (&Value::Null, &Value::Null));
    assert_eq!((&changed.body["burst"], &changed.body["retry_policy"]["max_retries"]), (&json!(20), &json!(5)));
    let registry = world.registry.load();
    let kept = registry.webhook(WebhookNo(0)).unwrap();
    assert!(kept.headers.iter().any(|(_, value)| value == "Bearer canary"), "*** keeps the value");
    assert!(!format!("{kept:?}").contains("canary"));

    let put = ask().json(&json!({"url": "https://example.com/new"})).send(&world, "PUT", &place).await;
    assert_eq!((put.status, put.header("etag")), (200, "\"3\""));
    assert_eq!((&put.body["events"], &put.body["user_id"]), (&json!([]), &json!("7")), "the owner stays");
    assert_eq!(put.text("secret_hint"), read.text("secret_hint"));
    assert_eq!(put.body["retry_policy"], json!({"schedule": [5, 60]}));

    let removed = ask().send(&world, "DELETE", &place).await;
    assert_eq!((removed.status, &removed.body), (204, &Value::Null));
    assert_eq!(ask().send(&world, "GET", &place).await.status, 404);
    let letters = ask().send(&world, "GET", &format!("{place}/dead-letters")).await;
    assert_eq!(letters.status, 200, "dead letters stay readable");
}

#[tokio::test]
async fn a_resource_can_be_written_back_as_read() {
    let world = world();
    let place = made(&world).await;
    let read = ask().send(&world, "GET", &place).await;
    for method in ["PUT", "PATCH"] {
        let written = ask().json(&read.body).send(&world, method, &place).await;
        assert_eq!(written.status, 200, "{}", written.body);
        for key in ["id", "url", "events", "retry_policy", "secret_hint", "status", "headers"] {
            assert_eq!(written.body[key], read.body[key], "{key}");
        }
    }
    let patched = ask().json(&json!({"id": "wh_1", "secret_hint": "x"})).send(&world, "PATCH", &place).await;
    assert_eq!(patched.wrong(), ["/id", "/secret_hint"]);
}

#[tokio::test]
async fn a_secret_is_only_in_the_first_response() {
    let world = world();
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let body = json!({"url": "https://example.com/", "secret": secret, "headers": {"X-Api-Key": "canary"}});
    let post = || ask().header("idempotency-key", "k").json(&body).send(&world, "POST", WEBHOOKS);
    let (first, again) = (post().await, post().await);
    assert_eq!((first.text("secret"), first.text("secret_hint")), (secret, "whsec_…LaSw"));
    assert_eq!((again.status, again.text("id")), (201, first.text("id")));
    let place = first.header("location").to_owned();
    let mut answers = vec![again];
    for target in [&place, WEBHOOKS, &format!("{place}/deliveries")] {
        answers.push(ask().send(&world, "GET", target).await);
    }
    answers.push(ask().json(&json!({"name": "n"})).send(&world, "PATCH", &place).await);
    answers.push(ask().send(&world, "POST", &format!("{place}/pause")).await);
    answers.push(ask().json(&json!({"secret": secret})).send(&world, "PATCH", &place).await);
    answers.push(create(&world, &json!({"url": "x", "secret": &secret[..20], "headers": {"x-key": "canary\n"}})).await);
    for answer in answers {
        let shown = format!("{} {:?}", answer.body, answer.headers);
        assert!(!shown.contains(&secret[..20]) && !shown.contains("canary"), "{shown}");
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn each_invalid_field_is_reported() {
    let world = world();
    let long = "x".repeat(2000);
    for (fields, wrong) in [
        (json!({"url": null}), vec!["/url"]),
        (json!({"url": 1}), vec!["/url"]),
        (json!({"url": "ftp://example.com/"}), vec!["/url"]),
        (json!({"url": format!("https://example.com/{long}{long}")}), vec!["/url"]),
        (json!({"events": "a"}), vec!["/events"]),
        (json!({"events": ["a", "b*", 1, "*.c"]}), vec!["/events/1", "/events/2", "/events/3"]),
        (json!({"events": vec!["a"; 257]}), vec!["/events"]),
        (json!({"secret": "short"}), vec!["/secret"]),
        (json!({"secret": "whsec_AAAA"}), vec!["/secret"]),
        (json!({"name": &long[..129], "description": &long[..1025]}), vec!["/name", "/description"]),
        (json!({"status": "failed"}), vec!["/status"]),
        (json!({"status": "active", "active": false}), vec!["/active"]),
        (json!({"active": true, "is_active": false}), vec!["/is_active"]),
        (json!({"active": "yes"}), vec!["/active"]),
        (json!({"retry_policy": []}), vec!["/retry_policy"]),
        (json!({"retry_policy": {}}), vec!["/retry_policy"]),
        (
            json!({"retry_policy": {"schedule": [0, 1, 86401, "5s"]}}),
            vec!["/retry_policy/schedule/0", "/retry_policy/schedule/2", "/retry_policy/schedule/3"],
        ),
        (json!({"retry_policy": {"schedule": vec![1; 65]}}), vec!["/retry_policy/schedule"]),
        (json!({"retry_policy": {"schedule": [1], "max_retries": 1}}), vec!["/retry_policy/max_retries"]),
        (
            json!({"retry_policy": {"max_retries": 101, "retry_delay": -1, "backoff": 0.5, "max_delay": 1e9}}),
            vec![
                "/retry_policy/max_retries",
                "/retry_policy/retry_delay",
                "/retry_policy/backoff",
                "/retry_policy/max_delay",
            ],
        ),
        (json!({"retry_policy": {"max_retries": 3}}), vec!["/retry_policy"]),
        (json!({"max_retries": -1}), vec!["/max_retries"]),
        (json!({"timeout_seconds": 0.5}), vec!["/timeout_seconds"]),
        (json!({"timeout_seconds": 301}), vec!["/timeout_seconds"]),
        (json!({"rate_limit_rps": 0}), vec!["/rate_limit_rps"]),
        (json!({"rate_limit_rps": 1, "burst": 0}), vec!["/burst"]),
        (json!({"burst": 5}), vec!["/burst"]),
        (json!({"max_in_flight": 257}), vec!["/max_in_flight"]),
        (json!({"headers": ["a"]}), vec!["/headers"]),
        (
            json!({"headers": {
                "Host": "a", "Content-Type": "a", "Connection": "a", "Webhook-Signature": "a", "X-Mine-Signature": "a",
                "a b": "a", "X-Ok": "a\r\nb", "X-Number": 1, "Authorization": "***", "x/y": "a",
            }}),
            vec![
                "/headers/Authorization",
                "/headers/Connection",
                "/headers/Content-Type",
                "/headers/Host",
                "/headers/Webhook-Signature",
                "/headers/X-Mine-Signature",
                "/headers/X-Number",
                "/headers/X-Ok",
                "/headers/a b",
                "/headers/x~1y",
            ],
        ),
        (json!({"headers": {"X-A": "1", "x-a": "2"}}), vec!["/headers/x-a"]),
        (json!({"metadata": 1}), vec!["/metadata"]),
        (json!({"metadata": {"a": long.repeat(9)}}), vec!["/metadata"]),
        (json!({"user_id": {}}), vec!["/user_id"]),
        (json!({"tenant": "acme"}), vec!["/tenant"]),
        (json!({"org_id": "acme"}), vec!["/org_id"]),
        (json!({"profile": "mine"}), vec!["/profile"]),
        (json!({"filter": {}, "uuid": "1", "order": true, "id": "wh_1"}), vec!["/filter", "/id", "/order", "/uuid"]),
    ] {
        let mut body = json!({"url": "https://example.com/"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let got = create(&world, &body).await;
        assert_eq!(got.wrong(), wrong, "{fields}");
        assert!(got.body["errors"].as_array().unwrap().iter().all(|e| !e["detail"].as_str().unwrap().is_empty()));
        assert_eq!(got.text("code"), "invalid_body");
    }
    assert_eq!(create(&world, &json!({})).await.wrong(), ["/url"]);
    assert_eq!(create(&world, &json!({"url": "http://10.0.0.1/"})).await.text("code"), "egress_refused");
    let both = create(&world, &json!({"url": "http://10.0.0.1/", "name": 1})).await;
    assert_eq!((both.text("code"), both.wrong()), ("invalid_body", vec!["/url", "/name"]));
    assert!(ask().send(&world, "GET", WEBHOOKS).await.ids().is_empty(), "nothing was made");
}

#[tokio::test]
async fn three_dialects_say_one_status() {
    let world = world();
    let place = made(&world).await;
    for (fields, status) in [
        (json!({"active": false}), "inactive"),
        (json!({"is_active": true}), "active"),
        (json!({"status": "paused", "active": true}), "paused"),
        (json!({"status": "inactive", "is_active": false, "active": false}), "inactive"),
        (json!({"status": "active"}), "active"),
    ] {
        let got = ask().json(&fields).send(&world, "PATCH", &place).await;
        assert_eq!((got.status, got.text("status")), (200, status), "{fields}");
        assert_eq!(got.body["active"], got.body["is_active"]);
    }
}

#[tokio::test]
async fn retries_alone_change_the_present_policy() {
    let world = world();
    for (fields, policy) in [
        (json!({"max_retries": 1}), json!({"schedule": [5]})),
        (json!({"max_retries": 4}), json!({"schedule": [5, 60, 60, 60]})),
        (json!({"max_retries": 0}), json!({"schedule": []})),
        (json!({"retry_policy": {"schedule": [0.25]}, "max_retries": 7}), json!({"schedule": [0.25]})),
    ] {
        let mut body = json!({"url": "https://example.com/"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(create(&world, &body).await.body["retry_policy"], policy, "{fields}");
    }
}

#[tokio::test]
async fn pause_and_resume() {
    let world = world();
    let place = made(&world).await;
    let post = |what: &str| {
        let target = format!("{place}/{what}");
        async { ask().send(&world, "POST", &{ target }).await }
    };
    let paused = post("pause").await;
    assert_eq!((paused.text("status"), paused.header("etag")), ("paused", "\"2\""));
    assert_eq!(post("pause").await.header("etag"), "\"2\"", "it changes nothing again");
    assert_eq!(post("resume").await.text("status"), "active");
    ask().json(&json!({"active": false})).send(&world, "PATCH", &place).await;
    let refused = post("pause").await;
    assert_eq!((refused.status, refused.text("code")), (409, "conflict"));
    assert_eq!(post("resume").await.text("status"), "active");
}

#[tokio::test]
async fn a_creation_completes_after_the_client_disconnects() {
    let world = world();
    let body = json!({"url": "https://example.com/hook", "uid": "mine"});
    let mut creating = Box::pin(create(&world, &body));
    let first = std::future::poll_fn(|cx| std::task::Poll::Ready(creating.as_mut().poll(cx))).await;
    assert!(first.is_pending(), "the writer has not answered yet");
    drop(creating);
    tokio::task::yield_now().await;
    // The writer processes changes in order, so this response comes after the creation.
    world.writer.set_access(crate::registry::FileAccess::default()).await.unwrap();
    assert_eq!(ask().send(&world, "GET", &format!("{WEBHOOKS}/mine")).await.status, 200);
}

#[tokio::test]
async fn if_match_guards_against_a_change_meanwhile() {
    let world = world();
    let place = made(&world).await;
    let body = json!({"name": "n"});
    for (tag, status) in [("\"9\"", 412), ("W/\"1\"", 412), ("\"7\", \"1\"", 200), ("\"1\"", 412), ("*", 200)] {
        let got = ask().header("if-match", tag).json(&body).send(&world, "PATCH", &place).await;
        assert_eq!(got.status, status, "{tag} {}", got.body);
    }
    assert_eq!(ask().header("if-none-match", "\"3\"").send(&world, "GET", &place).await.status, 304);
    assert_eq!(ask().header("if-match", "\"1\"").send(&world, "DELETE", &place).await.status, 412);
    assert_eq!(ask().header("if-match", "\"3\"").send(&world, "DELETE", &place).await.status, 204);
}

#[tokio::test]
async fn lists_are_newest_first_and_go_on_by_cursor() {
    let world = world();
    let mut ids = Vec::new();
    for n in 0..7 {
        let body = json!({"url": "https://example.com/", "events": ["order.*"], "name": format!("Nr {n}")});
        ids.insert(0, create(&world, &body).await.text("id").to_owned());
    }
    let mut seen = Vec::new();
    let mut target = format!("{WEBHOOKS}?limit=3&status=active");
    loop {
        let got = ask().send(&world, "GET", &target).await;
        seen.extend(got.ids().into_iter().map(str::to_owned));
        let Some(cursor) = got.body["next_cursor"].as_str() else { break };
        target = format!("{WEBHOOKS}?limit=3&status=active&cursor={cursor}");
        assert_eq!(got.header("link"), format!("<{target}>; rel=\"next\""));
    }
    assert_eq!(seen, ids);
    let get = |query: &str| {
        let target = format!("{WEBHOOKS}?{query}");
        async { ask().send(&world, "GET", &{ target }).await }
    };
    assert_eq!(get("page=3&limit=3").await.ids(), [&*ids[6]]);
    assert_eq!(get("q=nr+4").await.ids(), [&*ids[2]]);
    assert_eq!(get("event_type=order.created").await.ids().len(), 7);
    assert!(get("type=user.created").await.ids().is_empty());
    assert!(get("status=failed").await.ids().is_empty());
    for bad in
        ["limit=0", "limit=251", "limit=x", "page=0", "page=2&cursor=x", "page=5000", "cursor=x", "status=x", "type=*"]
    {
        let got = get(bad).await;
        assert_eq!((got.status, got.text("code")), (400, "invalid_request"), "{bad}");
    }
    let head = ask().send(&world, "HEAD", WEBHOOKS).await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn a_key_of_all_tenants_can_name_a_tenant() {
    let world = world();
    let body = json!({"url": "https://example.com/", "tenant": "acme"});
    let made = ask().tenant(None).json(&body).send(&world, "POST", WEBHOOKS).await;
    assert_eq!((made.status, made.text("tenant")), (201, "acme"));
    let unnamed = ask().tenant(None).json(&json!({"url": "https://example.com/"})).send(&world, "POST", WEBHOOKS).await;
    assert_eq!(unnamed.text("tenant"), "default");
    assert_eq!(ask().tenant(None).send(&world, "GET", WEBHOOKS).await.ids().len(), 2);
    let filtered = ask().tenant(None).send(&world, "GET", &format!("{WEBHOOKS}?tenant=acme")).await;
    assert_eq!(filtered.ids(), [made.text("id")]);
    assert_eq!(ask().send(&world, "GET", &format!("{WEBHOOKS}?tenant=acme")).await.status, 404);
    assert_eq!(ask().tenant(Some("acme")).send(&world, "GET", made.header("location")).await.status, 200);
    let moved = ask().tenant(None).json(&json!({"tenant": "x"})).send(&world, "PATCH", made.header("location")).await;
    assert_eq!(moved.wrong(), ["/tenant"]);
    let body = json!({"url": "https://example.com/", "tenant": "a", "org_id": "b"});
    assert_eq!(ask().tenant(None).json(&body).send(&world, "POST", WEBHOOKS).await.wrong(), ["/org_id"]);
    let body = json!({"url": "https://example.com/", "tenant": "a b"});
    assert_eq!(ask().tenant(None).json(&body).send(&world, "POST", WEBHOOKS).await.wrong(), ["/tenant"]);
}

#[tokio::test]
async fn deliveries_of_a_webhook_are_read_from_rows_and_from_what_waits() {
    let world = world();
    let place = made(&world).await;
    let mut ids = Vec::new();
    for n in 1..=9 {
        let event = world.event(n, "default", "order.created", &[0]);
        ids.insert(
            0,
            match n {
                9 | 8 | 4 => world.wait(event, 0),
                7 => world.row(event, 0, DeliveryStatus::Retrying),
                _ => world.row(event, 0, DeliveryStatus::Delivered),
            },
        );
    }
    // Settled between the two requests: the row takes precedence.
    world.row(ids[1].event, 0, DeliveryStatus::Delivered);
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    for limit in [1, 2, 3, 4, 9, 50] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let got = ask().send(&world, "GET", &format!("{place}/deliveries?limit={limit}&cursor={cursor}")).await;
            seen.extend(got.ids().into_iter().map(str::to_owned));
            let Some(next) = got.body["next_cursor"].as_str() else { break };
            cursor = next.to_owned();
        }
        assert_eq!(seen, ids, "{limit} at a time");
    }
    let pending = ask().send(&world, "GET", &format!("{place}/deliveries?status=pending&limit=1")).await;
    assert_eq!(pending.ids(), [&*ids[0]]);
    let retrying = ask().send(&world, "GET", &format!("{place}/deliveries?status=retrying")).await;
    assert_eq!(retrying.ids(), [&*ids[2]]);
    assert_eq!(ask().send(&world, "GET", &format!("{place}/deliveries?status=x")).await.status, 400);
    let row = &retrying.body["data"][0];
    assert_eq!((&row["event_type"], &row["event"]), (&json!("order.created"), &json!("order.created")));
    assert_eq!((&row["attempts"], &row["payload"]), (&Value::Null, &Value::Null), "in lists without");
}

#[tokio::test]
async fn a_delivery_is_shown_with_attempts_and_payload() {
    let world = world();
    let place = made(&world).await;
    let event = world.event(5, "default", "order.created", &[0]);
    let id = world.row(event, 0, DeliveryStatus::Delivered);
    let got = ask().send(&world, "GET", &format!("/api/v1/deliveries/{id}")).await;
    assert_eq!(got.status, 200);
    assert!(!got.header("etag").is_empty());
    let expected = json!({
        "id": id.to_string(), "webhook_id": place.rsplit('/').next().unwrap(), "event_id": event.to_string(),
        "event_type": "order.created", "event": "order.created", "status": "delivered", "attempt_count": 2,
        "attempt_number": 2, "http_status": 500, "response_status": 500, "response": "oops",
        "response_body": "oops", "latency_ms": 25, "error_message": "the endpoint answered 500", "failure_reason": null, "correlation_id": "cor_1",
        "next_retry_at": null, "delivered_at": "1970-01-01T00:00:01.025Z", "failed_at": null,
        "created_at": "1970-01-01T00:00:00.005Z", "updated_at": "1970-01-01T00:00:01.025Z",
        "attempts": [{"number": 2, "at": "1970-01-01T00:00:01.000Z", "http_status": 500, "latency_ms": 25,
            "error": "the endpoint answered 500", "response": "oops"}],
        "payload": {"n": 1.5}, "request": got.body["request"],
    });
    assert_eq!(got.body, expected);
    let request = &got.body["request"];
    assert_eq!((&request["method"], &request["url"]), (&json!("POST"), &json!("https://example.com/hook")));
    assert_eq!(request["headers"]["webhook-id"], event.to_string());
    assert_eq!(request["headers"]["webhook-timestamp"], "1", "the time of the last attempt");
    assert!(request["body_bytes"].as_u64().unwrap() > 10);
    let waits = world.wait(world.event(6, "default", "order.created", &[0]), 0);
    let got = ask().send(&world, "GET", &format!("/api/v1/deliveries/{waits}")).await;
    assert_eq!((got.text("status"), &got.body["attempts"]), ("pending", &json!([])));
    world.log.0.lock().unwrap().clear();
    let got = ask().send(&world, "GET", &format!("/api/v1/deliveries/{id}")).await;
    assert_eq!((got.status, &got.body["payload"]), (200, &Value::Null), "the log's limits took the payload");
    let unknown = DeliveryId { event: EventId::from_u128(77), webhook: WebhookNo(0) };
    assert_eq!(ask().send(&world, "GET", &format!("/api/v1/deliveries/{unknown}")).await.status, 404);
}

#[tokio::test]
async fn events_are_listed_and_read_with_their_deliveries() {
    let world = world();
    made(&world).await;
    made(&world).await;
    for n in 1..=600 {
        world.event(n, if n % 100 == 0 { "acme" } else { "default" }, if n % 7 == 0 { "a.b" } else { "c" }, &[]);
    }
    let event = world.event(700, "default", "order.created", &[0, 1]);
    world.row(event, 0, DeliveryStatus::Delivered);
    world.wait(event, 1);
    let got = ask().send(&world, "GET", &format!("/api/v1/events/{event}")).await;
    assert_eq!(
        (got.text("type"), got.text("external_id"), &got.body["data"]),
        ("order.created", "ext-1", &json!({"n": 1.5}))
    );
    assert_eq!((&got.body["webhooks"], &got.body["metadata"]), (&json!(2), &json!({"a": 1})));
    let short: Vec<_> = got.body["deliveries"].as_array().unwrap().iter().map(|row| &row["status"]).collect();
    assert_eq!(short, ["delivered", "pending"]);

    let list = |query: &str| {
        let target = format!("/api/v1/events?{query}");
        async { ask().tenant(Some("acme")).send(&world, "GET", &{ target }).await }
    };
    assert_eq!(list("").await.ids().len(), 6, "across pages of heads");
    let first = list("limit=4").await;
    let rest = list(&format!("limit=4&cursor={}", first.text("next_cursor"))).await;
    assert_eq!((first.ids().len(), rest.ids().len(), &rest.body["next_cursor"]), (4, 2, &Value::Null));
    assert_eq!(list("since=1970-01-01T00:00:00.200Z&until=1970-01-01T00:00:00.400Z").await.ids().len(), 2);
    assert_eq!(list("source=api&external_id=ext-1&type=c").await.ids().len(), 6);
    assert!(list("type=a.*").await.ids().is_empty() && list("source=x").await.ids().is_empty());
    for bad in ["type=a*", "since=yesterday", "cursor=evt_1"] {
        assert_eq!(list(bad).await.status, 400, "{bad}");
    }
    assert_eq!(ask().send(&world, "GET", &format!("/api/v1/events/{}", EventId::MAX)).await.status, 404);
}

/// The original request of a source is shown unchanged, next to the data that is delivered.
#[tokio::test]
async fn an_event_of_a_source_shows_its_original_request() {
    let world = world();
    for (n, raw, key, shown) in
        [(1, &b"a=1"[..], "raw", "a=1"), (2, b"\xff\xfe", "raw_base64", "//4="), (3, b"", "raw", "")]
    {
        let data = r#"{"a":"1"}"#;
        let mut head = Vec::new();
        let event = NewEvent {
            tenant: "default",
            event_type: "forms.event",
            source: "forms",
            correlation_id: "cor_1",
            verified: true,
            data_len: data.len() as u32,
            raw_len: Some(raw.len() as u32),
            inbound: Some(InboundInfo {
                content_type: Some("application/x-www-form-urlencoded"),
                headers: r#"{"x-topic":"t"}"#,
                topic: Some("t"),
                mapping: Mapping::Failed,
                signed_id: true,
                signed_type: false,
            }),
            ..NewEvent::default()
        };
        event.encode(&[], &mut head);
        let id = EventId::from_u128(n);
        world.log.0.lock().unwrap().insert(id, (head.into(), [data.as_bytes(), raw].concat().into()));
        let body = ask().send(&world, "GET", &format!("/api/v1/events/{id}")).await.body;
        assert_eq!((&body["data"], &body[key]), (&json!({"a": "1"}), &json!(shown)), "{body}");
        assert_eq!((&body["headers"], &body["mapping"]), (&json!({"x-topic": "t"}), &json!("failed")), "{body}");
        assert_eq!((&body["external_id_signed"], &body["type_signed"]), (&json!(true), &json!(false)), "{body}");
        assert_eq!((&body["topic"], &body["verified"]), (&json!("t"), &json!(true)), "{body}");
        assert_eq!(body["content_type"], "application/x-www-form-urlencoded");
    }
    let own = world.event(9, "default", "a", &[]);
    let body = ask().send(&world, "GET", &format!("/api/v1/events/{own}")).await.body;
    assert!(body.get("raw").is_none() && body.get("mapping").is_none(), "{body}");
}

#[tokio::test]
async fn dead_letters_are_read_and_delivered_again() {
    let world = world();
    let place = made(&world).await;
    let letters: Vec<_> =
        (1..=5).map(|n| world.dead(world.event(n, "default", if n == 3 { "a" } else { "b" }, &[0]), 0)).collect();
    let list = ask().send(&world, "GET", &format!("{place}/dead-letters?limit=3")).await;
    assert_eq!(list.ids(), [4, 3, 2].map(|n: usize| letters[n].to_string()));
    assert_eq!(list.text("next_cursor"), letters[2].to_string());
    let one = ask().send(&world, "GET", &format!("{place}/dead-letters/{}", letters[0])).await;
    assert_eq!((one.text("failure_reason"), &one.body["payload"]), ("exhausted", &json!({"n": 1.5})));
    assert_eq!((&one.body["is_processed"], one.text("event_type")), (&json!(false), "b"));

    let post = |what: String, body: Value| {
        let target = format!("{place}/dead-letters/{what}");
        async { ask().json(&{ body }).send(&world, "POST", &{ target }).await }
    };
    let again = post(format!("{}/replay", letters[0]), json!({})).await;
    assert_eq!((again.status, &again.body), (202, &json!({"replayed": 1})));
    let ids = json!({"ids": [letters[4].to_string(), letters[1].to_string(), letters[1].to_string()]});
    assert_eq!(post("bulk-replay".into(), ids).await.body, json!({"replayed": 2}));
    assert_eq!(post("bulk-replay".into(), json!({"filter": {"types": ["a"]}})).await.status, 202);
    let since = json!({"filter": {"since": "1970-01-01T00:00:00.004Z", "failure_reason": "exhausted"}});
    assert_eq!(post("bulk-replay".into(), since).await.status, 202);
    assert_eq!(post("bulk-replay".into(), json!({})).await.status, 202);
    let events = |numbers: &[u128]| Some(numbers.iter().copied().map(EventId::from_u128).collect::<Vec<_>>());
    let asked: Vec<_> = world.store.replayed_dead_letters.lock().unwrap().drain(..).map(|(_, events)| events).collect();
    assert_eq!(asked, [events(&[1]), events(&[2, 5]), events(&[3]), events(&[4, 5]), None]);
    for (body, wrong) in [
        (json!({"ids": ["dlv_1"]}), "/ids"),
        (json!({"ids": [DeliveryId { webhook: WebhookNo(9), ..letters[0] }.to_string()]}), "/ids"),
        (json!({"ids": [], "filter": {}}), "/filter"),
        (json!({"filter": {"since": 1}}), "/filter/since"),
        (json!({"filter": {"status": 1}}), "/filter/status"),
        (json!({"all": true}), "/all"),
    ] {
        assert_eq!(post("bulk-replay".into(), body).await.wrong(), [wrong]);
    }
    let unknown = DeliveryId { event: EventId::from_u128(77), ..letters[0] };
    assert_eq!(ask().send(&world, "GET", &format!("{place}/dead-letters/{unknown}")).await.status, 404);
    assert_eq!(post(format!("{unknown}/replay"), json!({})).await.status, 404);
}

#[tokio::test]
async fn replays_are_started_and_watched() {
    let world = world();
    let webhook = made(&world).await.rsplit('/').next().unwrap().to_owned();
    let event = world.event(5, "default", "order.created", &[0]);
    let target = format!("/api/v1/events/{event}/replay");
    let one = ask().send(&world, "POST", &target).await;
    assert_eq!((one.status, one.text("id"), one.header("location")), (202, "rpl_1", "/api/v1/replays/rpl_1"));
    let body = json!({"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z", "types": ["order.*"],
        "webhook_id": webhook});
    for path in ["/api/v1/replays", "/api/v1/replay"] {
        assert_eq!(ask().json(&body).send(&world, "POST", path).await.status, 202);
    }
    let list = ask().send(&world, "GET", "/api/v1/replays?limit=2").await;
    assert_eq!((list.ids(), list.text("next_cursor")), (vec!["rpl_3", "rpl_2"], "rpl_2"));
    let rest = ask().send(&world, "GET", "/api/v1/replays?limit=2&cursor=rpl_2").await;
    assert_eq!(rest.ids(), ["rpl_1"]);
    let read = ask().send(&world, "GET", "/api/v1/replays/rpl_2").await;
    assert_eq!(
        (read.text("status"), read.text("webhook_id"), &read.body["deliveries"]),
        ("running", &*webhook, &json!(3))
    );
    assert_eq!(read.body["types"], json!(["order.*"]));
    for (body, wrong) in [
        (json!({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}), "/until"),
        (json!({"types": ["a*"]}), "/types"),
        (json!({"webhook_id": WebhookId::from_u128(9).to_string()}), "/webhook_id"),
        (json!({"tenant": "acme"}), "/tenant"),
        (json!({"all": true}), "/all"),
    ] {
        assert_eq!(ask().json(&body).send(&world, "POST", "/api/v1/replays").await.wrong(), [wrong]);
    }
    assert_eq!(ask().send(&world, "GET", "/api/v1/replays/rpl_99").await.status, 404);
}

/// Every route with an id of tenant `default`, and its methods.
async fn things_of_default(world: &World) -> Vec<(&'static str, String)> {
    let place = made(world).await;
    let event = world.event(5, "default", "order.created", &[0]);
    world.row(event, 0, DeliveryStatus::Failed);
    let letter = world.dead(event, 0);
    let other_letter = world.dead(world.event(6, "default", "order.created", &[0]), 0);
    ask().send(world, "POST", &format!("/api/v1/events/{event}/replay")).await;
    [
        ("GET", place.clone()),
        ("HEAD", place.clone()),
        ("PUT", place.clone()),
        ("PATCH", place.clone()),
        ("POST", format!("{place}/pause")),
        ("POST", format!("{place}/resume")),
        ("GET", format!("{place}/deliveries")),
        ("GET", format!("{place}/dead-letters")),
        ("GET", format!("{place}/dead-letters/{letter}")),
        ("POST", format!("{place}/dead-letters/{letter}/replay")),
        ("POST", format!("{place}/dead-letters/bulk-replay")),
        ("GET", format!("/api/v1/deliveries/{letter}")),
        ("GET", format!("/api/v1/events/{event}")),
        ("POST", format!("/api/v1/events/{event}/replay")),
        ("GET", "/api/v1/replays/rpl_1".to_owned()),
        ("DELETE", "/api/v1/replays/rpl_1".to_owned()),
        ("GET", format!("/api/v1/webhooks/deliveries/{letter}")),
        ("POST", format!("/api/v1/deliveries/{letter}/retry")),
        ("DELETE", format!("{place}/dead-letters/{other_letter}")),
        ("DELETE", place),
    ]
    .into()
}

#[tokio::test]
async fn resources_of_another_tenant_do_not_exist() {
    let world = world();
    let body = json!({"url": "https://example.com/"});
    for (method, target) in things_of_default(&world).await {
        let of = |tenant| ask().tenant(tenant).json(&body).send(&world, method, &target);
        let foreign = of(Some("acme")).await;
        assert_eq!((foreign.status, foreign.text("code")), (404, "not_found"), "{method} {target}");
        let own = ask().json(&if method == "POST" { json!({}) } else { body.clone() });
        let own = own.send(&world, method, &target).await;
        assert!((200..300).contains(&own.status), "{method} {target}: {}", own.body);
    }
    let lists = ["webhooks", "events", "replays", "deliveries", "webhooks/deliveries", "dead-letters"];
    for list in lists.map(|list| format!("/api/v1/{list}")) {
        assert!(ask().tenant(Some("acme")).send(&world, "GET", &list).await.ids().is_empty(), "{list}");
    }
}

#[tokio::test]
async fn roles_say_what_a_key_may_do() {
    let world = world();
    let mut things = things_of_default(&world).await;
    things.push(("POST", WEBHOOKS.to_owned()));
    things.push(("GET", WEBHOOKS.to_owned()));
    things.push(("POST", "/api/v1/replays".to_owned()));
    for (method, target) in things {
        let read = matches!(method, "GET" | "HEAD");
        let viewer = ask().role(Role::Viewer).json(&json!({})).send(&world, method, &target).await;
        assert_eq!(viewer.status, if read { 200 } else { 403 }, "{method} {target}");
        let publisher = ask().role(Role::Publisher).json(&json!({})).send(&world, method, &target).await;
        assert_eq!((publisher.status, publisher.text("code")), (403, "forbidden"), "{method} {target}");
    }
    let member = ask().role(Role::Member).json(&json!({"url": "https://example.com/"}));
    assert_eq!(member.send(&world, "POST", WEBHOOKS).await.status, 201);
}

#[tokio::test]
async fn paths_methods_media_types_and_bodies_are_checked_in_this_order() {
    let world = world();
    let place = made(&world).await;
    let missing = format!("{WEBHOOKS}/{}", WebhookId::from_u128(9));
    let raw = |media: &'static str, body: &str| Ask { body: body.into(), ..ask().header("content-type", media) };
    for (asked, method, target, status, code) in [
        (raw("text/plain", "x"), "PATCH", &*missing, 404, "not_found"),
        (raw("text/plain", "x"), "PATCH", &*place, 415, "unsupported_media_type"),
        (raw("application/json", "x"), "PATCH", &*place, 400, "invalid_json"),
        (raw("application/json", ""), "PATCH", &*place, 400, "invalid_json"),
        (raw("application/json", "[]"), "PATCH", &*place, 422, "invalid_body"),
        (raw("application/x-www-form-urlencoded", "{\"name\":\"n\"}"), "PATCH", &*place, 200, ""),
        (raw("application/merge-patch+json; charset=utf-8", "{}"), "PATCH", &*place, 200, ""),
        (ask(), "POST", &*place, 405, "method_not_allowed"),
        (ask(), "GET", "/api/v1/nothing", 404, "not_found"),
        (ask(), "POST", "/api/v1/events", 405, "method_not_allowed"),
    ] {
        let got = asked.send(&world, method, target).await;
        assert_eq!((got.status, got.text("code")), (status, code), "{method} {target} {}", got.body);
        assert_eq!(got.status == 405, !got.header("allow").is_empty());
    }
    let broken = raw("application/json", "{\n \"name\": nope}").send(&world, "PATCH", &place).await;
    assert_eq!(broken.text("detail"), "expected ident at byte 13");
}

#[tokio::test]
async fn an_idempotency_key_creates_one_resource() {
    let world = world();
    let post = |key: &'static str, tenant: &'static str, body: Value| {
        let world = &world;
        async move {
            let asked = ask().tenant(Some(tenant)).header("idempotency-key", key).json(&body);
            asked.send(world, "POST", WEBHOOKS).await
        }
    };
    let body = || json!({"url": "https://example.com/"});
    let wrong = post("k", "default", json!({"url": 1})).await;
    assert_eq!(wrong.status, 422, "a refusal is not remembered");
    let first = post("k", "default", body()).await;
    assert_eq!(first.status, 201);
    let again = post("k", "default", body()).await;
    assert_eq!((again.status, again.text("id")), (201, first.text("id")));
    assert_eq!(again.header("location"), first.header("location"));
    assert_ne!(post("k", "acme", body()).await.text("id"), first.text("id"));
    let other = post("k", "default", json!({"url": "https://example.com/2"})).await;
    assert_eq!((other.status, other.text("code")), (422, "idempotency_key_reused"));
    assert_eq!(ask().send(&world, "GET", WEBHOOKS).await.ids().len(), 1);
}

#[tokio::test]
async fn resume_reactivates_a_failed_webhook() {
    let world = world();
    let place = made(&world).await;
    assert!(world.writer.disable(WebhookNo(0), crate::handoff::DisableReason::Gone));
    // The writer processes changes in order, so this response comes after the deactivation.
    world.writer.set_access(crate::registry::FileAccess::default()).await.unwrap();
    let failed = ask().send(&world, "GET", &place).await;
    assert_eq!((failed.text("status"), &failed.body["active"]), ("failed", &json!(false)));
    let same = ask().json(&json!({"status": "failed", "name": "n"})).send(&world, "PATCH", &place).await;
    assert_eq!((same.status, same.text("status")), (200, "failed"));
    let resumed = ask().send(&world, "POST", &format!("{place}/resume")).await;
    assert_eq!(resumed.text("status"), "active");
    assert_eq!(world.registry.load().webhook(WebhookNo(0)).map(|w| w.status), Some(WebhookStatus::Active));
}

#[test]
fn the_openapi_document_is_served_and_lists_each_code() {
    assert_eq!(docs::document(docs::Format::Yaml).headers()["content-type"], "application/yaml; charset=utf-8");
    assert_eq!(docs::response_for("/openapi.json").unwrap().body().complete_bytes().unwrap(), docs::JSON);
    let json: Value = serde_json::from_str(docs::JSON).unwrap();
    assert_eq!(json["openapi"], "3.1.0");
    let codes = json["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    for code in ProblemCode::ALL {
        assert!(codes.contains(&Value::from(code.as_str())), "{code:?}");
    }
}

/// docs/openapi.json is converted from docs/openapi.yaml. Run any converter after a change of the YAML.
#[test]
fn the_openapi_document_is_the_same_in_both_formats() {
    let yaml: Value = serde_yaml_ng::from_str(docs::YAML).unwrap();
    let json: Value = serde_json::from_str(docs::JSON).unwrap();
    for (key, value) in yaml.as_object().unwrap() {
        assert_eq!(Some(value), json.get(key), "{key}");
    }
    assert_eq!(yaml.as_object().map(serde_json::Map::len), json.as_object().map(serde_json::Map::len));
}
