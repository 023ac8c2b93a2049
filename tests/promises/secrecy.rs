//! A secret is shown once and is stored on disk only in encrypted form.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Server, Sink};

#[test]
fn a_secret_is_in_no_file_no_log_and_no_later_response() {
    let mut server = Server::start(&[("LOGGING__LEVEL", "trace")]);
    let sink = Sink::start();
    let canary = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5";
    let headers = json!({ "Authorization": "Bearer canary-of-a-header" });
    let (webhook, shown) = server.webhook(&sink.url("/"), &["*"], json!({ "secret": canary, "headers": headers }));
    assert_eq!(shown, canary, "shown once, by the answer that made it");
    server.publish("a.b", &json!(1));
    assert_eq!(sink.next().headers["authorization"], "Bearer canary-of-a-header");

    let mut seen = String::new();
    for path in [
        "/api/v1/webhooks",
        &format!("/api/v1/webhooks/{webhook}"),
        "/metrics",
        "/health",
        &format!("/api/v1/webhooks/{webhook}/deliveries"),
    ] {
        let answer = server.call("GET", path, None);
        assert_eq!(answer.status, 200, "{path}");
        seen += &answer.text();
    }
    assert!(seen.contains("***"), "the header is shown as hidden");
    server.restart(Signal::SIGTERM);
    seen += &server.log();
    for needle in [canary, "canary-of-a-header", &server.key] {
        assert!(!seen.contains(needle), "{needle} is shown");
    }
    for needle in ["canary-canary", canary, "canary-of-a-header"] {
        assert_eq!(holding(&server.data_dir(), needle.as_bytes()), Vec::<String>::new(), "{needle} is on the disk");
    }
}

pub fn holding(dir: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(holding(&entry.path(), needle));
        } else if fs::read(entry.path()).unwrap().windows(needle.len()).any(|window| window == needle) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn key_files_are_readable_only_by_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(&[]);
    for name in ["admin.key", "secrets.key"] {
        let mode = fs::metadata(server.data_dir().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}
