//! A client with few rights, or with none, cannot stop other tenants.
//!
//! Each test runs one attack beside a healthy tenant. The server accepts each event of the healthy tenant within 1 s
//! (5 s without optimization) and delivers it within 10 s. Each test prints the percentiles of these times.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Server, Sink};

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];
/// Events that the healthy tenant publishes during an attack.
const EVENTS: usize = 200;
/// The longest time from the publish request to the delivery.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);

/// The longest time until the response to a publish request. A build without optimization is several times slower.
pub fn accepted_within() -> Duration {
    Duration::from_secs(if crate::support::is_debug_build() { 5 } else { 1 })
}

/// A tenant with one webhook that works.
pub struct HealthyTenant {
    client: Client,
    sink: Sink,
}

impl HealthyTenant {
    /// Creates the tenant's key and webhook, and delivers a first event.
    pub fn new(server: &Server) -> Self {
        let sink = Sink::start();
        let mut client = client_of(server, "healthy", "member");
        let webhook = json!({ "url": sink.url("/"), "events": ["healthy.*"] });
        let created = client.call("POST", "/api/v1/webhooks", Some(&webhook));
        assert_eq!(created.status, 201, "{}", created.text());
        let mut tenant = Self { client, sink };
        tenant.publish();
        tenant.sink.next();
        tenant
    }

    /// Publishes [`EVENTS`] events and checks the time of each response and delivery.
    pub fn check(&mut self) {
        let mut published = Vec::with_capacity(EVENTS);
        let (mut accepted, mut delivered) = (Vec::new(), Vec::new());
        for n in 0..EVENTS {
            let start = Instant::now();
            let id = self.publish();
            let took = start.elapsed();
            assert!(took <= accepted_within(), "event {n} was accepted after {took:?}");
            accepted.push(took);
            published.push((id, start));
            // Spread over the attack.
            thread::sleep(Duration::from_millis(5));
        }
        while !published.is_empty() {
            let oldest = published[0].1;
            let left = DELIVERED_WITHIN.saturating_sub(oldest.elapsed());
            let delivery = self.sink.within(left);
            let delivery = delivery.unwrap_or_else(|| panic!("{} events were not delivered", published.len()));
            delivered
                .extend(published.extract_if(.., |(id, _)| id == delivery.id()).map(|(_, start)| delivery.at - start));
        }
        let test = thread::current().name().map(str::to_owned).unwrap_or_default();
        println!("{test}: accepted {}, delivered {}", percentiles(accepted), percentiles(delivered));
    }

    fn publish(&mut self) -> String {
        let event = json!({ "type": "healthy.event", "data": { "n": 1 } });
        let accepted = self.client.call("POST", "/api/v1/events", Some(&event));
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        accepted.json()["id"].as_str().unwrap().to_owned()
    }
}

/// The median, the 99th percentile and the maximum in milliseconds.
fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    format!("p50 {:.1} ms p99 {:.1} ms max {:.1} ms", at(50), at(99), at(100))
}

/// A client with a new key of this tenant and role.
pub fn client_of(server: &Server, tenant: &str, role: &str) -> Client {
    let _ = server.call("POST", "/api/v1/tenants", Some(&json!({ "id": tenant })));
    let body = json!({ "tenant": tenant, "role": role });
    let created = server.call("POST", "/api/v1/keys", Some(&body));
    assert_eq!(created.status, 201, "{}", created.text());
    Client::to(server.addr, created.json()["key"].as_str().unwrap().to_owned())
}

/// A filter whose expressions take long on [`costly_data`].
fn costly_filter(expressions: usize) -> Value {
    let rule = |n: usize| json!({ "field": "data.a", "operator": "matches", "value": format!("[ab]*a[ab]{{{}}}c", 3_500 + n) });
    json!({ "operator": "or", "rules": (0..expressions).map(rule).collect::<Vec<_>>() })
}

fn costly_data() -> Value {
    json!({ "a": format!("{}c", "ab".repeat(32_700)) })
}

/// Repeats an attack on threads until the healthy tenant's check has ended.
fn during(attackers: usize, attack: impl Fn(usize, &dyn Fn() -> bool) + Send + Sync, check: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let goes_on = || !stop.load(Ordering::Relaxed);
    thread::scope(|scope| {
        for n in 0..attackers {
            let (attack, goes_on) = (&attack, &goes_on);
            scope.spawn(move || attack(n, goes_on));
        }
        // The attackers also stop if the check fails.
        let _stop = StopOnDrop(&stop);
        thread::sleep(Duration::from_millis(300));
        check();
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_tenant_is_served_within_the_bounds_without_an_attack() {
    HealthyTenant::new(&Server::start(&[])).check();
}

#[test]
fn costly_filters_of_a_tenant_do_not_stop_other_tenants() {
    let server = Server::start(&[]);
    let mut healthy = HealthyTenant::new(&server);
    let sink = Sink::start();
    let mut member = client_of(&server, "costly", "member");
    // The expressions of one filter, then cheaper ones on many webhooks.
    for expressions in [6, 1, 1, 1, 1, 1, 1, 1] {
        let webhook =
            json!({ "url": sink.url("/"), "events": ["*"], "filters": { "conditions": costly_filter(expressions) } });
        let created = member.call("POST", "/api/v1/webhooks", Some(&webhook));
        assert!([201, 422].contains(&created.status), "{}", created.text());
    }
    let key = member.key.clone();
    during(
        8,
        |_, goes_on| {
            let mut client = Client::to(server.addr, key.clone());
            while goes_on() {
                let event = json!({ "type": "a.b", "data": costly_data() });
                // A refusal is as good as an acceptance here.
                let _ = client.send("POST", "/api/v1/events", &JSON, event.to_string().as_bytes());
            }
        },
        || healthy.check(),
    );
}

#[test]
fn filter_tests_of_a_viewer_do_not_stop_other_tenants() {
    let server = Server::start(&[]);
    let mut healthy = HealthyTenant::new(&server);
    let viewer = client_of(&server, "costly", "viewer").key;
    during(
        4,
        |_, goes_on| {
            let mut client = Client::to(server.addr, viewer.clone());
            let body = json!({
                "filters": { "conditions": costly_filter(6) },
                "event": { "type": "a.b", "data": costly_data() },
            });
            while goes_on() {
                let _ = client.send("POST", "/api/v1/filters/test", &JSON, body.to_string().as_bytes());
            }
        },
        || healthy.check(),
    );
}

#[test]
fn a_replay_through_costly_filters_does_not_stop_other_tenants() {
    let mut server = Server::start(&[("SERVER__DRAIN_SECONDS", "5")]);
    let mut healthy = HealthyTenant::new(&server);
    let mut member = client_of(&server, "costly", "member");
    for _ in 0..30 {
        let event = json!({ "type": "a.b", "data": costly_data() });
        assert_eq!(member.call("POST", "/api/v1/events", Some(&event)).status, 202);
    }
    let sink = Sink::start();
    for expressions in [6, 1] {
        let filters = json!({ "conditions": costly_filter(expressions) });
        let webhook = json!({ "url": sink.url("/"), "events": ["*"], "filters": filters });
        let created = member.call("POST", "/api/v1/webhooks", Some(&webhook));
        assert!([201, 422].contains(&created.status), "{}", created.text());
    }
    let started = member.call("POST", "/api/v1/replays", Some(&json!({ "include_unmatched": true })));
    assert_eq!(started.status, 202, "{}", started.text());
    healthy.check();
    assert_eq!(member.call("GET", "/api/v1/deliveries", None).status, 200);
    let stopped = Instant::now();
    server.signal(Signal::SIGTERM);
    server.wait();
    assert!(stopped.elapsed() <= Duration::from_secs(10), "{:?}", stopped.elapsed());
}

/// Opens a connection that declares a body, and sends one KiB of it per second.
fn slow_body(server: &Server, path: &str, declared: usize, goes_on: &dyn Fn() -> bool) {
    while goes_on() {
        let Ok(mut stream) = TcpStream::connect(server.addr) else { continue };
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {declared}\r\n\r\n"
        );
        let mut sent = stream.write_all(head.as_bytes());
        while sent.is_ok() && goes_on() {
            sent = stream.write_all(&[b' '; 128]);
            thread::sleep(Duration::from_millis(125));
        }
    }
}

#[test]
fn slow_bodies_without_credentials_do_not_stop_other_tenants() {
    let config = "[[sources]]\nname = \"github\"\nkind = \"github\"\nsecrets = [\"a secret of enough characters\"]\n";
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hooktide.toml"), format!("{config}[egress]\nallow = [\"127.0.0.0/8\"]\n")).unwrap();
    let path = dir.path().join("hooktide.toml").to_str().unwrap().to_owned();
    let server = Server::start(&[("CONFIG", &path)]);
    let mut healthy = HealthyTenant::new(&server);
    for path in ["/webhook/v1/nobody", "/api/v1/webhooks/github", "/api/v1/events"] {
        during(
            16,
            |n, goes_on| slow_body(&server, path, if n % 4 == 3 { 2 << 20 } else { 10 << 20 }, goes_on),
            || healthy.check(),
        );
    }
}

#[test]
fn an_endless_stream_of_100_continue_is_not_read() {
    let server = Server::start(&[]);
    let mut healthy = HealthyTenant::new(&server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let total = Arc::clone(&sent);
    // One connection: a retry comes later. The thread ends with the process of the test.
    thread::spawn(move || {
        let flood = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000);
        let (mut stream, _) = listener.accept().unwrap();
        // The flood begins after the request, because earlier bytes end the connection.
        let _ = stream.read(&mut [0; 1024]);
        while stream.write_all(&flood).is_ok() {
            total.fetch_add(flood.len(), Ordering::Relaxed);
        }
    });
    let mut member = client_of(&server, "flooded", "member");
    let created = member.call("POST", "/api/v1/webhooks", Some(&json!({ "url": url, "events": ["*"] })));
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(member.call("POST", "/api/v1/events", Some(&json!({ "type": "a.b", "data": 1 }))).status, 202);
    healthy.check();
    // The server reads 64 KiB. The buffers of the two sockets hold the rest.
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 16 << 20, "{sent} bytes");
}
