//! Measures the sender: signing compared with the bare MAC, and a delivery over loopback.
//!
//! The receiver has one thread per connection and responds to each request with the same bytes. The result of a
//! delivery is the CPU time of the sending thread (user and system) with 32 deliveries in flight. The receiver shares
//! the cores, so wall time would mostly measure the scheduler.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::cell::Cell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hooktide::config::Egress;
use hooktide::handoff::{AttemptRequest, Transport};
use hooktide::model::{EventId, NewEvent, Secret, Timestamp, WebhookId, WebhookNo};
use hooktide::outbound::{EgressGuard, Endpoint, Event, SigningKeys, Webhook, WebhookSettings};
use hooktide::runtime::{Clock, MemoryBudget, Metrics};
use hooktide::send::{ClientSetup, DeliveryClient, DnsResolver, tls_config};
use hooktide::signature::SigningKey;
use hooktide::signature::standard::{StandardHeaders, StandardMessage, verify};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::task::{LocalSet, spawn_local};

const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_120);
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SIZES: [(usize, &str); 2] = [(1024, "1KiB"), (16 * 1024, "16KiB")];
const IN_FLIGHT: u64 = 32;

fn key() -> SigningKey {
    SigningKey::try_new(Secret::new(SECRET)).expect("a valid secret")
}

fn guard() -> Arc<EgressGuard> {
    let allow = vec!["127.0.0.0/8".parse().expect("a network")];
    Arc::new(EgressGuard::new(
        &Egress { allow, deny: vec![], require_https: false, ca_file: None, dns_servers: vec![] },
        [],
    ))
}

fn signature(c: &mut Criterion) {
    let key = key();
    let raw = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[7; 32]);
    for (bytes, name) in SIZES {
        let body = vec![b'x'; bytes];
        let message = StandardMessage {
            id: b"evt_01HQZ8Y3N6W5Q2R7T9V1X4B8CD",
            timestamp: b"1711015200",
            body: &[br#"{"type":"order.created","timestamp":"2024-03-21T10:00:00.120Z","data":"#, &body, b"}"],
        };
        let whole = message.body.concat();
        let signed = message.sign(&key).expect("a key of the specification");
        let received =
            StandardHeaders { id: Some(message.id), timestamp: Some(message.timestamp), signatures: Some(&signed) };
        let mut group = c.benchmark_group(format!("signature/{name}"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("ring_hmac", |b| b.iter(|| ring::hmac::sign(&raw, black_box(&body))));
        group.bench_function("sign", |b| b.iter(|| black_box(&message).sign(&key)));
        group.bench_function("verify", |b| b.iter(|| verify([&key], black_box(received), &whole, NOW)));
        group.finish();
    }
}

fn webhook(at: SocketAddr) -> Arc<Webhook> {
    let endpoint = Endpoint::try_new(&format!("http://{at}/hook"), &guard()).expect("a URL");
    let keys = SigningKeys { current: Arc::new(key()), previous: Vec::new() };
    Arc::new(Webhook {
        no: WebhookNo(1),
        id: WebhookId::from_u128(1),
        settings: WebhookSettings::new("default".into(), endpoint, keys),
        created_at: NOW,
        updated_at: NOW,
        version: 1,
        address_version: 1,
    })
}

fn event(bytes: usize, clock: &Clock) -> Arc<Event> {
    let mut head = Vec::new();
    let new = NewEvent {
        tenant: "default",
        event_type: "order.created",
        source: "api",
        timestamp: NOW,
        correlation_id: "01HQZ8Y3N6W5Q2R7T9V1X4B8CD",
        data_len: bytes as u32,
        ..NewEvent::default()
    };
    new.encode(&[WebhookNo(1)], &mut head);
    Arc::new(Event {
        id: EventId::from_u128(7 << 80),
        head: head.into(),
        body: Bytes::from(format!("\"{}\"", "x".repeat(bytes - 2))),
        committed_at: clock.instant(),
        lease: MemoryBudget::new(1 << 20).lease(bytes),
    })
}

/// Responds with 200 each time `request_bytes` bytes have arrived. All requests have the same length, which the first
/// head gives.
fn sink(request_bytes: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let request_bytes = Arc::clone(&request_bytes);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                let mut read = 0;
                while let Ok(n @ 1..) = socket.read(&mut buffer) {
                    if read == 0 && request_bytes.load(Ordering::Relaxed) == 0 {
                        let head = buffer[..n].windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0) + 4;
                        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
                        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
                        let body: usize = length.and_then(|n| n.parse().ok()).unwrap_or(0);
                        request_bytes.store(head + body, Ordering::Relaxed);
                    }
                    read += n;
                    if read >= request_bytes.load(Ordering::Relaxed) {
                        read = 0;
                        if socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    at
}

/// User and system time of the calling thread.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the system counts");
    let micros = |at: nix::sys::time::TimeVal| at.num_microseconds() as u64;
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

fn delivery(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (bytes, name) in SIZES {
        let at = sink(Arc::default());
        let mut group = c.benchmark_group(format!("delivery/{name}"));
        group.throughput(Throughput::Elements(1));
        group.measurement_time(Duration::from_secs(5));
        group.bench_function("loopback", |b| {
            b.iter_custom(|iterations| {
                LocalSet::new().block_on(&runtime, async {
                    let clock = Clock::system(Timestamp::from_millis(0));
                    let tls = tls_config(None).expect("a TLS configuration");
                    let metrics = Metrics::new().expect("the metrics");
                    let dns = DnsResolver::start(&[], clock.clone(), metrics).expect("a thread");
                    let guard = Arc::new(arc_swap::ArcSwap::new(guard()));
                    let client = DeliveryClient::new(ClientSetup { guard, tls, clock: clock.clone() }, dns);
                    let client = Rc::new(client);
                    let (webhook, event) = (webhook(at), event(bytes, &clock));
                    let left = Rc::new(Cell::new(iterations));
                    let began = cpu_time();
                    let workers: Vec<_> = (0..IN_FLIGHT)
                        .map(|_| {
                            let (client, webhook, event) = (Rc::clone(&client), Arc::clone(&webhook), event.clone());
                            let clock = clock.clone();
                            let left = Rc::clone(&left);
                            spawn_local(async move {
                                while let Some(rest) = left.get().checked_sub(1) {
                                    left.set(rest);
                                    let (timeout, began) = (Duration::from_secs(30), clock.moment(clock.instant()));
                                    let (webhook, event) = (&webhook, &event);
                                    let attempt = AttemptRequest { webhook, event, attempt: 1, timeout, began };
                                    let outcome = client.deliver(attempt).await;
                                    assert!(outcome.result.is_ok(), "{outcome:?}");
                                }
                            })
                        })
                        .collect();
                    for worker in workers {
                        worker.await.expect("a worker ends");
                    }
                    cpu_time().saturating_sub(began)
                })
            });
        });
        group.finish();
    }
}

criterion_group!(benches, signature, delivery);
criterion_main!(benches);
