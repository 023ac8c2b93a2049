//! Deliveries, dead letters, events, replays and statistics: roles, tenants, lists.

use super::*;
use crate::model::{DeliveryId, DeliveryStatus, EventId, EventPattern, WebhookNo};
use crate::service::event::EventFilter;
use crate::service::search::{DeliveryFilter, ListScope};

const ALL: ListScope<'_> = ListScope::All { tenant: None, webhook: None };

/// Creates a webhook of tenant `default` and returns its number.
async fn webhook(service: &Service) -> WebhookNo {
    let by = principal("default", Role::Admin);
    let new = document(&json!({"url": "https://example.com/hook", "uid": "crm", "events": ["*"]}));
    let made = service.create_webhook(service.draft_webhook(&by, new).unwrap(), None).await.unwrap();
    made.webhook.no
}

#[tokio::test]
async fn each_operation_on_deliveries_refuses_a_lesser_role() {
    use Operation::{
        ChangeDeadLetters, ChangeReplays, ReadDeadLetters, ReadDeliveries, ReadEvents, ReadReplays, ReadStatistics,
        RetryDeliveries, TestFilter,
    };
    let world = world();
    let (service, of) = (&world.service, WebhookRef::Uid("absent"));
    let event = EventId::from_u128(1);
    let id = DeliveryId { event, webhook: WebhookNo(7) };
    for role in [Role::Publisher, Role::Viewer, Role::Member, Role::Admin] {
        let by = &principal("default", role);
        let (none, filter) = (Map::new, DeliveryFilter::default);
        let answers = [
            (ReadDeliveries, service.list_deliveries(by, ALL, filter(), PAGE, None).await.err()),
            (ReadDeliveries, service.read_delivery(by, id).await.err()),
            (RetryDeliveries, service.draft_retry(by, id).await.err()),
            (RetryDeliveries, service.may_recover(by, of).err()),
            (RetryDeliveries, service.draft_recovery(by, of, none()).err()),
            (ReadDeadLetters, service.list_dead_letters(by, ALL, filter(), PAGE, None).await.err()),
            (ReadDeadLetters, service.read_dead_letter(by, of, id).await.err()),
            (ChangeDeadLetters, service.discard_dead_letter(by, of, id).await.err()),
            (ChangeDeadLetters, service.draft_dead_letter_replay(by, of, id).await.err()),
            (ChangeDeadLetters, service.may_replay_dead_letters(by, of).err()),
            (ChangeDeadLetters, service.draft_bulk_replay(by, of, none()).await.err()),
            (ReadEvents, service.list_events(by, EventFilter::default(), PAGE, None).await.err()),
            (ReadEvents, service.read_event(by, event).await.err()),
            (ReadReplays, service.list_replays(by, None, PAGE, None).await.err()),
            (ReadReplays, service.read_replay(by, 1).await.err()),
            (ChangeReplays, service.cancel_replay(by, 1).await.err()),
            (ChangeReplays, service.draft_replay(by, none()).err()),
            (ChangeReplays, service.may_replay_event(by, event).await.err()),
            (ChangeReplays, service.draft_event_replay(by, event, none()).await.err()),
            (ReadStatistics, service.webhook_statistics(by, of).await.err()),
            (ReadStatistics, service.tenant_statistics(by, None, None).await.err()),
            (TestFilter, service.test_filter(by, none(), None).await.err()),
        ];
        for (operation, error) in answers {
            let is_refused = error.is_some_and(|error| error.kind == ErrorKind::Forbidden);
            assert_eq!(is_refused, role < operation.required_role(), "{operation:?} by {role:?}");
        }
    }
}

#[tokio::test]
async fn deliveries_of_another_tenant_are_not_found() {
    let world = world();
    let (service, own, other) = (&world.service, principal("default", Role::Member), principal("acme", Role::Member));
    let no = webhook(service).await;
    let event = world.log.put(1, "default", "order.created", &[no.0]);
    let id = world.store.put_row(event, no.0, DeliveryStatus::Failed);
    world.store.put_dead(event, no.0);
    let of = WebhookRef::Id(service.live_webhook(&own, WebhookRef::Uid("crm")).unwrap().id);
    let is_gone = |error: Option<Error>| assert_eq!(error.unwrap().kind, ErrorKind::NotFound);

    is_gone(service.read_delivery(&other, id).await.err());
    is_gone(service.draft_retry(&other, id).await.err());
    is_gone(service.read_event(&other, event).await.err());
    is_gone(service.draft_event_replay(&other, event, Map::new()).await.err());
    is_gone(service.read_dead_letter(&other, of, id).await.err());
    is_gone(service.discard_dead_letter(&other, of, id).await.err());
    is_gone(service.draft_bulk_replay(&other, of, Map::new()).await.err());
    is_gone(service.draft_recovery(&other, of, Map::new()).err());
    is_gone(service.webhook_statistics(&other, of).await.err());
    is_gone(service.tenant_statistics(&other, Some("default"), None).await.err());
    let scope = ListScope::Webhook(of);
    is_gone(service.list_deliveries(&other, scope, DeliveryFilter::default(), PAGE, None).await.err());
    let foreign = ListScope::All { tenant: None, webhook: Some(of) };
    for scope in [ALL, foreign] {
        let found = service.list_deliveries(&other, scope, DeliveryFilter::default(), PAGE, None).await.unwrap();
        assert!(found.rows.is_empty());
    }

    let details = service.read_delivery(&own, id).await.unwrap();
    assert_eq!(details.delivery.event.unwrap().external_id.as_deref(), Some("ext-1"));
    assert_eq!((details.attempts.len(), details.payload.as_deref()), (1, Some(&br#"{"n":1.50}"#[..])));
    let dead_letter = service.read_dead_letter(&own, of, id).await.unwrap();
    assert_eq!(dead_letter.dead_letter.row.id, id);

    let draft = service.draft_event_replay(&own, event, Map::new()).await.unwrap();
    let replay = service.start_replay(draft, None).await.unwrap();
    assert_eq!(&*service.read_replay(&own, replay).await.unwrap().tenant, "default");
    is_gone(service.read_replay(&other, replay).await.err());
    is_gone(service.cancel_replay(&other, replay).await.err());
    service.cancel_replay(&own, replay).await.unwrap();
    assert_eq!(service.cancel_replay(&own, replay).await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_list_of_deliveries_is_filtered_and_continues_where_it_stopped() {
    let world = world();
    let (service, by) = (&world.service, principal("default", Role::Viewer));
    let no = webhook(service).await;
    for n in 1..=5 {
        let event_type = if n == 3 { "user.deleted" } else { "order.created" };
        let event = world.log.put(n, "default", event_type, &[no.0]);
        world.store.put_row(event, no.0, DeliveryStatus::Delivered);
    }
    let pattern = EventPattern::try_new("order.*").unwrap();
    let filter =
        DeliveryFilter { event_type: Some(pattern), text: Some("EXT-1".to_owned()), ..DeliveryFilter::default() };
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = PageRequest { limit: 3, skip: 0 };
        let found = service.list_deliveries(&by, ALL, filter.clone(), page, before).await.unwrap();
        seen.extend(found.rows.iter().map(|row| row.row.id.event.as_u128()));
        before = found.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, [5, 4, 2, 1]);
    let none = DeliveryFilter { status: Some(DeliveryStatus::Failed), ..DeliveryFilter::default() };
    assert!(service.list_deliveries(&by, ALL, none, PAGE, None).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_draft_names_each_field_that_is_wrong() {
    let world = world();
    let (service, by) = (&world.service, principal("default", Role::Member));
    webhook(service).await;
    let wrong = |error: Error| error.errors.into_iter().map(|error| error.pointer).collect::<Vec<_>>();
    let (since, until) = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
    let replay = json!({"since": since, "until": until, "webhook_id": "absent", "tenant": "acme", "x": 1});
    let mut found = wrong(service.draft_replay(&by, document(&replay)).unwrap_err());
    found.sort_unstable();
    assert_eq!(found, ["/tenant", "/until", "/webhook_id", "/x"]);
    let of = WebhookRef::Uid("crm");
    assert_eq!(wrong(service.draft_recovery(&by, of, Map::new()).unwrap_err()), ["/since"]);
    let bulk = json!({"filter": {"failure_reason": "bored", "y": 1}});
    let found = wrong(service.draft_bulk_replay(&by, of, document(&bulk)).await.unwrap_err());
    assert_eq!(found, ["/filter/failure_reason", "/filter/y"]);
    let tried = json!({"webhook_id": "absent", "event_id": "evt_1", "z": 1});
    let mut found = wrong(service.test_filter(&by, document(&tried), None).await.unwrap_err());
    found.sort_unstable();
    assert_eq!(found, ["/event_id", "/webhook_id", "/z"]);
}

#[tokio::test]
async fn a_filter_is_tested_on_the_documents_own_event() {
    let world = world();
    let by = principal("default", Role::Viewer);
    let asked = json!({
        "filter": {"fields": {"status": "paid"}},
        "event": {"type": "order.created", "data": {"status": "paid"}},
    });
    let tried = world.service.test_filter(&by, document(&asked), None).await;
    let found = tried.unwrap_or_else(|error| panic!("{:?}", error.errors));
    assert!(found.matches, "{found:?}");
    assert_eq!(found.rules.len(), 1);
}
