//! A request that is refused before its body was read: the client reads the refusal, whatever it still sends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Server, WAIT_TIMEOUT};

const MIB: usize = 1 << 20;

/// A refused request: its path, its headers, and the status of the response.
struct Refused {
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    has_key: bool,
    status: u16,
}

const fn refused(
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    has_key: bool,
    status: u16,
) -> Refused {
    Refused { path, headers, has_key, status }
}

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

const ALL: &[Refused] = &[
    refused("/api/v1/events", JSON, false, 401),
    refused("/api/v1/webhooks", JSON, false, 401),
    refused("/api/v1/webhooks", JSON, true, 413),
    refused("/api/v1/webhooks/none", JSON, false, 404),
    refused("/nothing", JSON, true, 404),
    refused("/api/v1/events", &[("Content-Encoding", "gzip")], true, 415),
    refused("/api/v1/stats", JSON, true, 413),
];

/// A body without a JSON value in it.
fn body(bytes: usize) -> Vec<u8> {
    let mut body = vec![b' '; bytes];
    body[0] = b'[';
    body
}

/// Sends the whole request before the response is read, as simple clients do. Returns the response.
fn send_then_read(server: &Server, request: &Refused, bytes: usize, is_chunked: bool) -> String {
    let mut socket = TcpStream::connect(server.addr).unwrap();
    socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let mut head = format!("POST {} HTTP/1.1\r\nHost: a\r\n", request.path);
    for (name, value) in request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if request.has_key {
        head += &format!("Authorization: Bearer {}\r\n", server.key);
    }
    head += &if is_chunked {
        "Transfer-Encoding: chunked\r\n\r\n".into()
    } else {
        format!("Content-Length: {bytes}\r\n\r\n")
    };
    socket.write_all(head.as_bytes()).unwrap();
    for part in body(bytes).chunks(MIB / 4) {
        let frame = if is_chunked { format!("{:x}\r\n", part.len()) } else { String::new() };
        let sent = socket.write_all(frame.as_bytes()).and_then(|()| socket.write_all(part));
        sent.and_then(|()| if is_chunked { socket.write_all(b"\r\n") } else { Ok(()) })
            .unwrap_or_else(|error| panic!("{}: the body cannot be sent: {error}", request.path));
    }
    let mut answer = Vec::new();
    if is_chunked {
        socket.write_all(b"0\r\n\r\n").unwrap();
    }
    socket.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{}: no response: {error}", request.path));
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_client_that_sends_its_whole_body_first_reads_the_refusal() {
    let server = Server::start(&[]);
    for request in ALL {
        for (bytes, is_chunked) in [(8 * MIB, false), (8 * MIB, true), (25 * MIB, false)] {
            let answer = send_then_read(&server, request, bytes, is_chunked);
            let expected = format!("HTTP/1.1 {} ", request.status);
            assert!(answer.starts_with(&expected), "{} {bytes} {is_chunked}: {answer}", request.path);
            assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{answer}");
        }
    }
    // What is discarded takes no place of bodies.
    let health = server.call("GET", "/health", None).json();
    assert_ne!(health["status"], "error", "{health}");
}

#[test]
fn a_client_that_never_ends_is_closed_after_a_bound() {
    let server = Server::start(&[]);
    let mut socket = TcpStream::connect(server.addr).unwrap();
    socket.set_write_timeout(Some(WAIT_TIMEOUT)).unwrap();
    socket.write_all(b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n").unwrap();
    let part = body(MIB);
    let sent = (0..1_000).take_while(|_| socket.write_all(&part).is_ok()).count();
    assert!((64..500).contains(&sent), "{sent} MiB were taken");
    // A client that stays silent is closed too.
    let started = Instant::now();
    let mut silent = TcpStream::connect(server.addr).unwrap();
    silent.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    silent.write_all(b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n[").unwrap();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 401 "));
    while silent.write_all(b" ").is_ok() {
        assert!(started.elapsed() < Duration::from_secs(45), "the connection is still open");
        std::thread::sleep(Duration::from_secs(3));
    }
}

const PYTHON: &str = r#"
import http.client, sys, urllib.request, urllib.error
host, port, key = sys.argv[1].split(":")[0], int(sys.argv[1].split(":")[1]), sys.argv[2]
try:
    import requests
except ImportError:
    requests = None
cases = [("/api/v1/events", None, "application/json", 401), ("/api/v1/webhooks", key, "application/json", 413),
         ("/nothing", key, "application/json", 404), ("/api/v1/events", key, "gzip", 415)]
for size in (8 << 20, 25 << 20):
    body = b"[" + b" " * (size - 1)
    for path, token, kind, status in cases:
        headers = {"Content-Encoding" if kind == "gzip" else "Content-Type": kind}
        if token:
            headers["Authorization"] = "Bearer " + token
        connection = http.client.HTTPConnection(host, port, timeout=60)
        connection.request("POST", path, body, headers)
        got = connection.getresponse()
        assert got.status == status and got.read(), ("http.client", path, got.status)
        url = "http://%s:%d%s" % (host, port, path)
        try:
            urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60)
            raise AssertionError("accepted")
        except urllib.error.HTTPError as error:
            assert error.code == status and error.read(), ("urllib", path, error.code)
        if requests:
            got = requests.post(url, data=body, headers=headers, timeout=60)
            assert got.status_code == status and got.text, ("requests", path, got.status_code)
print("requests" if requests else "no requests")
"#;

const NODE: &str = r#"
const http = require("http");
const [address, key] = process.argv.slice(2);
const cases = [["/api/v1/events", null, "application/json", 401], ["/api/v1/webhooks", key, "application/json", 413],
  ["/nothing", key, "application/json", 404], ["/api/v1/events", key, "gzip", 415]];
const plain = (path, headers, body) => new Promise((resolve, reject) => {
  const request = http.request("http://" + address + path, { method: "POST", headers }, (response) => {
    let text = "";
    response.on("data", (part) => { text += part; }).on("end", () => resolve([response.statusCode, text]));
    response.on("error", reject);
  });
  request.on("error", reject);
  request.end(body);
});
(async () => {
  for (const size of [8 << 20, 25 << 20]) {
    const body = Buffer.alloc(size, 32);
    body[0] = 91;
    for (const [path, token, kind, status] of cases) {
      const headers = { [kind === "gzip" ? "Content-Encoding" : "Content-Type"]: kind, "Content-Length": size };
      if (token) headers.Authorization = "Bearer " + token;
      const [got, text] = await plain(path, headers, body);
      if (got !== status || !text) throw new Error(`http ${path} ${got}`);
      delete headers["Content-Length"];
      const fetched = await fetch("http://" + address + path, { method: "POST", headers, body });
      if (fetched.status !== status || !(await fetched.text())) throw new Error(`fetch ${path} ${fetched.status}`);
    }
  }
})().catch((error) => { console.error(error); process.exit(1); });
"#;

/// Runs a client, unless its interpreter is missing.
fn run_client(server: &Server, programs: &[&str], flag: &str, script: &str) {
    for program in programs {
        let run = Command::new(program).args([flag, script, &server.addr.to_string(), &server.key]).output();
        let Ok(output) = run else { continue };
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program}: {text}");
        return;
    }
    println!("not tried: none of {programs:?} is installed");
}

#[test]
fn clients_of_python_read_the_refusal() {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    run_client(&Server::start(&[]), &[own, "python3"], "-c", PYTHON);
}

#[test]
fn clients_of_node_read_the_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("refusals.js");
    std::fs::write(&script, NODE).unwrap();
    run_client(&Server::start(&[]), &["node"], "--no-warnings", script.to_str().unwrap());
}
