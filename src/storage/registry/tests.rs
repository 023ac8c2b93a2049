//! Tests of the rows of registry.redb, and of files and rows of a newer program.

use std::path::Path;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::vault::Vault;
use super::*;
use crate::filter::EventField;
use crate::model::{AuditId, BreakerSettings, RetryOn, Timestamp, WebhookId, WebhookNo, WebhookStatus};
use crate::outbound::{DeliveryOrder, Endpoint};
use crate::storage::RealDisk;
use crate::storage::format::set_version;

fn webhook(no: u32) -> WebhookRecord {
    WebhookRecord {
        no: WebhookNo(no),
        id: WebhookId::from_u128(u128::from(no) + 7),
        tenant: "acme".into(),
        uid: None,
        status: WebhookStatus::Active,
        endpoint: Endpoint {
            url: "https://example.com/a".into(),
            tls: true,
            host: "example.com".into(),
            port: 443,
            authority: HeaderValue::from_static("example.com"),
            target: PathAndQuery::from_static("/a"),
            subject: None,
        },
        events: Vec::new(),
        subscriptions: Vec::new(),
        filters: Some(serde_json::value::to_raw_value(&json!({ "a": 1 })).unwrap()),
        workspace_id: None,
        profile: "standard".into(),
        secret: Secret::new("whsec_0"),
        previous: [("whsec_1", 9), ("whsec_0", 7), ("whsec_2", 8)]
            .map(|(text, until)| (Secret::new(text), Timestamp::from_millis(until)))
            .into(),
        retry_policy: None,
        retry_on: RetryOn::ALL,
        timeout: None,
        max_in_flight: None,
        rate_limit: None,
        breaker: BreakerSettings::default(),
        order: DeliveryOrder::Any,
        headers: vec![(HeaderName::from_static("x-team"), HeaderValue::from_static("a"))],
        auth: None,
        tls: None,
        name: None,
        description: None,
        user_id: None,
        metadata: "{}".into(),
        created_at: Timestamp::from_millis(1),
        updated_at: Timestamp::from_millis(2),
        version: 3,
        address_version: 2,
    }
}

fn open(dir: &Path) -> Result<RedbRegistry, RegistryStoreError> {
    RedbRegistry::open(dir, Arc::new(RealDisk))
}

fn all(store: &mut RedbRegistry) -> Result<Vec<String>, RegistryStoreError> {
    let mut found = Vec::new();
    store.load(&mut |stored| {
        match stored {
            RegistryRecord::Webhooks(records) => found.extend(records.iter().map(|record| format!("{record:?}"))),
            other => found.push(format!("{other:?}")),
        }
        Ok(())
    })?;
    Ok(found)
}

#[test]
fn written_records_are_loaded_and_removed_webhooks_leave_a_tombstone() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let rows: Vec<_> = (0..5).map(|no| RegistryRow::Webhook(Box::new(webhook(no)))).collect();
    store.write(&rows).unwrap();
    let removed =
        RemovedWebhook { no: WebhookNo(2), id: webhook(2).id, tenant: "acme".into(), removed_at: Timestamp::default() };
    store.write(&[RegistryRow::RemovedWebhook(Arc::new(removed.clone()))]).unwrap();
    drop(store);
    let mut expected: Vec<_> = [0, 1, 3, 4].map(|no| format!("{:?}", webhook(no))).to_vec();
    expected.push(format!("{:?}", RegistryRecord::Removed(removed)));
    assert_eq!(all(&mut open(dir.path()).unwrap()).unwrap(), expected);
}

#[test]
fn the_audit_log_is_read_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    assert_eq!(store.last_audit().unwrap(), 0);
    let entry = |n: u128| AuditEntry {
        id: AuditId::from_u128(n),
        at: Timestamp::from_millis(n as i64),
        actor: "user 42".into(),
        request_id: None,
        tenant: None,
        action: "webhook.created".into(),
        target: n.to_string().into(),
        target_name: None,
        changed: vec!["url".into()],
    };
    store.write(&(1..=5).map(|n| RegistryRow::Audit(entry(n))).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.last_audit().unwrap(), 5);
    let page = store.audit(&AuditQuery { limit: 2, scan: 9, ..AuditQuery::default() }).unwrap();
    assert_eq!(page.entries, [entry(5), entry(4)]);
    let query = AuditQuery { before: page.stopped_at, limit: 9, scan: 9, ..AuditQuery::default() };
    assert_eq!(store.audit(&query).unwrap().entries, [entry(3), entry(2), entry(1)]);
}

#[test]
fn a_row_from_before_ordered_by_existed_is_read_with_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::load(dir.path()).unwrap();
    let by = |path: &str| DeliveryOrder::ByField(Arc::new(EventField::try_new(path).unwrap()));
    let written = |order: DeliveryOrder| -> Value {
        let record = WebhookRecord { order, ..webhook(1) };
        serde_json::from_slice(&webhook::encode(&record, &vault).unwrap()).unwrap()
    };
    let read = |row: &Value| {
        let bytes = serde_json::to_vec(row).unwrap();
        webhook::decode(WebhookNo(1), &bytes, &vault).map(|record| record.order)
    };
    for order in [DeliveryOrder::Any, DeliveryOrder::Acceptance, by("/a.b/c")] {
        assert_eq!(read(&written(order.clone())).unwrap(), order);
    }
    assert!(
        written(DeliveryOrder::Acceptance).get("ordered_by").is_none()
            && written(DeliveryOrder::Any).get("ordered").is_none()
    );
    let mut row = written(by("customer.id"));
    row["ordered_by"] = json!("a..b");
    assert!(matches!(read(&row), Err(RecordError::Damaged(_))));
    // An older program ignores the unknown field and reads an order over all events.
    row.as_object_mut().unwrap().remove("ordered_by");
    assert_eq!(read(&row).unwrap(), DeliveryOrder::Acceptance);
    row.as_object_mut().unwrap().remove("ordered");
    assert_eq!(read(&row).unwrap(), DeliveryOrder::Any);
}

#[test]
fn a_file_and_a_row_of_a_newer_program_are_refused_with_instructions() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let path = dir.path().join("registry.redb");
    set_version(&RealDisk, &path, 7);
    let refused = open(dir.path()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "{} has format version 7; this program reads version 1: run the newer program, or restore a backup",
            path.display()
        )
    );
    let row = RegistryStoreError::Record { no: 3, error: RecordError::Version(2) };
    assert_eq!(
        row.to_string(),
        "registry.redb: webhook number 3: of version 2; this program reads version 1: run the newer program, or restore a \
         backup"
    );
}
