//! Tests of the printed report, and of the API calls for a file against a scripted server.

use std::sync::Mutex;

use hyper::Method;

use super::target::ApiCall;
use super::*;
use crate::service::apply::{SET_METADATA_KEY, TargetCallFailed};

fn read(text: &str) -> DeclarationFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhooks.toml");
    std::fs::write(&path, text).unwrap();
    let environment = Environment::new([("SECRET".into(), "whsec_canary-of-the-environment".into())]);
    DeclarationFile::read(&path, &environment).unwrap()
}

#[test]
fn a_report_shows_the_outcome_of_each_item() {
    let item = |kind, name: &str, outcome| ApplyItem { kind, name: name.to_owned(), outcome };
    let change = |field: &str, from: Option<Value>, to: Option<Value>| Difference { field: field.into(), from, to };
    let report = ApplyReport {
        items: vec![
            item("event type", "order.created", ApplyOutcome::Unchanged),
            item("webhook", "billing", ApplyOutcome::Added { secret: Some("whsec_x".into()) }),
            item(
                "webhook",
                "crm",
                ApplyOutcome::Changed(vec![
                    change("url", Some(json!("https://a")), Some(json!("https://b"))),
                    change("name", None, Some(json!("CRM"))),
                    change("burst", Some(json!(5)), None),
                    change("secret", None, None),
                ]),
            ),
            item("webhook", "old", ApplyOutcome::NotPruned),
            item("webhook", "older", ApplyOutcome::Removed),
        ],
    };
    let mut out = Vec::new();
    print(&mut out, &report, true).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "+ webhook billing\n    secret: whsec_x (shown this once)\n\
         ~ webhook crm\n    url: \"https://a\" -> \"https://b\"\n    name: \"CRM\"\n    burst: 5 -> (nothing)\n    \
         secret: another one\n\
         ? webhook old\n    is not in the file any more; --prune removes it\n\
         - webhook older\n\
         would be: 1 added, 1 changed, 1 unchanged, 1 removed, 1 left\n"
    );
    let shown = as_json(&report, false);
    assert_eq!(
        shown["items"][1],
        json!({"kind": "webhook", "name": "billing", "outcome": "added", "secret": "whsec_x"})
    );
    assert_eq!(shown["items"][2]["changes"][0], json!({"field": "url", "from": "https://a", "to": "https://b"}));
}

/// Responds by a table of methods and paths. Records the calls that change something.
struct ScriptedServer {
    answers: Vec<(&'static str, Value)>,
    changes: Mutex<Vec<String>>,
}

impl ApiCall for ScriptedServer {
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), TargetCallFailed> {
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

async fn changes(answers: Vec<(&'static str, Value)>, options: ApplyOptions) -> (Vec<String>, ApplyReport) {
    let interface = ScriptedServer { answers, changes: Mutex::default() };
    let declared = read(WEBHOOK);
    let target = HttpTarget { client: &interface, tenant: declared.tenant.as_deref() };
    let report = apply::apply(&declared, &target, options).await.unwrap();
    (interface.changes.into_inner().unwrap(), report)
}

/// An empty list.
fn none() -> Value {
    json!({"data": [], "next_cursor": null})
}

const LIST: &str = "GET /api/v1/webhooks?tenant=acme&limit=250";

#[tokio::test]
async fn a_new_webhook_is_made_with_its_secret_and_then_its_subscriptions() {
    let (made, report) = changes(vec![(LIST, none())], ApplyOptions::default()).await;
    let webhook = json!({
        "uid": "crm", "url": "https://example.com", "metadata": {SET_METADATA_KEY: "default"}, "tenant": "acme",
        "secret": "whsec_canary-of-the-environment",
    });
    let path = "/api/v1/webhooks/crm/subscriptions?tenant=acme";
    assert_eq!(made.len(), 3);
    let (head, body) = made[0].split_once(" {").unwrap();
    assert_eq!(head, "POST /api/v1/webhooks?tenant=acme");
    assert_eq!(serde_json::from_str::<Value>(&format!("{{{body}")).unwrap(), webhook);
    assert!(made[1].starts_with(&format!("POST {path} {{")) && made[1].contains("record.updated"), "{made:?}");
    assert!(made[2].starts_with(&format!("POST {path} {{")) && made[2].contains("record.created"), "{made:?}");
    // The report does not contain a secret that the file gives by reference.
    assert!(
        matches!(report.items[..], [ApplyItem { outcome: ApplyOutcome::Added { secret: None }, .. }]),
        "{report:?}"
    );
}

#[tokio::test]
async fn an_existing_webhook_is_changed_where_it_differs() {
    let there = |hint: &str| json!({"id": "wh_1", "uid": "crm", "tenant": "acme", "secret_hint": hint, "metadata": {SET_METADATA_KEY: "default"}});
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
    let (made, report) = changes(answers("whsec_…ment", json!([]), fit.clone()), ApplyOptions::default()).await;
    assert!(
        made.is_empty() && matches!(report.items[..], [ApplyItem { outcome: ApplyOutcome::Unchanged, .. }]),
        "{made:?} {report:?}"
    );

    let (made, _) = changes(answers("whsec_…abcd", json!([]), fit), ApplyOptions::default()).await;
    assert_eq!(
        made,
        ["POST /api/v1/webhooks/crm/regenerate-secret?tenant=acme {\"secret\":\"whsec_canary-of-the-environment\"}"]
    );

    let others = json!({"data": [subscription]});
    let (made, report) = changes(answers("whsec_…ment", json!(["url"]), others.clone()), ApplyOptions::default()).await;
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
    let ApplyOutcome::Changed(differences) = &report.items[0].outcome else { panic!("{report:?}") };
    assert_eq!(differences.len(), 4);
    let dry = ApplyOptions { dry_run: true, ..ApplyOptions::default() };
    let (made, again) = changes(answers("whsec_…abcd", json!(["url"]), others), dry).await;
    assert!(made.is_empty(), "{made:?}");
    assert!(!format!("{again:?}").contains("canary"), "{again:?}");
}
