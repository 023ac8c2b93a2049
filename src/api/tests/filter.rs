//! Filter tests over the API.

use super::*;
use crate::model::EventPattern;

const PATH: &str = "/api/v1/filters/test";

async fn test(world: &World, body: &Value) -> Got {
    ask().role(Role::Viewer).json(body).send(world, "POST", PATH).await
}

#[tokio::test]
async fn a_filter_can_be_tested_on_an_event() {
    let world = world();
    let filter = json!({"fields": {"status": "paid"}, "conditions": {"operator": "and", "rules": [
        {"field": "amount", "operator": "greater_than", "value": 1000},
        {"field": "coupon", "operator": "not_exists"},
    ]}});
    let event = json!({"type": "order.created", "data": {"status": "paid", "amount": 1500}});
    let rules = json!([
        {"pointer": "/fields/status", "matches": true, "found": "paid"},
        {"pointer": "/conditions", "matches": true, "group": "and"},
        {"pointer": "/conditions/rules/0", "matches": true, "found": 1500},
        {"pointer": "/conditions/rules/1", "matches": true, "missing": true},
    ]);
    for name in ["filter", "filters"] {
        let got = test(&world, &json!({name: filter, "event": event})).await;
        assert_eq!((got.status, got.body), (200, json!({"matches": true, "rules": rules})));
    }
    let other = json!({"type": "order.created", "data": {"status": "paid", "amount": 15}});
    let got = test(&world, &json!({"filter": filter, "event": other})).await;
    assert_eq!((got.status, &got.body["matches"], &got.body["rules"][2]["found"]), (200, &json!(false), &json!(15)));
}

#[tokio::test]
async fn an_accepted_event_and_a_webhook_can_be_read_by_id() {
    let world = world();
    let place = made(&world).await;
    let webhook = place.rsplit_once('/').unwrap().1;
    let wanted = world.event(1, "default", "order.created", &[]);
    let unwanted = world.event(2, "default", "user.created", &[]);
    let strange = world.event(3, "acme", "order.created", &[]);
    for (event, matches) in [(wanted, true), (unwanted, false)] {
        let got = test(&world, &json!({"webhook_id": webhook, "event_id": event.to_string()})).await;
        assert_eq!((got.status, &got.body["matches"]), (200, &json!(matches)), "{}", got.body);
        assert_eq!(got.body["rules"][0]["pointer"], "/events");
        let filter = json!({"fields": {"n": 1.5, "external_id": "ext-1", "type": "order.created"}});
        let got = test(&world, &json!({"filter": filter, "event_id": event.to_string()})).await;
        assert_eq!((got.status, &got.body["matches"]), (200, &json!(matches)), "{}", got.body);
    }
    let strange = json!({"filter": {}, "event_id": strange.to_string()});
    assert_eq!(test(&world, &strange).await.wrong(), ["/event_id"]);
    assert_eq!(ask().tenant(None).json(&strange).send(&world, "POST", PATH).await.status, 200);
    // A key for all tenants sees the webhook; the event of another tenant does not reach it.
    let both = json!({"webhook_id": webhook, "event_id": strange["event_id"]});
    let got = ask().tenant(None).json(&both).send(&world, "POST", PATH).await;
    assert_eq!((&got.body["matches"], &got.body["rules"][0]["pointer"]), (&json!(false), &json!("/tenant")));
    let body = json!({"webhook_id": webhook, "event": {}});
    assert_eq!(ask().tenant(Some("acme")).json(&body).send(&world, "POST", PATH).await.wrong(), ["/webhook_id"]);
}

#[tokio::test]
async fn each_rule_of_a_webhook_is_explained() {
    let world = world();
    let compiled = |value: Value| Some(Arc::new(crate::filter::Filter::compile(&value).unwrap()));
    let subscription = |is_active, resource_id: Option<&str>| crate::outbound::Subscription {
        id: SubscriptionId::from_u128(1),
        event_type: EventPattern::try_new("order.*").unwrap(),
        resource_id: resource_id.map(Box::from),
        is_active,
        filters: compiled(json!({"user_id": [7]})),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
    };
    let settings = crate::outbound::WebhookSettings {
        subscriptions: [subscription(true, Some("r")), subscription(false, None)].into(),
        workspace_id: Some("w".into()),
        filters: compiled(json!({"fields": {"a": 1}})),
        ..registry_tests::draft("default", &["user.*"], WebhookStatus::Active)
    };
    let webhook = world.writer.create(settings).await.unwrap();
    let event =
        json!({"type": "order.created", "resource_id": "r", "workspace_id": "w", "user_id": 7, "data": {"a": 1}});
    let got = test(&world, &json!({"webhook_id": webhook.id.to_string(), "event": event})).await;
    let rules: Vec<_> = got.body["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["pointer"].as_str().unwrap(), r["matches"] == true))
        .collect();
    assert_eq!(
        rules,
        [
            ("/events", false),
            ("/subscriptions/0", true),
            ("/subscriptions/0/event_type", true),
            ("/subscriptions/0/resource_id", true),
            ("/subscriptions/0/filters/user_id", true),
            ("/subscriptions/1", false),
            ("/subscriptions/1/is_active", false),
            ("/subscriptions/1/event_type", true),
            ("/subscriptions/1/filters/user_id", true),
            ("/workspace_id", true),
            ("/filters/fields/a", true),
        ]
    );
    assert_eq!(got.body["matches"], true);
}

#[tokio::test(start_paused = true)]
async fn a_test_is_bounded_like_the_filters_of_an_event() {
    let world = world();
    let rule = json!({"field": "a", "operator": "matches", "value": "[ab]*a[ab]{400}c"});
    let costly = json!({"conditions": {"operator": "or", "rules": vec![rule; 6]}});
    let event = json!({"data": {"a": "ab".repeat(32_000)}});
    let got = test(&world, &json!({"filter": costly, "event": event})).await;
    assert_eq!((got.status, got.wrong()), (422, vec!["/filter"]), "{}", got.body);
    assert!(got.body["errors"][0]["detail"].as_str().unwrap().contains("(filter_too_costly)"), "{}", got.body);
    // The work of all tests of a tenant is bounded too. Other tenants have their own.
    let short = json!({"filter": costly, "event": {"data": {"a": "ab"}}});
    let mut limited = None;
    for _ in 0..20 {
        let got = test(&world, &short).await;
        limited = limited.or(Some(got).filter(|got| got.status != 200));
    }
    let limited = limited.unwrap();
    assert_eq!((limited.status, &limited.body["code"]), (429, &json!("rate_limited")));
    let other = ask().tenant(None).json(&short).send(&world, "POST", PATH).await;
    assert_eq!(other.status, 429, "a caller of all tenants shares the budget of tenant default");
}

#[tokio::test]
async fn errors_of_a_test_request_are_reported() {
    let world = world();
    for (body, wanted) in [
        (json!({}), &["/filter", "/event"][..]),
        (json!({"filter": {}}), &["/event"]),
        (json!({"event": {}}), &["/filter"]),
        (json!({"filter": {"x": 1}, "event": {"y": 1}}), &["/filter/x", "/event/y"]),
        (json!({"filters": 5, "event": []}), &["/filters", "/event"]),
        (json!({"filter": {}, "webhook_id": "wh_x", "event": {}}), &["/webhook_id"]),
        (json!({"webhook_id": 5, "event_id": 5}), &["/webhook_id", "/event_id"]),
        (json!({"filter": {}, "event": {}, "event_id": EventId::from_u128(1).to_string()}), &["/event"]),
        (json!({"filter": {}, "event": {}, "colour": 1}), &["/colour"]),
    ] {
        let got = test(&world, &body).await;
        assert_eq!(got.wrong(), wanted, "{body}");
    }
    let publisher =
        ask().role(Role::Publisher).json(&json!({"filter": {}, "event": {}})).send(&world, "POST", PATH).await;
    assert_eq!(publisher.status, 403);
    assert_eq!(ask().send(&world, "GET", PATH).await.status, 405);
}
