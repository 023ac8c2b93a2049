//! Providers verify an endpoint by handshakes. A handshake is answered, and never becomes an event.

use data_encoding::HEXLOWER;
use ring::hmac;
use serde_json::{Value, json};

use crate::support::{Answer, Client, Server, Sink};

fn hex_mac(secret: &str, text: &str) -> String {
    HEXLOWER.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text.as_bytes()).as_ref())
}

fn source(server: &Server, document: &Value) -> (String, String) {
    let made = server.call("POST", "/api/v1/sources", Some(document));
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let url = made["url"].as_str().unwrap();
    (made["id"].as_str().unwrap().to_owned(), url[url.find("/api").unwrap()..].to_owned())
}

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = [&[("Content-Type", "application/json")], headers].concat();
    Client::to(server.addr, String::new()).send("POST", path, &headers, body.as_bytes()).unwrap()
}

/// The number of events, and the number of rejections of a source.
fn counts(server: &Server, source: &str) -> (usize, usize) {
    let count = |path: &str| server.call("GET", path, None).json()["data"].as_array().unwrap().len();
    (count("/api/v1/events"), count(&format!("/api/v1/sources/{source}/rejections")))
}

#[test]
fn notion_is_set_up_by_its_token_which_a_person_can_read_and_which_is_never_delivered() {
    const TOKEN: &str = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl";
    let body = json!({ "verification_token": TOKEN }).to_string();
    let signature = format!("sha256={}", hex_mac(TOKEN, &body));
    for is_signed in [false, true] {
        let server = Server::start(&[]);
        let sink = Sink::start();
        server.webhook(&sink.url("/"), &["*"], json!({}));
        let (id, path) = source(&server, &json!({ "name": "notion", "kind": "notion" }));
        let headers = [("X-Notion-Signature", &*signature)];
        let headers = if is_signed { &headers[..] } else { &[] };
        let shown = || server.call("GET", &format!("/api/v1/sources/{id}"), None);
        assert_eq!(shown().json().get("verification_token"), None);
        let answer = post(&server, &path, headers, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(shown().json()["verification_token"], TOKEN);

        // The same request again, with and without a signature: 200 or 401, and no event.
        assert_eq!(post(&server, &path, &[("X-Notion-Signature", &signature)], &body).status, 200);
        assert_eq!(post(&server, &path, &[], &body).status, 401);
        assert_eq!(counts(&server, &id), (0, 1));

        let event = json!({ "id": "e-1", "type": "page.created" }).to_string();
        let signed = format!("sha256={}", hex_mac(TOKEN, &event));
        let accepted = post(&server, &path, &[("X-Notion-Signature", &signed)], &event);
        assert!(accepted.status < 300, "{}", accepted.text());
        assert_eq!(sink.next().json()["type"], "notion.page.created");
        assert_eq!(sink.all().len(), 1);

        let list = server.call("GET", "/api/v1/sources", None).text();
        assert!(!list.contains(TOKEN) && !server.log().contains(TOKEN));
        let viewer = json!({ "name": "v", "role": "viewer", "tenant": "default" });
        let viewer = server.call("POST", "/api/v1/keys", Some(&viewer)).json()["key"].as_str().unwrap().to_owned();
        let seen = Client::to(server.addr, viewer).call("GET", &format!("/api/v1/sources/{id}"), None);
        assert!(seen.status == 200 && !seen.text().contains(TOKEN), "{}", seen.text());
    }
}

#[test]
fn a_handshake_is_signed_with_the_secret_that_verified_the_request() {
    let server = Server::start(&[]);
    let secrets = ["the-first-secret-of-zoom", "the-second-secret-of-zoom", "the-third-secret-of-zoom"];
    let (id, path) = source(&server, &json!({ "name": "zoom", "kind": "zoom", "secrets": secrets }));
    let body = json!({ "event": "endpoint.url_validation", "payload": { "plainToken": "qgg8vlvZRS6UYooatFL8Aw" } });
    let body = body.to_string();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().to_string();
    for secret in secrets {
        let signature = format!("v0={}", hex_mac(secret, &format!("v0:{now}:{body}")));
        let headers = [("x-zm-signature", &*signature), ("x-zm-request-timestamp", &*now)];
        let answer = post(&server, &path, &headers, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["encryptedToken"], hex_mac(secret, "qgg8vlvZRS6UYooatFL8Aw"), "{secret}");
    }
    assert_eq!(counts(&server, &id), (0, 0));
}

/// Sends Asana's handshake with this secret. Returns the status.
fn asana_handshake(server: &Server, path: &str, secret: &str) -> u16 {
    let answer = post(server, path, &[("X-Hook-Secret", secret)], "{}");
    if answer.status == 200 {
        assert_eq!(
            answer.headers.get("x-hook-secret").map(|value| &**value),
            Some(secret),
            "the handshake is answered with its secret"
        );
    }
    answer.status
}

fn asana_event(server: &Server, path: &str, secret: &str, body: &str) -> u16 {
    post(server, path, &[("X-Hook-Signature", &hex_mac(secret, body))], body).status
}

#[test]
fn a_webhook_created_again_at_asana_is_accepted_after_its_old_secret_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hooktide.toml");
    std::fs::write(&file, "[[sources]]\nname = \"of-file\"\nkind = \"asana\"\n").unwrap();
    let mut server = Server::start_in(dir.into(), &[("CONFIG", file.to_str().unwrap())]);
    source(&server, &json!({ "name": "of-api", "kind": "asana" }));
    for name in ["of-file", "of-api"] {
        let path = format!("/api/v1/webhooks/{name}");
        let (first, second) = (format!("first-secret-of-{name}"), format!("second-secret-of-{name}"));
        let body = |n: u32| json!({ "events": [{ "action": "changed", "n": n, "of": name }] }).to_string();
        assert_eq!(asana_handshake(&server, &path, &first), 200);
        assert_eq!(asana_event(&server, &path, &first, &body(1)), 200);
        // Another handshake does not replace the secret.
        assert_eq!(asana_handshake(&server, &path, &second), 401);
        assert_eq!(asana_event(&server, &path, &second, &body(2)), 401);

        let forget = format!("/api/v1/sources/{name}/forget-secret");
        for _ in 0..2 {
            let forgotten = server.call("POST", &forget, None);
            assert_eq!(forgotten.status, 200, "{}", forgotten.text());
            assert_eq!(forgotten.json()["secret_hints"], json!([]), "{}", forgotten.text());
        }
        assert_eq!(asana_event(&server, &path, &first, &body(3)), 401);
        server.restart(nix::sys::signal::Signal::SIGKILL);
        assert_eq!(asana_event(&server, &path, &first, &body(4)), 401, "a restart does not bring the secret back");

        assert_eq!(asana_handshake(&server, &path, &second), 200);
        assert_eq!(asana_event(&server, &path, &second, &body(5)), 200);
        assert_eq!(asana_event(&server, &path, &first, &body(6)), 401);
        server.restart(nix::sys::signal::Signal::SIGKILL);
        assert_eq!(asana_event(&server, &path, &second, &body(7)), 200);
        // The heartbeat is no event.
        let before = counts(&server, name).0;
        assert_eq!(asana_event(&server, &path, &second, r#"{"events":[]}"#), 200);
        assert_eq!(counts(&server, name).0, before);
    }
    let other = source(&server, &json!({ "name": "hub", "kind": "github", "secrets": ["a-secret-of-github"] })).0;
    let refused = server.call("POST", &format!("/api/v1/sources/{other}/forget-secret"), None);
    assert!(refused.status == 409 && refused.text().contains("rotate-secret"), "{}", refused.text());
    let audit = server.call("GET", "/api/v1/audit?action=source.secret_forgotten", None).json();
    assert_eq!(audit["data"].as_array().unwrap().len(), 2, "{audit}");
}
