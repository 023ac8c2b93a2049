//! No request goes to an address that the egress rules forbid.

use std::time::Duration;

use serde_json::json;

use crate::support::{Server, Sink};

#[test]
fn a_forbidden_address_is_refused_at_creation() {
    let server = Server::start(&[("EGRESS__ALLOW", "[]")]);
    for url in [
        "http://127.0.0.1/",
        "http://[::1]/",
        "https://169.254.169.254/latest",
        "http://10.0.0.1:8080/",
        "http://[::ffff:10.0.0.1]/",
    ] {
        let answer = server.call("POST", "/api/v1/webhooks", Some(&json!({ "url": url, "events": ["*"] })));
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (422, Some("egress_refused")),
            "{url}: {}",
            answer.text()
        );
    }
    let answer =
        server.call("POST", "/api/v1/webhooks", Some(&json!({ "url": "ftp://example.com/", "events": ["*"] })));
    assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &json!("/url")), "{}", answer.text());
}

#[test]
fn a_name_that_resolves_to_a_forbidden_address_is_refused_at_the_connection() {
    let mut server = Server::start(&[]);
    let sink = Sink::start();
    let url = format!("http://localhost:{}/", sink.addr.port());
    let (webhook, _) = server.webhook(&url, &["*"], json!({ "retry_policy": { "schedule": [] } }));
    // The rules are read at each start. An address that was allowed at creation may now be forbidden.
    server.set("EGRESS__ALLOW", "[]");
    server.restart(nix::sys::signal::Signal::SIGTERM);
    server.publish("a.b", &json!(1));
    let page = server.until(&format!("/api/v1/webhooks/{webhook}/dead-letters"), |page| page["data"][0].is_object());
    assert!(page["data"][0]["error_message"].as_str().unwrap().contains("egress"), "{page}");
    assert!(sink.within(Duration::from_millis(100)).is_none());
}

#[test]
fn a_redirect_is_a_failure_and_not_followed() {
    let server = Server::start(&[]);
    let target = Sink::start();
    let location = format!("Location: {}\r\n", target.url("/"));
    let sink = Sink::answering(move |_| crate::support::Reply { headers: location.clone(), ..302.into() });
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({ "retry_policy": { "schedule": [] } }));
    server.publish("a.b", &json!(1));
    let page = server.until(&format!("/api/v1/webhooks/{webhook}/dead-letters"), |page| page["data"][0].is_object());
    assert!(page["data"][0]["error_message"].as_str().unwrap().contains("302"), "{page}");
    assert!(target.all().is_empty());
}

#[test]
fn a_url_with_a_fragment_is_refused_because_the_fragment_is_never_sent() {
    let server = Server::start(&[]);
    let (webhook, _) = server.webhook("https://example.com/hooks?a=%23", &["*"], json!({}));
    let path = format!("/api/v1/webhooks/{webhook}");
    for url in ["https://example.com/hooks#a", "https://example.com/#", "https://example.com/hooks?a=b#c"] {
        for (method, path) in [("POST", "/api/v1/webhooks"), ("PATCH", &path), ("PUT", &path)] {
            let answer = server.call(method, path, Some(&json!({ "url": url, "events": ["*"] })));
            assert_eq!(answer.status, 422, "{method} {url}: {}", answer.text());
            assert_eq!(answer.json()["errors"][0]["pointer"], "/url", "{}", answer.text());
        }
        let declared = format!("[[webhooks]]\nuid = \"a\"\nurl = \"{url}\"\nevents = [\"*\"]\n");
        let file = server.data_dir().join("declared.toml");
        std::fs::write(&file, declared).unwrap();
        let address = format!("http://{}", server.addr);
        let args = ["apply", "-f", file.to_str().unwrap(), "--url", &address, "--key", &server.key];
        let (code, out, err) = crate::support::run(&server.data_dir(), &args, &[]);
        assert_ne!(code, 0, "{out}{err}");
        assert!(format!("{out}{err}").contains("fragment"), "{out}{err}");
    }
}
