//! Deliveries, dead letters and replays over many webhooks.

use super::*;

/// Webhooks 0 and 1 of `default`, 2 of `acme`; events 1 to 9, each delivered to all three in one state or another.
async fn three_webhooks(world: &World) -> Vec<String> {
    let mut places = vec![made(world).await, made(world).await];
    let body = json!({"url": "https://example.com/hook", "tenant": "acme"});
    let acme = ask().tenant(None).json(&body).send(world, "POST", WEBHOOKS).await;
    places.push(acme.header("location").to_owned());
    for n in 1..=9 {
        let event_type = if n % 2 == 0 { "order.created" } else { "order.paid" };
        let event = world.event(n, "default", event_type, &[0, 1]);
        world.row(event, 0, if n == 3 { DeliveryStatus::Failed } else { DeliveryStatus::Delivered });
        match n {
            9 => _ = world.wait(event, 1),
            _ => _ = world.row(event, 1, DeliveryStatus::Delivered),
        }
        world.row(event, 2, DeliveryStatus::Delivered);
    }
    places
}

async fn all_pages(world: &World, target: &str, tenant: Option<&str>) -> Vec<String> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let join = if target.contains('?') { '&' } else { '?' };
        let got = ask().tenant(tenant).send(world, "GET", &format!("{target}{join}cursor={cursor}")).await;
        assert_eq!(got.status, 200, "{target}: {}", got.body);
        seen.extend(got.ids().into_iter().map(str::to_owned));
        let Some(next) = got.body["next_cursor"].as_str() else { return seen };
        cursor = next.to_owned();
    }
}

#[tokio::test]
async fn deliveries_over_all_webhooks_are_merged_newest_first_and_each_once() {
    let world = world();
    let places = three_webhooks(&world).await;
    let id = |n: u128, webhook| DeliveryId { event: EventId::from_u128(n), webhook: WebhookNo(webhook) }.to_string();
    let own: Vec<_> = (1..=9).rev().flat_map(|n| [id(n, 1), id(n, 0)]).collect();
    for limit in [1, 2, 5, 250] {
        for list in ["/api/v1/deliveries", "/api/v1/webhooks/deliveries"] {
            let seen = all_pages(&world, &format!("{list}?limit={limit}"), Some("default")).await;
            assert_eq!(seen, own, "{list}, {limit} at a time");
        }
    }
    let everything = all_pages(&world, "/api/v1/deliveries?limit=4", None).await;
    assert_eq!(everything.len(), 27);
    let acme: Vec<_> = (1..=9).rev().map(|n| id(n, 2)).collect();
    assert_eq!(all_pages(&world, "/api/v1/deliveries?tenant=acme", None).await, acme);

    let of = |n: usize| places[n].rsplit('/').next().unwrap().to_owned();
    for (query, expected) in [
        ("status=failed&page=1&limit=10".to_owned(), vec![id(3, 0)]),
        ("status=pending".to_owned(), vec![id(9, 1)]),
        (format!("webhook_id={}&type=order.created", of(1)), [8, 6, 4, 2].map(|n| id(n, 1)).to_vec()),
        (format!("webhook_id={}", of(2)), vec![]),
        (format!("event_id={}", EventId::from_u128(4)), vec![id(4, 1), id(4, 0)]),
        (
            "since=1970-01-01T00:00:00.002Z&until=1970-01-01T00:00:00.004Z&limit=3".to_owned(),
            vec![id(3, 1), id(3, 0), id(2, 1)],
        ),
        ("event_type=order.*&limit=1&page=2".to_owned(), vec![id(9, 0)]),
        ("q=ORDER.PAID&status=failed".to_owned(), vec![id(3, 0)]),
        ("q=nothing+like+it".to_owned(), vec![]),
    ] {
        let got = ask().send(&world, "GET", &format!("/api/v1/deliveries?{query}")).await;
        assert_eq!(got.ids(), expected, "{query}");
    }
    for bad in ["status=x", "event_id=1", "webhook_id=a/b", "since=x", "type=a*", "cursor=evt_1", "page=0"] {
        let got = ask().send(&world, "GET", &format!("/api/v1/deliveries?{bad}")).await;
        assert_eq!((got.status, got.text("code")), (400, "invalid_request"), "{bad}");
        assert!(got.text("detail").contains(bad.split('=').next().unwrap()) || bad.starts_with("type"), "{}", got.body);
    }
}

#[tokio::test]
async fn a_delivery_can_be_retried_unless_it_is_queued_or_its_webhook_is_inactive() {
    let world = world();
    let places = three_webhooks(&world).await;
    let retry = |n: u128, webhook: u32| {
        let id = DeliveryId { event: EventId::from_u128(n), webhook: WebhookNo(webhook) };
        async move { (id, format!("/api/v1/webhooks/deliveries/{id}/retry")) }
    };
    let (id, target) = retry(3, 0).await;
    world.dead(id.event, 0);
    let got = ask().send(&world, "POST", &target).await;
    assert_eq!((got.status, got.text("status"), got.text("id")), (202, "pending", &*id.to_string()));
    assert_eq!(got.header("location"), format!("/api/v1/deliveries/{id}"));
    assert_eq!(got.body["failed_at"], Value::Null);
    let (_, target) = retry(8, 1).await;
    assert_eq!(ask().send(&world, "POST", &target).await.status, 202, "a delivered one as well");
    let (_, target) = retry(9, 1).await;
    let got = ask().send(&world, "POST", &target).await;
    assert_eq!((got.status, got.text("code")), (409, "conflict"), "it waits");
    let (_, target) = retry(77, 1).await;
    assert_eq!(ask().send(&world, "POST", &target).await.status, 404);
    let (_, target) = retry(8, 1).await;
    assert_eq!(ask().json(&json!({"at": "now"})).send(&world, "POST", &target).await.wrong(), ["/at"]);
    assert_eq!(ask().send(&world, "DELETE", &places[1]).await.status, 204);
    let got = ask().send(&world, "POST", &target).await;
    assert_eq!((got.status, got.text("code")), (409, "conflict"), "its webhook is gone");
    let (_, target) = retry(7, 0).await;
    world.log.0.lock().unwrap().clear();
    let got = ask().send(&world, "POST", &target).await;
    assert_eq!((got.status, got.text("code")), (409, "conflict"), "its payload is gone");
}

#[tokio::test]
async fn dead_letters_over_all_webhooks_are_found_and_discarded() {
    let world = world();
    let places = three_webhooks(&world).await;
    let letters: Vec<_> = (1..=4).map(|n| world.dead(EventId::from_u128(n), (n % 3) as u32)).collect();
    let ids = |of: &[usize]| of.iter().map(|n| letters[*n].to_string()).collect::<Vec<_>>();
    assert_eq!(all_pages(&world, "/api/v1/dead-letters?limit=1", Some("default")).await, ids(&[3, 2, 0]));
    assert_eq!(all_pages(&world, "/api/v1/dead-letters", None).await, ids(&[3, 2, 1, 0]));
    for (query, expected) in [
        ("type=order.created", vec![3]),
        ("since=1970-01-01T00:00:00.002Z&until=1970-01-01T00:00:00.004Z", vec![2]),
        ("failure_reason=exhausted&q=exhaus", vec![3, 2, 0]),
        ("failure_reason=gone", vec![]),
    ] {
        let got = ask().send(&world, "GET", &format!("/api/v1/dead-letters?{query}")).await;
        assert_eq!(got.ids(), ids(&expected), "{query}");
    }
    assert_eq!(ask().send(&world, "GET", "/api/v1/dead-letters?failure_reason=x").await.status, 400);
    let target = format!("{}/dead-letters/{}", places[0], letters[2]);
    assert_eq!(ask().role(Role::Viewer).send(&world, "DELETE", &target).await.status, 403);
    assert_eq!(ask().send(&world, "DELETE", &target).await.status, 204);
    assert_eq!(ask().send(&world, "DELETE", &target).await.status, 404);
    let elsewhere = format!("{}/dead-letters/{}", places[0], letters[3]);
    assert_eq!(ask().send(&world, "DELETE", &elsewhere).await.status, 404, "it is another webhook's");
}

#[tokio::test]
async fn a_recovery_is_a_replay_with_progress_that_can_be_cancelled() {
    let world = world();
    let places = three_webhooks(&world).await;
    let target = format!("{}/recover", places[0]);
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    let started = ask().json(&since).send(&world, "POST", &target).await;
    assert_eq!((started.status, started.text("id"), started.text("status")), (202, "rpl_1", "running"));
    let place = started.header("location").to_owned();
    let read = ask().send(&world, "GET", &place).await;
    let webhook = places[0].rsplit('/').next().unwrap();
    assert_eq!((read.text("kind"), read.text("webhook_id"), read.text("tenant")), ("dead_letters", webhook, "default"));
    assert_eq!((&read.body["deliveries"], read.text("since")), (&json!(3), "2026-01-01T00:00:00.000Z"));
    assert_eq!(ask().tenant(Some("acme")).send(&world, "GET", &place).await.status, 404);
    assert_eq!(ask().tenant(Some("acme")).send(&world, "DELETE", &place).await.status, 404);
    assert_eq!(ask().send(&world, "DELETE", &place).await.status, 204);
    assert_eq!(ask().send(&world, "GET", &place).await.text("status"), "cancelled");
    let again = ask().send(&world, "DELETE", &place).await;
    assert_eq!((again.status, again.text("code")), (409, "conflict"));

    for (body, wrong) in [(json!({}), "/since"), (json!({"since": 5}), "/since"), (json!({"since": null}), "/since")] {
        assert_eq!(ask().json(&body).send(&world, "POST", &target).await.wrong(), [wrong], "{body}");
    }
    ask().send(&world, "DELETE", &places[0]).await;
    assert_eq!(ask().json(&since).send(&world, "POST", &target).await.status, 409);
}

#[tokio::test]
async fn a_replay_shows_its_filter() {
    let world = world();
    let places = three_webhooks(&world).await;
    let webhook = places[0].rsplit('/').next().unwrap();
    for (body, unmatched, paused) in [
        (json!({}), false, false),
        (json!({"include_unmatched": true, "include_paused": true}), true, true),
        (json!({"webhook_id": webhook}), false, true),
        (json!({"webhook_id": webhook, "include_paused": false}), false, false),
    ] {
        let started = ask().json(&body).send(&world, "POST", "/api/v1/replays").await;
        let read = ask().send(&world, "GET", started.header("location")).await;
        let seen = (&read.body["include_unmatched"], &read.body["include_paused"]);
        assert_eq!(seen, (&json!(unmatched), &json!(paused)), "{body}");
        assert_eq!((&read.body["events"], &read.body["ended_at"]), (&json!(9), &Value::Null));
    }
    let body = json!({"include_unmatched": "yes"});
    assert_eq!(ask().json(&body).send(&world, "POST", "/api/v1/replays").await.wrong(), ["/include_unmatched"]);
}
