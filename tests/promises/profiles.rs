//! Deliveries have the format of their profile. The guide's code and the reference library accept them, also during a
//! secret rotation, and accept nothing else.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use data_encoding::BASE64;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Delivery, Server, Sink};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const PYTHON: &str = r#"
import json, sys
from nacl.signing import VerifyKey
from standardwebhooks.webhooks import Webhook


def library(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers)
        return True
    except Exception:
        return False


def ed25519(public_key, headers, body):
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for given in headers["webhook-signature"].split():
        if given.startswith("v1a,"):
            try:
                VerifyKey(base64.b64decode(public_key.removeprefix("whpk_"))).verify(signed, base64.b64decode(given[4:]))
                return True
            except Exception:
                pass
    return False


for case in json.load(sys.stdin):
    body, secret, headers = base64.b64decode(case["body"]), case["secret"], case["headers"]
    if case["check"] == "hex":
        answers = [verify_hex(secret, case["given"], base64.b64decode(case["signed"]))]
    elif case["check"] == "ed25519":
        answers = [ed25519(secret, headers, body)]
    else:
        answers = [verify(secret, headers, body), library(secret, headers, body)]
    print(json.dumps(answers))
"#;

const NODE: &str = r#"
import { readFileSync } from "node:fs";

for (const one of JSON.parse(readFileSync(0, "utf8"))) {
  const body = Buffer.from(one.body, "base64");
  const answers = [];
  if (one.check === "hex") answers.push(verify_hex(one.secret, one.given, Buffer.from(one.signed, "base64")));
  else if (one.check === "ed25519") answers.push(verify_ed25519(one.secret, one.headers, body));
  else answers.push(verify(one.secret, one.headers, body));
  console.log(JSON.stringify(answers));
}
"#;

/// The guide's code of a language.
fn guide(language: &str) -> String {
    let text = std::fs::read_to_string(format!("{ROOT}/docs/guides/verifying.md")).unwrap();
    let (_, from) = text.split_once(&format!("```{language}\n")).unwrap();
    from.split_once("```").unwrap().0.to_owned()
}

/// Runs a receiver's code in this language on each case; `None` if its checks disagree.
fn verification_results(command: &str, args: &[&str], program: &str, cases: &[Value]) -> Vec<Option<bool>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("receiver.mjs");
    std::fs::write(&file, program).unwrap();
    let mut child = Command::new(command)
        .args(args)
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command}: {e}; ./test makes it"));
    child.stdin.take().unwrap().write_all(json!(cases).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str::<Vec<bool>>(line).unwrap())
        .map(|said| said.iter().all(|one| *one == said[0]).then_some(said[0]))
        .collect()
}

/// Each profile with a hexadecimal signature: its header, the prefix of the value, and the header of the signed time.
const HEX: [(&str, &str, &str, Option<&str>); 3] = [
    ("homechef", "x-homechef-signature", "sha256=", None),
    ("pyairtable", "x-pyairtable-signature", "sha256=", Some("x-pyairtable-timestamp")),
    ("epic", "x-webhook-signature", "", None),
];

/// A test case for the receivers' code.
fn case(profile: &str, secret: &str, delivery: &Delivery, body: &[u8], is_previous: bool) -> Value {
    let mut case = json!({
        "check": if secret.starts_with("whpk_") { "ed25519" } else { "standard" },
        "secret": secret, "headers": delivery.headers, "body": BASE64.encode(body),
    });
    if let Some((_, header, prefix, time)) = HEX.iter().find(|(name, ..)| *name == profile) {
        let header = if is_previous { format!("{header}-previous") } else { (*header).to_owned() };
        let mut signed = time.map(|time| format!("{}.", delivery.headers[time]).into_bytes()).unwrap_or_default();
        signed.extend_from_slice(body);
        case["check"] = "hex".into();
        case["given"] = delivery.headers[&header].strip_prefix(prefix).unwrap().into();
        case["signed"] = BASE64.encode(&signed).into();
    }
    case
}

#[test]
fn receivers_verify_deliveries_also_during_a_secret_rotation() {
    let server = Server::start(&[]);
    let mut cases = Vec::new();
    let mut expected = Vec::new();
    for (profile, more) in [
        ("standard", json!({})),
        ("standard", json!({ "key_type": "ed25519" })),
        ("raw", json!({})),
        ("homechef", json!({ "secret": "a secret of people" })),
        ("pyairtable", json!({})),
        ("epic", json!({})),
    ] {
        let sink = Sink::start();
        let mut body = json!({ "url": sink.url("/hook"), "events": ["record.updated"], "profile": profile });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = server.call("POST", "/api/v1/webhooks", Some(&body)).json();
        let path = format!("/api/v1/webhooks/{}", made["id"].as_str().unwrap());
        let verifying =
            |webhook: &Value| webhook.get("public_key").unwrap_or(&webhook["secret"]).as_str().unwrap().to_owned();
        let old = verifying(&made);
        let delivered = || {
            server.publish("record.updated", &json!({ "id": "rec1", "fields": { "name": "größe \u{2028}" } }));
            sink.next()
        };
        let mut expect = |secret: &str, delivery: &Delivery, is_previous: bool, whether: bool| {
            cases.push(case(profile, secret, delivery, &delivery.body, is_previous));
            expected.push((profile, whether));
            let mut other = delivery.body.clone();
            *other.last_mut().unwrap() ^= 1;
            cases.push(case(profile, secret, delivery, &other, is_previous));
            expected.push((profile, false));
        };
        let first = delivered();
        expect(&old, &first, false, true);

        let changed = server.call("POST", &format!("{path}/regenerate-secret"), Some(&json!({})));
        assert_eq!(changed.status, 200, "{}", changed.text());
        let new = verifying(&changed.json());
        expect(&new, &first, false, false);
        let second = delivered();
        expect(&new, &second, false, true);
        expect(&old, &second, true, true);

        let ended = server.call("POST", &format!("{path}/regenerate-secret"), Some(&json!({ "overlap_seconds": 0 })));
        let last = verifying(&ended.json());
        let third = delivered();
        expect(&last, &third, false, true);
        expect(&new, &third, false, false);
        assert!(third.headers.keys().all(|name| !name.ends_with("-previous")), "{:?}", third.headers);
        let shown = server.call("GET", &path, None).text();
        for secret in [&old, &new, &last] {
            assert!(secret.starts_with("whpk_") || !shown.contains(secret.as_str()));
            assert!(!server.log().contains(secret.as_str()));
        }
        server.call("DELETE", &path, None);
    }
    let python = format!("{ROOT}/target/python/bin/python");
    for (language, said) in [
        ("python", verification_results(&python, &[], &(guide("python") + PYTHON), &cases)),
        ("node", verification_results("node", &[], &(guide("js") + NODE), &cases)),
    ] {
        assert_eq!(said.len(), expected.len());
        for (n, (said, (profile, whether))) in said.iter().zip(&expected).enumerate() {
            assert_eq!(*said, Some(*whether), "{language}, case {n}, {profile}: {}", cases[n]);
        }
    }
}

#[test]
fn bodies_have_the_fields_and_the_id_of_their_profile() {
    let server = Server::start(&[]);
    for (profile, fields) in [
        ("standard", &["type", "timestamp", "data"][..]),
        ("homechef", &["event", "data", "timestamp", "webhook_id", "delivery_id"]),
        ("pyairtable", &["id", "type", "resource_id", "workspace_id", "user_id", "timestamp", "data", "metadata"]),
        ("epic", &["event", "timestamp", "data", "webhook_id"]),
    ] {
        let sink = Sink::start();
        let (id, _) = server.webhook(&sink.url("/"), &["order.created"], json!({ "profile": profile }));
        let event = json!({
            "type": "order.created", "data": { "total": 1.50 }, "resource_id": "tbl1", "user_id": 7,
            "metadata": { "source": "api", "version": "v1" },
        });
        let accepted = server.call("POST", "/api/v1/events", Some(&event)).json();
        let delivery = sink.next();
        let text = String::from_utf8(delivery.body.clone()).unwrap();
        let places: Vec<_> = fields.iter().map(|field| text.find(&format!("\"{field}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{profile}: {text}");
        let body = delivery.json();
        assert_eq!(body.as_object().unwrap().len(), fields.len(), "{text}");
        for (field, value) in [
            ("event", json!("order.created")),
            ("type", json!("order.created")),
            ("webhook_id", json!(id)),
            ("id", accepted["id"].clone()),
            ("resource_id", json!("tbl1")),
            ("workspace_id", Value::Null),
            ("user_id", json!(7)),
            ("metadata", json!({ "source": "api", "version": "v1" })),
            ("data", json!({ "total": 1.50 })),
        ] {
            if fields.contains(&field) {
                assert_eq!(body[field], value, "{profile} {field}");
            }
        }
        server.call("DELETE", &format!("/api/v1/webhooks/{id}"), None);
    }
}

#[test]
fn a_removed_profile_holds_its_webhooks_until_it_returns() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let file = dir.path().join("hooktide.toml");
    let write = |profile: &str| {
        let rest = "[server]\nlisten = \"127.0.0.1:0\"\n[egress]\nallow = [\"127.0.0.0/8\"]\n";
        std::fs::write(&file, format!("{rest}{profile}")).unwrap();
    };
    write("[profiles.mine]\nheaders = { X-Mine = \"first\" }\nenvelope = { what = \"type\", it = \"data\" }\n");
    let mut server = Server::start_in(Arc::clone(&dir), &[("CONFIG", file.to_str().unwrap())]);
    let sink = Sink::start();
    let retries = json!({ "profile": "mine", "retry_policy": { "schedule": [0.2, 0.2, 0.2, 60, 60, 60] } });
    let (id, _) = server.webhook(&sink.url("/"), &["a"], retries);
    server.publish("a", &json!(1));
    let delivery = sink.next();
    assert_eq!((&*delivery.headers["x-mine"], &*delivery.body), ("first", &br#"{"what":"a","it":1}"#[..]));

    write("");
    server.signal(Signal::SIGHUP);
    server.until_logged("configuration reloaded");
    let reloads = server.call("GET", "/api/v1/audit?action=configuration.reloaded", None).json();
    assert_eq!((&reloads["data"][0]["changed"], &reloads["data"][1]), (&json!(["profiles"]), &Value::Null));
    server.publish("a", &json!(2));
    let path = format!("/api/v1/webhooks/{id}/deliveries");
    let says_why = |rows: &Value| rows["data"][0]["error_message"].as_str().is_some_and(|why| why.contains("\"mine\""));
    let rows = server.until(&path, says_why);
    assert!(rows["data"][0]["error_message"].as_str().unwrap().contains("is not configured"), "{rows}");

    // A server that starts without the profile also keeps the webhook.
    server.restart(Signal::SIGTERM);
    assert_eq!(server.call("GET", &format!("/api/v1/webhooks/{id}"), None).json()["profile"], "mine");
    write("[profiles.mine]\nheaders = { X-Mine = \"second\" }\nenvelope = \"raw\"\n");
    server.signal(Signal::SIGHUP);
    server.publish("a", &json!(3));
    loop {
        let delivery = sink.next();
        assert_eq!(&*delivery.headers["x-mine"], "second");
        if delivery.body == b"3" {
            break;
        }
    }
}

#[test]
fn ids_keep_the_json_type_in_which_they_were_published() {
    let mut server = Server::start(&[]);
    let (plain, chosen) = (Sink::start(), Sink::start());
    server.webhook(&plain.url("/"), &["record.*"], json!({ "profile": "pyairtable" }));
    let filters = json!({ "conditions": { "operator": "and", "rules": [
        { "field": "user_id", "operator": "equals", "value": "7" },
        { "field": "workspace_id", "operator": "equals", "value": 456 },
    ] } });
    server.webhook(&chosen.url("/"), &["record.*"], json!({ "workspace_id": "456", "filters": filters }));
    let ids = |resource: &str, workspace: &str, user: &str| {
        format!(r#"{{"resource_id":{resource},"workspace_id":{workspace},"user_id":{user}}}"#)
    };
    let keys = ["resource_id", "workspace_id", "user_id"];
    for (n, published) in [
        ids("\"rec1\"", "456", "7"),
        ids("1", "\"456\"", "\"7\""),
        ids("12345678901234567890123", "-0.50", "1e3"),
        ids("null", "456", "7"),
    ]
    .iter()
    .enumerate()
    {
        let event = format!(r#"{{"type":"record.updated","data":{n},{}"#, &published[1..]);
        let accepted = server.client().send("POST", "/api/v1/events", &[], event.as_bytes()).unwrap();
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        let id = accepted.json()["id"].as_str().unwrap().to_owned();
        if n == 0 {
            server.restart(Signal::SIGKILL);
        }
        // After the kill, the first delivery may be repeated.
        let delivered = loop {
            let delivered = plain.next();
            if delivered.json()["id"] == *id {
                break delivered;
            }
        };
        let stored = server.call("GET", &format!("/api/v1/events/{id}"), None);
        for text in [std::str::from_utf8(&delivered.body).unwrap(), &stored.text()] {
            for (key, value) in keys.iter().zip(published[1..published.len() - 1].split(',')) {
                assert!(value.starts_with(&format!("\"{key}\"")) && text.contains(value), "{value} in {text}");
            }
        }
        // Compared as text.
        assert_eq!(stored.json()["webhooks"], if n == 2 { 1 } else { 2 }, "{published}");
    }
}
