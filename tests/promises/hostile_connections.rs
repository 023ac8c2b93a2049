//! Clients with few rights, or none, use memory and connections that others need. Others are served meanwhile.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Client, Server, WAIT_TIMEOUT};

const SECRET: &str = "shpss_Zm9yLXRlc3Rz-a-secret-of-shopify";
const CONFIG: &str = r#"
[[sources]]
name = "shopify"
kind = "shopify"
secrets = ["shpss_Zm9yLXRlc3Rz-a-secret-of-shopify"]
"#;
/// Requests of those who are served beside an attack.
const TRIES: usize = 20;
/// Time in which each of them is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const MIB: usize = 1 << 20;

fn start(settings: &[(&str, &str)]) -> Server {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let config = dir.path().join("config.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let config = config.to_str().unwrap().to_owned();
    let settings: Vec<_> = settings.iter().copied().chain([("CONFIG", &*config)]).collect();
    Server::start_in(dir, &settings)
}

/// Connects and sends the head of a request with a body of this length, and the first bytes of the body. A server that
/// refuses the request may close the connection early.
fn unfinished(addr: SocketAddr, path: &str, headers: &str, length: usize, sent: usize) -> TcpStream {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n");
    let _ = socket.write_all(head.as_bytes());
    let _ = socket.write_all(&vec![b' '; sent]);
    socket
}

/// Reads until the server closes.
fn rest(mut socket: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn exchange(addr: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let _ = socket.write_all(request);
    rest(socket)
}

/// An application, a provider and an administrator send requests. All of them succeed, and soon.
/// `round` is a name that no other call uses.
fn others_are_served(server: &Server, round: &str) {
    // Each request has a connection of its own: one that is idle between two requests may have to give way.
    let call = |path: &str, body: &Value| server.client().call("POST", path, Some(body));
    let event = json!({ "type": "order.created", "data": "a".repeat(100_000) });
    for n in 0..TRIES {
        let started = Instant::now();
        let published = call("/api/v1/events", &event);
        assert_eq!(published.status, 202, "{}", published.text());
        let body = format!("{{\"n\":{n}}}");
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body.as_bytes());
        let signature = BASE64.encode(signature.as_ref());
        let headers = [("X-Shopify-Hmac-Sha256", &*signature), ("Content-Type", "application/json")];
        let inbound = Client::to(server.addr, String::new());
        let inbound = { inbound }.send("POST", "/api/v1/webhooks/shopify", &headers, body.as_bytes()).unwrap();
        assert!(matches!(inbound.status, 200 | 202), "{}", inbound.text());
        let source = json!({ "name": format!("{round}-{n}"), "kind": "partner" });
        let made = call("/api/v1/sources", &source);
        assert_eq!(made.status, 201, "{}", made.text());
        assert!(started.elapsed() < ANSWER_TIMEOUT, "{:?}", started.elapsed());
    }
}

#[test]
fn strangers_who_declare_large_bodies_take_no_room() {
    let server = start(&[]);
    let slow = |length, path| unfinished(server.addr, path, "", length, 1024);
    for (round, path) in [("nobody", "/webhook/v1/nobody"), ("shopify", "/api/v1/webhooks/shopify")] {
        let held: Vec<_> =
            [[10 * MIB; 6].as_slice(), &[2 * MIB; 2]].concat().into_iter().map(|n| slow(n, path)).collect();
        others_are_served(&server, round);
        drop(held);
    }
}

#[test]
fn an_unknown_token_is_refused_before_its_body() {
    let server = start(&[]);
    let started = Instant::now();
    let answer = rest(unfinished(server.addr, "/webhook/v1/nobody", "", 10 * MIB, 0));
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("unknown_token"), "{answer}");
    assert!(started.elapsed() < ANSWER_TIMEOUT, "{:?}", started.elapsed());
    // A connection with a short body continues.
    let two = b"POST /webhook/v1/nobody HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
    let last = b"GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = exchange(server.addr, &[&two[..], two, last].concat());
    assert_eq!(answer.matches("HTTP/1.1 401 ").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");
}

#[test]
fn strangers_share_a_part_of_the_room_and_slow_bodies_give_way() {
    let server = start(&[]);
    // Together more than all the room, sent at once and never completed.
    let held: Vec<_> =
        (0..9).map(|_| unfinished(server.addr, "/api/v1/webhooks/shopify", "", 10 * MIB, 10 * MIB - 1)).collect();
    others_are_served(&server, "p");
    let metrics = server.call("GET", "/metrics", None).text();
    let figure = |name: &str| -> usize {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}:\n{metrics}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(figure("hooktide_receiving_bytes{share=\"unauthenticated\"}") <= 25 * MIB);
    assert!(figure("hooktide_bodies_refused_total{reason=\"no_room\"}") > 0);
    // Those that stopped sending make room for a large body of the same address.
    std::thread::sleep(Duration::from_secs(3));
    let body = format!("\"{}\"", "x".repeat(10 * MIB - 2)).into_bytes();
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &body);
    let signature = BASE64.encode(signature.as_ref());
    let headers = [("X-Shopify-Hmac-Sha256", &*signature), ("Content-Type", "application/json")];
    let accepted = Client::to(server.addr, String::new()).send("POST", "/api/v1/webhooks/shopify", &headers, &body);
    assert_eq!(accepted.unwrap().status, 202);
    let answer = |socket: TcpStream| {
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        rest(socket)
    };
    let gave_way = held.into_iter().map(answer).filter(|answer| answer.starts_with("HTTP/1.1 503 "));
    assert!(gave_way.inspect(|answer| assert!(answer.contains("etry-after: 1"), "{answer}")).count() >= 5);
}

#[test]
fn uploads_of_one_tenant_leave_room_and_turns_for_others() {
    let server = start(&[]);
    let key = json!({ "name": "viewer", "role": "viewer", "tenant": "default" });
    let made = server.call("POST", "/api/v1/keys", Some(&key));
    assert_eq!(made.status, 201, "{}", made.text());
    let viewer = made.json()["key"].as_str().unwrap().to_owned();
    let headers = format!("Authorization: Bearer {viewer}\r\nContent-Type: application/json\r\n");
    // More than all the room, and more uploads than there are turns for management requests.
    let path = "/api/v1/filters/test";
    let mut held: Vec<_> = (0..80).map(|_| unfinished(server.addr, path, &headers, MIB, MIB - 1)).collect();
    held.extend((0..520).map(|_| unfinished(server.addr, path, &headers, MIB, 1)));
    others_are_served(&server, "p");
    drop(held);
}

#[test]
fn only_chunked_is_a_transfer_coding() {
    let server = start(&[]);
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    let smuggled = "GET /ready HTTP/1.1\r\nHost: a\r\n\r\n";
    for path in ["/api/v1/webhooks/shopify", "/webhook/v1/nobody", "/api/v1/events", "/api/v1/webhooks", "/health"] {
        for coding in [
            "chunked, chunked",
            "identity, chunked",
            "gzip, chunked",
            "x, chunked",
            ", chunked",
            "chunked,",
            "chunked;q=1",
            "\"chunked\"",
            "chunked, identity",
            "identity",
            "chunked\r\nTransfer-Encoding: chunked",
            "identity\r\nTransfer-Encoding: chunked",
            "gzip\r\nX-Between: 1\r\nTransfer-Encoding: chunked",
            "chunked, chunked\r\nContent-Length: 2",
        ] {
            for length in ["", "Content-Length: 15\r\n"] {
                let key = &server.key;
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n{length}Transfer-Encoding: {coding}\r\n\r\n"
                );
                let answer = exchange(server.addr, format!("{head}{chunks}{smuggled}").as_bytes());
                let code = answer.get(9..12).unwrap_or_default();
                assert!(["400", "501"].contains(&code), "{path} {coding:?} {length:?}: {answer}");
                assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "the connection is closed: {answer}");
            }
        }
    }
    // A length beside the coding is ignored, and the connection is closed (RFC 9112 section 6.1).
    for (coding, length) in
        [("chunked", ""), ("Chunked", ""), (" \tchunked\t ", ""), ("chunked", "Content-Length: 3\r\n")]
    {
        let head =
            format!("POST /webhook/v1/nobody HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n{length}\r\n");
        let answer = exchange(server.addr, format!("{head}{chunks}{smuggled}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 401 "), "{coding:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}

#[test]
fn idle_and_slow_connections_give_way_to_new_ones() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        println!("skipped: there is no prlimit here");
        return;
    }
    let server = start(&[("SERVER__WORKERS", "2"), ("NOFILE", "1024")]);
    let connect = |bytes: &str| {
        let mut socket = TcpStream::connect(server.addr).unwrap();
        let _ = socket.write_all(bytes.as_bytes());
        socket
    };
    let request = "GET /ready HTTP/1.1\r\nHost: a\r\n\r\n";
    let half = "GET /ready HTTP/1.1\r\nHost: a\r\n";
    let body = "POST /webhook/v1/nobody HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
    for (round, bytes) in [("new", ""), ("idle", request), ("head", half), ("body", body)] {
        let flood: Vec<_> = (0..700).map(|_| connect(bytes)).collect();
        let started = Instant::now();
        others_are_served(&server, round);
        assert!(started.elapsed() < WAIT_TIMEOUT, "{bytes:?}: {:?}", started.elapsed());
        drop(flood);
    }
}
