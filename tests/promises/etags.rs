//! An ETag names one state of one resource, also if another one is created later under the same name.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::Server;

fn etag(server: &Server, path: &str) -> String {
    let answer = server.call("GET", path, None);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.headers["etag"].clone()
}

fn status(server: &Server, method: &str, path: &str, header: (&str, &str), body: Option<&Value>) -> u16 {
    let body = body.map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
    let headers = [header, ("Content-Type", "application/json")];
    server.client().send(method, path, &headers, &body).unwrap().status
}

/// A resource: where it is created, its document, where it is found, and a change.
fn resources() -> [(&'static str, Value, &'static str, &'static str, Value); 3] {
    let url = "https://example.com/hooks";
    [
        (
            "/api/v1/webhooks",
            json!({ "uid": "shop", "url": url, "events": ["*"] }),
            "/api/v1/webhooks/shop",
            "PATCH",
            json!({ "name": "n" }),
        ),
        (
            "/api/v1/sources",
            json!({ "name": "partner-a", "kind": "partner" }),
            "/api/v1/sources/partner-a",
            "PATCH",
            json!({ "description": "d" }),
        ),
        (
            "/api/v1/event-types",
            json!({ "name": "a.b", "category": "c" }),
            "/api/v1/event-types/a.b",
            "PUT",
            json!({ "category": "d" }),
        ),
    ]
}

#[test]
fn a_resource_that_is_created_again_has_another_etag() {
    let mut server = Server::start(&[]);
    for restart in [None, Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
        let mut seen: Vec<Vec<String>> = vec![Vec::new(); 3];
        for _ in 0..3 {
            for (at, (create, document, path, method, change)) in resources().iter().enumerate() {
                let made = server.call("POST", create, Some(document));
                assert_eq!(made.status, 201, "{}", made.text());
                let tag = etag(&server, path);
                assert_eq!(made.headers["etag"], tag, "{path}");
                for old in &seen[at] {
                    assert_ne!(*old, tag, "{path}");
                    assert_eq!(status(&server, "GET", path, ("If-None-Match", old), None), 200, "{path}");
                    assert_eq!(status(&server, method, path, ("If-Match", old), Some(change)), 412, "{path}");
                    assert_eq!(status(&server, "DELETE", path, ("If-Match", old), None), 412, "{path}");
                }
                assert_eq!(status(&server, "GET", path, ("If-None-Match", &tag), None), 304, "{path}");
                assert_eq!(status(&server, method, path, ("If-Match", &tag), Some(change)), 200, "{path}");
                let changed = etag(&server, path);
                assert_ne!(changed, tag);
                assert_eq!(status(&server, "DELETE", path, ("If-Match", &changed), None), 204, "{path}");
                seen[at].extend([tag, changed]);
            }
            if let Some(signal) = restart {
                server.restart(signal);
            }
        }
    }
}

#[test]
fn a_changed_file_gives_its_resources_another_etag_after_a_restart() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let config = dir.path().join("config.toml");
    let write = |n: u32| {
        let text = format!(
            "[[sources]]\nname = \"shop\"\nkind = \"shopify\"\nsecrets = [\"shpss_Zm9yLXRlc3Rz-a-secret-of-shopify\"]\ndescription = \"{n}\"\n\n\
             [[event_types]]\nname = \"a.b\"\ncategory = \"{n}\"\n"
        );
        let _ = std::fs::write(&config, text);
    };
    write(1);
    let path = config.to_str().unwrap().to_owned();
    let mut server = Server::start_in(std::sync::Arc::clone(&dir), &[("CONFIG", &path)]);
    for path in ["/api/v1/sources/shop", "/api/v1/event-types/a.b"] {
        write(1);
        server.restart(Signal::SIGTERM);
        let before = etag(&server, path);
        write(2);
        server.restart(Signal::SIGTERM);
        assert_ne!(etag(&server, path), before, "{path}");
        assert_eq!(status(&server, "GET", path, ("If-None-Match", &before), None), 200, "{path}");
    }
}
