//! The uids and subscriptions of webhooks: a folder, the writer thread, and readers.

use std::sync::Arc;

use serde_json::json;

use super::tests::{TestRegistry, draft, test_registry};
use super::*;
use crate::filter::{EventField, Filter};
use crate::inbound::source::SourceSettings;
use crate::limits::{LOAD_BATCH_ROWS, SUBSCRIPTIONS_MAX, WEBHOOK_COMPILED_BYTES_MAX};
use crate::model::{BreakerSettings, EventPattern, RetryOn, SubscriptionId, WebhookNo, WebhookStatus};
use crate::outbound::{DeliveryOrder, Webhook, WebhookSettings};

fn named(tenant: &str, uid: &str) -> WebhookSettings {
    WebhookSettings { uid: Some(uid.into()), ..draft(tenant, &["a"], WebhookStatus::Active) }
}

fn wants(pattern: &str) -> SubscriptionSettings {
    SubscriptionSettings {
        event_type: EventPattern::try_new(pattern).unwrap(),
        resource_id: None,
        is_active: true,
        filters: None,
    }
}

fn patterns(webhook: &Webhook) -> Vec<String> {
    webhook.subscriptions.iter().map(|one| one.event_type.to_string()).collect()
}

#[tokio::test]
async fn a_uid_belongs_to_one_webhook_even_within_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let writer = &running.writer;
    let (one, two, other) =
        tokio::join!(writer.create(named("a", "7")), writer.create(named("a", "7")), writer.create(named("b", "7")));
    let one = one.unwrap();
    assert_eq!(two.err(), Some(ChangeError::UidTaken));
    let other = other.unwrap();
    let free = writer.create(draft("a", &[], WebhookStatus::Active)).await.unwrap();
    assert_eq!(writer.replace(free.no, free.version, named("a", "7")).await.err(), Some(ChangeError::UidTaken));
    let kept = writer.replace(one.no, one.version, named("a", "7")).await.unwrap();
    assert!(kept.version > free.version, "its own uid is no other's");
    // A uid that a webhook gives up is free for later changes of the same batch.
    let (moved, taken) = tokio::join!(
        writer.replace(one.no, kept.version, named("a", "8")),
        writer.replace(free.no, free.version, named("a", "7"))
    );
    assert_eq!((moved.unwrap().no, taken.unwrap().no), (one.no, free.no));
    writer.remove(other.no, None).await.unwrap();
    writer.create(named("b", "7")).await.unwrap();
    running.stop().unwrap();

    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let registry = running.shared.load();
    let found = |tenant, uid| registry.webhook_by_uid(tenant, uid).map(|webhook| webhook.no);
    assert_eq!((found("a", "7"), found("a", "8"), found("b", "7")), (Some(free.no), Some(one.no), Some(WebhookNo(3))));
    assert_eq!((found("a", "9"), found("c", "7")), (None, None));
    running.stop().unwrap();
}

#[tokio::test]
async fn a_source_and_a_webhook_do_not_share_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let writer = &running.writer;
    let open = |name: &str| SourceSettings::new(name, "none");
    let source = writer.create_source("default", open("shop"), None).await.unwrap();
    for tenant in ["default", "acme"] {
        assert_eq!(writer.create(named(tenant, "shop")).await.err(), Some(ChangeError::UidTaken), "{tenant}");
    }
    writer.create_source("acme", open("till"), None).await.unwrap();
    assert_eq!(writer.create(named("acme", "till")).await.err(), Some(ChangeError::UidTaken));
    writer.create(named("default", "till")).await.unwrap();
    let taken = Some(SourceError::NameTaken);
    assert_eq!(writer.create_source("default", open("till"), None).await.err(), taken);
    assert_eq!(writer.replace_source(source.id, None, open("till")).await.err(), taken);

    writer.delete_source(source.id, None).await.unwrap();
    let webhook = writer.create(named("default", "shop")).await.unwrap();
    assert_eq!(writer.restore_source(source.id).await.err(), taken, "its name went to a webhook meanwhile");
    writer.remove(webhook.no, None).await.unwrap();
    assert!(writer.restore_source(source.id).await.is_ok());
    running.stop().unwrap();
}

#[tokio::test]
async fn subscriptions_keep_the_order_of_their_creation() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let writer = &running.writer;
    let filter = |value: &serde_json::Value| Some(Arc::new(Filter::compile(value).unwrap()));
    let full = WebhookSettings {
        uid: Some("old:7".into()),
        workspace_id: Some("w".into()),
        filters: filter(&json!({"fields": {"status": "completed"}})),
        retry_on: RetryOn::TIMEOUT.union(RetryOn::CONNECT),
        breaker: BreakerSettings { window: Some(7), failure_ratio: Some(0.25), ..BreakerSettings::default() },
        order: DeliveryOrder::ByField(Arc::new(EventField::try_new("customer.id").unwrap())),
        ..draft("acme", &["order.*"], WebhookStatus::Active)
    };
    let no = writer.create(full).await.unwrap().no;
    for pattern in ["a", "b.*", "*"] {
        writer.add_subscription(no, None, wants(pattern)).await.unwrap();
    }
    let made = writer.add_subscription(no, Some(4), wants("d")).await.unwrap();
    assert_eq!(patterns(&made), ["a", "b.*", "*", "d"]);
    assert_eq!(writer.add_subscription(no, Some(4), wants("e")).await.err(), Some(ChangeError::Changed));
    let second = made.subscriptions[1].clone();
    let settings = SubscriptionSettings {
        resource_id: Some("tbl".into()),
        is_active: false,
        filters: filter(&json!({"user_id": [1]})),
        ..wants("x")
    };
    let changed = writer.replace_subscription(no, None, second.id, settings).await.unwrap();
    assert_eq!((patterns(&changed), changed.version), (vec!["a".into(), "x".into(), "*".into(), "d".into()], 6));
    assert_eq!((changed.subscriptions[1].id, changed.subscriptions[1].created_at), (second.id, second.created_at));
    let gone = made.subscriptions[0].id;
    let left = writer.remove_subscription(no, Some(6), gone).await.unwrap();
    assert_eq!(patterns(&left), ["x", "*", "d"]);
    let unknown = Some(ChangeError::SubscriptionNotFound);
    assert_eq!(writer.remove_subscription(no, None, gone).await.err(), unknown);
    assert_eq!(writer.replace_subscription(no, None, SubscriptionId::from_u128(1), wants("a")).await.err(), unknown);
    assert_eq!(writer.add_subscription(WebhookNo(9), None, wants("a")).await.err(), Some(ChangeError::NotFound));
    running.stop().unwrap();

    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let registry = running.shared.load();
    assert_eq!(format!("{:?}", registry.webhook(no).unwrap()), format!("{left:?}"));
    running.stop().unwrap();
}

#[tokio::test]
async fn a_webhook_has_a_maximum_number_of_subscriptions() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let no = running.writer.create(draft("a", &[], WebhookStatus::Active)).await.unwrap().no;
    let mut adding = tokio::task::JoinSet::new();
    for _ in 0..=SUBSCRIPTIONS_MAX {
        let writer = running.writer.clone();
        adding.spawn(async move { writer.add_subscription(no, None, wants("a")).await.err() });
    }
    let refused: Vec<_> = adding.join_all().await.into_iter().flatten().collect();
    assert_eq!(refused, [ChangeError::TooManySubscriptions]);
    let registry = running.shared.load();
    let mut ids: Vec<_> = registry.webhook(no).unwrap().subscriptions.iter().map(|one| one.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), SUBSCRIPTIONS_MAX, "each has an id of its own");
    running.stop().unwrap();
}

#[tokio::test]
async fn the_compiled_expressions_of_a_webhook_are_bounded_together() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let rule = json!({"field": "a", "operator": "matches", "value": "[^q]{150}\u{e9}"});
    let filters = json!({"conditions": {"operator": "or", "rules": vec![rule; 10]}});
    let filters = Some(Arc::new(Filter::compile(&filters).unwrap()));
    let settings = WebhookSettings { filters: filters.clone(), ..draft("a", &[], WebhookStatus::Active) };
    let fitting = WEBHOOK_COMPILED_BYTES_MAX / settings.pattern_bytes();
    assert!((2..20).contains(&fitting), "{fitting}");
    let no = running.writer.create(draft("a", &[], WebhookStatus::Active)).await.unwrap().no;
    let with_filters = || SubscriptionSettings { filters: filters.clone(), ..wants("a") };
    for _ in 0..fitting {
        running.writer.add_subscription(no, None, with_filters()).await.unwrap();
    }
    let refused = running.writer.add_subscription(no, None, with_filters()).await;
    assert_eq!(refused.err(), Some(ChangeError::PatternsTooLarge));
    running.writer.add_subscription(no, None, wants("a")).await.unwrap();
    running.stop().unwrap();
}

#[tokio::test]
async fn all_rows_are_loaded_regardless_of_their_number() {
    let dir = tempfile::tempdir().unwrap();
    for made in 0..=3 * LOAD_BATCH_ROWS {
        let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
        let registry = running.shared.load();
        let numbers: Vec<_> = registry.newest(None, WebhookNo(u32::MAX)).map(|webhook| webhook.no.0 as usize).collect();
        assert_eq!(numbers, (0..made).rev().collect::<Vec<_>>());
        let names: Vec<_> = registry.newest(Some("t"), WebhookNo(u32::MAX)).map(|webhook| &webhook.tenant).collect();
        assert!(names.windows(2).all(|pair| Arc::ptr_eq(pair[0], pair[1])), "one text for all of a tenant");
        drop(registry);
        running.writer.create(draft("t", &["a"], WebhookStatus::Active)).await.unwrap();
        running.stop().unwrap();
    }
}
