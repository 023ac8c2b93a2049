//! Tests of the operations without a front end: roles, tenants, versions.

use serde_json::{Map, Value, json};

use super::testing::world;
use super::webhook::subscription::SubscriptionFilter;
use super::webhook::{TestRequest, WebhookFilter};
use super::*;
use crate::model::{Principal, Role, SubscriptionId};

mod access;
mod deliveries;

fn principal(tenant: &str, role: Role) -> Principal {
    Principal::new(Some(tenant.into()), role)
}

fn document(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

const PAGE: PageRequest = PageRequest { limit: 10, skip: 0 };

#[tokio::test]
async fn each_operation_on_webhooks_refuses_a_lesser_role() {
    let world = world();
    let (service, of, id) = (&world.service, WebhookRef::Uid("absent"), SubscriptionId::from_u128(1));
    for role in [Role::Publisher, Role::Viewer, Role::Member, Role::Admin] {
        let by = &principal("default", role);
        let test = TestRequest { event_type: None, data: None, correlation_id: "c".into() };
        let filter = SubscriptionFilter::default();
        let answers = [
            (Operation::CreateWebhook, service.draft_webhook(by, Map::new()).err()),
            (Operation::ReadWebhook, service.read_webhook(by, of).err()),
            (Operation::ListWebhooks, service.list_webhooks(by, WebhookFilter::default(), PAGE, None).err()),
            (Operation::ChangeWebhook, service.replace_webhook(by, of, Map::new(), None).await.err()),
            (Operation::ChangeWebhook, service.preview_replacement(by, of, Map::new()).err()),
            (Operation::ChangeWebhook, service.patch_webhook(by, of, Map::new(), None).await.err()),
            (Operation::ChangeWebhook, service.pause_webhook(by, of, None, None).await.err()),
            (Operation::ChangeWebhook, service.resume_webhook(by, of, None, None).await.err()),
            (Operation::DeleteWebhook, service.delete_webhook(by, of, None).await.err()),
            (Operation::RegenerateSecret, service.draft_secret(by, of, Map::new(), None).err()),
            (Operation::TestWebhook, service.test_webhook(by, of, test).await.err()),
            (Operation::ReadSubscriptions, service.read_subscription(by, of, id).err()),
            (Operation::ReadSubscriptions, service.list_subscriptions(by, of, filter, PAGE, None).err()),
            (Operation::ChangeSubscriptions, service.draft_subscription(by, of, Map::new(), None).err()),
            (Operation::ChangeSubscriptions, service.replace_subscription(by, of, id, Map::new(), None).await.err()),
            (Operation::ChangeSubscriptions, service.delete_subscription(by, of, id, None).await.err()),
        ];
        for (operation, error) in answers {
            let is_refused = error.is_some_and(|error| error.kind == ErrorKind::Forbidden);
            assert_eq!(is_refused, role < operation.required_role(), "{operation:?} by {role:?}");
        }
    }
}

#[test]
fn publishers_may_call_nothing_and_viewers_may_only_read() {
    for operation in Operation::ALL {
        let name = format!("{operation:?}");
        let is_read = ["Read", "List"].iter().any(|verb| name.starts_with(verb)) || *operation == Operation::TestFilter;
        let least = operation.required_role();
        assert!(least > Role::Publisher, "{name}");
        assert!(is_read || least >= Role::Member, "{name}");
        assert_eq!(operation.permit(Role::Publisher).unwrap_err().kind, ErrorKind::Forbidden, "{name}");
        assert!(operation.permit(Role::Admin).is_ok(), "{name}");
    }
}

#[tokio::test]
async fn a_webhook_of_another_tenant_is_not_found() {
    let world = world();
    let (service, own, other) = (&world.service, principal("default", Role::Admin), principal("acme", Role::Admin));
    let new = document(&json!({"url": "https://example.com/hook", "uid": "billing"}));
    let made = service.create_webhook(service.draft_webhook(&own, new).unwrap(), None).await.unwrap();
    assert_eq!(made.warnings, ["no events: nothing will match"]);
    for of in [WebhookRef::Id(made.webhook.id), WebhookRef::Uid("billing")] {
        assert_eq!(service.read_webhook(&own, of).unwrap().id, made.webhook.id);
        assert_eq!(service.read_webhook(&other, of).unwrap_err().kind, ErrorKind::NotFound);
        let paused = service.pause_webhook(&other, of, None, None).await;
        assert_eq!(paused.unwrap_err().kind, ErrorKind::NotFound);
    }
    let seen = |by: &Principal| service.list_webhooks(by, WebhookFilter::default(), PAGE, None).unwrap().rows.len();
    assert_eq!((seen(&own), seen(&other), seen(&Principal::new(None, Role::Viewer))), (1, 0, 1));
}

#[tokio::test]
async fn a_change_is_made_to_the_expected_version_only() {
    let world = world();
    let (service, by) = (&world.service, principal("default", Role::Member));
    let new = document(&json!({"url": "https://example.com/hook"}));
    let made = service.create_webhook(service.draft_webhook(&by, new).unwrap(), None).await.unwrap();
    let (of, name) = (WebhookRef::Id(made.webhook.id), document(&json!({"name": "CRM"})));
    let current = made.webhook.version;
    for wrong in [vec![], vec![current + 1]] {
        let wrong = ExpectedVersion::OneOf(wrong);
        let error = service.patch_webhook(&by, of, name.clone(), Some(&wrong)).await.unwrap_err();
        assert_eq!((error.kind, error.current_version), (ErrorKind::VersionMismatch, Some(current)));
    }
    let right = ExpectedVersion::OneOf(vec![7, current]);
    let changed = service.patch_webhook(&by, of, name.clone(), Some(&right)).await.unwrap();
    assert_eq!((changed.webhook.name.as_deref(), changed.webhook.version), (Some("CRM"), current + 1));
    let deleted = service.delete_webhook(&by, of, Some(&right)).await.unwrap_err();
    assert_eq!(deleted.current_version, Some(current + 1));
    service.delete_webhook(&by, of, Some(&ExpectedVersion::Current)).await.unwrap();
}

#[test]
fn an_invalid_document_creates_nothing_and_lists_each_error() {
    let world = world();
    let by = principal("default", Role::Member);
    let new = document(&json!({"url": "nowhere", "timeout_seconds": 0, "colour": "red"}));
    let error = world.service.draft_webhook(&by, new).unwrap_err();
    let mut pointers: Vec<_> = error.errors.iter().map(|error| &*error.pointer).collect();
    pointers.sort_unstable();
    assert_eq!((error.kind, pointers), (ErrorKind::InvalidBody, vec!["/colour", "/timeout_seconds", "/url"]));
    let forbidden = world.service.draft_webhook(&by, document(&json!({"url": "http://10.0.0.1/"}))).unwrap_err();
    assert_eq!(forbidden.kind, ErrorKind::EgressRefused);
}
