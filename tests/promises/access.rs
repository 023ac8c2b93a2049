//! Authentication and authorization: API keys, tokens, users named by a trusted proxy, and pages of allowed origins.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Client, Server};

const SECRET: &str = "a-secret-of-more-than-32-bytes-in-all";

/// A path for each route of the API. Other tests check the responses to authorized callers.
const ROUTES: [(&str, &str); 32] = [
    ("/webhooks", "GET POST"),
    ("/webhooks/nobodys", "GET PUT PATCH DELETE"),
    ("/webhooks/nobodys/pause", "POST"),
    ("/webhooks/nobodys/resume", "POST"),
    ("/webhooks/nobodys/test", "POST"),
    ("/webhooks/nobodys/regenerate-secret", "POST"),
    ("/webhooks/nobodys/recover", "POST"),
    ("/webhooks/nobodys/metrics", "GET"),
    ("/webhooks/nobodys/subscriptions", "GET POST"),
    ("/webhooks/nobodys/deliveries", "GET"),
    ("/webhooks/nobodys/dead-letters", "GET"),
    ("/webhooks/nobodys/dead-letters/bulk-replay", "POST"),
    ("/webhooks/deliveries", "GET"),
    ("/webhooks/events/available", "GET"),
    ("/deliveries", "GET"),
    ("/deliveries/dlv_000000000000000000000000010000000", "GET"),
    ("/deliveries/dlv_000000000000000000000000010000000/retry", "POST"),
    ("/dead-letters", "GET"),
    ("/events", "GET"),
    ("/events/evt_00000000000000000000000001", "GET"),
    ("/events/evt_00000000000000000000000001/replay", "POST"),
    ("/replays", "GET POST"),
    ("/replays/rpl_1", "GET DELETE"),
    ("/stats", "GET"),
    ("/event-types", "GET POST"),
    ("/event-types/nobodys.type", "GET PUT DELETE"),
    ("/keys", "GET POST"),
    ("/keys/key_00000000000000000000000001", "GET DELETE"),
    ("/tenants", "GET POST"),
    ("/audit", "GET"),
    ("/sources", "GET POST"),
    ("/sources/nobodys", "GET PATCH DELETE"),
];

fn key(server: &Server, body: serde_json::Value) -> (String, String) {
    let made = server.call("POST", "/api/v1/keys", Some(&body));
    assert_eq!(made.status, 201, "{}", made.text());
    let text = |name: &str| made.json()[name].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

#[test]
fn every_route_checks_authentication_and_role() {
    let server = Server::start(&[]);
    let (_, publisher) = key(&server, json!({"role": "publisher"}));
    let (_, viewer) = key(&server, json!({"role": "viewer"}));
    let mut nobody = Client::to(server.addr, "hk_not_a_key".to_owned());
    let (mut publisher, mut viewer) = (Client::to(server.addr, publisher), Client::to(server.addr, viewer));
    for (path, methods) in ROUTES {
        let path = format!("/api/v1{path}");
        for method in methods.split(' ') {
            // A POST to one name below /webhooks is for a source, which has its own authentication.
            let body = (method != "GET").then(|| json!({}));
            assert_eq!(nobody.call(method, &path, body.as_ref()).status, 401, "{method} {path}");
            assert_eq!(publisher.call(method, &path, body.as_ref()).status, 403, "{method} {path}");
            let is_admins = path.contains("/keys") || path.contains("/audit");
            let status = viewer.call(method, &path, body.as_ref()).status;
            assert_eq!(status == 403, method != "GET" || is_admins, "{method} {path}: {status}");
        }
    }
    assert_eq!(publisher.call("POST", "/api/v1/events", Some(&json!({"type": "a.b", "data": 1}))).status, 202);
    assert_eq!(viewer.call("POST", "/api/v1/events", Some(&json!({"type": "a.b", "data": 1}))).status, 403);
}

#[test]
fn a_key_survives_a_restart_and_ends_when_it_is_revoked() {
    let mut server = Server::start(&[]);
    let (id, text) = key(&server, json!({"role": "admin", "tenant": "acme", "name": "ci"}));
    server.restart(Signal::SIGKILL);
    let mut client = Client::to(server.addr, text.clone());
    let made = client.call("POST", "/api/v1/webhooks", Some(&json!({"url": "https://example.com/", "events": ["*"]})));
    assert_eq!((made.status, made.json()["tenant"].as_str()), (201, Some("acme")), "{}", made.text());
    let log = client.call("GET", "/api/v1/audit", None).json();
    let rows = log["data"].as_array().unwrap();
    assert_eq!((rows[0]["action"].as_str(), rows[0]["actor"].as_str()), (Some("webhook.created"), Some(&*id)), "{log}");
    assert!(rows[0]["request_id"].as_str().unwrap().starts_with("req_"), "{log}");
    assert_eq!((rows[1]["action"].as_str(), rows[1]["actor"].as_str()), (Some("key.created"), Some("the first key")));
    assert_eq!(server.call("DELETE", &format!("/api/v1/keys/{id}"), None).status, 204);
    assert_eq!(client.call("GET", "/api/v1/webhooks", None).status, 401);
    let bytes = std::fs::read(server.data_dir().join("registry.redb")).unwrap();
    assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "the key is in registry.redb");
    assert!(!server.log().contains(&text));
}

/// A token created by the command with these flags.
fn minted(flags: &[&str]) -> String {
    let mut command = std::process::Command::new(crate::support::binary());
    let done = command.arg("token").args(flags).env_clear().env("JWT_SECRET", SECRET).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_token_of_the_command_is_accepted_for_its_tenant_only() {
    let server = Server::start(&[("AUTH__JWT_SECRET", SECRET)]);
    let body = json!({"url": "https://example.com/", "events": ["*"]});
    let mut acme = Client::to(server.addr, minted(&["--tenant", "acme", "--sub", "42"]));
    let made = acme.call("POST", "/api/v1/webhooks", Some(&body));
    assert_eq!((made.status, made.json()["tenant"].as_str()), (201, Some("acme")), "{}", made.text());
    let place = format!("/api/v1/webhooks/{}", made.json()["id"].as_str().unwrap());
    let mut other = Client::to(server.addr, minted(&["--role", "admin"]));
    assert_eq!(other.call("GET", &place, None).status, 404);
    assert_eq!(acme.call("GET", &place, None).status, 200);
    assert_eq!(acme.call("GET", "/api/v1/keys", None).status, 403, "a member");
    let log = server.call("GET", "/api/v1/audit?tenant=acme", None).json();
    assert_eq!(log["data"][0]["actor"], "user 42");

    let mut viewer = Client::to(server.addr, minted(&["--role", "viewer", "--ttl", "1h"]));
    assert_eq!(viewer.call("POST", "/api/v1/webhooks", Some(&body)).status, 403);
    let forged = format!("{}x", minted(&[]));
    assert_eq!(Client::to(server.addr, forged).call("GET", "/api/v1/webhooks", None).status, 401);
}

#[test]
fn only_pages_of_allowed_origins_may_call_the_api() {
    let server = Server::start(&[("SERVER__CORS_ORIGINS", "https://app.example.com")]);
    let ask = |method: &str, origin: &str, more: &str| {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(server.addr).unwrap();
        let key = &server.key;
        let bearer = if method == "OPTIONS" { String::new() } else { format!("Authorization: Bearer {key}\r\n") };
        write!(
            socket,
            "{method} /api/v1/webhooks HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n{bearer}{more}Connection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase()
    };
    let asks_before = "Access-Control-Request-Method: PATCH\r\nAccess-Control-Request-Headers: authorization\r\n";
    let allowed = ask("OPTIONS", "https://app.example.com", asks_before);
    assert!(allowed.starts_with("http/1.1 204"), "{allowed}");
    assert!(allowed.contains("access-control-allow-origin: https://app.example.com"), "{allowed}");
    assert!(allowed.contains("patch") && allowed.contains("authorization"), "{allowed}");
    assert!(!allowed.contains("allow-credentials"), "{allowed}");
    let read = ask("GET", "https://app.example.com", "");
    assert!(read.starts_with("http/1.1 200"), "{read}");
    assert!(read.contains("access-control-allow-origin: https://app.example.com") && read.contains("vary: origin"));
    for (method, origin, more) in [
        ("OPTIONS", "https://evil.example.com", asks_before),
        ("OPTIONS", "https://app.example.com:444", asks_before),
        ("OPTIONS", "null", asks_before),
        ("GET", "https://app.example.com.evil.com", ""),
    ] {
        let answer = ask(method, origin, more);
        assert!(!answer.contains("access-control-allow-origin"), "{method} {origin}: {answer}");
    }
}

#[test]
fn a_trusted_proxy_names_the_user() {
    for (trusted, status) in [("127.0.0.0/8", 200), ("10.0.0.0/8", 401)] {
        use std::io::{Read, Write};
        let server = Server::start(&[("AUTH__TRUSTED_PROXY", trusted), ("AUTH__DEFAULT_ROLE", "viewer")]);
        let mut socket = std::net::TcpStream::connect(server.addr).unwrap();
        let head =
            "GET /api/v1/webhooks HTTP/1.1\r\nHost: a\r\nX-User-ID: 42\r\nX-Org-ID: acme\r\nConnection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{trusted}: {answer}");
    }
}
