//! Streams and upgrades over the real connection code: in memory on a paused clock, and over sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::connection::{ConnectionMonitor, Connections, serve};
use super::listener::{ConnectionInfo, http};
use super::upgrade::{Upgrade, switching};
use super::*;
use crate::config;
use crate::limits::{IDLE_TIMEOUT, STREAM_PART_BYTES_MAX, STREAM_PARTS_MAX, TIMEOUT_CHECK_INTERVAL, WRITE_TIMEOUT};
use crate::model::Timestamp;
use crate::runtime::{Clock, Heartbeat, Metrics, Watchdog};

/// The size of one part of a stream, in bytes.
const PART: usize = STREAM_PART_BYTES_MAX;
/// The capacity of the in-memory pipe, in bytes.
const PIPE: usize = 64 * 1024;

/// A server that responds by path: `/parts/{count}` streams this number of parts, `/slow/{count}` streams one part each
/// minute, `/silent` streams nothing, `/broken` aborts its stream, `/echo` upgrades to an echo, other paths have a
/// complete body.
#[derive(Clone)]
struct Stage {
    clock: Clock,
    metrics: Arc<Metrics>,
    /// The bytes that producers have sent.
    produced: Arc<AtomicUsize>,
    /// The number of producers that lost their reader.
    left: watch::Sender<usize>,
}

impl Stage {
    fn new() -> Arc<Self> {
        let clock = Clock::system(Timestamp::default());
        Arc::new(Self {
            clock,
            metrics: Metrics::new().unwrap(),
            produced: Arc::default(),
            left: watch::Sender::new(0),
        })
    }

    async fn produce(self, sender: BodySender, parts: usize, pause: Duration) {
        for n in 0..parts {
            tokio::time::sleep(pause).await;
            if sender.send(Bytes::from(vec![b'a' + (n % 26) as u8; PART])).await.is_err() {
                self.left.send_modify(|left| *left += 1);
                return;
            }
            self.produced.fetch_add(PART, SeqCst);
        }
        sender.finish();
    }

    fn stream(&self, parts: usize, pause: Duration) -> Response {
        let (sender, body) = Body::stream();
        tokio::spawn(self.clone().produce(sender, parts, pause));
        Response::new(body)
    }

    fn respond(&self, parts: &Parts) -> Response {
        let path = parts.uri.path().to_owned();
        let count = path.rsplit('/').next().and_then(|count| count.parse().ok()).unwrap_or(0);
        match path.split('/').nth(1) {
            Some("parts") => self.stream(count, Duration::ZERO),
            Some("slow") => self.stream(count, Duration::from_secs(60)),
            Some("silent") => {
                let (sender, body) = Body::stream();
                let stage = self.clone();
                tokio::spawn(async move {
                    sender.closed().await;
                    stage.left.send_modify(|left| *left += 1);
                });
                Response::new(body)
            }
            Some("broken") => {
                let (sender, body) = Body::stream();
                tokio::spawn(async move { sender.send(Bytes::from_static(b"beginning")).await });
                Response::new(body)
            }
            Some("echo") => match Upgrade::of(parts) {
                Some(upgrade) => {
                    tokio::spawn(echo(upgrade));
                    switching(HeaderValue::from_static("echo"))
                }
                None => Problem::new(ProblemCode::InvalidRequest, "an upgrade is expected").into_response("r"),
            },
            _ => Response::new(Body::from("whole".to_owned())),
        }
    }
}

async fn echo(upgrade: Upgrade) {
    let Ok(upgraded) = upgrade.ready().await else { return };
    let (mut read, mut write) = tokio::io::split(upgraded);
    let _ = tokio::io::copy(&mut read, &mut write).await;
    let _ = write.write_all(b"goodbye").await;
    let _ = write.shutdown().await;
}

impl RequestHandler for Arc<Stage> {
    async fn answer(&self, _: ConnectionInfo, _: &Rc<ConnectionMonitor>, request: Request<Incoming>) -> Response {
        self.respond(&request.into_parts().0)
    }
}

impl Serve for Stage {
    type Handler = Arc<Self>;

    fn worker(self: &Arc<Self>) -> Arc<Self> {
        Arc::clone(self)
    }

    fn heartbeat(&self, worker: usize) -> Heartbeat {
        Watchdog::default().watch(worker.to_string())
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

/// Runs a test on a paused clock: a sleep takes no time and ends only when no other task can run.
async fn in_memory(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// Serves an in-memory connection with periodic timeout checks, and returns the side of the client.
async fn connected(stage: &Arc<Stage>, request: &str) -> (DuplexStream, Rc<Connections>) {
    let (mut client, server) = tokio::io::duplex(PIPE);
    let connections = Rc::<Connections>::default();
    let (monitor, stage) = (connections.register(), Arc::clone(stage));
    tokio::task::spawn_local(async move {
        let info = ConnectionInfo { listener: ListenerKind::Combined, peer: Ipv4Addr::LOCALHOST.into() };
        serve(&http(), (server, ()), (info, monitor), &stage).await;
    });
    let sweeping = Rc::clone(&connections);
    tokio::task::spawn_local(async move {
        let mut ticks = tokio::time::interval(TIMEOUT_CHECK_INTERVAL);
        loop {
            ticks.tick().await;
            sweeping.sweep();
        }
    });
    client.write_all(request.as_bytes()).await.unwrap();
    (client, connections)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Reads a response that ends with its connection.
fn get_once(path: &str) -> String {
    format!("GET {path} HTTP/1.0\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_slows_down_the_producer() {
    in_memory(async {
        let stage = Stage::new();
        let parts = 1_000;
        let (mut client, _connections) = connected(&stage, &get_once(&format!("/parts/{parts}"))).await;
        tokio::time::sleep(WRITE_TIMEOUT / 2).await;
        let produced = stage.produced.load(SeqCst);
        // The pipe, the channel, the part that the producer holds, and the buffer of hyper.
        let most = PIPE + (STREAM_PARTS_MAX + 1) * PART + 256 * 1024;
        assert!(produced > PIPE && produced <= most, "{produced} of at most {most}");
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        let body = read.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(read.len() - body, parts * PART);
        assert!(
            read[body..].chunks(PART).enumerate().all(|(n, part)| part.iter().all(|b| *b == b'a' + (n % 26) as u8))
        );
        assert_eq!(*stage.left.borrow(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_of_a_stream_is_closed_and_its_producer_ends() {
    in_memory(async {
        let stage = Stage::new();
        let (_client, connections) = connected(&stage, &get("/parts/1000")).await;
        tokio::time::sleep(WRITE_TIMEOUT).await;
        assert_eq!((connections.count(), *stage.left.borrow()), (1, 0));
        tokio::time::sleep(TIMEOUT_CHECK_INTERVAL * 3).await;
        assert_eq!((connections.count(), *stage.left.borrow()), (0, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_may_last_as_long_as_it_is_read() {
    in_memory(async {
        let stage = Stage::new();
        // The producer is slow: twenty minutes.
        let (mut client, _connections) = connected(&stage, &get_once("/slow/20")).await;
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert!(read.len() > 20 * PART, "{}", read.len());
        // The client is slow: it reads a little within each timeout.
        let (mut client, _connections) = connected(&stage, &get_once("/parts/40")).await;
        let (mut read, mut some) = (0, vec![0; PART]);
        loop {
            let more = client.read(&mut some).await.unwrap();
            read += more;
            if more == 0 {
                break;
            }
            tokio::time::sleep(WRITE_TIMEOUT / 2).await;
        }
        assert!(read > 40 * PART, "{read}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_client_ends_the_producer() {
    in_memory(async {
        let stage = Stage::new();
        let (client, connections) = connected(&stage, &get("/parts/1000")).await;
        tokio::time::sleep(TIMEOUT_CHECK_INTERVAL).await;
        drop(client);
        stage.left.subscribe().wait_for(|left| *left == 1).await.unwrap();
        assert_eq!(connections.count(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_a_stream_the_connection_waits_for_the_next_request() {
    in_memory(async {
        let stage = Stage::new();
        let (mut client, connections) = connected(&stage, &get("/parts/1")).await;
        let mut read = vec![0; PART];
        client.read_exact(&mut read).await.unwrap();
        tokio::time::sleep(IDLE_TIMEOUT).await;
        assert_eq!(connections.count(), 1);
        tokio::time::sleep(TIMEOUT_CHECK_INTERVAL * 3).await;
        assert_eq!(connections.count(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upgraded_connection_has_no_timeouts_and_ends_at_the_stop() {
    in_memory(async {
        let stage = Stage::new();
        let request = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly";
        let (mut client, connections) = connected(&stage, request).await;
        let mut head = [0; 12];
        client.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\nearly") {
            read.push(client.read_u8().await.unwrap());
        }
        tokio::time::sleep(IDLE_TIMEOUT * 10).await;
        client.write_all(b"late").await.unwrap();
        let mut late = [0; 4];
        client.read_exact(&mut late).await.unwrap();
        assert_eq!((&late, connections.count()), (b"late", 1));
        connections.finish();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "goodbye");
        assert_eq!(connections.count(), 0);
    })
    .await;
}

/// A server over sockets.
struct Served {
    stage: Arc<Stage>,
    address: SocketAddr,
    running: ListenerThreads,
}

impl Served {
    fn new() -> Self {
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
            PassedSockets::default(),
        )
        .unwrap();
        let address = listeners.addresses()[0];
        let stage = Stage::new();
        let running = listeners.serve(&stage).unwrap();
        Self { stage, address, running }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        BufReader::new(socket)
    }

    fn stop(self) {
        self.running.stop(Duration::from_secs(20));
        self.running.join();
    }

    fn wait_for_producers_left(&self, count: usize) {
        let mut left = self.stage.left.subscribe();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { left.wait_for(|left| *left == count).await.map(drop) }).unwrap();
    }
}

/// Reads the head of a response, in lower case.
fn head_of(socket: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(socket.read_line(&mut head).unwrap() > 0, "{head}");
    }
    head.to_ascii_lowercase()
}

/// Reads a body in chunks to its end.
fn chunks_of(socket: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        socket.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let begin = body.len();
        body.resize(begin + size, 0);
        socket.read_exact(&mut body[begin..]).unwrap();
        socket.read_exact(&mut [0; 2]).unwrap();
        if size == 0 {
            return body;
        }
    }
}

#[test]
fn a_stream_longer_than_any_buffer_arrives_complete_and_the_connection_continues() {
    let served = Served::new();
    let mut socket = served.connect();
    for _ in 0..2 {
        socket.get_mut().write_all(get("/parts/1024").as_bytes()).unwrap();
        let head = head_of(&mut socket);
        assert!(head.starts_with("http/1.1 200") && head.contains("transfer-encoding: chunked"), "{head}");
        let body = chunks_of(&mut socket);
        assert_eq!(body.len(), 1024 * PART);
        assert!(body.chunks(PART).enumerate().all(|(n, part)| part.iter().all(|b| *b == b'a' + (n % 26) as u8)));
    }
    // Requests that arrive during a stream are answered after it.
    socket.get_mut().write_all((get("/parts/64") + &get("/whole")).as_bytes()).unwrap();
    head_of(&mut socket);
    assert_eq!(chunks_of(&mut socket).len(), 64 * PART);
    assert!(head_of(&mut socket).contains("content-length: 5"));
    let mut body = [0; 5];
    socket.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"whole");
    drop(socket);
    served.stop();
}

#[test]
fn head_is_answered_without_the_stream_and_the_connection_goes_on() {
    let served = Served::new();
    let mut socket = served.connect();
    let head = get("/silent").replace("GET", "HEAD");
    socket.get_mut().write_all((head + &get("/whole")).as_bytes()).unwrap();
    assert!(head_of(&mut socket).starts_with("http/1.1 200"));
    served.wait_for_producers_left(1);
    assert!(head_of(&mut socket).contains("content-length: 5"));
    drop(socket);
    served.stop();
}

#[test]
fn a_reset_ends_a_producer_that_sends_nothing() {
    let served = Served::new();
    let mut socket = served.connect();
    socket.get_mut().write_all(get("/silent").as_bytes()).unwrap();
    head_of(&mut socket);
    // The connection is reset immediately.
    socket2::SockRef::from(socket.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    served.wait_for_producers_left(1);
    served.stop();
}

#[test]
fn an_aborted_stream_is_not_a_complete_body() {
    let served = Served::new();
    let mut socket = served.connect();
    socket.get_mut().write_all(get("/broken").as_bytes()).unwrap();
    let mut all = Vec::new();
    let _ = socket.read_to_end(&mut all);
    assert!(!all.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&all));
    served.stop();
}

#[test]
fn an_upgraded_connection_belongs_to_its_handler_until_the_server_stops() {
    let served = Served::new();
    let mut socket = served.connect();
    let request = "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly";
    socket.get_mut().write_all(request.as_bytes()).unwrap();
    let head = head_of(&mut socket);
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: echo"), "{head}");
    let mut echoed = [0; 9];
    socket.get_mut().write_all(b"late").unwrap();
    socket.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"earlylate");
    // Without the header the connection is not upgraded and stays open.
    let mut other = served.connect();
    for _ in 0..2 {
        other.get_mut().write_all(get("/echo").as_bytes()).unwrap();
        let head = head_of(&mut other);
        assert!(head.starts_with("http/1.1 400"), "{head}");
        let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        other.read_exact(&mut vec![0; length]).unwrap();
    }
    served.running.stop(Duration::from_secs(20));
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "goodbye");
    served.running.join();
}
