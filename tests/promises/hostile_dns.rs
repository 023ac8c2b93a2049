//! Host names whose DNS server does not answer, and endpoints that do not answer, stop no other webhook.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::hostile::{accepted_within, client_of};
use crate::support::{Server, Sink};

/// Events that are published for all webhooks.
const EVENTS: usize = 200;

/// A DNS server. It answers for no name that starts with `dead`. All other names have the address 127.0.0.1. The thread
/// ends with the process of the test.
fn dns_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 1500];
        while let Ok((_, from)) = socket.recv_from(&mut query) {
            let name_len = query[12..].iter().position(|byte| *byte == 0).unwrap();
            let question = &query[12..12 + name_len + 5];
            if question[1..].starts_with(b"dead") {
                continue;
            }
            let has_answer = question[name_len + 2] == 1;
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
            answer.extend(question);
            if has_answer {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    at
}

#[test]
fn names_without_an_answer_do_not_stop_other_webhooks() {
    let servers = format!("[\"{}\"]", dns_server());
    let mut server = Server::start(&[("EGRESS__DNS_SERVERS", &servers), ("SERVER__DRAIN_SECONDS", "5")]);
    for n in 0..20 {
        server.webhook(&format!("http://dead{n}.example.com/"), &["*"], json!({}));
    }
    let sink = Sink::start();
    let port = sink.addr.port();
    server.webhook(&format!("http://healthy.example.com:{port}/"), &["*"], json!({}));
    let mut published = Vec::with_capacity(EVENTS);
    for n in 0..EVENTS {
        let start = Instant::now();
        published.push(server.publish("a.b", &json!(n)));
        assert!(start.elapsed() <= accepted_within(), "event {n} was accepted after {:?}", start.elapsed());
    }
    let until = Instant::now() + Duration::from_secs(10);
    while !published.is_empty() {
        let delivery = sink.within(until.saturating_duration_since(Instant::now()));
        let delivery = delivery.unwrap_or_else(|| panic!("{} events were not delivered", published.len()));
        published.retain(|id| id != delivery.id());
    }
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
    assert!(threads < 64, "{threads} threads");
    let stopped = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0));
    assert!(stopped.elapsed() <= Duration::from_secs(10), "{:?}", stopped.elapsed());
}

#[test]
fn a_name_is_looked_up_with_the_servers_of_a_changed_configuration() {
    let (unused, dir) = (UdpSocket::bind("127.0.0.1:0").unwrap(), tempfile::tempdir().unwrap());
    let config = dir.path().join("config.toml");
    let write = |at: SocketAddr| {
        let egress = format!("[egress]\nallow = [\"127.0.0.0/8\"]\ndns_servers = [\"{at}\"]\n");
        fs::write(&config, egress).unwrap();
    };
    write(unused.local_addr().unwrap());
    let server = Server::start(&[("CONFIG", config.to_str().unwrap())]);
    let sink = Sink::start();
    let url = format!("http://moved.example.com:{}/", sink.addr.port());
    let retries = json!({ "retry_policy": { "schedule": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1] } });
    server.webhook(&url, &["*"], retries);
    server.publish("a.b", &json!(1));
    assert!(sink.within(Duration::from_secs(1)).is_none(), "the first server does not answer");
    write(dns_server());
    server.signal(Signal::SIGHUP);
    assert!(sink.within(Duration::from_secs(60)).is_some());
}

#[test]
fn tests_of_silent_endpoints_do_not_refuse_the_tests_of_other_tenants() {
    let server = Server::start(&[]);
    // Connections are established, and no request is read.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let mut member = client_of(&server, "silent", "member");
    let webhooks: Vec<_> = (0..80)
        .map(|_| {
            let body = json!({ "url": url, "events": ["*"], "timeout_seconds": 30 });
            let created = member.call("POST", "/api/v1/webhooks", Some(&body));
            assert_eq!(created.status, 201, "{}", created.text());
            created.json()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    for webhook in webhooks {
        let mut client = client_of(&server, "silent", "member");
        // The request waits for the endpoint, or is refused. The thread ends with the process of the test.
        thread::spawn(move || client.call("POST", &format!("/api/v1/webhooks/{webhook}/test"), None));
    }
    thread::sleep(Duration::from_secs(1));
    let sink = Sink::start();
    let mut other = client_of(&server, "other", "member");
    for _ in 0..4 {
        let body = json!({ "url": sink.url("/"), "events": ["*"] });
        let created = other.call("POST", "/api/v1/webhooks", Some(&body));
        let id = created.json()["id"].as_str().unwrap().to_owned();
        let tested = other.call("POST", &format!("/api/v1/webhooks/{id}/test"), None);
        assert_eq!(tested.status, 200, "{}", tested.text());
    }
}
