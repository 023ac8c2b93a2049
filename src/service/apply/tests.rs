//! What a file may say, and the steps that are taken for it, against an interface that answers as told.

use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::config::Environment;

fn read(text: &str) -> Result<Declared, Vec<Fault>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhooks.toml");
    std::fs::write(&path, text).unwrap();
    let environment = Environment::new([("SECRET".into(), "whsec_canary-of-the-environment".into())]);
    Declared::read(&path, &environment).map_err(|faults| {
        let prefix = format!("{}/", folder.path().display());
        faults.into_iter().map(|fault| Fault { place: fault.place.replace(&prefix, ""), ..fault }).collect()
    })
}

#[test]
fn each_fault_of_the_shape_is_named_by_line_and_key() {
    for (text, said) in [
        ("[[webhooks]", "webhooks.toml:1: this is not TOML: invalid table header, expected `.`, `]]`"),
        ("colour = 1", "webhooks.toml:1: colour: unknown key; allowed here: tenant, set, prune, event_types, webhooks"),
        ("\nset = \"\"", "webhooks.toml:2: set: expected 1 to 64 characters"),
        ("prune = \"yes\"", "webhooks.toml:1: prune: expected true or false"),
        ("webhooks = 7", "webhooks.toml:1: webhooks: expected a list of tables"),
        (
            "[[webhooks]]\nurl = \"https://x\"",
            "webhooks.toml:1: webhooks[0].uid: is required: text of 1 to 128 of A-Z a-z 0-9 . _ : @ -",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\n[[webhooks]]\nuid = \"a\"",
            "webhooks.toml:4: webhooks[1].uid: \"a\" is there twice",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\ntenant = \"x\"",
            "webhooks.toml:3: webhooks[0].tenant: is set for the whole file, above its tables",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nsecret = \"whsec_canary\"",
            "webhooks.toml:3: webhooks[0].secret: expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nheaders = { Authorization = \"Bearer canary\" }",
            "webhooks.toml:3: webhooks[0].headers.Authorization: expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nauth = { type = \"bearer\", token = \"canary\" }",
            "webhooks.toml:3: webhooks[0].auth.token: expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\n[webhooks.tls]\nclient_key = \"canary\"",
            "webhooks.toml:4: webhooks[0].tls.client_key: expected { env = \"VARIABLE\" } or { file = \"PATH\" }: a secret does not stand in this file",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\ntls = { ca = { env = \"ABSENT\" } }",
            "webhooks.toml:3: webhooks[0].tls.ca: the environment variable ABSENT is not set",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nsecret = { env = \"ABSENT\" }",
            "webhooks.toml:3: webhooks[0].secret: the environment variable ABSENT is not set",
        ),
        (
            "[[webhooks]]\nuid = \"a\"\nsubscriptions = [7]",
            "webhooks.toml:3: webhooks[0].subscriptions[0]: expected a table",
        ),
        ("[[event_types]]\ncategory = \"x\"", "webhooks.toml:1: event_types[0]: needs a name"),
        (
            "[[event_types]]\nname = \"a\"\n[[event_types]]\nname = \"a\"",
            "webhooks.toml:4: event_types[1].name: \"a\" is there twice",
        ),
    ] {
        let faults = read(text).unwrap_err();
        let found: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(found, [said], "{text}");
        assert!(!found.concat().contains("canary"), "{found:?}");
    }
    assert!(read("").unwrap().webhooks.is_empty());
}

/// Answers by a table of methods and paths; notes what changes something.
struct Scripted {
    answers: Vec<(&'static str, Value)>,
    changes: Mutex<Vec<String>>,
}

impl Interface for Scripted {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), CallFailed> {
        if method != Method::GET && !path.contains("dry_run") {
            let body = body.map(|body| format!(" {body}")).unwrap_or_default();
            self.changes.lock().unwrap().push(format!("{method} {path}{body}"));
        }
        let asked = format!("{method} {path}");
        let known = self.answers.iter().find(|(of, _)| *of == asked);
        Ok(known.map_or_else(
            || (if method == Method::GET { 404 } else { 200 }, Value::Null),
            |(_, answer)| (200, answer.clone()),
        ))
    }
}

const WEBHOOK: &str = r#"
tenant = "acme"
[[webhooks]]
uid = "crm"
url = "https://example.com"
secret = { env = "SECRET" }
[[webhooks.subscriptions]]
event_type = "record.updated"
filters = { fields = { status = "completed" } }
[[webhooks.subscriptions]]
event_type = "record.created"
"#;

async fn changes(answers: Vec<(&'static str, Value)>, options: Options) -> (Vec<String>, Report) {
    let interface = Scripted { answers, changes: Mutex::default() };
    let report = apply(&read(WEBHOOK).unwrap(), &interface, options).await.unwrap();
    (interface.changes.into_inner().unwrap(), report)
}

/// An empty list.
fn none() -> Value {
    json!({"data": [], "next_cursor": null})
}

const LIST: &str = "GET /api/v1/webhooks?tenant=acme&limit=250";

#[tokio::test]
async fn a_new_webhook_is_made_with_its_secret_and_then_its_subscriptions() {
    let (made, report) = changes(vec![(LIST, none())], Options::default()).await;
    let webhook = json!({
        "uid": "crm", "url": "https://example.com", "metadata": {MARK: "default"}, "tenant": "acme",
        "secret": "whsec_canary-of-the-environment",
    });
    let path = "/api/v1/webhooks/crm/subscriptions?tenant=acme";
    assert_eq!(made.len(), 3);
    let (head, body) = made[0].split_once(" {").unwrap();
    assert_eq!(head, "POST /api/v1/webhooks?tenant=acme");
    assert_eq!(serde_json::from_str::<Value>(&format!("{{{body}")).unwrap(), webhook);
    assert!(made[1].starts_with(&format!("POST {path} {{")) && made[1].contains("record.updated"), "{made:?}");
    assert!(made[2].starts_with(&format!("POST {path} {{")) && made[2].contains("record.created"), "{made:?}");
    // A secret that the file refers to is told to nobody.
    assert!(matches!(report.items[..], [Item { outcome: Outcome::Added { secret: None }, .. }]), "{report:?}");
}

#[tokio::test]
async fn a_webhook_that_is_there_is_changed_where_it_differs() {
    let there = |hint: &str| json!({"id": "wh_1", "uid": "crm", "tenant": "acme", "secret_hint": hint, "metadata": {MARK: "default"}});
    let subscription = json!({"id": "sub_1", "event_type": "record.deleted", "is_active": true});
    let answers = |hint: &str, changed: Value, subscriptions: Value| {
        vec![
            ("GET /api/v1/webhooks/crm?tenant=acme", there(hint)),
            (
                "PUT /api/v1/webhooks/crm?tenant=acme&dry_run=true",
                json!({"changed": changed, "url": "https://example.com"}),
            ),
            ("GET /api/v1/webhooks/crm/subscriptions?tenant=acme&limit=250", subscriptions),
            (LIST, json!({"data": [there(hint)], "next_cursor": null})),
        ]
    };
    let fit = json!({"data": [
        {"id": "sub_1", "event_type": "record.updated", "is_active": true, "resource_id": null, "filters": {"fields": {"status": "completed"}}},
        {"id": "sub_2", "event_type": "record.created", "is_active": true},
    ]});
    let (made, report) = changes(answers("whsec_…ment", json!([]), fit.clone()), Options::default()).await;
    assert!(
        made.is_empty() && matches!(report.items[..], [Item { outcome: Outcome::Unchanged, .. }]),
        "{made:?} {report:?}"
    );

    let (made, _) = changes(answers("whsec_…abcd", json!([]), fit), Options::default()).await;
    assert_eq!(
        made,
        ["POST /api/v1/webhooks/crm/regenerate-secret?tenant=acme {\"secret\":\"whsec_canary-of-the-environment\"}"]
    );

    let others = json!({"data": [subscription]});
    let (made, report) = changes(answers("whsec_…ment", json!(["url"]), others.clone()), Options::default()).await;
    let heads: Vec<_> = made.iter().map(|call| call.split(" {").next().unwrap()).collect();
    let all = "/api/v1/webhooks/crm/subscriptions";
    assert_eq!(
        heads,
        [
            "PUT /api/v1/webhooks/crm?tenant=acme".to_owned(),
            format!("POST {all}?tenant=acme"),
            format!("POST {all}?tenant=acme"),
            format!("DELETE {all}/sub_1?tenant=acme"),
        ]
    );
    let Outcome::Changed(differences) = &report.items[0].outcome else { panic!("{report:?}") };
    assert_eq!(differences.len(), 4);
    let dry = Options { dry_run: true, ..Options::default() };
    let (made, again) = changes(answers("whsec_…abcd", json!(["url"]), others), dry).await;
    assert!(made.is_empty(), "{made:?}");
    assert!(!format!("{again:?}").contains("canary"), "{again:?}");
}
