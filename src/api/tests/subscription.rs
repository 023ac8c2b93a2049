//! Subscriptions of a webhook.

use super::*;
use crate::limits::SUBSCRIPTIONS_MAX;

async fn add(world: &World, place: &str, body: &Value) -> Got {
    ask().json(body).send(world, "POST", &format!("{place}/subscriptions")).await
}

/// Subscriptions as in the documentation of the system of this dialect: one for each kind of filter.
#[tokio::test]
async fn a_subscription_can_be_created_read_replaced_and_deleted() {
    let world = world();
    for filters in [
        json!({"fields": {"status": "completed", "priority": "high"}}),
        json!({"conditions": {"operator": "and", "rules": [
            {"field": "amount", "operator": "greater_than", "value": 1000},
            {"field": "status", "operator": "equals", "value": "pending"},
        ]}}),
        json!({"user_id": [123, 456, 789]}),
        json!({"time_range": {"start": "2024-01-01T00:00:00Z", "end": "2024-01-31T23:59:59Z"}}),
    ] {
        let place = made(&world).await;
        let id = place.rsplit('/').next().unwrap();
        let body =
            json!({"event_type": "record.updated", "resource_id": "tbl_1", "is_active": true, "filters": filters});
        let made = add(&world, &place, &body).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let tag = made.header("etag");
        let one = made.header("location").to_owned();
        assert_eq!(one, format!("{place}/subscriptions/{}", made.text("id")));
        assert!(made.text("id").starts_with("sub_"));
        let expected = json!({
            "id": made.text("id"), "webhook_id": id, "event_type": "record.updated", "resource_id": "tbl_1",
            "is_active": true, "filters": filters, "created_at": made.text("created_at"), "updated_at": made.text("created_at"),
        });
        assert_eq!(made.body, expected);
        let read = ask().send(&world, "GET", &one).await;
        assert_eq!((read.status, &read.body, read.header("etag")), (200, &expected, tag));
        assert_eq!(ask().header("if-none-match", tag).send(&world, "GET", &one).await.status, 304);
        let back = ask().json(&read.body).send(&world, "PUT", &one).await;
        assert_eq!((back.status, &back.body["filters"]), (200, &filters), "what was read can be written back");
        assert_ne!(back.header("etag"), tag);
        assert_eq!(ask().header("if-match", back.header("etag")).send(&world, "DELETE", &one).await.status, 204);
        assert_eq!(ask().send(&world, "GET", &one).await.status, 404);
    }
}

#[tokio::test]
async fn put_resets_what_is_absent() {
    let world = world();
    let place = made(&world).await;
    let body = json!({"event_type": "record.*", "resource_id": 7, "is_active": false, "filters": {"user_id": [1]}});
    let made = add(&world, &place, &body).await;
    assert_eq!((made.text("resource_id"), &made.body["is_active"]), ("7", &json!(false)));
    let put = ask().json(&json!({"event_type": "a"})).send(&world, "PUT", made.header("location")).await;
    assert_eq!((put.status, put.text("event_type"), put.text("id")), (200, "a", made.text("id")));
    assert_eq!(
        (&put.body["resource_id"], &put.body["is_active"], &put.body["filters"]),
        (&Value::Null, &json!(true), &json!({}))
    );
    assert_eq!(put.text("created_at"), made.text("created_at"));
    let webhook = ask().send(&world, "GET", &place).await;
    assert_eq!((&webhook.body["subscription_count"], webhook.header("etag")), (&json!(1), "\"3\""));
    assert!(webhook.body.get("subscriptions").is_none());
}

#[tokio::test]
async fn each_invalid_field_of_a_subscription_is_reported() {
    let world = world();
    let place = made(&world).await;
    for (body, wrong) in [
        (json!({}), vec!["/event_type"]),
        (json!({"event_type": null}), vec!["/event_type"]),
        (json!({"event_type": 1}), vec!["/event_type"]),
        (json!({"event_type": "*.created"}), vec!["/event_type"]),
        (
            json!({"event_type": "a", "resource_id": [], "is_active": 1, "filters": "x", "event": "b"}),
            vec!["/resource_id", "/is_active", "/filters", "/event"],
        ),
        (json!({"event_type": "a", "id": "sub_1", "webhook_id": "wh_1"}), vec!["/id", "/webhook_id"]),
    ] {
        assert_eq!(add(&world, &place, &body).await.wrong(), wrong, "{body}");
    }
    assert_eq!(ask().send(&world, "GET", &place).await.body["subscription_count"], 0, "nothing was made");
    let made = add(&world, &place, &json!({"event_type": "a"})).await;
    let put = ask().json(&json!({"event_type": "a", "id": "sub_1"})).send(&world, "PUT", made.header("location")).await;
    assert_eq!(put.wrong(), ["/id"]);
}

#[tokio::test]
async fn subscriptions_are_listed_newest_first() {
    let world = world();
    let place = made(&world).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let body = json!({"event_type": format!("t{n}.*"), "resource_id": n % 2, "is_active": n != 4});
        ids.insert(0, add(&world, &place, &body).await.text("id").to_owned());
    }
    let get = |query: &str| {
        let target = format!("{place}/subscriptions?{query}");
        async { ask().send(&world, "GET", &{ target }).await }
    };
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let got = get(&format!("limit=2{cursor}")).await;
        seen.extend(got.ids().into_iter().map(str::to_owned));
        let Some(next) = got.body["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ids);
    for (query, found) in [
        ("type=t3.x", vec![1]),
        ("resource_id=1", vec![1, 3]),
        ("is_active=false", vec![0]),
        ("is_active=true&resource_id=0", vec![2, 4]),
        ("page=2&limit=4", vec![4]),
    ] {
        let expected: Vec<_> = found.into_iter().map(|n: usize| &*ids[n]).collect();
        assert_eq!(get(query).await.ids(), expected, "{query}");
    }
    for bad in ["is_active=1", "type=*", "cursor=x", "limit=0", "cursor=sub_00000000000000000000000000"] {
        assert_eq!(get(bad).await.text("code"), "invalid_request", "{bad}");
    }
}

#[tokio::test]
async fn many_at_once_are_all_made_and_there_is_an_end() {
    let world = world();
    let place = made(&world).await;
    let body = json!({"event_type": "a"});
    let world = Arc::new(world);
    let mut posts = tokio::task::JoinSet::new();
    for _ in 0..SUBSCRIPTIONS_MAX + 3 {
        let (world, place, body) = (Arc::clone(&world), place.clone(), body.clone());
        posts.spawn(async move { add(&world, &place, &body).await });
    }
    let (mut made, mut refused) = (Vec::new(), 0);
    for got in posts.join_all().await {
        if got.status == 201 {
            made.push(got.text("id").to_owned());
        } else {
            assert_eq!((got.status, got.text("code")), (409, "conflict"), "{}", got.body);
            refused += 1;
        }
    }
    made.sort_unstable();
    made.dedup();
    assert_eq!((made.len(), refused), (SUBSCRIPTIONS_MAX, 3));
}

#[tokio::test]
async fn subscriptions_are_guarded_remembered_and_their_tenants() {
    let world = world();
    let place = made(&world).await;
    let at = format!("{place}/subscriptions");
    let body = json!({"event_type": "a"});
    let post = || ask().header("idempotency-key", "k").json(&body).send(&world, "POST", &at);
    let (first, again) = (post().await, post().await);
    assert_eq!((again.status, again.text("id")), (201, first.text("id")));
    assert_eq!(ask().send(&world, "GET", &at).await.ids().len(), 1);
    let one = first.header("location").to_owned();
    for (tag, status) in [("\"1\"", 412), ("\"2\"", 200), ("\"2\"", 412)] {
        assert_eq!(ask().header("if-match", tag).json(&body).send(&world, "PUT", &one).await.status, status, "{tag}");
    }
    assert_eq!(ask().header("if-match", "\"2\"").json(&body).send(&world, "POST", &at).await.status, 412);
    assert_eq!(ask().header("if-match", "\"2\"").send(&world, "DELETE", &one).await.status, 412);
    let acme = || ask().tenant(Some("acme"));
    assert_eq!(acme().send(&world, "GET", &at).await.status, 404);
    assert_eq!(acme().json(&body).send(&world, "POST", &at).await.status, 404);
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(acme().json(&body).send(&world, method, &one).await.status, 404, "{method}");
    }
    assert_eq!(ask().role(Role::Viewer).send(&world, "GET", &one).await.status, 200);
    assert_eq!(ask().role(Role::Viewer).send(&world, "DELETE", &one).await.status, 403);
    // Only the path of its own webhook finds it.
    let other = made(&world).await;
    let id = first.text("id");
    assert_eq!(ask().send(&world, "GET", &format!("{other}/subscriptions/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_webhook_that_cannot_match_has_a_warning() {
    let world = world();
    let made = create(&world, &json!({"url": "https://example.com/"})).await;
    let place = made.header("location").to_owned();
    let warnings = || async { ask().json(&json!({})).send(&world, "PATCH", &place).await.body["warnings"].clone() };
    assert_eq!(warnings().await, json!(["no events: nothing will match"]));
    let one = add(&world, &place, &json!({"event_type": "a", "is_active": false})).await;
    assert_eq!(warnings().await, json!(["no events and no active subscription: nothing will match"]));
    ask().json(&json!({"event_type": "a"})).send(&world, "PUT", one.header("location")).await;
    assert_eq!(warnings().await, json!([]));
}
