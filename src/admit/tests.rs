//! Complete requests, as bytes over a socket, with a commit thread that replies immediately.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::filter::EventFields;
use crate::handoff::{CommitError, Committed, Submission};
use crate::http::connection::{Connections, serve};
use crate::http::listener::{ConnectionInfo, http};
use crate::http::{ListenerKind, ListenerThreads, ManagementHandle, ManagementThreads, bind};
use crate::inbound::source::{Source, token_hash};
use crate::ingest::Submit;
use crate::model::{
    DedupKind, EventHead, EventId, MatchedWebhooks, NewEvent, Role, SourceId, Timestamp, WebhookNo, Webhooks,
};
use crate::registry::catalogue::EventType;
use crate::runtime::{IngestPermits, MemoryBudget, WorkBudget};
use crate::signature::{Certificate, KeySet, KeySetRequest};
use crate::storage::DurableEvent;

mod event_type;
mod inbound;
mod manage;
mod panic;
mod size;

/// A small registry and commit: keys named after their roles, tenants `default` and `acme`, one webhook for each event, and
/// a commit that remembers ids.
#[derive(Debug, Default, Clone)]
pub(super) struct Fake {
    stored: Arc<Mutex<Vec<(Bytes, Bytes)>>>,
    ids: Arc<AtomicU64>,
    refuses: Option<CommitError>,
    sources: Vec<Arc<Source>>,
    /// The types of a strict catalogue. Empty for an open catalogue.
    types: Vec<Arc<EventType>>,
    work: Arc<WorkBudget>,
    external_calls: Arc<FakeExternalCalls>,
    /// Where a request panics.
    panics: Option<PanicAt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PanicAt {
    Authentication,
    Matching,
    Submission,
}

impl Fake {
    fn panic_at(&self, place: PanicAt) {
        assert!(self.panics != Some(place), "of the test");
    }

    /// The events that were accepted: head and data.
    fn stored(&self) -> Vec<(Bytes, Bytes)> {
        self.stored.lock().unwrap().clone()
    }
}

impl Matcher for Fake {
    fn matching(&self, _: &EventFields<'_>, _: Timestamp) -> MatchedWebhooks {
        self.panic_at(PanicAt::Matching);
        Webhooks::from_slice(&[WebhookNo(1)]).into()
    }
}

impl RegistryReader for Fake {
    fn tenant_work(&self, _: &str) -> Arc<WorkBudget> {
        Arc::clone(&self.work)
    }

    fn authenticate_api_key(&self, key: &str, _: Timestamp) -> Option<Principal> {
        if key == "publisher" {
            self.panic_at(PanicAt::Authentication);
        }
        let (role, tenant) = match key {
            "viewer" => (Role::Viewer, Some("default".into())),
            "publisher" => (Role::Publisher, Some("default".into())),
            "admin" => (Role::Admin, None),
            _ => return None,
        };
        Some(Principal::new(tenant, role))
    }

    fn visibility(&self, _: &str) -> Visibility {
        Visibility::Tenant
    }

    fn has_tenant(&self, name: &str) -> bool {
        matches!(name, "default" | "acme")
    }

    fn type_rule(&self, _: &str, event_type: &str) -> TypeRule {
        match self.types.iter().find(|known| known.name() == event_type) {
            Some(known) => TypeRule::Known(Arc::clone(known)),
            None if self.types.is_empty() => TypeRule::Free,
            None => TypeRule::Unknown,
        }
    }

    fn source(&self, tenant: &str, name: &str) -> Option<Arc<Source>> {
        self.sources.iter().find(|source| *source.tenant == *tenant && *source.name == *name).cloned()
    }

    fn source_by_id(&self, id: SourceId) -> Option<Arc<Source>> {
        self.sources.iter().find(|source| source.id == id).cloned()
    }

    fn source_by_token(&self, token: &str) -> Option<Arc<Source>> {
        let hash = token_hash(token);
        self.sources.iter().find(|source| source.token.as_ref().is_some_and(|token| token.hash == hash)).cloned()
    }
}

impl Submit for Fake {
    fn submit(&self, submission: Submission) -> Result<(), (CommitError, Submission)> {
        self.panic_at(PanicAt::Submission);
        if let Some(why) = self.refuses {
            return Err((why, submission));
        }
        let mut stored = self.stored.lock().unwrap();
        let mut verdicts = crate::handoff::CommitResults::new();
        for event in submission.events {
            let same = stored.iter().position(|(head, _)| {
                let before = EventHead::parse(head).unwrap().event.dedup;
                event.dedup.is_some_and(|(key, ..)| before.is_some_and(|before| before.0 == key))
            });
            let nonce = || {
                stored.iter().position(|(head, _)| {
                    let is_batch = matches!(event.dedup, Some((_, DedupKind::IdempotencyKey, _)));
                    !is_batch && event.nonce.is_some() && EventHead::parse(head).unwrap().event.nonce == event.nonce
                })
            };
            let reused = |place: usize| {
                let Some((_, kind, fingerprint)) = event.dedup else { return false };
                let before = EventHead::parse(&stored[place].0).unwrap().event.fingerprint;
                kind == DedupKind::IdempotencyKey && before != fingerprint
            };
            verdicts.push(match same.or_else(nonce) {
                Some(place) if reused(place) => Err(CommitError::KeyReused),
                Some(place) => Ok(Committed::new(DurableEvent::for_test(EventId::from_u128(place as u128 + 1)), true)),
                None => {
                    stored.push((event.head, event.body));
                    Ok(Committed::new(DurableEvent::for_test(EventId::from_u128(stored.len() as u128)), false))
                }
            });
        }
        self.ids.store(stored.len() as u64, Ordering::Relaxed);
        submission.reply.send(verdicts);
        Ok(())
    }
}

/// Responds with the request and the name of the thread. Below `/api/v1/tenants/` it blocks its thread until [`Self::open`],
/// and below `/api/v1/audit/` it never responds. At `/api/v1/event-types/panic` it panics.
#[derive(Debug, Default)]
struct Echo {
    /// The number of started and of cancelled requests.
    came: tokio::sync::watch::Sender<usize>,
    left: tokio::sync::watch::Sender<usize>,
    is_open: Mutex<bool>,
    opens: Condvar,
}

impl Echo {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opens.notify_all();
    }
}

/// Increments the counter on drop.
struct Left<'a>(&'a tokio::sync::watch::Sender<usize>);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|left| *left += 1);
    }
}

impl Management for Echo {
    async fn handle(&self, call: ManagementRequest) -> Response {
        self.came.send_modify(|came| *came += 1);
        let path = call.parts.uri.path();
        if path.starts_with("/api/v1/tenants/") {
            let is_open = self.is_open.lock().unwrap();
            drop(self.opens.wait_while(is_open, |is_open| !*is_open).unwrap());
        }
        assert!(path != "/api/v1/event-types/panic", "of the test");
        if path.starts_with("/api/v1/audit/") {
            let _left = Left(&self.left);
            std::future::pending::<()>().await;
        }
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let said = json!({
            "method": call.parts.method.as_str(),
            "path": path,
            "bytes": call.body.len(),
            "thread": thread,
        });
        crate::http::reply::json(hyper::StatusCode::OK, &said).unwrap()
    }
}

/// The management threads, which live as long as the test process.
static MANAGE: LazyLock<ManagementThreads> = LazyLock::new(|| ManagementThreads::start().unwrap());

/// External calls that record each call.
#[derive(Debug, Default)]
struct FakeExternalCalls {
    calls: Mutex<Vec<String>>,
    /// The keys that are published.
    key_set: Mutex<Option<Arc<KeySet>>>,
    /// The error of every call. `None`: certificates are temporarily missing, and other calls succeed.
    fails: Option<ExternalCallError>,
}

impl FakeExternalCalls {
    fn failing(error: ExternalCallError) -> Arc<Self> {
        Arc::new(Self { fails: Some(error), ..Self::default() })
    }

    fn ask(&self, what: String) -> Result<(), ExternalCallError> {
        self.calls.lock().unwrap().push(what);
        self.fails.clone().map_or(Ok(()), Err)
    }
}

impl ExternalCalls for FakeExternalCalls {
    fn certificate<'a>(&'a self, url: &'a url::Url) -> ExternalCall<'a, Result<Arc<Certificate>, ExternalCallError>> {
        let asked = self.ask(format!("certificate {url}"));
        Box::pin(std::future::ready(asked.and(Err(ExternalCallError::Temporary("nothing is there".into())))))
    }

    fn key_set<'a>(&'a self, wanted: &'a KeySetRequest) -> ExternalCall<'a, Result<Arc<KeySet>, ExternalCallError>> {
        let asked = self.ask(format!("keys {}", wanted.url));
        let set = self.key_set.lock().unwrap().clone();
        let found = set.ok_or_else(|| ExternalCallError::Temporary("nothing is there".into()));
        Box::pin(std::future::ready(asked.and(found)))
    }

    fn get_url<'a>(&'a self, url: &'a url::Url) -> ExternalCall<'a, Result<(), ExternalCallError>> {
        Box::pin(std::future::ready(self.ask(format!("visit {url}"))))
    }

    fn store_secret(
        &self,
        source: SourceId,
        secret: crate::model::Secret,
    ) -> ExternalCall<'_, Result<(), ExternalCallError>> {
        Box::pin(std::future::ready(self.ask(format!("learn {source} {}", secret.reveal()))))
    }
}

fn admit(fake: Fake) -> Arc<Admit<Fake, Fake, Echo>> {
    admit_with(fake, MANAGE.handle())
}

fn admit_with(fake: Fake, management_threads: ManagementHandle) -> Arc<Admit<Fake, Fake, Echo>> {
    let metrics = Metrics::new().unwrap();
    let clock = Clock::system(Timestamp::default());
    let observed = Arc::clone(&metrics);
    let probe = || vec![ComponentHealth { name: "log", state: ComponentState::Ok, detail: None, ready: true }];
    let health = ProcessHealth::new(probe, move || observed.oldest_pending_seconds.inc());
    health.started();
    let external_calls = Arc::clone(&fake.external_calls);
    Arc::new(Admit {
        router: Arc::new(crate::api::routes::router().unwrap()),
        access: Arc::default(),
        registry: fake.clone(),
        ingest: Ingest::new(fake.clone(), fake, Arc::new(IngestPermits::new(1 << 30)), MemoryBudget::new(1 << 30)),
        management: Echo::default(),
        management_threads,
        health: Arc::new(health),
        bodies: BodyBudget::new(clock.clone(), Arc::clone(&metrics)),
        clock,
        rule_checks: RuleCheckTurns::default(),
        metrics,
        limiter: RateLimiter::default(),
        rejections: Arc::default(),
        external_calls,
        limits: RequestLimits { body_bytes: 1 << 20, batch_bytes: 4 << 20, public_metrics: false },
    })
}

/// A server and its stored events.
struct Served {
    fake: Fake,
    admit: Arc<Admit<Fake, Fake, Echo>>,
    address: SocketAddr,
    running: Option<ListenerThreads>,
    /// Threads of its own, because a test may block them or take their whole budget.
    management: Option<ManagementThreads>,
}

impl Served {
    fn new() -> Self {
        Self::with(Fake::default())
    }

    fn with(fake: Fake) -> Self {
        let listeners = bind(
            &config::Server {
                listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
                admin_listen: None,
                data_dir: std::path::PathBuf::new(),
                max_body_bytes: 0,
                max_batch_bytes: 0,
                workers: 1,
                drain: Duration::ZERO,
                public_url: None,
                cors_origins: Vec::new(),
            },
            crate::http::PassedSockets::default(),
        )
        .unwrap();
        let address = listeners.addresses()[0];
        let management = ManagementThreads::start().unwrap();
        let admit = admit_with(fake.clone(), management.handle());
        let running = Some(listeners.serve(&admit).unwrap());
        Self { fake, admit, address, running, management: Some(management) }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    /// Sends bytes, and reads until the server closes.
    fn exchange(&self, bytes: &[u8]) -> String {
        let mut socket = self.connect();
        // A server that refuses the request may close before everything is written.
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn post(&self, headers: &str, body: &str) -> (u16, Value) {
        let head = format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}");
        let answer = self.exchange(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        (status(&answer), body_of(&answer))
    }

    fn is_healthy(&self) -> bool {
        status(&self.exchange(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")) == 200
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(Duration::from_secs(5));
            running.join();
        }
        if let Some(management) = self.management.take() {
            management.stop(|| Duration::ZERO);
        }
    }
}

const KEY: &str = "Authorization: Bearer publisher\r\nContent-Type: application/json\r\n";
const ADMIN: &str = "Authorization: Bearer admin\r\nContent-Type: application/json\r\n";
const EVENT: &str = r#"{"type":"a.b","data":{"n":1}}"#;

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn body_of(answer: &str) -> Value {
    answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok()).unwrap_or_default()
}

#[test]
fn an_event_is_stored_unchanged_and_its_response_comes_from_the_commit() {
    let served = Served::new();
    let body =
        r#" {"type":"order.created", "data" : {"a" : 1.0,"b":"\u00e9é"} ,"id":7,"metadata":{"k":[]},"user_id":"u"} "#;
    let headers = "X-Request-ID: r-1\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let (code, answer) = served.post(&format!("{KEY}{headers}"), body);
    assert_eq!(code, 202);
    assert_eq!(
        answer,
        json!({"id": EventId::from_u128(1).to_string(), "status": "accepted", "duplicate": false, "webhooks": 1})
    );
    let (head, data) = served.fake.stored().remove(0);
    assert_eq!(data, r#"{"a" : 1.0,"b":"\u00e9é"}"#);
    let head = EventHead::parse(&head).unwrap();
    let NewEvent { tenant, event_type, source, external_id, correlation_id, traceparent, metadata, .. } = head.event;
    assert_eq!((tenant, event_type, source), ("default", "order.created", "api"));
    assert_eq!((external_id, correlation_id, metadata), (Some("7"), "r-1", Some(r#"{"k":[]}"#)));
    assert!(traceparent.is_some() && head.event.data_len == data.len() as u32);
    assert_eq!(head.webhooks().to_vec(), [WebhookNo(1)]);
    let (code, again) = served.post(KEY, body);
    assert_eq!((code, &again["id"], &again["duplicate"]), (200, &answer["id"], &json!(true)));
}

#[test]
fn an_event_in_a_loop_of_gateways_is_refused() {
    let served = Served::new();
    assert_eq!(served.post(&format!("{KEY}Webhook-Hops: 8\r\n"), EVENT).0, 202);
    assert_eq!(EventHead::parse(&served.fake.stored()[0].0).unwrap().event.hops, 8);
    let (code, problem) = served.post(&format!("{KEY}Webhook-Hops: 9\r\n"), EVENT);
    assert_eq!((code, &problem["code"]), (400, &json!("invalid_request")));
    assert!(problem["detail"].as_str().unwrap().contains("webhook-hops"), "{problem}");
    assert_eq!(served.fake.stored().len(), 1);
}

#[test]
fn an_idempotency_key_is_valid_for_one_body() {
    let served = Served::new();
    let key = format!("{KEY}Idempotency-Key: k\r\n");
    assert_eq!(served.post(&key, EVENT).0, 202);
    assert_eq!(served.post(&key, EVENT).0, 200);
    let (code, problem) = served.post(&key, r#"{"type":"a.b","data":{"n":2}}"#);
    assert_eq!((code, &problem["code"]), (422, &json!("idempotency_key_reused")));
    let array = format!("[{EVENT},{EVENT}]");
    assert_eq!(served.post(&key, &array).1["accepted"], 2, "each item has the key and its place");
    assert_eq!(served.post(&key, &array).0, 200);
    assert_eq!(served.post(&format!("{KEY}Idempotency-Key: \r\n"), EVENT).0, 400);
}

#[test]
fn each_event_of_a_batch_fails_separately() {
    let served = Served::new();
    let body = r#"[{"type":"a","data":1},{"type":"","data":1},{"data":1},{"type":"hooktide.x","data":1},7,
        {"type":"a","data":1,"tenant":"nobody"},{"type":"a","data":1,"no":1},{"type":"a","data":2,"id":"x"},
        {"type":"a","data":3,"id":"x"}]"#;
    let (code, answer) = served.post(ADMIN, body);
    assert_eq!(code, 202);
    assert_eq!((&answer["accepted"], &answer["duplicates"], &answer["rejected"]), (&json!(2), &json!(1), &json!(6)));
    let pointers: Vec<_> =
        answer["events"].as_array().unwrap().iter().map(|e| &e["error"]["errors"][0]["pointer"]).collect();
    assert_eq!(json!(pointers), json!([null, "/1/type", "/2/type", "/3/type", "/4", "/5/tenant", "/6/no", null, null]));
    assert_eq!(answer["events"][8]["duplicate"], true);
    assert_eq!(served.fake.stored().len(), 2);

    assert_eq!(served.post(ADMIN, r#"[{"type":"a"},{}]"#).0, 422);
    assert_eq!(served.post(ADMIN, "[]").0, 422);
    let many = |n: usize| format!("[{}]", vec![EVENT; n].join(","));
    assert_eq!(served.post(ADMIN, &many(1_001)).0, 422);
    assert_eq!(served.post(ADMIN, &many(1_000)).1["accepted"], 1_000);
}

#[test]
fn each_line_of_ndjson_has_its_own_result() {
    let served = Served::new();
    let headers = "Authorization: Bearer publisher\r\nContent-Type: application/x-ndjson\r\n";
    let (code, answer) = served.post(headers, &format!("{EVENT}\n{{\"type\"\n\n{EVENT}\r\n"));
    assert_eq!((code, &answer["accepted"], &answer["rejected"]), (202, &json!(2), &json!(1)));
    assert_eq!(answer["events"][1]["error"]["code"], "invalid_json");
}

#[test]
fn refusals_come_in_the_order_of_the_interface() {
    let served = Served::new();
    for (headers, body, want) in [
        ("", EVENT, (401, "unauthenticated")),
        ("Authorization: Bearer nobody\r\n", EVENT, (401, "unauthenticated")),
        ("Authorization: Basic YTpi\r\n", EVENT, (401, "unauthenticated")),
        ("Authorization: Bearer admin\r\nAuthorization: Bearer admin\r\n", EVENT, (401, "unauthenticated")),
        ("Authorization: Bearer \u{e9}\r\n", EVENT, (401, "unauthenticated")),
        ("Authorization: Bearer viewer\r\nContent-Type: image/png\r\n", EVENT, (403, "forbidden")),
        ("Authorization: Bearer admin\r\nContent-Type: image/png\r\n", "\x01PNG", (415, "unsupported_media_type")),
        ("Authorization: Bearer admin\r\n", "a=b", (415, "unsupported_media_type")),
        ("Authorization: Bearer admin\r\nContent-Encoding: gzip\r\n", EVENT, (415, "unsupported_media_type")),
        (
            "Authorization: Bearer admin\r\nContent-Type: application/json; charset=utf-7\r\n",
            EVENT,
            (415, "unsupported_media_type"),
        ),
        (ADMIN, "", (400, "invalid_json")),
        (ADMIN, "{", (400, "invalid_json")),
        (ADMIN, "{} {}", (400, "invalid_json")),
        (ADMIN, "NaN", (400, "invalid_json")),
        (ADMIN, "\u{feff}{}", (400, "invalid_json")),
        (ADMIN, "null", (422, "invalid_body")),
        (ADMIN, "{}", (422, "invalid_body")),
    ] {
        let (code, problem) = served.post(headers, body);
        assert_eq!((code, problem["code"].as_str()), (want.0, Some(want.1)), "{headers} {body}");
        assert!(problem["request_id"].as_str().unwrap().starts_with("req_"), "{problem}");
    }
    assert_eq!(served.post("Authorization: Bearer admin\r\nContent-Type: text/plain\r\n", EVENT).0, 202);
    assert_eq!(served.fake.stored().len(), 1);
}

#[test]
fn want_of_room_is_503_with_a_time_to_come_back() {
    for (why, code) in [
        (CommitError::Overloaded, "overloaded"),
        (CommitError::DiskFull, "disk_full"),
        (CommitError::Poisoned, "overloaded"),
    ] {
        let served = Served::with(Fake { refuses: Some(why), ..Fake::default() });
        let request = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{KEY}Content-Length: {}\r\n\r\n{EVENT}",
            EVENT.len()
        );
        let answer = served.exchange(request.as_bytes());
        assert_eq!((status(&answer), body_of(&answer)["code"].as_str()), (503, Some(code)));
        assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: "), "{answer}");
    }
    let served = Served::new();
    served.admit.health.start_draining();
    assert_eq!(served.post(KEY, EVENT).1["code"], "draining");
}

#[test]
fn the_other_routes() {
    let served = Served::new();
    let get = |target: &str, headers: &str| {
        served.exchange(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n").as_bytes())
    };
    assert_eq!(body_of(&get("/health", ""))["figures"], Value::Null);
    assert_eq!(body_of(&get("/health", "Authorization: Bearer publisher\r\n"))["figures"], Value::Null);
    let stats = &body_of(&get("/health", "Authorization: Bearer viewer\r\n"))["figures"];
    assert_eq!((&stats["ack"]["count"], &stats["oldest_pending_seconds"]), (&json!(0), &json!(1)), "looked at once");
    assert_eq!(status(&get("/ready", "")), 200);
    assert_eq!(status(&get("/metrics", "")), 401);
    assert_eq!(status(&get("/metrics", "Authorization: Bearer publisher\r\n")), 403);
    let metrics = get("/metrics", "Authorization: Bearer viewer\r\n");
    assert!(metrics.contains("hooktide_requests_total") && metrics.contains("hooktide_oldest_pending_seconds 2"));
    assert_eq!(status(&get("/api/v1/webhooks", "")), 401);
    assert_eq!(
        body_of(&get("/api/v1/webhooks?limit=1", "Authorization: Bearer viewer\r\n"))["path"],
        "/api/v1/webhooks"
    );
    assert_eq!(status(&get("http://evil.example/health", "")), 200, "routed by its path alone");
    let head = served.exchange(b"HEAD /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(status(&head) == 200 && head.ends_with("\r\n\r\n"), "{head}");
}

/// Bytes and the allowed status codes of the response. 0 means no response.
type Case = (&'static str, Vec<u8>, &'static [u16]);

fn malformed_lines() -> Vec<Case> {
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
    vec![
        ("L01", b"\r\n\r\n\r\n".to_vec(), &[0]),
        ("L02", b"GET /\r\n".to_vec(), &[400]),
        ("L03", line("GET / HTTP/1.2"), &[400, 505]),
        ("L04", line("GET / HTTP/2.0"), &[400, 505]),
        ("L05", line("GET / HTTP/1.32"), &[400]),
        ("L06", line("GET / http/1.1"), &[400]),
        ("L07", line("GET  /  HTTP/1.1"), &[400]),
        ("L08", line("GET\t/\tHTTP/1.1"), &[400]),
        ("L09", line(" GET / HTTP/1.1"), &[400]),
        ("L10", line("G\0T / HTTP/1.1"), &[400]),
        ("L11", line(&format!("{} / HTTP/1.1", "A".repeat(4096))), &[400, 404, 405, 501]),
        ("L12a", line("GET /\x7f HTTP/1.1"), &[400]),
        ("L12b", line("GET /\0 HTTP/1.1"), &[400]),
        ("L13", line(&format!("GET /{} HTTP/1.1", "a".repeat(65_535))), &[414]),
        ("L13 ours", line(&format!("GET /{} HTTP/1.1", "a".repeat(9_000))), &[414]),
        ("L15", line("CONNECT 127.0.0.1:22 HTTP/1.1"), &[400, 405]),
        ("L16", line("OPTIONS * HTTP/1.1"), &[404]),
        ("L17", line("TRACE / HTTP/1.1"), &[405]),
        ("L18a", line("GET /../../etc/passwd HTTP/1.1"), &[404]),
        ("L18b", line("GET /..;/admin HTTP/1.1"), &[404]),
        ("L18c", line("GET //health HTTP/1.1"), &[404]),
        ("L19", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[0, 400]),
        ("L20a", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[0, 400]),
        ("L20b", b"\x80\x80\x01\x03\x01".to_vec(), &[0, 400]),
        ("L22", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /health HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), &[400]),
    ]
}

fn malformed_headers() -> Vec<Case> {
    let with = |headers: &str| format!("GET /health HTTP/1.1\r\n{headers}\r\n").into_bytes();
    let many =
        |n: usize, value: usize| with(&format!("Host: a\r\n{}", format!("X-A: {}\r\n", "1".repeat(value)).repeat(n)));
    vec![
        ("H01", with(""), &[400]),
        ("H02a", with("Host: a\r\nHost: a\r\n"), &[400]),
        ("H02b", with("Host: a\r\nHost: b\r\n"), &[400]),
        ("H03a", with("Host: a, b\r\n"), &[400]),
        ("H03b", with("Host: a@b\r\n"), &[400]),
        ("H03c", with("Host: [::1\r\n"), &[400]),
        ("H03d", with("Host: a:99999\r\n"), &[400]),
        ("H03e", with("Host:\r\n"), &[400]),
        ("H04", with("Host : a\r\n"), &[400]),
        ("H05a", with("Host: a\r\nX: v\0alue\r\n"), &[400]),
        ("H05b", with("Host: a\r\nX: v\ralue\r\n"), &[400]),
        ("H06", b"GET /health HTTP/1.1\r\n\tContent-Length: 1\r\nHost: a\r\n\r\n".to_vec(), &[400]),
        ("H07", with("Host: a\r\nX: a\r\n b\r\n"), &[400]),
        ("H08a", with("Host: a\r\nX\u{80}: a\r\n"), &[400]),
        ("H08b", with("Host: a\r\nX Y: a\r\n"), &[400]),
        ("H08c", with("Host: a\r\n: a\r\n"), &[400]),
        ("H08d", with("Host: a\r\nX\r\n"), &[400]),
        ("H09a", many(64, 1), &[431]),
        ("H09b", many(101, 1), &[431]),
        ("H09c", many(10_000, 1), &[431]),
        ("H10a", many(1, 500 * 1024), &[431]),
        ("H10b", many(40, 1024), &[431]),
        ("H13", with("Host: a\r\nX-HTTP-Method-Override: DELETE\r\n"), &[200]),
        ("H22", with(&format!("Host: a\r\nCookie: {}\r\n", "a".repeat(65_536))), &[431]),
    ]
}

fn malformed_framing() -> Vec<Case> {
    let post = |framing: &str, body: &str| {
        format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\n{KEY}{framing}\r\n\r\n{body}").into_bytes()
    };
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    let mut cases: Vec<Case> = vec![
        ("S01", post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"), &[400]),
        ("S02", post("Transfer-Encoding: chunked\r\nContent-Length: 6", "0\r\n\r\nG"), &[400]),
        ("S04", post("Content-Length: 5\r\nContent-Length: 6", "{}   "), &[400]),
        ("S05", post("Content-Length: 5, 6", "{}   "), &[400]),
        (
            "S12",
            b"POST /api/v1/events HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            &[400],
        ),
        ("S13", post("Transfer-Encoding : chunked", "0\r\n\r\n"), &[400]),
        ("S14", post(" Transfer-Encoding: chunked", "0\r\n\r\n"), &[400]),
        ("S16b", chunked(&format!("{}5\r\n", "0".repeat(1 << 20))), &[0, 400]),
        ("S18", chunked("2\r\n{}3\r\n"), &[400]),
        ("S19", chunked(&format!("2;{}\r\n{{}}\r\n0\r\n\r\n", "x".repeat(20 * 1024))), &[400]),
        ("S21", chunked(&format!("{:x}\r\n{}", 8 << 20, " ".repeat(5 << 20))), &[413]),
        ("S22", chunked(&format!("2\r\n{{}}\r\n0\r\nX: {}\r\n\r\n", "x".repeat(72 * 1024 + 1))), &[400]),
        ("S23", post("Content-Length: 100", "{"), &[0, 400]),
        ("S26", format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\n{KEY}\r\n").into_bytes(), &[400]),
        ("S28", post("Content-Length: 26214400", "{}").into_iter().chain([b' '; 100_000]).collect(), &[413]),
        ("J02", post(&format!("Content-Length: {}", 500_000), &"{\"a\":".repeat(100_000)), &[400]),
    ];
    for value in
        ["+5", "-5", "0x5", "5 5", "5_0", "5.0", "1e2", "\u{665}", "18446744073709551615", "18446744073709551616"]
    {
        // hyper itself responds with 431 to a length beyond 64 bits.
        cases.push(("S06/S07", post(&format!("Content-Length: {value}"), "{}   "), &[400, 413, 431]));
    }
    for value in ["xchunked", "chunked, identity", "identity", "gzip", "chunked, gzip", "\x0bchunked", "\0chunked"] {
        cases.push(("S08/S09", post(&format!("Transfer-Encoding: {value}"), "0\r\n\r\n"), &[400]));
    }
    for size in ["0x5", "+5", "-5", "5_0", "", "G", "0_2e", "FFFFFFFFFFFFFFFF", "10000000000000000"] {
        cases.push(("S15/S16", chunked(&format!("{size}\r\n{{}}   \r\n0\r\n\r\n")), &[400, 413]));
    }
    cases.push(("S17", chunked("2\n{}\r\n0\r\n\r\n"), &[400]));
    cases
}

#[test]
fn malformed_requests_get_one_answer_and_leave_nothing_behind() {
    let served = Served::new();
    for (name, bytes, allowed) in malformed_lines().into_iter().chain(malformed_headers()).chain(malformed_framing()) {
        let answer = served.exchange(&bytes);
        assert!(allowed.contains(&status(&answer)), "{name}: {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{name} has two answers: {answer}");
        assert!(served.fake.stored().is_empty(), "{name} was stored");
        assert!(served.is_healthy(), "after {name}");
    }
}

#[test]
fn a_stray_line_end_or_garbage_after_a_body_delays_no_response() {
    let served = Served::new();
    for rest in ["\r\n", "GET"] {
        let mut socket = served.connect();
        let request = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: a\r\n{KEY}Content-Length: {}\r\n\r\n{EVENT}{rest}",
            EVENT.len()
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut start = [0; 12];
        socket.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 202");
    }
}

#[test]
fn a_body_may_have_exactly_its_limit() {
    let served = Served::new();
    let limit = served.admit.limits.body_bytes;
    let padded = |len: usize| format!("{EVENT}{}", " ".repeat(len - EVENT.len()));
    let chunked = |body: &str| {
        let framing = format!("{KEY}Transfer-Encoding: chunked\r\nConnection: close\r\n");
        let head = format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\n{framing}\r\n");
        status(&served.exchange(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes()))
    };
    for (len, code) in [(limit - 1, 202), (limit, 202), (limit + 1, 413)] {
        assert_eq!(served.post(KEY, &padded(len)).0, code, "{len} declared");
        assert_eq!(chunked(&padded(len)), code, "{len} in chunks");
    }
}

#[test]
fn a_refused_body_is_not_requested_with_100_continue() {
    let served = Served::new();
    for (headers, length, code) in [(KEY, "99999999", 413), ("", "10", 401)] {
        let head = format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{headers}");
        let answer = served.exchange(format!("{head}Content-Length: {length}\r\n\r\n").as_bytes());
        assert_eq!(status(&answer), code, "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    }
    let mut socket = served.connect();
    let head = format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\n{KEY}");
    socket.write_all(format!("{head}Content-Length: {}\r\n\r\n", EVENT.len()).as_bytes()).unwrap();
    let mut interim = [0; 25];
    socket.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(EVENT.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 202);
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let served = Served::new();
    let requests = (0..1_000)
        .map(|n| (n, if n == 999 { "Connection: close\r\n" } else { "" }))
        .map(|(n, close)| format!("GET /health HTTP/1.1\r\nHost: a\r\nX-Request-ID: n{n}\r\n{close}\r\n"))
        .collect::<Vec<_>>()
        .concat();
    let mut socket = served.connect();
    let mut writer = socket.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(requests.as_bytes()));
    let mut answers = String::new();
    socket.read_to_string(&mut answers).unwrap();
    writing.join().unwrap().unwrap();
    let ids: Vec<_> = answers.lines().filter_map(|line| line.strip_prefix("x-request-id: n")).collect();
    assert_eq!(ids, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_stop_completes_requests_in_flight_and_closes_idle_connections() {
    let mut served = Served::new();
    let (mut idle, mut busy) = (served.connect(), served.connect());
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 12]).unwrap();
    let head = format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{KEY}");
    busy.write_all(format!("{head}Content-Length: {}\r\n\r\n", EVENT.len()).as_bytes()).unwrap();
    // The 100 shows that the request is in flight.
    busy.read_exact(&mut [0; 25]).unwrap();
    let running = served.running.take().unwrap();
    running.stop(Duration::from_secs(20));
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    busy.write_all(EVENT.as_bytes()).unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 202, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    running.join();
    assert!(TcpStream::connect(served.address).is_err(), "nobody listens any more");
}

/// A reply router whose receiver runs on this thread.
fn on_this_thread() -> crate::handoff::ReplyRouter {
    let (reply_router, receiver) = crate::handoff::ReplyRouter::open();
    tokio::task::spawn(receiver.run());
    reply_router
}

/// Serves an in-memory connection on the paused clock of the test, and returns the side of the client.
async fn on_paused_clock(request: String) -> (tokio::io::DuplexStream, std::rc::Rc<Connections>) {
    use tokio::io::AsyncWriteExt as _;
    let worker = Worker::new(admit(Fake::default()), on_this_thread());
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let connections = std::rc::Rc::<Connections>::default();
    let monitor = connections.register();
    tokio::task::spawn_local(async move {
        let info = ConnectionInfo { listener: ListenerKind::Combined, peer: Ipv4Addr::LOCALHOST.into() };
        serve(&http(), (server, ()), (info, monitor), &worker).await;
    });
    let sweeping = std::rc::Rc::clone(&connections);
    tokio::task::spawn_local(async move {
        let mut ticks = tokio::time::interval(crate::limits::TIMEOUT_CHECK_INTERVAL);
        loop {
            ticks.tick().await;
            sweeping.sweep();
        }
    });
    client.write_all(request.as_bytes()).await.unwrap();
    (client, connections)
}

async fn read_all(client: &mut tokio::io::DuplexStream) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn a_body_that_arrives_too_slowly_is_refused() {
    use crate::limits::{BODY_RATE_GRACE, BODY_TIMEOUT, LINGER_TIMEOUT};
    use tokio::io::AsyncWriteExt as _;
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let request = format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\n{KEY}Content-Length: 1000000\r\n\r\n{{");
            let started = tokio::time::Instant::from_std(Clock::system(Timestamp::default()).instant().into_std());
            let (mut client, _connections) = on_paused_clock(request.clone()).await;
            let answer = read_all(&mut client).await;
            assert_eq!((status(&answer), body_of(&answer)["code"].as_str()), (408, Some("request_timeout")));
            let waited = started.elapsed();
            assert!(waited >= BODY_RATE_GRACE && waited <= BODY_RATE_GRACE + LINGER_TIMEOUT * 2, "{waited:?}");

            // The rate is always sufficient, but the body never ends.
            let started = started + waited;
            let (client, _connections) = on_paused_clock(request).await;
            let (mut read, mut write) = tokio::io::split(client);
            tokio::task::spawn_local(async move {
                while write.write_all(&[b' '; 4096]).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
            let mut answer = [0; 12];
            tokio::io::AsyncReadExt::read_exact(&mut read, &mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 408");
            assert!(started.elapsed() >= BODY_TIMEOUT, "{:?}", started.elapsed());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn slow_heads_and_idle_connections_are_closed() {
    use crate::limits::{HEADER_TIMEOUT, IDLE_TIMEOUT, TIMEOUT_CHECK_INTERVAL};
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            for (request, limit) in [
                ("", HEADER_TIMEOUT),
                ("GET /health HT", HEADER_TIMEOUT),
                ("GET /health HTTP/1.1\r\nHost: a\r\n\r\n", IDLE_TIMEOUT),
            ] {
                let clock = Clock::system(Timestamp::default());
                let started = clock.instant();
                let (mut client, _connections) = on_paused_clock(request.to_owned()).await;
                read_all(&mut client).await;
                let waited = clock.instant() - started;
                assert!(waited >= limit && waited <= limit + TIMEOUT_CHECK_INTERVAL * 2, "{request}: {waited:?}");
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_no_responses_is_disconnected() {
    use crate::limits::{TIMEOUT_CHECK_INTERVAL, WRITE_TIMEOUT};
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            // More responses than the buffers between both sides hold.
            let requests = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_500);
            let (_client, connections) = on_paused_clock(requests).await;
            tokio::time::sleep(WRITE_TIMEOUT).await;
            assert_eq!(connections.count(), 1);
            tokio::time::sleep(TIMEOUT_CHECK_INTERVAL * 3).await;
            assert_eq!(connections.count(), 0);
        })
        .await;
}

/// Publishes a body without a socket.
fn publish(body: &[u8]) -> (Result<Response, crate::http::Problem>, Fake) {
    let fake = Fake::default();
    let admit = admit(fake.clone());
    let principal = Principal::new(None, Role::Admin);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    (runtime.block_on(admit.take(principal, &Bytes::copy_from_slice(body))), fake)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::hash_map("\\PC{0,5}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_body_panics(body in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "[\\[\\]{}:,\"a1\\\\ typedaid]{0,60}".prop_map(String::into_bytes),
        any_json().prop_map(|value| value.to_string().into_bytes()),
    ]) {
        let _ = publish(&body);
        let _ = parse::ndjson(&body);
    }

    #[test]
    fn the_data_of_an_event_is_kept_byte_for_byte(data in any_json(), pretty: bool, before in "[ \\t\\r\\n]{0,3}") {
        let text = if pretty { serde_json::to_string_pretty(&data) } else { serde_json::to_string(&data) }.unwrap();
        let (answer, fake) = publish(format!("{before}{{\"data\":{before}{text}{before},\"type\":\"a\"}}").as_bytes());
        prop_assert_eq!(answer.unwrap().status(), 202);
        prop_assert_eq!(&fake.stored()[0].1, text.as_bytes());
    }
}
