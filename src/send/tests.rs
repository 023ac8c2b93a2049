//! Tests of the client with well-behaved and hostile receivers on real sockets (RELIABILITY P6, P7).
//!
//! `tests/data/tls` has a certificate with key for `receiver.test` and 127.0.0.1, valid until 2120, and the authority
//! that signed it. It also has two client certificates with keys (one with a P-256 key, one with an RSA key), and the
//! authority that signed them. The keys of the authorities were deleted. `tests/data/ssrf_urls.jsonl` is the table of
//! bypass URLs.

use crate::model::{AttemptError, EventId, NewEvent, Secret, Timestamp, WebhookId, WebhookNo};
use crate::outbound::{
    Credentials, EgressGuard, Endpoint, EndpointAuth, Event, SharedEgressGuard, SigningKeys, Webhook, WebhookSettings,
    preview,
};
use crate::signature::SigningKey;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

use super::connect::Connector;
use super::*;
use crate::config::Egress;
use crate::handoff::{AttemptOutcome, AttemptRequest, Transport};
use crate::limits::{INFORMATIONAL_RESPONSES_MAX, RESPONSE_BYTES_KEPT, RESPONSE_BYTES_MAX, TLS_TIMEOUT};
use crate::outbound::tls::{EndpointTls, TlsSettings};
use crate::runtime::{Clock, MemoryBudget};
use crate::signature::standard::{StandardHeaders, verify};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_120);
const LONG: Duration = Duration::from_secs(30);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A resolver with fixed answers. A name without an answer does not exist.
#[derive(Default)]
pub(super) struct Names(HashMap<&'static str, NameAnswer>, Cell<usize>);

/// Returns the addresses for the number of the query.
type NameAnswer = Box<dyn Fn(usize) -> Vec<IpAddr>>;

impl Names {
    pub(super) fn with(mut self, name: &'static str, answer: impl Fn(usize) -> Vec<IpAddr> + 'static) -> Self {
        self.0.insert(name, Box::new(answer));
        self
    }
}

impl Resolve for Names {
    async fn resolve(&self, host: &str, _: &Arc<str>) -> io::Result<Vec<IpAddr>> {
        self.1.set(self.1.get() + 1);
        self.0.get(host).map(|answer| answer(self.1.get())).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn guard(allow: &[&str]) -> SharedEgressGuard {
    let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
    shared(EgressGuard::new(
        &Egress { allow, deny: vec![], require_https: false, ca_file: None, dns_servers: vec![] },
        [],
    ))
}

fn shared(guard: EgressGuard) -> SharedEgressGuard {
    Arc::new(arc_swap::ArcSwap::from_pointee(guard))
}

fn client(guard: SharedEgressGuard, names: Names) -> DeliveryClient<Names> {
    let ca_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls/ca.pem");
    let setup = ClientSetup { guard, tls: tls_config(Some(&ca_file)).unwrap(), clock: Clock::test(NOW) };
    DeliveryClient::new(setup, names)
}

fn loopback() -> DeliveryClient<Names> {
    client(guard(&["127.0.0.0/8"]), Names::default())
}

fn webhook(url: &str) -> Webhook {
    let keys = SigningKeys { current: Arc::new(SigningKey::generate()), previous: Vec::new() };
    let endpoint = Endpoint::try_new(url, &guard(&["127.0.0.0/8"]).load()).unwrap();
    Webhook {
        no: WebhookNo(1),
        id: WebhookId::from_u128(1),
        settings: WebhookSettings::new("default".into(), endpoint, keys),
        created_at: NOW,
        updated_at: NOW,
        version: 1,
        address_version: 1,
    }
}

fn event(data: impl Into<Bytes>) -> Arc<Event> {
    event_after(0, data)
}

/// An event that came through `hops` other gateways.
fn event_after(hops: u8, data: impl Into<Bytes>) -> Arc<Event> {
    let mut head = Vec::new();
    let new = NewEvent {
        tenant: "default",
        event_type: "order.created",
        source: "api",
        timestamp: NOW,
        correlation_id: "req_1",
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        hops,
        ..NewEvent::default()
    };
    new.encode(&[WebhookNo(1)], &mut head);
    let data = data.into();
    Arc::new(Event {
        id: EventId::from_u128(7),
        head: head.into(),
        lease: MemoryBudget::new(1 << 20).lease(data.len()),
        body: data,
        committed_at: Clock::test(NOW).instant(),
    })
}

/// A first attempt that begins now.
fn first<'a>(webhook: &'a Arc<Webhook>, event: &'a Arc<Event>, timeout: Duration) -> AttemptRequest<'a> {
    let clock = Clock::test(NOW);
    AttemptRequest { webhook, event, attempt: 1, timeout, began: clock.moment(clock.instant()) }
}

async fn send_to<R: Resolve>(client: &DeliveryClient<R>, webhook: Webhook, timeout: Duration) -> AttemptOutcome {
    let webhook = Arc::new(webhook);
    client.deliver(first(&webhook, &event(&b"{}"[..]), timeout)).await
}

async fn send<R: Resolve>(client: &DeliveryClient<R>, at: SocketAddr, timeout: Duration) -> AttemptOutcome {
    send_to(client, webhook(&format!("http://{at}/hook")), timeout).await
}

/// A receiver: a function that handles each connection, and a count of the connections.
pub(super) async fn receiver<F: Future<Output = ()> + 'static>(
    serve: impl Fn(usize, TcpStream) -> F + 'static,
) -> (SocketAddr, Rc<Cell<usize>>) {
    receiver_on("127.0.0.1:0", serve).await
}

async fn receiver_on<F: Future<Output = ()> + 'static>(
    at: &str,
    serve: impl Fn(usize, TcpStream) -> F + 'static,
) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind(at).await.unwrap();
    let at = listener.local_addr().unwrap();
    let count = Rc::new(Cell::new(0));
    let counted = Rc::clone(&count);
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.set(counted.get() + 1);
            spawn_local(serve(counted.get(), socket));
        }
    });
    (at, count)
}

/// Reads one request, head and body. `None` at the end of the connection.
async fn read_request(from: &mut (impl AsyncRead + Unpin)) -> Option<(Vec<String>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if from.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let lines: Vec<_> = String::from_utf8_lossy(&bytes[..head_end]).split("\r\n").map(str::to_owned).collect();
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        from.read_buf(&mut body).await.ok().filter(|n| *n > 0)?;
    }
    assert_eq!(body.len(), length);
    Some((lines, body))
}

/// Answers each request with the same response.
async fn answer_all(mut socket: impl AsyncRead + AsyncWrite + Unpin, answer: Vec<u8>) {
    while read_request(&mut socket).await.is_some() {
        socket.write_all(&answer).await.unwrap();
    }
}

/// Reads one request, writes the start of a response, and then writes `more` until the client stops reading.
async fn flood(mut socket: TcpStream, begin: Vec<u8>, more: Vec<u8>) {
    read_request(&mut socket).await;
    let mut written = socket.write_all(&begin).await;
    while written.is_ok() {
        written = socket.write_all(&more).await;
        tokio::task::yield_now().await;
    }
}

pub(super) async fn local<T>(test: impl Future<Output = T>) -> T {
    LocalSet::new().run_until(test).await
}

fn is_connect(outcome: &AttemptOutcome) -> bool {
    matches!(outcome.result, Err(AttemptError::Connect(_)))
}

#[tokio::test]
async fn a_delivery_arrives_complete_signed_and_with_its_headers() {
    local(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let recorded = Rc::clone(&seen);
        let (at, _) = receiver(move |_, mut socket| {
            let recorded = Rc::clone(&recorded);
            async move {
                let request = read_request(&mut socket).await.unwrap();
                recorded.borrow_mut().push(request);
                socket.write_all(OK).await.unwrap();
            }
        })
        .await;
        let mut webhook = webhook(&format!("http://{at}/hook?x=1"));
        let previous = Arc::new(SigningKey::generate());
        webhook.settings.keys.previous = vec![(Arc::clone(&previous), NOW.plus(LONG))];
        for (name, value) in [("x-own", "1"), ("user-agent", "mine"), ("webhook-id", "forged"), ("content-length", "1")]
        {
            webhook.settings.headers.push((HeaderName::from_static(name), HeaderValue::from_static(value)));
        }
        let webhook = Arc::new(webhook);
        let data = format!("{{\"n\":\"{}\"}}", "x".repeat(1 << 20));
        let event = event(data.clone());
        let client = loopback();
        let outcome = client.deliver(first(&webhook, &event, LONG)).await;
        assert_eq!(outcome.result, Ok(()));
        assert_eq!((outcome.http_status, &*outcome.response), (Some(200), "ok"));
        assert!(outcome.sent_at.is_some() && outcome.latency > Duration::ZERO);

        let (head, body) = seen.borrow_mut().pop().unwrap();
        let expected = format!(r#"{{"type":"order.created","timestamp":"2024-03-21T10:00:00.120Z","data":{data}}}"#);
        assert!(body == expected.as_bytes(), "the body");
        assert_eq!(head[0], "POST /hook?x=1 HTTP/1.1");
        let header = |name: &str| {
            let values: Vec<_> = head.iter().filter_map(|line| line.strip_prefix(&format!("{name}: "))).collect();
            assert_eq!(values.len(), 1, "{name} in {head:?}");
            values[0]
        };
        assert_eq!(header("host"), at.to_string());
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("user-agent"), "mine");
        assert_eq!(header("x-own"), "1");
        assert_eq!(header("x-correlation-id"), "req_1");
        assert_eq!(header("traceparent"), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(header("webhook-hops"), "1");
        assert_eq!(header("webhook-id"), event.id.to_string());
        assert_eq!(header("webhook-timestamp"), "1711015200");
        let received = StandardHeaders {
            id: Some(header("webhook-id").as_bytes()),
            timestamp: Some(header("webhook-timestamp").as_bytes()),
            signatures: Some(header("webhook-signature").as_bytes()),
        };
        for key in [&*webhook.settings.keys.current, &*previous] {
            assert_eq!(verify([key], received, &body, NOW), Ok(()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_previous_secret_signs_until_it_expires() {
    local(async {
        let mut webhook = webhook("http://127.0.0.1:9000/");
        webhook.settings.keys.previous = vec![(Arc::new(SigningKey::generate()), NOW)];
        let mut signer = crate::outbound::DeliverySigner::default();
        let count = |signer: &mut crate::outbound::DeliverySigner, webhook: &Webhook, now| {
            let made = signer.sign(webhook, &event("{}"), 1, now).unwrap();
            let request = made.request(webhook, hyper::HeaderMap::new());
            request.headers()["webhook-signature"].to_str().unwrap().split(' ').count()
        };
        assert_eq!(count(&mut signer, &webhook, Timestamp::from_millis(NOW.as_millis() - 1)), 2);
        assert_eq!(count(&mut signer, &webhook, NOW), 1);
    })
    .await;
}

#[tokio::test]
async fn each_gateway_increments_the_hop_count() {
    local(async {
        let webhook = webhook("http://127.0.0.1:9000/");
        for (came_through, says) in [(0, "1"), (3, "4"), (u8::MAX, "256")] {
            let made = crate::outbound::DeliverySigner::default()
                .sign(&webhook, &event_after(came_through, "{}"), 1, NOW)
                .unwrap();
            assert_eq!(made.request(&webhook, hyper::HeaderMap::new()).headers()["webhook-hops"], says);
        }
    })
    .await;
}

#[tokio::test]
async fn every_status_is_an_outcome() {
    local(async {
        for (status, head, retry_after) in [
            (200, "", None),
            (299, "", None),
            (300, "", None),
            (404, "retry-after: 5\r\n", None),
            (410, "", None),
            (429, "retry-after: 120\r\n", Some(120)),
            (500, "", None),
            (503, "retry-after: Thu, 21 Mar 2024 10:01:00 GMT\r\n", Some(60)),
            (503, "retry-after: tomorrow\r\n", None),
            (999, "", None),
        ] {
            let answer = format!("HTTP/1.1 {status} X\r\n{head}content-length: 3\r\n\r\nwhy");
            let (at, _) = receiver(move |_, socket| answer_all(socket, answer.clone().into_bytes())).await;
            let outcome = send(&loopback(), at, LONG).await;
            let expected = if status < 300 { Ok(()) } else { Err(AttemptError::Status(status)) };
            assert_eq!(outcome.result, expected);
            assert_eq!((outcome.http_status, &*outcome.response), (Some(status), "why"));
            // Compared to the second, because the clock of the test runs.
            assert_eq!(outcome.retry_after.map(|wait| wait.as_secs_f32().round() as u32), retry_after, "{status}");
        }
    })
    .await;
}

#[tokio::test]
async fn connections_are_reused() {
    local(async {
        let (at, connections) = receiver(|_, socket| answer_all(socket, OK.to_vec())).await;
        let client = loopback();
        for _ in 0..50 {
            assert_eq!(send(&client, at, LONG).await.result, Ok(()));
        }
        assert_eq!(connections.get(), 1);
        for _ in 0..10 {
            let one = || Box::pin(send(&client, at, LONG));
            let (a, b, c) = tokio::join!(one(), one(), one());
            assert!([a, b, c].iter().all(|outcome| outcome.result == Ok(())));
        }
        assert_eq!(connections.get(), 3);
    })
    .await;
}

#[tokio::test]
async fn an_empty_or_chunked_response_keeps_the_connection() {
    local(async {
        for answer in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ] {
            let (at, connections) = receiver(move |_, socket| answer_all(socket, answer.into())).await;
            let client = loopback();
            for _ in 0..3 {
                assert_eq!(send(&client, at, LONG).await.result, Ok(()), "{answer}");
            }
            assert_eq!(connections.get(), 1, "{answer}");
        }
    })
    .await;
}

/// 1. A connection is idle. 2. The receiver closes it while a request is in flight. 3. The client gets no byte of a
/// response.
#[tokio::test]
async fn a_stale_connection_is_replaced_once() {
    local(async {
        let (at, connections) = receiver(|nth, mut socket| async move {
            read_request(&mut socket).await;
            socket.write_all(OK).await.unwrap();
            if nth > 1 {
                answer_all(socket, OK.to_vec()).await;
            } else {
                read_request(&mut socket).await;
            }
        })
        .await;
        let client = loopback();
        for _ in 0..3 {
            assert_eq!(send(&client, at, LONG).await.result, Ok(()));
        }
        assert_eq!(connections.get(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_closed_while_idle_is_replaced() {
    local(async {
        for farewell in ["", "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"] {
            let (at, connections) = receiver(move |_, mut socket| async move {
                read_request(&mut socket).await;
                socket.write_all(OK).await.unwrap();
                tokio::time::sleep(Duration::from_secs(1)).await;
                socket.write_all(farewell.as_bytes()).await.unwrap();
            })
            .await;
            let client = loopback();
            for _ in 0..5 {
                assert_eq!(send(&client, at, LONG).await.result, Ok(()), "{farewell}");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            assert_eq!(connections.get(), 5);
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_connection_that_closes_is_a_failure_without_a_second_try() {
    local(async {
        let (at, connections) = receiver(|_, mut socket| async move {
            read_request(&mut socket).await;
        })
        .await;
        let outcome = send(&loopback(), at, LONG).await;
        assert!(is_connect(&outcome) && outcome.sent_at.is_some(), "{outcome:?}");
        assert_eq!(connections.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_truncated_response_is_a_failure_without_a_second_try() {
    local(async {
        let (at, connections) = receiver(|nth, mut socket| async move {
            if nth == 1 {
                read_request(&mut socket).await;
                socket.write_all(OK).await.unwrap();
            }
            read_request(&mut socket).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.unwrap();
            socket.set_zero_linger().unwrap();
        })
        .await;
        let client = loopback();
        assert_eq!(send(&client, at, LONG).await.result, Ok(()));
        let outcome = send(&client, at, LONG).await;
        assert!(is_connect(&outcome), "{outcome:?}");
        assert_eq!((outcome.http_status, connections.get()), (Some(200), 1));
    })
    .await;
}

#[tokio::test]
async fn an_endless_body_is_read_up_to_the_limit() {
    local(async {
        let (at, connections) = receiver(|_, socket| {
            flood(socket, b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; RESPONSE_BYTES_MAX / 4])
        })
        .await;
        let client = loopback();
        for _ in 0..2 {
            let outcome = send(&client, at, LONG).await;
            assert_eq!(outcome.result, Ok(()));
            assert_eq!(*outcome.response, *"x".repeat(RESPONSE_BYTES_KEPT));
        }
        assert_eq!(connections.get(), 2, "a body that was not read to its end ends its connection");
    })
    .await;
}

#[tokio::test]
async fn a_compressed_body_stays_compressed() {
    local(async {
        // The start of `gzip < /dev/zero`: each byte decompresses to about a thousand.
        let bomb = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xec, 0xc1, 1, 1][..], &[0; 5000]].concat();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
        let answer = [head.as_bytes(), &bomb].concat();
        let (at, _) = receiver(move |_, socket| answer_all(socket, answer.clone())).await;
        let outcome = send(&loopback(), at, LONG).await;
        assert_eq!(outcome.result, Ok(()));
        assert!(String::from_utf8_lossy(&bomb).starts_with(&*outcome.response));
        assert!(outcome.response.len() > RESPONSE_BYTES_KEPT - 4 && outcome.response.len() <= RESPONSE_BYTES_KEPT);
    })
    .await;
}

#[tokio::test]
async fn an_endless_response_head_is_cut() {
    local(async {
        for line in [format!("x-a: {}\r\n", "y".repeat(1000)), "y".repeat(1000), "a: b\r\n".into()] {
            let (at, _) =
                receiver(move |_, socket| flood(socket, b"HTTP/1.1 200 OK\r\n".to_vec(), line.repeat(8).into())).await;
            let outcome = send(&loopback(), at, LONG).await;
            assert!(is_connect(&outcome) && outcome.http_status == Some(200), "the status was received: {outcome:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn endless_100_continue_ends_after_a_few() {
    local(async {
        let more = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
        let (at, _) = receiver(move |_, socket| flood(socket, Vec::new(), more.clone())).await;
        let outcome = send(&loopback(), at, Duration::from_secs(60)).await;
        let Err(AttemptError::Connect(why)) = &outcome.result else { panic!("{outcome:?}") };
        assert!(why.contains("too many informational responses") && outcome.http_status.is_none(), "{why}");
    })
    .await;
}

#[tokio::test]
async fn each_response_of_a_connection_may_have_a_few_informational_ones() {
    local(async {
        let mut answer = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(INFORMATIONAL_RESPONSES_MAX);
        answer.extend(OK);
        let (at, connections) = receiver(move |_, socket| answer_all(socket, answer.clone())).await;
        let client = loopback();
        for _ in 0..5 {
            assert_eq!(send(&client, at, LONG).await.result, Ok(()));
        }
        assert_eq!(connections.get(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_byte_a_second_ends_with_the_timeout() {
    local(async {
        let (at, _) = receiver(|_, mut socket| async move {
            read_request(&mut socket).await;
            let mut written = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
            while written.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                written = socket.write_all(b"x").await;
            }
        })
        .await;
        let client = loopback();
        for seconds in [5, 30, 10] {
            let outcome = send(&client, at, Duration::from_secs(seconds)).await;
            assert_eq!(outcome.result, Err(AttemptError::Timeout));
            assert_eq!((outcome.http_status, outcome.latency.as_secs()), (Some(200), seconds));
            assert!(outcome.response.len().abs_diff(seconds as usize) <= 1, "{}", outcome.response);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_endless_tls_handshake_has_its_own_timeout() {
    local(async {
        let (at, _) = receiver(|_, mut socket| async move {
            let mut all = Vec::new();
            let _ = socket.read_to_end(&mut all).await;
        })
        .await;
        let client = loopback();
        let url = format!("https://{at}/");
        let outcome = send_to(&client, webhook(&url), LONG).await;
        assert!(is_connect(&outcome) && outcome.sent_at.is_none(), "{outcome:?}");
        assert_eq!(outcome.latency.as_secs(), TLS_TIMEOUT.as_secs());
        let outcome = send_to(&client, webhook(&url), Duration::from_secs(2)).await;
        assert_eq!((outcome.result, outcome.latency.as_secs()), (Err(AttemptError::Timeout), 2));
    })
    .await;
}

#[tokio::test]
async fn a_dropped_attempt_leaves_the_client_usable() {
    local(async {
        let (at, connections) = receiver(|nth, mut socket| async move {
            if nth == 1 {
                read_request(&mut socket).await;
                std::future::pending::<()>().await;
            }
            answer_all(socket, OK.to_vec()).await;
        })
        .await;
        let client = loopback();
        let dropped = tokio::time::timeout(Duration::from_millis(10), send(&client, at, LONG)).await;
        assert!(dropped.is_err());
        assert_eq!(send(&client, at, LONG).await.result, Ok(()));
        assert_eq!(connections.get(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_closed_port_is_a_failure_with_its_reason() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        drop(listener);
        let outcome = send(&loopback(), at, LONG).await;
        let Err(AttemptError::Connect(why)) = &outcome.result else { panic!("{outcome:?}") };
        assert!(why.contains("refused"), "{why}");
        let missing = Endpoint::try_new("http://missing.example/", &guard(&[]).load()).unwrap();
        let mut webhook = webhook("http://127.0.0.1:1234/");
        webhook.settings.endpoint = missing;
        assert!(is_connect(&send_to(&loopback(), webhook, LONG).await));
    })
    .await;
}

/// A TLS acceptor with the test certificate.
pub(super) fn acceptor() -> TlsAcceptor {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let chain = vec![CertificateDer::from_pem_file(folder.join("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn tls_receiver() -> (SocketAddr, Rc<Cell<usize>>) {
    let acceptor = acceptor();
    receiver(move |_, socket| {
        let acceptor = acceptor.clone();
        async move {
            // A client that does not trust the certificate ends the handshake.
            if let Ok(socket) = acceptor.accept(socket).await {
                answer_all(socket, OK.to_vec()).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn https_by_name_and_by_address_with_a_configured_authority() {
    local(async {
        let (at, connections) = tls_receiver().await;
        let names = Names::default()
            .with("receiver.test", |_| vec![ip("127.0.0.1")])
            .with("other.test", |_| vec![ip("127.0.0.1")]);
        let client = client(guard(&["127.0.0.0/8"]), names);
        for _ in 0..3 {
            for host in ["receiver.test", "127.0.0.1"] {
                let outcome = send_to(&client, webhook(&format!("https://{host}:{}/", at.port())), LONG).await;
                assert_eq!(outcome.result, Ok(()), "{host}");
            }
        }
        assert_eq!(connections.get(), 2);
        let outcome = send_to(&client, webhook(&format!("https://other.test:{}/", at.port())), LONG).await;
        let Err(AttemptError::Connect(why)) = &outcome.result else { panic!("{outcome:?}") };
        assert!(why.starts_with("TLS handshake: invalid peer certificate"), "{why}");
    })
    .await;
}

#[tokio::test]
async fn an_unconfigured_authority_is_not_trusted() {
    local(async {
        let (at, _) = tls_receiver().await;
        let setup =
            ClientSetup { guard: guard(&["127.0.0.0/8"]), tls: tls_config(None).unwrap(), clock: Clock::test(NOW) };
        let outcome =
            send_to(&DeliveryClient::new(setup, Names::default()), webhook(&format!("https://{at}/")), LONG).await;
        assert!(is_connect(&outcome) && outcome.sent_at.is_none(), "{outcome:?}");
    })
    .await;
}

/// A TLS receiver that requires a client certificate of the clients' authority. It records the certificate of each
/// connection.
async fn mutual_receiver() -> (SocketAddr, Rc<RefCell<Vec<CertificateDer<'static>>>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let mut clients = rustls::RootCertStore::empty();
    clients.add(CertificateDer::from_pem_file(folder.join("clients-ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(clients.into(), Arc::clone(&provider));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(folder.join("server.pem")).unwrap()],
            PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let seen = Rc::new(RefCell::new(Vec::new()));
    let recorded = Rc::clone(&seen);
    let (at, _) = receiver(move |_, socket| {
        let (acceptor, recorded) = (acceptor.clone(), Rc::clone(&recorded));
        async move {
            if let Ok(socket) = acceptor.accept(socket).await {
                recorded.borrow_mut().push(socket.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned());
                answer_all(socket, OK.to_vec()).await;
            }
        }
    })
    .await;
    (at, seen)
}

/// The settings of a client of `tests/data/tls`, which trusts its authority.
fn identity(name: &str) -> TlsSettings {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let read = |file: String| std::fs::read_to_string(folder.join(file)).unwrap();
    TlsSettings {
        ca: Some(read("ca.pem".to_owned()).into()),
        client_certificate: Some(read(format!("client-{name}.pem")).into()),
        client_key: Some(Secret::new(read(format!("client-{name}.key")))),
    }
}

#[tokio::test]
async fn each_webhook_presents_its_own_client_certificate_and_shares_no_connection() {
    local(async {
        let (at, seen) = mutual_receiver().await;
        let client = loopback();
        let with = |tls: Option<TlsSettings>| {
            let mut webhook = webhook(&format!("https://{at}/"));
            webhook.settings.tls = tls.map(|tls| Arc::new(EndpointTls::try_new(tls).unwrap()));
            Arc::new(webhook)
        };
        let deliver = async |webhook: &Arc<Webhook>| {
            let event = event(&b"{}"[..]);
            client.deliver(first(webhook, &event, LONG)).await.result
        };
        // Without `ca`, the default authorities and those of the configuration are trusted.
        let usual = |name| Some(TlsSettings { ca: None, ..identity(name) });
        let webhooks = [Some(identity("one")), Some(identity("two")), usual("one"), usual("two")].map(with);
        for _ in 0..3 {
            for webhook in &webhooks {
                assert_eq!(deliver(webhook).await, Ok(()));
            }
        }
        let shown =
            |name: &str| CertificateDer::from_pem_slice(identity(name).client_certificate.unwrap().as_bytes()).unwrap();
        assert_eq!(*seen.borrow(), [shown("one"), shown("two"), shown("one"), shown("two")], "one connection each");

        // A webhook of the same host without a certificate, while connections and sessions with one exist.
        assert!(matches!(deliver(&with(None)).await, Err(AttemptError::Connect(_))));
        // A test delivery presents the certificate too.
        let event = event(&b"{}"[..]);
        assert_eq!(client.deliver_test(first(&webhooks[1], &event, LONG)).await.outcome.result, Ok(()));
        assert_eq!(seen.borrow().len(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_webhooks_own_authority_replaces_all_others() {
    local(async {
        let (at, _) = tls_receiver().await;
        let with = |ca: &str| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
            let ca = Some(std::fs::read_to_string(folder.join(ca)).unwrap().into());
            let mut webhook = webhook(&format!("https://{at}/"));
            webhook.settings.tls =
                Some(Arc::new(EndpointTls::try_new(TlsSettings { ca, ..TlsSettings::default() }).unwrap()));
            webhook
        };
        // The configuration trusts the receiver's authority, but this webhook does not.
        let outcome = send_to(&loopback(), with("clients-ca.pem"), LONG).await;
        let Err(AttemptError::Connect(why)) = &outcome.result else { panic!("{outcome:?}") };
        assert!(why.starts_with("TLS handshake: invalid peer certificate"), "{why}");
        // Here the webhook trusts the authority, and the configuration does not.
        let setup =
            ClientSetup { guard: guard(&["127.0.0.0/8"]), tls: tls_config(None).unwrap(), clock: Clock::test(NOW) };
        let outcome = send_to(&DeliveryClient::new(setup, Names::default()), with("ca.pem"), LONG).await;
        assert_eq!(outcome.result, Ok(()));
    })
    .await;
}

#[tokio::test]
async fn credentials_are_sent_and_shown_as_secrets() {
    local(async {
        let mut webhook = webhook("http://127.0.0.1:9000/");
        let credentials = Credentials::Basic { username: "u".into(), password: Secret::new("p") };
        webhook.settings.auth = Some(Arc::new(EndpointAuth::try_new(credentials).unwrap()));
        let event = event("{}");
        let made = crate::outbound::DeliverySigner::default().sign(&webhook, &event, 1, NOW).unwrap();
        let sent = made.request(&webhook, hyper::HeaderMap::new());
        assert_eq!(sent.headers()["authorization"], "Basic dTpw");
        let shown = preview(&Arc::new(webhook), &event, 1, NOW).unwrap();
        assert!(shown.headers["authorization"].is_sensitive());
    })
    .await;
}

#[test]
fn a_ca_file_must_hold_a_certificate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    assert!(matches!(tls_config(Some(&folder.join("none.pem"))), Err(TlsError::File { .. })));
    assert!(matches!(tls_config(Some(&folder.join("server.key"))), Err(TlsError::Empty(_))));
}

// --- egress rules ---------------------------------------------------------------------------------------------------

#[derive(serde::Deserialize)]
struct BypassUrl {
    url: String,
    why: String,
    expect: String,
    class: String,
}

fn lines() -> Vec<BypassUrl> {
    let text = include_str!("../../tests/data/ssrf_urls.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_bypass_url_is_refused_and_every_control_url_is_allowed() {
    let guard = guard(&[]);
    let (mut refused, mut allowed) = (0, 0);
    for BypassUrl { url, why, expect, class } in lines() {
        let endpoint = Endpoint::try_new(&url, &guard.load());
        match (expect.as_str(), class.as_str()) {
            // Names are rejected only because of their addresses. Another test covers them.
            ("refuse", "dns" | "dns-wellknown") | ("fail-no-follow", _) => assert!(endpoint.is_ok(), "{url}"),
            ("refuse", _) => {
                assert!(endpoint.is_err(), "missed: {url} ({why})");
                refused += 1;
            }
            _ => {
                assert_eq!(endpoint.err(), None, "blocked: {url} ({why})");
                allowed += 1;
            }
        }
    }
    assert_eq!((refused, allowed), (212, 30));
}

/// The DNS answers for the names of the table.
fn zone() -> Names {
    let public = || ip("93.184.215.14");
    let one = |text: &'static str| move |_| vec![ip(text)];
    Names::default()
        .with("a-metadata.ssrf.test", one("169.254.169.254"))
        .with("a-cgnat.ssrf.test", one("100.64.0.1"))
        .with("a-wireserver.ssrf.test", one("168.63.129.16"))
        .with("aaaa-mapped.ssrf.test", one("::ffff:127.0.0.1"))
        .with("aaaa-nat64.ssrf.test", one("64:ff9b::7f00:1"))
        .with("aaaa-ula.ssrf.test", one("fd00:ec2::254"))
        .with("mixed.ssrf.test", move |_| vec![public(), ip("127.0.0.1")])
        .with("many.ssrf.test", |_| {
            (1..=255).map(|n| IpAddr::from([93, 184, 215, n])).chain([ip("10.0.0.1")]).collect()
        })
        .with("cname-localhost.ssrf.test", one("127.0.0.1"))
        .with("cname-internal.ssrf.test", one("169.254.169.254"))
        .with("rebind.ssrf.test", move |nth| vec![if nth == 1 { public() } else { ip("127.0.0.1") }])
        .with("rebind-retry.ssrf.test", move |nth| vec![if nth <= 2 { public() } else { ip("127.0.0.1") }])
        .with("rebind-flip.ssrf.test", move |nth| vec![if nth % 2 == 1 { public() } else { ip("127.0.0.1") }])
        .with("localtest.me", |_| vec![ip("::1"), ip("127.0.0.1")])
        .with("169.254.169.254.nip.io", one("169.254.169.254"))
        .with("make-1.2.3.4-rebind-169.254-169.254-rr.1u.ms", one("169.254.169.254"))
        .with("public.ssrf.test", move |_| vec![public()])
}

#[tokio::test]
async fn all_addresses_of_a_name_are_checked_at_each_connection() {
    let guard = guard(&[]);
    let named = lines().into_iter().filter(|line| line.class.starts_with("dns") || line.url.contains("//public.ssrf"));
    let mut count = 0;
    for BypassUrl { url, expect, .. } in named {
        let connector = Connector::new(Arc::clone(&guard), tls_config(None).unwrap(), zone());
        let endpoint = Endpoint::try_new(&url, &guard.load()).unwrap();
        let mut refused = 0;
        for _ in 0..10 {
            match connector.addresses(&endpoint, &"".into()).await {
                Ok(addresses) => {
                    assert!(addresses.iter().all(|at| guard.load().check_address(at.ip()).is_ok()), "{url}");
                }
                Err(AttemptError::Egress(_)) => refused += 1,
                Err(why) => panic!("{url}: {why}"),
            }
        }
        assert_eq!(refused > 0, expect == "refuse", "{url}");
        count += 1;
    }
    assert_eq!(count, 17);
}

/// The allowed and the forbidden address listen on the same port. The DNS answer changes with each query.
#[tokio::test]
async fn a_thousand_rebindings_never_reach_the_closed_address() {
    local(async {
        let once = |_, mut socket: TcpStream| async move {
            read_request(&mut socket).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        };
        let (at, open) = receiver_on("127.0.0.2:0", once).await;
        let (_, closed) = receiver_on(&format!("127.0.0.1:{}", at.port()), once).await;
        let names = Names::default()
            .with("rebind.test", |nth| vec![ip(["127.0.0.1", "127.0.0.2"][nth % 2])])
            .with("mixed.test", |nth| [[ip("127.0.0.1"), ip("127.0.0.2")], [ip("127.0.0.2"); 2]][nth % 2].to_vec());
        let client = client(guard(&["127.0.0.2/32"]), names);
        let (mut delivered, mut refused) = (0, 0);
        for name in ["rebind.test", "mixed.test"] {
            for _ in 0..500 {
                let outcome = send_to(&client, webhook(&format!("http://{name}:{}/", at.port())), LONG).await;
                match outcome.result {
                    Ok(()) => delivered += 1,
                    Err(AttemptError::Egress(_)) => refused += 1,
                    Err(why) => panic!("{why}"),
                }
            }
        }
        assert_eq!((delivered, refused, open.get(), closed.get()), (500, 500, 500, 0));
    })
    .await;
}

#[tokio::test]
async fn redirects_are_failures_and_nothing_else_is_reached() {
    local(async {
        let requests = Rc::new(Cell::new(0));
        let counted = Rc::clone(&requests);
        let (at, _) = receiver(move |_, mut socket| {
            let counted = Rc::clone(&counted);
            async move {
                while let Some((head, _)) = read_request(&mut socket).await {
                    counted.set(counted.get() + 1);
                    let target = head[0].split(' ').nth(1).unwrap();
                    let status = &target[1..4];
                    let answer = match (status, target.split_once("to=")) {
                        ("alt", _) => "200 OK\r\nalt-svc: h3=\"127.0.0.1:1\"".into(),
                        (_, Some((_, to))) => format!("{status} Moved\r\nlocation: {to}"),
                        (_, None) => format!("{status} X"),
                    };
                    let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        let names = Names::default().with("redirector.ssrf.test", |_| vec![ip("127.0.0.1")]);
        let client = client(guard(&["127.0.0.0/8"]), names);
        let mut sent = 0;
        for BypassUrl { url, .. } in lines().into_iter().filter(|line| line.expect == "fail-no-follow") {
            let mut webhook = webhook(&url);
            webhook.settings.endpoint.port = at.port();
            let outcome = send_to(&client, webhook, LONG).await;
            sent += 1;
            if url.ends_with("alt-svc") {
                assert_eq!(outcome.result, Ok(()));
            } else {
                assert!(matches!(outcome.result, Err(AttemptError::Status(300..=308))), "{url}: {outcome:?}");
            }
        }
        assert_eq!((sent, requests.get()), (11, 11));
    })
    .await;
}

#[tokio::test]
async fn localhost_is_the_allowed_loopback_address_without_a_dns_query() {
    local(async {
        let (at, connections) = receiver(|_, socket| answer_all(socket, OK.to_vec())).await;
        // The answer of a DNS query that must not be made.
        let elsewhere = || Names::default().with("localhost", |_| vec![ip("127.0.0.9")]);
        let to = || webhook(&format!("http://localhost:{}/", at.port()));
        let outcome = send_to(&client(guard(&["127.0.0.0/8"]), elsewhere()), to(), LONG).await;
        assert_eq!(outcome.result, Ok(()));
        let outcome = send_to(&client(guard(&[]), elsewhere()), to(), LONG).await;
        assert!(matches!(outcome.result, Err(AttemptError::Egress(_))), "{outcome:?}");
        assert_eq!(connections.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_own_listener_is_refused_even_if_loopback_is_allowed() {
    local(async {
        let (at, connections) = receiver(|_, socket| answer_all(socket, OK.to_vec())).await;
        for own in [at, SocketAddr::new(ip("0.0.0.0"), at.port()), SocketAddr::new(ip("::"), at.port())] {
            let rules = Egress {
                allow: vec!["0.0.0.0/0".parse().unwrap()],
                deny: vec![],
                require_https: false,
                ca_file: None,
                dns_servers: vec![],
            };
            let client = client(shared(EgressGuard::new(&rules, [own])), Names::default());
            let outcome = send(&client, at, LONG).await;
            assert!(matches!(outcome.result, Err(AttemptError::Egress(_))), "{outcome:?}");
        }
        assert_eq!(connections.get(), 0);
    })
    .await;
}

/// A shard runs a thousand deliveries at once, so rare states such as a TLS handshake must not be part of each future.
#[test]
fn the_future_of_a_delivery_is_small() {
    let client = loopback();
    let (webhook, event) = (Arc::new(webhook("http://127.0.0.1:9000/")), event("{}"));
    let carried = client.deliver(first(&webhook, &event, LONG));
    assert!(size_of_val(&carried) <= 4096, "{} bytes", size_of_val(&carried));
}

#[tokio::test]
async fn the_status_line_decides_whatever_the_headers_are() {
    let many: String = (0..3_000).map(|n| format!("x-{n}: 1\r\n")).collect();
    let odd = [
        "content-length: 2\r\nx-long: a\r\n b\r\n\tc\r\n",
        &format!("{many}content-length: 2\r\n"),
        "no colon\r\ncontent-length: 2\r\n",
        "content-length : 2\r\n",
        "n\u{e4}me: x\r\nx: \u{e4}\r\ncontent-length: 2\r\n",
        "x: a\0b\rc\r\ncontent-length: 2\r\n",
        "content-length: 2, 2\r\ncontent-length: 2\r\n",
        "content-length: two\r\n",
        "content-length: 2\r\ncontent-length: 3\r\n",
    ];
    let mut responses: Vec<String> = odd.iter().map(|odd| format!("HTTP/1.1 200 OK\r\n{odd}\r\nok")).collect();
    responses.extend(
        [
            "HTTP/1.1 200 OK\ncontent-length: 2\nx: y\n\nok",
            "HTTP/1.1  200  OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nodd trailer\r\nx : y\r\n z\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\nok\n0\n\n",
            "HTTP/1.1 103 Hints\r\nodd\r\n fold\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        ]
        .map(String::from),
    );
    let trailers: String = (0..2_000).map(|n| format!("x-{n}: 1\r\n")).collect();
    responses.push(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{trailers}\r\n"));
    local(async {
        for response in responses {
            let bytes = response.clone().into_bytes();
            let (at, _) = receiver(move |_, socket| answer_all(socket, bytes.clone())).await;
            let outcome = send(&loopback(), at, LONG).await;
            let shown = &response[..response.len().min(200)];
            assert_eq!((outcome.result, outcome.http_status), (Ok(()), Some(200)), "{shown:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_status_that_was_read_is_shown_although_the_body_fails() {
    local(async {
        let busy = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\n";
        for (response, result, status) in [
            (format!("{busy}content-length: 9\r\n\r\nab"), Some(AttemptError::Status(503)), 503),
            (format!("{busy}transfer-encoding: chunked\r\n\r\nxyz\r\n"), Some(AttemptError::Status(503)), 503),
            ("HTTP/1.1 410 Gone\r\ncontent-length: 9\r\n\r\nab".into(), Some(AttemptError::Status(410)), 410),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab".into(), None, 200),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n".into(), None, 200),
            ("HTTP/1.1 200 OK\r\nx: y\r\n".into(), None, 200),
        ] {
            let bytes = response.clone().into_bytes();
            let (at, _) = receiver(move |_, socket| close_after(socket, bytes.clone())).await;
            let outcome = send(&loopback(), at, LONG).await;
            assert_eq!(outcome.http_status, Some(status), "{response:?}: {outcome:?}");
            match result {
                Some(error) => assert_eq!(outcome.result, Err(error), "{response:?}"),
                None => assert!(is_connect(&outcome), "{response:?}: {outcome:?}"),
            }
            assert_eq!(outcome.retry_after.is_some(), status == 503, "{response:?}");
        }
    })
    .await;
}

/// Reads a request, sends bytes and closes.
async fn close_after(mut socket: TcpStream, response: Vec<u8>) {
    let mut request = [0; 16 * 1024];
    let _ = socket.read(&mut request).await;
    let _ = socket.write_all(&response).await;
    let _ = socket.shutdown().await;
}
