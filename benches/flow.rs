//! Measures the whole path through the real binary and real sockets, from the publisher's first byte to the receiver's
//! last byte.
//!
//! `one event` is the latency of one event on an idle server, including two fsyncs (`log.two_phase_commit`). `1000
//! events` is one array, until its last event has arrived. This bench compares two builds; `hooktide bench` measures
//! throughput under load.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on has nothing to measure")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BATCH_EVENTS: usize = 1_000;
/// A delivery that takes longer counts as lost.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// A server on its own folder, with one webhook whose endpoint is a sink in this process.
struct FlowBench {
    server: Child,
    publisher: BufReader<TcpStream>,
    head: String,
    arrived: Receiver<()>,
    _dir: tempfile::TempDir,
}

impl FlowBench {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Command::new(env!("CARGO_BIN_EXE_hooktide"))
            .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let listen = ready.split("listen=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let key = std::fs::read_to_string(dir.path().join("data/admin.key")).unwrap();
        let stream = TcpStream::connect(listen).unwrap();
        stream.set_nodelay(true).unwrap();
        let (sink, arrived) = sink();
        let head = format!("Host: {listen}\r\nAuthorization: Bearer {}\r\n", key.trim());
        let mut bench = Self { server, publisher: BufReader::new(stream), head, arrived, _dir: dir };
        bench.post(
            "/api/v1/webhooks",
            &format!(r#"{{"url":"http://{sink}/","events":["*"],"max_in_flight":64}}"#),
            "201",
        );
        bench
    }

    /// Sends one request on the kept-alive connection.
    fn post(&mut self, path: &str, body: &str, status: &str) {
        let head = &self.head;
        let length = body.len();
        let request = format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}");
        self.publisher.get_mut().write_all(request.as_bytes()).unwrap();
        let first = read_message(&mut self.publisher).expect("an answer");
        assert!(first.contains(status), "{first}");
    }

    /// Publishes a body and waits for this number of deliveries.
    fn flow(&mut self, body: &str, deliveries: usize) {
        self.post("/api/v1/events", body, "202");
        for _ in 0..deliveries {
            self.arrived.recv_timeout(DELIVERY_TIMEOUT).unwrap();
        }
    }
}

impl Drop for FlowBench {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Starts a receiver that responds with 204 and reports each request; one thread per connection.
fn sink() -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (to, arrived) = sync_channel(BATCH_EVENTS);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let to = to.clone();
            thread::spawn(move || receive(stream, &to));
        }
    });
    (addr, arrived)
}

fn receive(stream: TcpStream, to: &SyncSender<()>) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    while read_message(&mut stream).is_some() {
        if to.send(()).is_err() || stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}

/// Reads a whole message and returns its first line.
fn read_message(from: &mut impl BufRead) -> Option<String> {
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    from.read_line(&mut first).ok().filter(|read| *read > 0)?;
    while line != "\r\n" {
        line.clear();
        from.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let value = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        length = value.map_or(length, |(_, value)| value.trim().parse().unwrap_or(0));
    }
    std::io::copy(&mut from.take(length), &mut std::io::sink()).ok()?;
    Some(first)
}

fn flow(c: &mut Criterion) {
    let mut bench = FlowBench::start();
    let event = format!(r#"{{"type":"order.created","data":{{"text":"{}"}}}}"#, "x".repeat(1_000));
    let many = format!("[{}]", vec![event.as_str(); BATCH_EVENTS].join(","));
    let mut group = c.benchmark_group("flow");
    group.bench_function("one event", |b| b.iter(|| bench.flow(&event, 1)));
    group.sample_size(20).throughput(Throughput::Elements(BATCH_EVENTS as u64));
    group.bench_function("1000 events", |b| b.iter(|| bench.flow(&many, BATCH_EVENTS)));
    group.finish();
}

criterion_group!(benches, flow);
criterion_main!(benches);
