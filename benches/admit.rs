//! Measures admission: from the bytes of a body to a submission, and requests over loopback compared with bare hyper.
//!
//! The commit thread of this bench refuses every event at once, because only the real one can confirm that an event is
//! on disk. The path to it is the same, and the response is slightly longer.

#![expect(clippy::expect_used, reason = "a bench that cannot run ends")]

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hooktide::admit::{
    Admit, ExternalCall, ExternalCallError, ExternalCalls, Management, ProcessHealth, RegistryReader, RequestLimits,
    RuleCheckTurns,
};
use hooktide::config::Server;
use hooktide::filter::EventFields;
use hooktide::handoff::{CommitError, CommitResults, Submission};
use hooktide::http::{BodyBudget, ManagementRequest, ManagementThreads, Response, bind};
use hooktide::inbound::source::{RateLimiter, Source};
use hooktide::ingest::{Ingest, Matcher, Submit};
use hooktide::model::{MatchedWebhooks, Principal, Role, Secret, SourceId, Timestamp, Visibility, WebhookNo, Webhooks};
use hooktide::runtime::{Clock, IngestPermits, MemoryBudget, Metrics, WorkBudget};
use hooktide::signature::{Certificate, KeySet, KeySetRequest};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

#[derive(Debug)]
struct FakeAdapters;

impl Matcher for FakeAdapters {
    fn matching(&self, _: &EventFields<'_>, _: Timestamp) -> MatchedWebhooks {
        Webhooks::from_slice(&[WebhookNo(1)]).into()
    }
}

impl RegistryReader for FakeAdapters {
    fn tenant_work(&self, _: &str) -> Arc<WorkBudget> {
        Arc::default()
    }

    fn authenticate_api_key(&self, _key: &str, _now: Timestamp) -> Option<Principal> {
        Some(Principal::new(None, Role::Admin))
    }

    fn visibility(&self, _tenant: &str) -> Visibility {
        Visibility::Tenant
    }

    fn has_tenant(&self, _name: &str) -> bool {
        true
    }

    fn type_rule(&self, _: &str, _: &str) -> hooktide::registry::catalogue::TypeRule {
        hooktide::registry::catalogue::TypeRule::Free
    }

    fn source(&self, _tenant: &str, _name: &str) -> Option<Arc<Source>> {
        None
    }

    fn source_by_id(&self, _id: SourceId) -> Option<Arc<Source>> {
        None
    }

    fn source_by_token(&self, _token: &str) -> Option<Arc<Source>> {
        None
    }
}

impl Submit for FakeAdapters {
    fn submit(&self, submission: Submission) -> Result<(), (CommitError, Submission)> {
        let verdicts: CommitResults = submission.events.iter().map(|_| Err(CommitError::KeyReused)).collect();
        submission.reply.send(verdicts);
        Ok(())
    }
}

impl Management for FakeAdapters {
    async fn handle(&self, _call: ManagementRequest) -> Response {
        Response::default()
    }
}

impl ExternalCalls for FakeAdapters {
    fn certificate<'a>(&'a self, _: &'a url::Url) -> ExternalCall<'a, Result<Arc<Certificate>, ExternalCallError>> {
        Box::pin(std::future::ready(Err(ExternalCallError::Permanent("a bench has none".into()))))
    }

    fn key_set<'a>(&'a self, _: &'a KeySetRequest) -> ExternalCall<'a, Result<Arc<KeySet>, ExternalCallError>> {
        Box::pin(std::future::ready(Err(ExternalCallError::Permanent("a bench has none".into()))))
    }

    fn get_url<'a>(&'a self, _: &'a url::Url) -> ExternalCall<'a, Result<(), ExternalCallError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn store_secret(&self, _: SourceId, _: Secret) -> ExternalCall<'_, Result<(), ExternalCallError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn admit(manage: &ManagementThreads) -> Arc<Admit<FakeAdapters, FakeAdapters, FakeAdapters>> {
    let health = ProcessHealth::new(Vec::new, || {});
    health.started();
    let clock = Clock::system(Timestamp::default());
    let metrics = Metrics::new().expect("each metric has a name");
    Arc::new(Admit {
        router: Arc::new(hooktide::api::routes::router().expect("a table of routes")),
        access: Arc::default(),
        registry: FakeAdapters,
        ingest: Ingest::new(
            FakeAdapters,
            FakeAdapters,
            Arc::new(IngestPermits::new(1 << 30)),
            MemoryBudget::new(1 << 30),
        ),
        management: FakeAdapters,
        management_threads: manage.handle(),
        health: Arc::new(health),
        bodies: BodyBudget::new(clock.clone(), Arc::clone(&metrics)),
        clock,
        metrics,
        rule_checks: RuleCheckTurns::default(),
        limiter: RateLimiter::default(),
        rejections: Arc::default(),
        external_calls: Arc::new(FakeAdapters),
        limits: RequestLimits { body_bytes: 1 << 20, batch_bytes: 16 << 20, public_metrics: false },
    })
}

fn event() -> String {
    let payload = "abcdefgh ".repeat(106);
    format!(r#"{{"type":"order.created","data":{{"id":12345,"note":"{payload}","items":[{{"sku":"a","n":1}}]}}}}"#)
}

fn bodies(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let manage = ManagementThreads::start().expect("threads");
    let admit = admit(&manage);
    let mut group = c.benchmark_group("admit");
    for (name, events, body) in
        [("single 1 KiB", 1, event()), ("array of 100 x 1 KiB", 100, format!("[{}]", vec![event(); 100].join(",")))]
    {
        let body = Bytes::from(body);
        group.throughput(Throughput::Elements(events));
        group.bench_function(name, |b| {
            b.iter(|| runtime.block_on(admit.take(Principal::new(None, Role::Admin), &body)));
        });
    }
    group.finish();
}

/// Number of pipelined requests. With small groups the bench measures the server and not the round trip.
const PIPELINED: usize = 16;

fn request(body: &str) -> Vec<u8> {
    let head = "POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer 0123456789abcdef\r\n\
                Content-Type: application/json\r\nUser-Agent: bench\r\nAccept: */*\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).repeat(PIPELINED).into_bytes()
}

/// Sends a group of requests and reads the same number of responses.
fn exchange(socket: &mut TcpStream, requests: &[u8], answer: &mut [u8]) {
    socket.write_all(requests).expect("the server reads");
    let mut answers = 0;
    while answers < PIPELINED {
        let len = socket.read(answer).expect("the server answers");
        assert!(len > 0, "the server closed");
        answers += answer[..len].windows(9).filter(|window| window == b"HTTP/1.1 ").count();
    }
}

fn bare_hyper() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a socket that waits");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                tokio::spawn(http1::Builder::new().writev(false).serve_connection(
                    TokioIo::new(stream),
                    service_fn(|mut request: Request<Incoming>| async move {
                        while let Some(Ok(_)) = http_body_util::BodyExt::frame(request.body_mut()).await {}
                        let mut response =
                            hyper::Response::new(Full::new(Bytes::from_static(br#"{"status":"accepted"}"#)));
                        *response.status_mut() = StatusCode::ACCEPTED;
                        Ok::<_, Infallible>(response)
                    }),
                ));
            }
        });
    });
    address
}

fn requests(c: &mut Criterion) {
    let listeners = bind(
        &Server {
            listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
            admin_listen: None,
            data_dir: PathBuf::new(),
            max_body_bytes: 1 << 20,
            max_batch_bytes: 16 << 20,
            workers: 1,
            drain: Duration::ZERO,
            public_url: None,
            cors_origins: Vec::new(),
        },
        hooktide::http::PassedSockets::default(),
    )
    .expect("a port");
    let ours = listeners.addresses()[0];
    let manage = ManagementThreads::start().expect("threads");
    let running = listeners.serve(&admit(&manage)).expect("a thread");
    let requests = request(&event());
    let mut answer = vec![0; 64 * 1024];
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(PIPELINED as u64));
    for (name, address) in [("bare hyper", bare_hyper()), ("admit", ours)] {
        let mut socket = TcpStream::connect(address).expect("the server listens");
        group.bench_function(name, |b| b.iter(|| exchange(&mut socket, &requests, &mut answer)));
    }
    group.finish();
    running.stop(Duration::ZERO);
    running.join();
}

criterion_group!(benches, bodies, requests);
criterion_main!(benches);
