//! Whatever it is asked, the server answers as its description says: no 5xx, no status, header, media type or shape that is
//! not described, nothing without a key that needs one.

use std::process::Command;

use serde_json::json;

use crate::support::{Server, Sink};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Requests made up for each operation. By hand, `HOOKTIDE_CONTRACT_EXAMPLES=200` looks further.
const EXAMPLES: &str = "3";
/// Not asked: what a body must be beyond its schema (an address that the egress rules allow, a name that is free, a type that
/// a pattern names) is told by a 422, so not all that fits the schema is taken.
const UNASKED: &str = "positive_data_acceptance";

/// Things of each kind, so that what is made up meets something.
fn furnish(server: &Server, sink: &Sink) {
    let mut client = server.client();
    let mut make = |path: &str, body: serde_json::Value| {
        let answer = client.call("POST", path, Some(&body));
        assert!([201, 202].contains(&answer.status), "{path}: {}", answer.text());
    };
    let webhook = json!({ "url": sink.url("/good"), "uid": "webhook_123", "events": ["order.*"] });
    make("/api/v1/webhooks", webhook);
    make("/api/v1/webhooks", json!({ "url": sink.url("/dead"), "events": ["order.*"], "max_retries": 0 }));
    make("/api/v1/webhooks/webhook_123/subscriptions", json!({ "event_type": "record.updated" }));
    make("/api/v1/sources", json!({ "name": "acme", "kind": "partner" }));
    make("/api/v1/event-types", json!({ "name": "order.created", "category": "orders" }));
    make("/api/v1/keys", json!({ "name": "a shop", "role": "publisher" }));
    make("/api/v1/events", json!({ "type": "order.created", "data": { "order_id": 1017 } }));
    server.until("/api/v1/dead-letters", |page| !page["data"].as_array().unwrap().is_empty());
}

#[test]
fn made_up_requests_get_answers_that_are_described() {
    let server = Server::start(&[]);
    let sink = Sink::answering(|delivery| if delivery.path == "/dead" { 500.into() } else { 204.into() });
    furnish(&server, &sink);
    let examples = std::env::var("HOOKTIDE_CONTRACT_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let output = Command::new(format!("{ROOT}/target/python/bin/schemathesis"))
        .args(["--config-file", &format!("{ROOT}/tests/data/contract.toml")])
        .args(["run", &format!("http://{}/openapi.json", server.addr), "--no-color", "--continue-on-failure"])
        .args(["--header", &format!("Authorization: Bearer {}", server.client().key)])
        .args(["--checks", "all", "--exclude-checks", UNASKED])
        .args(["--max-examples", &examples, "--seed", "1", "--generation-deterministic"])
        .args(["--phases", "examples,coverage,fuzzing", "--warnings", "off", "--request-timeout", "20"])
        .env("SCHEMATHESIS_HOOKS", format!("{ROOT}/tests/data/contract.py"))
        .current_dir(server.data_dir())
        .output()
        .expect("target/python with schemathesis; ./test makes it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("No issues found"), "{said}");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}
