//! Declared webhooks, applied by the service in process.

use std::path::PathBuf;

use super::*;
use crate::config::Environment;
use crate::service::apply::{
    ApplyError, ApplyOptions, ApplyOutcome, ApplyReport, DeclarationFile, InProcessTarget, apply,
};

/// The service of the world as the target of a file.
fn target<'a>(world: &'a World, declared: &'a DeclarationFile) -> InProcessTarget<'a> {
    InProcessTarget::new(&world.api.service, Principal::new(None, Role::Admin), declared, describe)
}

struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("webhooks.toml"), _folder: folder }
    }

    fn read(&self, text: &str) -> DeclarationFile {
        std::fs::write(&self.path, text).unwrap();
        let environment = Environment::new([("API_KEY".into(), "canary-of-the-environment".into())]);
        DeclarationFile::read(&self.path, &environment).unwrap()
    }

    async fn apply(&self, world: &World, text: &str, options: ApplyOptions) -> ApplyReport {
        let declared = self.read(text);
        apply(&declared, &target(world, &declared), options).await.unwrap()
    }

    /// The positions and keys of the errors.
    async fn faults(&self, world: &World, text: &str) -> Vec<String> {
        let declared = self.read(text);
        match apply(&declared, &target(world, &declared), ApplyOptions::default()).await {
            Err(ApplyError::Invalid(faults)) => {
                let line = |place: &str| place.rsplit(':').next().unwrap().to_owned();
                faults.iter().map(|fault| format!("{} {}", line(&fault.location), fault.key)).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

/// `+ billing`, `~ crm url name`, `= x`.
fn notified(report: &ApplyReport) -> Vec<String> {
    let item = |item: &crate::service::apply::ApplyItem| match &item.outcome {
        ApplyOutcome::Added { .. } => format!("+ {}", item.name),
        ApplyOutcome::Changed(changes) => {
            let fields: Vec<_> = changes.iter().map(|change| &*change.field).collect();
            format!("~ {} {}", item.name, fields.join(" "))
        }
        ApplyOutcome::Unchanged => format!("= {}", item.name),
        ApplyOutcome::Removed => format!("- {}", item.name),
        ApplyOutcome::NotPruned => format!("? {}", item.name),
    };
    report.items.iter().map(item).collect()
}

const TWO: &str = r#"
[[event_types]]
name = "order.created"
description = "A new order was placed."

[[webhooks]]
uid = "billing"
url = "https://example.com/billing"
events = ["order.*"]
timeout_seconds = 10
headers = { "X-Team" = "a", "X-Api-Key" = { env = "API_KEY" } }
metadata = { environment = "production" }

[[webhooks]]
uid = "crm"
url = "https://example.com/crm"
events = ["order.created"]
retry_policy = { max_retries = 3, retry_delay = 60 }
"#;

#[tokio::test]
async fn a_file_applied_twice_changes_nothing_the_second_time() {
    let (world, file) = (world(), File::new());
    let dry = ApplyOptions { dry_run: true, ..ApplyOptions::default() };
    let report = file.apply(&world, TWO, dry).await;
    assert_eq!(notified(&report), ["+ order.created", "+ billing", "+ crm"]);
    assert_eq!(ask().send(&world, "GET", WEBHOOKS).await.ids(), [""; 0]);

    let report = file.apply(&world, TWO, ApplyOptions::default()).await;
    assert_eq!(notified(&report), ["+ order.created", "+ billing", "+ crm"]);
    let ApplyOutcome::Added { secret: Some(secret) } = &report.items[1].outcome else { panic!("{report:?}") };
    assert!(secret.starts_with("whsec_"));
    let billing = ask().send(&world, "GET", &format!("{WEBHOOKS}/billing")).await;
    assert_eq!(billing.body["metadata"], json!({"environment": "production", "hooktide.apply": "default"}));
    let read = |uid: &str| world.registry.load().webhook_by_uid("default", uid).unwrap().version;
    let before = (read("billing"), read("crm"));
    for _ in 0..2 {
        let report = file.apply(&world, TWO, ApplyOptions::default()).await;
        assert_eq!(notified(&report), ["= order.created", "= billing", "= crm"]);
        assert_eq!((read("billing"), read("crm")), before);
    }
}

#[tokio::test]
async fn differences_are_reported_and_applied_including_changes_made_elsewhere() {
    let (world, file) = (world(), File::new());
    file.apply(&world, TWO, ApplyOptions::default()).await;
    let other = TWO.replace("timeout_seconds = 10", "name = \"Billing\"").replace("A new order", "An order");
    let report = file.apply(&world, &other, ApplyOptions { dry_run: true, ..ApplyOptions::default() }).await;
    assert_eq!(notified(&report), ["~ order.created description", "~ billing name timeout_seconds", "= crm"]);
    let ApplyOutcome::Changed(changes) = &report.items[1].outcome else { panic!("{report:?}") };
    assert_eq!((&changes[1].from, &changes[1].to), (&Some(json!(10)), &None));
    assert_eq!(notified(&file.apply(&world, &other, ApplyOptions::default()).await), notified(&report));
    assert_eq!(ask().send(&world, "GET", &format!("{WEBHOOKS}/billing")).await.text("name"), "Billing");

    // The file wins over changes made elsewhere, even of unnamed fields. A pause stays.
    let patch = json!({"url": "https://example.com/other", "burst": 5, "rate_limit_rps": 1, "status": "paused"});
    assert_eq!(ask().json(&patch).send(&world, "PATCH", &format!("{WEBHOOKS}/crm")).await.status, 200);
    let report = file.apply(&world, &other, ApplyOptions::default()).await;
    let mut fields: Vec<_> = notified(&report)[2].split(' ').skip(2).map(str::to_owned).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["burst", "rate_limit_rps", "url"]);
    let crm = ask().send(&world, "GET", &format!("{WEBHOOKS}/crm")).await;
    assert_eq!((crm.text("url"), crm.text("status")), ("https://example.com/crm", "paused"));
    // A hidden header is compared as well.
    let other = other.replace("{ env = \"API_KEY\" }", "{ file = \"KEY\" }");
    let key = file.path.with_file_name("key");
    std::fs::write(&key, "canary-of-a-file\n").unwrap();
    let report = file.apply(&world, &other.replace("KEY", key.to_str().unwrap()), ApplyOptions::default()).await;
    assert_eq!(notified(&report)[1], "~ billing headers");
    assert!(!format!("{report:?}").contains("canary"), "{report:?}");
}

#[tokio::test]
async fn pruning_takes_what_an_earlier_file_of_the_set_made_and_nothing_else() {
    let (world, file) = (world(), File::new());
    made(&world).await;
    let by_hand = json!({"uid": "by-hand", "url": "https://example.com/x"});
    assert_eq!(create(&world, &by_hand).await.status, 201);
    file.apply(&world, TWO, ApplyOptions::default()).await;
    let other_set = "set = \"other\"\n[[webhooks]]\nuid = \"theirs\"\nurl = \"https://example.com/t\"";
    file.apply(&world, other_set, ApplyOptions::default()).await;
    let one = "[[webhooks]]\nuid = \"crm\"\nurl = \"https://example.com/crm\"\nevents = [\"order.created\"]\n\
               retry_policy = { max_retries = 3, retry_delay = 60 }";
    assert_eq!(notified(&file.apply(&world, one, ApplyOptions::default()).await), ["= crm", "? billing"]);
    let prune = ApplyOptions { prune: true, dry_run: true };
    assert_eq!(notified(&file.apply(&world, one, prune).await), ["= crm", "- billing"]);
    assert_eq!(
        notified(&file.apply(&world, &format!("prune = true\n{one}"), ApplyOptions::default()).await),
        ["= crm", "- billing"]
    );
    assert_eq!(
        notified(&file.apply(&world, &format!("prune = true\n{one}"), ApplyOptions::default()).await),
        ["= crm"]
    );
    let left = ask().send(&world, "GET", WEBHOOKS).await;
    let uids: Vec<_> = left.body["data"].as_array().unwrap().iter().map(|row| row["uid"].as_str()).collect();
    assert_eq!(uids, [Some("theirs"), Some("crm"), Some("by-hand"), None]);
}

#[tokio::test]
async fn an_error_has_its_line_and_key_and_nothing_is_created() {
    let (world, file) = (world(), File::new());
    let wrong =
        TWO.replace("timeout_seconds = 10", "timeout_seconds = \"soon\"").replace("https://example.com/crm", "nowhere");
    assert_eq!(file.faults(&world, &wrong).await, ["10 webhooks[0].timeout_seconds", "16 webhooks[1].url"]);
    let wrong = TWO.replace("max_retries = 3", "max_retries = -1").replace("\"order.*\"", "\"order.*\", \"a b\"");
    assert_eq!(
        file.faults(&world, &wrong).await,
        ["9 webhooks[0].events[1]", "18 webhooks[1].retry_policy.max_retries"]
    );
    assert_eq!(ask().send(&world, "GET", WEBHOOKS).await.ids(), [""; 0]);
    let wrong = format!("{TWO}\n[[event_types]]\nname = \"x\"\nschema = 7");
    assert_eq!(file.faults(&world, &wrong).await, ["22 event_types[1].schema"]);
    // A tenant that does not exist has no webhooks, and gets the declared ones.
    let report = file.apply(&world, &format!("tenant = \"acme\"\n{TWO}"), ApplyOptions::default()).await;
    assert_eq!(notified(&report), ["+ order.created", "+ billing", "+ crm"]);
    let of_acme = ask().tenant(Some("acme")).send(&world, "GET", WEBHOOKS).await;
    assert_eq!(of_acme.ids().len(), 2);
}

#[tokio::test]
async fn auth_and_tls_are_declared_by_reference_and_applied_once() {
    let (world, file) = (world(), File::new());
    let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls");
    let text = format!(
        "[[webhooks]]\nuid = \"a\"\nurl = \"https://example.com/a\"\nevents = [\"a\"]\n\
         auth = {{ type = \"header\", name = \"X-Api-Key\", value = {{ env = \"API_KEY\" }} }}\n\
         [webhooks.tls]\nca = {{ file = \"{tls}/ca.pem\" }}\nclient_certificate = {{ file = \"{tls}/client-one.pem\" }}\n\
         client_key = {{ file = \"{tls}/client-one.key\" }}\n"
    );
    let added = file.apply(&world, &text, ApplyOptions::default()).await;
    assert_eq!(notified(&added), ["+ a"]);
    let webhook = Arc::clone(world.registry.load().webhook(WebhookNo(0)).unwrap());
    assert_eq!(webhook.auth.as_ref().unwrap().header().1, "canary-of-the-environment");
    assert_eq!(notified(&file.apply(&world, &text, ApplyOptions::default()).await), ["= a"]);

    let other = text.replace("client-one", "client-two");
    let changed = file.apply(&world, &other, ApplyOptions::default()).await;
    assert_eq!(notified(&changed), ["~ a tls"]);
    assert!(!format!("{added:?}{changed:?}").contains("PRIVATE KEY"));
    let mixed = text.replacen("client-one.key", "client-two.key", 1);
    assert_eq!(file.faults(&world, &mixed).await, ["9 webhooks[0].tls.client_key"]);
    let less = text.split("auth").next().unwrap();
    assert_eq!(notified(&file.apply(&world, less, ApplyOptions::default()).await), ["~ a auth tls"]);
}
