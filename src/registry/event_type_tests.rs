//! The event type catalogue in the registry.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::tests::test_registry;
use super::*;
use crate::inbound::source::ManagedBy;
use crate::model::{EventPattern, Timestamp};
use crate::registry::catalogue::{CatalogueSetup, EventType, EventTypeDefinition, TypeRule};

fn definition(settings: serde_json::Value) -> Arc<EventTypeDefinition> {
    Arc::new(EventTypeDefinition::try_new(serde_json::from_value(settings).unwrap()).unwrap())
}

fn named(name: &str) -> Arc<EventTypeDefinition> {
    definition(json!({ "name": name }))
}

#[tokio::test]
async fn event_types_survive_a_restart_and_removed_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new()).unwrap().running;
    let writer = &running.writer;
    let schema = json!({"name": "a", "schema": {"required": ["id"]}, "validate": true, "category": "x"});
    let first = writer.put_event_type("acme", named("a"), PutMode::CreateOnly).await.unwrap();
    assert!(first.is_new && first.event_type.version == 1);
    let taken = writer.put_event_type("acme", named("a"), PutMode::CreateOnly).await;
    assert_eq!(taken.unwrap_err(), EventTypeError::NameTaken);
    let stale = writer.put_event_type("acme", named("a"), PutMode::CreateOrReplace(Some(7))).await;
    assert_eq!(stale.unwrap_err(), EventTypeError::Changed);
    let second = writer.put_event_type("acme", definition(schema), PutMode::CreateOrReplace(Some(1))).await.unwrap();
    assert!(!second.is_new && second.event_type.version == 2);
    let b = writer.put_event_type("default", named("b"), PutMode::CreateOnly).await.unwrap().event_type.version;
    assert!(b > 2, "one counter for all");
    assert_eq!(writer.remove_event_type("default", "a", None).await.unwrap_err(), EventTypeError::NotFound);
    assert_eq!(writer.remove_event_type("default", "b", Some(2)).await.unwrap_err(), EventTypeError::Changed);
    writer.remove_event_type("default", "b", Some(b)).await.unwrap();
    running.stop().unwrap();

    let running = test_registry(dir.path(), Vec::new()).unwrap().running;
    let registry = running.shared.load();
    let kept = registry.event_type("acme", "a").unwrap();
    assert_eq!((kept.version, &kept.definition.settings), (2, &second.event_type.definition.settings));
    assert_eq!((kept.created_at, kept.updated_at), (second.event_type.created_at, second.event_type.updated_at));
    assert_eq!(kept.definition.validate(&json!({}), "").len(), 1);
    assert!(registry.event_type("default", "b").is_none() && registry.event_type("default", "a").is_none());
    assert!(matches!(registry.type_rule("acme", "a"), TypeRule::Known(_)));
    assert!(matches!(registry.type_rule("acme", "b"), TypeRule::Free));
}

#[tokio::test]
async fn types_of_the_configuration_come_first_and_cannot_be_changed() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new()).unwrap().running;
    let writer = &running.writer;
    writer
        .put_event_type("acme", definition(json!({"name": "a", "category": "own"})), PutMode::CreateOnly)
        .await
        .unwrap();
    let shared = definition(json!({"name": "a", "category": "file"}));
    let acmes = definition(json!({"name": "b", "tenant": "acme"}));
    let setup = CatalogueSetup { strict: true, files: vec![Arc::clone(&shared), acmes] };
    writer.set_event_types(setup.clone()).await.unwrap();
    let registry = running.shared.load_full();
    let of = |tenant: &str, name: &str| registry.event_type(tenant, name).map(|found| found.managed_by);
    assert_eq!((of("acme", "a"), of("other", "a")), (Some(ManagedBy::File), Some(ManagedBy::File)));
    assert_eq!((of("acme", "b"), of("other", "b")), (Some(ManagedBy::File), None));
    assert_eq!(registry.event_types("acme").map(|one| one.name()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(matches!(registry.type_rule("other", "b"), TypeRule::Unknown));
    assert!(matches!(registry.type_rule("other", "hooktide.webhook.disabled"), TypeRule::Free));
    let refused = writer.put_event_type("acme", named("a"), PutMode::CreateOrReplace(None)).await.unwrap_err();
    assert_eq!(refused, EventTypeError::ManagedByFile);
    assert_eq!(writer.remove_event_type("acme", "a", None).await.unwrap_err(), EventTypeError::ManagedByFile);

    let reloads = async || {
        let query =
            AuditQuery { action: Some("configuration.*".into()), limit: 10, scan: 100, ..AuditQuery::default() };
        let entries = writer.audit(query).await.unwrap().entries;
        assert!(entries.iter().all(|entry| entry.changed == ["event_types"]), "{entries:?}");
        entries.len()
    };

    // A reload without differences records no change. Removing a type of the configuration uncovers the hidden one.
    assert_eq!(reloads().await, 1);
    let version = || running.shared.load().event_type("acme", "a").unwrap().version;
    let before = version();
    writer.set_event_types(setup.clone()).await.unwrap();
    assert_eq!((version(), reloads().await), (before, 1));
    writer.set_event_types(CatalogueSetup { strict: false, ..setup }).await.unwrap();
    assert_eq!(reloads().await, 2, "open instead of strict");
    let files = vec![definition(json!({"name": "a", "category": "other"}))];
    writer.set_event_types(CatalogueSetup { strict: false, files }).await.unwrap();
    assert!(version() > before && reloads().await == 3);
    writer.set_event_types(CatalogueSetup::default()).await.unwrap();
    assert_eq!(reloads().await, 4, "one is gone");
    let own = Arc::clone(running.shared.load().event_type("acme", "a").unwrap());
    assert_eq!((own.managed_by, own.definition.settings.category.as_deref()), (ManagedBy::Api, Some("own")));
}

const NAMES: [&str; 8] =
    ["order", "order.created", "order.created.v2", "orders.created", "order-created", "user.new", "user", "a"];
const PATTERNS: [&str; 9] =
    ["order.*", "order.created.*", "user.*", "a.*", "*", "order", "user.new", "nothing", "hooktide.webhook.*"];

proptest! {
    #[test]
    fn a_pattern_is_known_if_an_event_type_matches_it(
        files in proptest::collection::btree_set(0usize..NAMES.len(), 0..4),
        own in proptest::collection::btree_set(0usize..NAMES.len(), 0..4),
    ) {
        let mut registry = Registry::default();
        let files_of = files.iter().map(|n| named(NAMES[*n])).collect();
        registry.set_event_types(&CatalogueSetup { strict: true, files: files_of }, Timestamp::default());
        let tenant = registry.ensure_tenant("acme");
        for n in &own {
            let (created_at, managed_by) = (Timestamp::default(), ManagedBy::Api);
            let of = Some(Arc::clone(&tenant));
            let one = EventType {
                definition: named(NAMES[*n]), tenant: of, managed_by, created_at, updated_at: created_at, version: 1,
            };
            registry.event_types.put(&tenant, Arc::new(one));
        }
        let all: BTreeSet<_> = files.union(&own).map(|n| NAMES[*n]).collect();
        let listed: Vec<_> = registry.event_types("acme").map(|one| one.name().to_owned()).collect();
        prop_assert!(listed.iter().map(String::as_str).eq(all.iter().copied()));
        for text in PATTERNS {
            let pattern = EventPattern::try_new(text).unwrap();
            let expected = text == "*" || text.starts_with("hooktide.") || all.iter().any(|name| pattern.matches(name));
            prop_assert_eq!(registry.knows("acme", &pattern), expected, "{}", text);
        }
    }
}
