//! Several worker threads share one address, management has its own address, and a flood of connections does no harm.

use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use crate::support::{Client, Server, Sink};

/// Connections per request, so that each worker thread gets one.
const CONNECTIONS: usize = 12;
/// More connections than a server with this limit of open files can hold.
const FLOOD: usize = 400;
const FILES: &str = "256";

#[test]
fn management_is_served_only_on_its_own_address_by_every_worker() {
    let server = Server::start(&[("SERVER__WORKERS", "3"), ("SERVER__ADMIN_LISTEN", "127.0.0.1:0")]);
    let admin = server.admin.unwrap();
    let sink = Sink::start();
    let webhook = json!({ "url": sink.url("/"), "events": ["*"] });
    let event = json!({ "type": "order.created", "data": 1 });
    let published = ("POST", "/api/v1/events", Some(&event));
    let made = ("POST", "/api/v1/webhooks", Some(&webhook));
    assert_eq!(Client::to(admin, server.key.clone()).call(made.0, made.1, made.2).status, 201);

    for (request, on_public, on_admin) in [
        (published, 202, 405),
        (("GET", "/api/v1/events", None), 405, 200),
        (("GET", "/api/v1/webhooks", None), 404, 200),
        (("GET", "/api/v1/replays", None), 404, 200),
        (("GET", "/health", None), 200, 200),
        (("GET", "/ready", None), 200, 200),
        (("GET", "/api/v1/health/live", None), 200, 200),
        (("GET", "/metrics", None), 404, 200),
        (("GET", "/openapi.json", None), 404, 200),
    ] {
        for (addr, want) in [(server.addr, on_public), (admin, on_admin)] {
            for _ in 0..CONNECTIONS {
                let answer = Client::to(addr, server.key.clone()).call(request.0, request.1, request.2);
                assert_eq!(answer.status, want, "{request:?} at {addr}: {}", answer.text());
            }
        }
    }
    for (path, status) in [("/metrics", 200), ("/health", 200), ("/api/v1/webhooks", 401)] {
        assert_eq!(Client::to(admin, String::new()).call("GET", path, None).status, status, "{path} without a key");
    }
    for _ in 0..CONNECTIONS {
        sink.next();
    }
    assert!(sink.counts().values().all(|times| *times == 1), "whichever worker took it, it goes out once");
}

#[test]
fn a_flood_of_connections_leaves_the_server_its_files() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        println!("skipped: there is no prlimit here");
        return;
    }
    let server = Server::start(&[("SERVER__WORKERS", "2"), ("NOFILE", FILES)]);
    let mut early = server.client();
    assert_eq!(early.call("GET", "/health", None).status, 200);
    let flood: Vec<_> = (0..FLOOD).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    let event = json!({ "type": "order.created", "data": 1 });
    for _ in 0..CONNECTIONS {
        assert_eq!(early.call("POST", "/api/v1/events", Some(&event)).status, 202, "who is in is served");
    }
    drop(flood);
    assert_eq!(server.client().call("POST", "/api/v1/events", Some(&event)).status, 202, "who waited is let in");
}
