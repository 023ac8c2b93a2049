//! Every refused request of a source or of a partner's token is among the source's rejections, and `source check` tells of it.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Server, Sink, run};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// Creates a source. Returns its id and the path of its URL.
fn source(server: &Server, document: &Value) -> (String, String) {
    let made = server.call("POST", "/api/v1/sources", Some(document));
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let url = made["url"].as_str().unwrap();
    let path = url.splitn(4, '/').nth(3).unwrap();
    (made["id"].as_str().unwrap().to_owned(), format!("/{path}"))
}

fn send(server: &Server, method: &str, path: &str, header: (&str, &str), body: &[u8]) -> Answer {
    Client::to(server.addr, String::new()).send(method, path, &[header], body).unwrap()
}

fn rejections(server: &Server, source: &str) -> Vec<Value> {
    let list = server.call("GET", &format!("/api/v1/sources/{source}/rejections"), None).json();
    list["data"].as_array().unwrap().clone()
}

#[test]
fn every_refused_request_of_a_source_is_listed() {
    let server = Server::start(&[]);
    let secrets = json!(["a-secret-that-is-long-enough"]);
    let twilio = source(&server, &json!({ "name": "calls", "kind": "twilio", "secrets": secrets }));
    let github = source(
        &server,
        &json!({ "name": "code", "kind": "github", "secrets": secrets, "max_body_bytes": 1024, "rate_limit_rps": 0.01, "burst": 4 }),
    );
    let partner = source(&server, &json!({ "name": "acme", "kind": "partner" }));
    let large = vec![b' '; 2000];
    let many = "a".repeat(9_000);
    for ((id, path), method, more, header, body, status) in [
        (&twilio, "GET", "", JSON, &b""[..], 405),
        (&twilio, "POST", "", FORM, b"a=1", 401),
        (&twilio, "POST", "/more", FORM, b"a=1", 404),
        (&github, "PUT", "", JSON, b"{}", 405),
        (&github, "GET", "", JSON, b"", 405),
        (&github, "POST", "", JSON, &large, 413),
        (&github, "POST", "", ("Content-Encoding", "gzip"), b"{}", 415),
        (&github, "POST", &*many, JSON, b"{}", 414),
        (&github, "POST", "", ("Host", "another"), b"{}", 400),
        (&github, "POST", "", JSON, b"{}", 401),
        (&github, "POST", "", JSON, b"{}", 401),
        (&github, "POST", "", JSON, b"{}", 429),
        (&partner, "GET", "", JSON, b"", 405),
        (&partner, "POST", "", FORM, b"a=1", 415),
        (&partner, "POST", "", ("Content-Encoding", "gzip"), b"{}", 415),
        (&partner, "POST", "", JSON, b"{", 400),
        (&partner, "POST", "/more", JSON, b"{}", 404),
    ] {
        let before = rejections(&server, id).len();
        let path = if more.starts_with('a') { format!("{path}/{more}") } else { format!("{path}{more}") };
        let answer = send(&server, method, &path, header, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        let kept = rejections(&server, id);
        assert_eq!(kept.len(), before + 1, "{method} {path} {status} is not listed");
        assert_eq!(kept[0]["status"], status, "{}", kept[0]);
        let request = kept[0]["request"].as_str().unwrap_or_default();
        let token = partner.1.rsplit('/').next().unwrap();
        assert!(!request.contains(token), "{request} has the token");
    }
    let inactive = json!({ "status": "inactive" });
    for ((id, path), status) in [(&twilio, 404), (&partner, 401)] {
        let changed = server.call("PATCH", &format!("/api/v1/sources/{id}"), Some(&inactive));
        assert_eq!(changed.status, 200, "{}", changed.text());
        assert_eq!(send(&server, "POST", path, JSON, b"{}").status, status);
        let kept = rejections(&server, id);
        assert_eq!((&kept[0]["status"], &kept[0]["reason"]), (&json!(status), &json!("the source is inactive")));
    }
}

#[test]
fn a_source_whose_requests_all_have_the_wrong_method_is_not_ready() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    let made = json!({ "name": "calls", "kind": "twilio", "secrets": ["a-secret-that-is-long-enough"] });
    let (_, path) = source(&server, &made);
    assert_eq!(send(&server, "GET", &path, JSON, b"").status, 405);
    let url = format!("http://{}", server.addr);
    let dir = tempfile::tempdir().unwrap();
    let env = [("HOOKTIDE_URL", &*url), ("HOOKTIDE_KEY", &*server.key)];
    let (code, out, error) = run(dir.path(), &["source", "check", "calls"], &env);
    assert_eq!(code, 1, "{out}{error}");
    assert!(out.contains("(405)") && out.contains("the method is GET; this source takes POST"), "{out}{error}");
}
