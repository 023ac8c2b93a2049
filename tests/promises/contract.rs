//! The server responds to generated requests as its OpenAPI document describes: no 5xx, no undescribed status, header,
//! media type or body, and no response without a key to an operation that requires one.

use std::process::Command;

use serde_json::json;

use crate::support::{Server, Sink};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Generated requests per operation. `HOOKTIDE_CONTRACT_EXAMPLES=200` runs a more thorough test by hand.
const EXAMPLES: &str = "3";
/// The check that is skipped. Some rules of a body are not in its schema (an address that the egress rules allow, a
/// free name, a type that a pattern matches). The server reports them with 422, so it does not accept every body that
/// matches the schema.
const SKIPPED_CHECK: &str = "positive_data_acceptance";

/// Creates resources of each kind, so that generated requests find some.
fn create_resources(server: &Server, sink: &Sink) {
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
fn generated_requests_get_described_responses() {
    let server = Server::start(&[]);
    let sink = Sink::answering(|delivery| if delivery.path == "/dead" { 500.into() } else { 204.into() });
    create_resources(&server, &sink);
    let examples = std::env::var("HOOKTIDE_CONTRACT_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let output = Command::new(format!("{ROOT}/target/python/bin/schemathesis"))
        .args(["--config-file", &format!("{ROOT}/tests/data/contract.toml")])
        .args(["run", &format!("http://{}/openapi.json", server.addr), "--no-color", "--continue-on-failure"])
        .args(["--header", &format!("Authorization: Bearer {}", server.client().key)])
        .args(["--checks", "all", "--exclude-checks", SKIPPED_CHECK])
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
