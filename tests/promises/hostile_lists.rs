//! Callers who read long lists use a bounded amount of memory together.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Server};

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];
/// Events with large heads, and deliveries with long responses.
const EVENTS: usize = 6_000;
const BATCH: usize = 250;
const METADATA_BYTES: usize = 15_000;
const VIEWERS: usize = 32;
/// Memory that the lists of all viewers may take in addition to those of one.
const GROWTH_KIB: u64 = 160 * 1024;

/// An endpoint whose responses have 1,000 bytes.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    addr
}

fn answer(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while !matches!(line.as_str(), "\r\n") {
            line.clear();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}", "r".repeat(1000));
        if stream.read_exact(&mut body).and_then(|()| stream.get_mut().write_all(response.as_bytes())).is_err() {
            return;
        }
    }
}

fn filled() -> Server {
    let server = Server::start(&[]);
    let limits = json!({ "max_in_flight": 64 });
    server.webhook(&format!("http://{}/", endpoint()), &["*"], limits);
    let event = json!({ "type": "order.created", "data": 1, "metadata": { "m": "m".repeat(METADATA_BYTES) } });
    let batch = serde_json::to_vec(&vec![event; BATCH]).unwrap();
    let mut client = server.client();
    for _ in 0..EVENTS / BATCH {
        loop {
            match client.send("POST", "/api/v1/events", &JSON, &batch).unwrap().status {
                202 => break,
                503 => thread::sleep(Duration::from_millis(100)),
                other => panic!("{other}"),
            }
        }
    }
    server.until("/api/v1/webhooks", |list| list["data"].as_array().is_some_and(|list| list.len() == 1));
    let id = server.call("GET", "/api/v1/webhooks", None).json()["data"][0]["id"].as_str().unwrap().to_owned();
    server.until(&format!("/api/v1/webhooks/{id}/metrics"), |metrics| {
        metrics["totals"]["delivered"].as_u64().or(metrics["totals"]["successful"].as_u64()) >= Some(EVENTS as u64)
    });
    server
}

/// Reads lists that match nothing, page after page. Returns the number of complete pages and of refusals.
fn view(mut client: Client, rounds: usize) -> (usize, usize) {
    let (mut pages, mut refused) = (0, 0);
    for list in [
        "/api/v1/events?limit=250",
        "/api/v1/webhooks/deliveries?limit=250&q=zzz",
        "/api/v1/events?limit=250&type=nothing",
        "/api/v1/webhooks/deliveries?limit=250",
    ] {
        let mut cursor = String::new();
        for _ in 0..rounds {
            let answer = client.send("GET", &format!("{list}{cursor}"), &[], b"").unwrap();
            match answer.status {
                200 => {
                    pages += 1;
                    let next: Value = answer.json()["next_cursor"].clone();
                    cursor = next.as_str().map_or_else(String::new, |next| format!("&cursor={next}"));
                }
                429 | 503 => {
                    assert!(answer.headers.contains_key("retry-after"), "{}", answer.text());
                    refused += 1;
                    thread::sleep(Duration::from_millis(100));
                }
                other => panic!("{other}: {}", answer.text()),
            }
        }
    }
    (pages, refused)
}

#[test]
fn lists_of_many_viewers_take_bounded_memory() {
    let server = filled();
    view(server.client(), 8);
    let before = server.memory_kib("VmRSS");
    let viewers: Vec<_> = (0..VIEWERS)
        .map(|_| {
            let client = server.client();
            thread::spawn(move || view(client, 8))
        })
        .collect();
    let (pages, refused) = viewers
        .into_iter()
        .map(|viewer| viewer.join().unwrap())
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let peak = server.memory_kib("VmHWM");
    println!("{before} KiB before, {peak} KiB at the peak; {pages} pages, {refused} refusals");
    assert!(
        peak <= before + GROWTH_KIB,
        "{before} KiB before, {peak} KiB at the peak; {pages} pages, {refused} refusals"
    );
    assert!(pages > VIEWERS, "{pages} pages, {refused} refusals");
}

#[test]
fn large_payloads_that_many_viewers_read_take_bounded_memory() {
    const VIEWERS: usize = 16;
    let server = Server::start(&[("SERVER__MAX_BODY_BYTES", "20 MiB"), ("SERVER__MAX_BATCH_BYTES", "20 MiB")]);
    let event = json!({ "type": "order.created", "data": "d".repeat(16 << 20) });
    let published = server.call("POST", "/api/v1/events", Some(&event));
    assert_eq!(published.status, 202, "{}", published.text());
    let path = format!("/api/v1/events/{}", published.json()["id"].as_str().unwrap());
    assert_eq!(server.call("GET", &path, None).status, 200);
    let before = server.memory_kib("VmHWM");
    let viewers: Vec<_> = (0..VIEWERS)
        .map(|_| {
            let (mut client, path) = (server.client(), path.clone());
            thread::spawn(move || client.send("GET", &path, &[], b"").unwrap().status)
        })
        .collect();
    let codes: Vec<_> = viewers.into_iter().map(|viewer| viewer.join().unwrap()).collect();
    assert!(codes.contains(&200) && codes.iter().all(|code| matches!(code, 200 | 429 | 503)), "{codes:?}");
    // The memory of one payload with its copies, and what the allocator has not returned yet.
    let peak = server.memory_kib("VmHWM");
    println!("{before} KiB for one, {peak} KiB for all: {codes:?}");
    assert!(peak <= before + 2 * GROWTH_KIB, "{before} KiB for one, {peak} KiB for all");
}
