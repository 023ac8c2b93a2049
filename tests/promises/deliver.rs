//! An accepted event reaches every webhook that matches it, signed, with its payload byte for byte.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::{Server, Sink};

#[test]
fn the_signature_satisfies_the_reference_implementation() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    let (_, secret) = server.webhook(&sink.url("/in?a=1"), &["order.*"], json!({ "headers": { "X-Mine": "yes" } }));
    let body =
        r#"{"type":"order.created","data":{"n":1.50,"s":"\u001B é","deep":[[]]},"timestamp":"2026-01-31T12:00:00Z"}"#;
    let headers = [("X-Correlation-ID", "corr-7"), ("Content-Type", "application/json")];
    let accepted = server.client().send("POST", "/api/v1/events", &headers, body.as_bytes()).unwrap();
    assert_eq!(accepted.status, 202, "{}", accepted.text());

    let got = sink.next();
    assert_eq!((got.path.as_str(), got.id()), ("/in?a=1", accepted.json()["id"].as_str().unwrap()));
    assert_eq!((got.headers["x-mine"].as_str(), got.headers["x-correlation-id"].as_str()), ("yes", "corr-7"));
    let text = String::from_utf8(got.body.clone()).unwrap();
    let data = r#""data":{"n":1.50,"s":"\u001B é","deep":[[]]}"#;
    assert!(
        text.starts_with(r#"{"type":"order.created","timestamp":"2026-01-31T12:00:00"#) && text.contains(data),
        "{text}"
    );

    let signed = json!({ "secret": secret, "headers": got.headers, "body": text });
    assert!(verified_by_standardwebhooks(&signed), "refused: {signed}");
    let forged = json!({ "secret": secret, "headers": got.headers, "body": text.replace("1.50", "1.51") });
    assert!(!verified_by_standardwebhooks(&forged), "a changed body must not verify");
}

/// Verifies with the `standardwebhooks` package of PyPI, which `./test` installs into `target/python`.
fn verified_by_standardwebhooks(signed: &serde_json::Value) -> bool {
    const SCRIPT: &str = "
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
signed = json.load(sys.stdin)
try:
    Webhook(signed['secret']).verify(signed['body'].encode(), signed['headers'])
except WebhookVerificationError:
    sys.exit(9)
";
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .spawn()
        .expect("target/python with the package standardwebhooks; ./test makes it");
    serde_json::to_writer(child.stdin.take().unwrap(), signed).unwrap();
    match child.wait().unwrap().code() {
        Some(0) => true,
        Some(9) => false,
        other => panic!("the reference implementation did not run: {other:?}"),
    }
}

#[test]
fn each_webhook_gets_each_matching_event_once() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    for (path, events) in [
        ("/exact", &["order.created"][..]),
        ("/prefix", &["order.*"]),
        ("/all", &["*"]),
        ("/both", &["order.*", "order.created", "*"]),
        ("/none", &["invoice.*"]),
        ("/empty", &[]),
    ] {
        server.webhook(&sink.url(path), events, json!({}));
    }
    let answer = server.call("POST", "/api/v1/events", Some(&json!({ "type": "order.created", "data": {} }))).json();
    assert_eq!(answer["webhooks"], 4);
    let mut paths: Vec<_> = (0..4).map(|_| sink.next().path).collect();
    paths.sort();
    assert_eq!(paths, ["/all", "/both", "/exact", "/prefix"]);
    assert!(sink.within(Duration::from_millis(300)).is_none(), "once each");
}

#[test]
fn deliveries_and_attempts_are_visible() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({ "name": "shop" }));
    let event = server.publish("order.created", &json!({ "n": 1 }));
    sink.next();
    let list = format!("/api/v1/webhooks/{webhook}/deliveries");
    let list = server.until(&list, |page| page["data"][0]["status"] == "delivered");
    let delivery = &list["data"][0];
    assert_eq!((&delivery["event_id"], &delivery["webhook_id"]), (&json!(event), &json!(webhook)));
    let one = server.call("GET", &format!("/api/v1/deliveries/{}", delivery["id"].as_str().unwrap()), None).json();
    assert_eq!(
        (&one["http_status"], &one["attempt_count"], &one["event_type"]),
        (&json!(204), &json!(1), &json!("order.created"))
    );
    assert_eq!(one["attempts"].as_array().unwrap().len(), 1);
    assert_eq!(one["attempts"][0]["number"], 1);
}

#[test]
fn a_paused_webhook_loses_nothing() {
    let server = Server::start(&[]);
    let sink = Sink::start();
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({}));
    let pause = server.call("POST", &format!("/api/v1/webhooks/{webhook}/pause"), None);
    assert_eq!((pause.status, &pause.json()["status"]), (200, &json!("paused")), "{}", pause.text());
    let events: Vec<_> = (0..200).map(|n| server.publish("a.b", &json!(n))).collect();
    assert!(sink.within(Duration::from_millis(300)).is_none(), "nothing is sent while it is paused");

    assert_eq!(server.call("POST", &format!("/api/v1/webhooks/{webhook}/resume"), None).status, 200);
    let mut got: Vec<_> = events.iter().map(|_| sink.next().id().to_owned()).collect();
    got.sort();
    assert_eq!(got, events);
}

#[test]
fn deliveries_of_a_deleted_webhook_are_abandoned() {
    let server = Server::start(&[]);
    let sink = Sink::answering(|_| 500.into());
    let (webhook, _) = server.webhook(&sink.url("/"), &["*"], json!({}));
    server.publish("a.b", &json!(1));
    let id =
        server.until(&format!("/api/v1/webhooks/{webhook}/deliveries"), |page| page["data"][0]["status"] == "retrying");
    let id = id["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.call("DELETE", &format!("/api/v1/webhooks/{webhook}"), None).status, 204);
    assert_eq!(server.call("GET", &format!("/api/v1/webhooks/{webhook}"), None).status, 404);
    server.until(&format!("/api/v1/deliveries/{id}"), |delivery| delivery["status"] == "abandoned");
}
