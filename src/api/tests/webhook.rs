//! All fields of webhooks: uids, conditions, policies, defaults of tenants, lists, and the requests of each dialect.

use super::*;

const HOOK: &str = "https://example.com/hook";

/// The body of a webhook: a URL and the given fields.
fn with(fields: &Value) -> Value {
    let mut body = json!({"url": HOOK});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

async fn patch(world: &World, place: &str, fields: &Value) -> Got {
    ask().json(fields).send(world, "PATCH", place).await
}

#[tokio::test]
async fn every_field_is_stored_shown_and_can_be_written_back() {
    let world = world();
    let fields = json!({
        "uid": "webhook_123", "workspace_id": 9, "user_id": "u1", "name": "n", "description": "d", "events": ["order.*"],
        "filters": {"fields": {"status": "completed"}}, "profile": "standard",
        "retry_policy": {"schedule": [60, 0.5], "retry_on": ["429", "5xx", "5xx"]}, "timeout_seconds": 2,
        "rate_limit_rps": 1.5, "burst": 7, "max_in_flight": 2, "ordered": true, "ordered_by": "/customer/id.x",
        "breaker": {"window": 20, "failure_ratio": 0.25, "min_attempts": 5, "open_seconds": 1.5, "close_after": 3,
            "disable_after_hours": 24},
        "headers": {"X-Team": "a"}, "metadata": {"a": [1, null]},
    });
    let made = create(&world, &with(&fields)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let place = made.header("location").to_owned();
    let read = ask().send(&world, "GET", &place).await;
    for (key, value) in fields.as_object().unwrap() {
        let shown = match key.as_str() {
            "workspace_id" => json!("9"),
            "retry_policy" => json!({"schedule": [60, 0.5], "retry_on": ["5xx", "429"]}),
            "headers" => json!({"x-team": "a"}),
            _ => value.clone(),
        };
        assert_eq!(read.body[key], shown, "{key}");
    }
    assert_eq!((&read.body["max_retries"], &read.body["subscription_count"]), (&json!(2), &json!(0)));
    for method in ["PUT", "PATCH"] {
        let mut written = ask().json(&read.body).send(&world, method, &place).await.body;
        assert_eq!(written.as_object_mut().unwrap().remove("warnings"), Some(json!([])));
        written["updated_at"] = read.body["updated_at"].clone();
        assert_eq!(written, read.body, "{method}");
    }
    let put = ask().json(&json!({"url": HOOK})).send(&world, "PUT", &place).await;
    for (key, kept) in [("uid", "webhook_123"), ("user_id", "u1"), ("tenant", "default"), ("status", "active")] {
        assert_eq!(put.text(key), kept, "{key} stays");
    }
    for key in [
        "workspace_id",
        "filters",
        "breaker",
        "timeout_seconds",
        "rate_limit_rps",
        "max_in_flight",
        "ordered_by",
        "name",
    ] {
        assert_eq!(put.body[key], Value::Null, "{key} goes back");
    }
    assert_eq!(put.body["retry_policy"], json!({"schedule": [5, 60]}), "all failures again, and the default");
    assert_eq!((&put.body["ordered"], &put.body["metadata"]), (&json!(false), &json!({})));
    assert_eq!(put.body["warnings"], json!(["no events: nothing will match"]));
}

#[tokio::test]
async fn a_patch_changes_the_named_fields_and_null_removes_a_field() {
    let world = world();
    let fields = json!({
        "uid": "u", "workspace_id": "w", "filters": {"user_id": [1]}, "ordered": true,
        "retry_policy": {"max_retries": 3, "retry_delay": 60, "retry_on": ["timeout"]},
        "breaker": {"window": 20, "close_after": 3},
    });
    let made = create(&world, &with(&fields)).await;
    let place = made.header("location").to_owned();
    for (change, pointer, shown) in [
        (json!({"name": "n"}), "/retry_policy/retry_on", json!(["timeout"])),
        (
            json!({"retry_policy": {"schedule": [1]}}),
            "/retry_policy",
            json!({"schedule": [1], "retry_on": ["timeout"]}),
        ),
        (json!({"retry_policy": {"retry_on": [429]}}), "/retry_policy", json!({"schedule": [1], "retry_on": ["429"]})),
        (json!({"retry_policy": {"retry_on": null}}), "/retry_policy", json!({"schedule": [1]})),
        (json!({"retry_policy": null}), "/retry_policy", json!({"schedule": [5, 60]})),
        (
            json!({"breaker": {"window": null, "open_seconds": 2}}),
            "/breaker",
            json!({"close_after": 3, "open_seconds": 2}),
        ),
        (json!({"breaker": null}), "/breaker", Value::Null),
        (json!({"filters": {"user_id": [2]}}), "/filters", json!({"user_id": [2]})),
        (json!({"filters": {}}), "/filters", Value::Null),
        (json!({"filters": null, "workspace_id": null}), "/workspace_id", Value::Null),
        (json!({"ordered": null}), "/ordered", json!(false)),
        (json!({"uid": 17}), "/uid", json!("17")),
        (json!({"uid": null}), "/uid", Value::Null),
    ] {
        let got = patch(&world, &place, &change).await;
        assert_eq!(got.status, 200, "{change} {}", got.body);
        assert_eq!(got.body.pointer(pointer).unwrap_or(&Value::Null), &shown, "{change}");
    }
}

#[tokio::test]
async fn each_invalid_condition_and_policy_is_reported() {
    let world = world();
    for (fields, wrong) in [
        (json!({"uid": "wh_1"}), vec!["/uid"]),
        (json!({"uid": "src_1"}), vec!["/uid"]),
        (json!({"uid": "events"}), vec!["/uid"]),
        (json!({"uid": "a/b"}), vec!["/uid"]),
        (json!({"uid": "x".repeat(129)}), vec!["/uid"]),
        (json!({"uid": ""}), vec!["/uid"]),
        (json!({"uid": ["a"]}), vec!["/uid"]),
        (json!({"workspace_id": {}}), vec!["/workspace_id"]),
        (json!({"filters": []}), vec!["/filters"]),
        (json!({"filters": {"user_id": ["x".repeat(17_000)]}}), vec!["/filters"]),
        (json!({"ordered": "yes"}), vec!["/ordered"]),
        (json!({"breaker": 1}), vec!["/breaker"]),
        (
            json!({"breaker": {"window": 0, "failure_ratio": 2, "min_attempts": 1001, "open_seconds": 0, "close_after": 0,
                "disable_after_hours": 0, "x": 1}}),
            vec![
                "/breaker/window",
                "/breaker/failure_ratio",
                "/breaker/min_attempts",
                "/breaker/open_seconds",
                "/breaker/close_after",
                "/breaker/disable_after_hours",
                "/breaker/x",
            ],
        ),
        (json!({"breaker": {"window": 5, "min_attempts": 6}}), vec!["/breaker/min_attempts"]),
        (json!({"retry_policy": {"retry_on": []}}), vec!["/retry_policy/retry_on"]),
        (json!({"retry_policy": {"retry_on": "5xx"}}), vec!["/retry_policy/retry_on"]),
        (
            json!({"retry_policy": {"retry_on": ["5xx", "3xx", 500]}}),
            vec!["/retry_policy/retry_on/1", "/retry_policy/retry_on/2"],
        ),
        (json!({"retry_policy": {"retry_on": ["5xx"], "retry_delay": 5}}), vec!["/retry_policy"]),
        (json!({"ordered_by": 7}), vec!["/ordered_by"]),
        (json!({"ordered_by": ""}), vec!["/ordered_by"]),
        (json!({"ordered_by": "a..b"}), vec!["/ordered_by"]),
        (json!({"ordered_by": "/a~2"}), vec!["/ordered_by"]),
        (json!({"ordered_by": "a.".repeat(16) + "a"}), vec!["/ordered_by"]),
        (json!({"ordered": false, "ordered_by": "user_id"}), vec!["/ordered", "/ordered_by"]),
        (json!({"order_by": "x", "mtls": {}}), vec!["/mtls", "/order_by"]),
    ] {
        let got = create(&world, &with(&fields)).await;
        assert_eq!(got.wrong(), wrong, "{fields}");
    }
    let hint = create(&world, &with(&json!({"event": []}))).await;
    assert!(hint.text("detail").starts_with("/event: unknown field; did you mean events? allowed: "), "{}", hint.body);
}

#[tokio::test]
async fn ordered_by_implies_ordered_and_leaves_it_behind() {
    let world = world();
    let shown = |body: &Value| (body["ordered"].clone(), body.get("ordered_by").cloned().unwrap_or(Value::Null));
    for (fields, expected) in [
        (json!({}), (json!(false), Value::Null)),
        (json!({"ordered_by": null}), (json!(false), Value::Null)),
        (json!({"ordered": false, "ordered_by": null}), (json!(false), Value::Null)),
        (json!({"ordered_by": "user_id"}), (json!(true), json!("user_id"))),
        (json!({"ordered": null, "ordered_by": "user_id"}), (json!(true), json!("user_id"))),
        (json!({"ordered": true, "ordered_by": "user_id"}), (json!(true), json!("user_id"))),
    ] {
        let made = create(&world, &with(&fields)).await;
        assert_eq!(shown(&made.body), expected, "{fields}");
    }
    let made = create(&world, &with(&json!({"ordered_by": "user_id"}))).await;
    let place = made.header("location").to_owned();
    for (change, expected) in [
        (json!({"name": "n"}), (json!(true), json!("user_id"))),
        (json!({"ordered": true}), (json!(true), json!("user_id"))),
        (json!({"ordered": null}), (json!(true), json!("user_id"))),
        (json!({"ordered_by": null}), (json!(true), Value::Null)),
        (json!({"ordered_by": null}), (json!(true), Value::Null)),
        (json!({"ordered_by": "customer.id"}), (json!(true), json!("customer.id"))),
        (json!({"ordered": false}), (json!(false), Value::Null)),
        (json!({"ordered_by": null}), (json!(false), Value::Null)),
        (json!({"ordered_by": "a"}), (json!(true), json!("a"))),
        (json!({"ordered": false, "ordered_by": null}), (json!(false), Value::Null)),
        (json!({"ordered_by": "a"}), (json!(true), json!("a"))),
        (json!({"ordered": null, "ordered_by": null}), (json!(false), Value::Null)),
        (json!({"ordered_by": "a"}), (json!(true), json!("a"))),
        (json!({"ordered": true, "ordered_by": null}), (json!(true), Value::Null)),
    ] {
        let got = patch(&world, &place, &change).await;
        assert_eq!((got.status, shown(&got.body)), (200, expected), "{change}");
    }
    let refused = create(&world, &with(&json!({"ordered_by": "a..b"}))).await;
    assert!(refused.text("detail").contains("expected a path such as \"customer.city\""), "{}", refused.body);
}

#[tokio::test]
async fn a_flag_with_the_current_value_changes_nothing() {
    let world = world();
    let place = made(&world).await;
    for (fields, status) in [
        (json!({"status": "paused"}), "paused"),
        (json!({"active": true}), "paused"),
        (json!({"is_active": true, "active": true}), "paused"),
        (json!({"is_active": false}), "inactive"),
        (json!({"active": true}), "active"),
    ] {
        assert_eq!(patch(&world, &place, &fields).await.text("status"), status, "{fields}");
    }
    let put = json!({"url": HOOK, "is_active": true});
    patch(&world, &place, &json!({"status": "paused"})).await;
    assert_eq!(
        ask().json(&put).send(&world, "PUT", &place).await.text("status"),
        "paused",
        "old clients know no pause"
    );
}

#[tokio::test]
async fn an_old_id_finds_its_webhook() {
    let world = world();
    let one = create(&world, &with(&json!({"uid": "shop:7@eu", "events": ["a"]}))).await;
    let place = one.header("location").to_owned();
    for spelling in ["shop:7@eu", "shop%3A7%40eu", "shop%3a7@eu"] {
        let read = ask().send(&world, "GET", &format!("{WEBHOOKS}/{spelling}")).await;
        assert_eq!((read.status, read.text("id")), (200, one.text("id")), "{spelling}");
    }
    let paused = ask().send(&world, "POST", &format!("{WEBHOOKS}/shop:7@eu/pause")).await;
    assert_eq!(paused.text("status"), "paused");
    assert_eq!(ask().tenant(Some("acme")).send(&world, "GET", &format!("{WEBHOOKS}/shop:7@eu")).await.status, 404);

    let body = with(&json!({"uid": "shop:7@eu"}));
    let taken = create(&world, &body).await;
    assert_eq!((taken.status, taken.text("code")), (409, "conflict"));
    assert_eq!(taken.body["errors"][0]["pointer"], "/uid");
    let other = ask().tenant(Some("acme")).json(&body).send(&world, "POST", WEBHOOKS).await;
    assert_eq!(other.status, 201, "another tenant has uids of its own");
    let two = create(&world, &with(&json!({"uid": "two"}))).await;
    let moved = patch(&world, two.header("location"), &json!({"uid": "shop:7@eu"})).await;
    assert_eq!((moved.status, &moved.body["errors"][0]["pointer"]), (409, &json!("/uid")));

    // A key of all tenants names the tenant, or uses the default tenant.
    let any = |query: &str| {
        let target = format!("{WEBHOOKS}/shop:7@eu{query}");
        async { ask().tenant(None).send(&world, "GET", &{ target }).await }
    };
    assert_eq!(any("").await.text("id"), one.text("id"));
    assert_eq!(any("?tenant=acme").await.text("id"), other.text("id"));
    assert_eq!(any("?org_id=acme").await.text("id"), other.text("id"));
    assert_eq!(any("?tenant=nobody").await.status, 404);

    assert_eq!(ask().send(&world, "DELETE", &place).await.status, 204);
    assert_eq!(ask().send(&world, "GET", &format!("{WEBHOOKS}/shop:7@eu")).await.status, 404);
    assert_eq!(
        patch(&world, two.header("location"), &json!({"uid": "shop:7@eu"})).await.status,
        200,
        "it is free again"
    );
}

#[tokio::test]
async fn names_of_sources_and_uids_are_unique_together() {
    let world = world();
    let source = |name: &str, tenant| {
        let body = json!({"name": name, "kind": "none"});
        let world = &world;
        async move { ask().tenant(Some(tenant)).json(&body).send(world, "POST", "/api/v1/sources").await }
    };
    assert_eq!(source("shop", "default").await.status, 201);
    let taken = create(&world, &with(&json!({"uid": "shop"}))).await;
    assert_eq!((taken.status, &taken.body["errors"][0]["pointer"]), (409, &json!("/uid")));
    let body = with(&json!({"uid": "shop"}));
    let taken = ask().tenant(Some("acme")).json(&body).send(&world, "POST", WEBHOOKS).await;
    assert_eq!(taken.status, 409, "the path would lead to the default tenant's source");

    assert_eq!(create(&world, &with(&json!({"uid": "old-7"}))).await.status, 201);
    let taken = source("old-7", "default").await;
    assert_eq!((taken.status, &taken.body["errors"][0]["pointer"]), (409, &json!("/name")));
    assert_eq!(source("old-7", "acme").await.status, 201);
}

#[tokio::test]
async fn the_defaults_of_a_tenant_apply_to_missing_fields() {
    let world = world();
    let settings = json!({"name": "default", "retry_policy": {"max_retries": 3, "retry_delay": 60}});
    let of_all = ask().tenant(None).json(&settings).send(&world, "POST", "/api/v1/tenants").await;
    assert_eq!(of_all.status, 201, "{}", of_all.body);
    let of_tenant = json!({"max_retries": 3, "retry_delay": 60, "backoff": 2.0, "max_delay": 86400});
    let made = create(&world, &json!({"url": HOOK})).await;
    assert_eq!(made.body["retry_policy"], of_tenant);
    let place = made.header("location").to_owned();
    for (method, fields, shown) in [
        (
            "PATCH",
            json!({"max_retries": 1}),
            json!({"max_retries": 1, "retry_delay": 60, "backoff": 2.0, "max_delay": 86400}),
        ),
        ("PATCH", json!({"retry_policy": {"schedule": [7]}}), json!({"schedule": [7]})),
        ("PATCH", json!({"name": "n"}), json!({"schedule": [7]})),
        ("PATCH", json!({"retry_policy": null}), of_tenant.clone()),
        ("PUT", json!({"url": HOOK, "retry_policy": {"schedule": [7]}}), json!({"schedule": [7]})),
        ("PUT", json!({"url": HOOK}), of_tenant.clone()),
    ] {
        let got = ask().json(&fields).send(&world, method, &place).await;
        assert_eq!(got.body["retry_policy"], shown, "{method} {fields}");
    }
    let other = ask().tenant(Some("acme")).json(&json!({"url": HOOK})).send(&world, "POST", WEBHOOKS).await;
    assert_eq!(other.body["retry_policy"], json!({"schedule": [5, 60]}), "another tenant's");
}

#[tokio::test]
async fn who_makes_a_webhook_owns_it_unless_it_says_otherwise() {
    let world = world();
    let by = |body: Value| {
        let (parts, ()) = Request::builder().method("POST").uri(WEBHOOKS).body(()).unwrap().into_parts();
        let principal = Principal { user: Some("u7".into()), ..Principal::new(Some("default".into()), Role::Member) };
        let call = ManagementRequest { parts, body: body.to_string().into(), principal, request_id: "req_1".into() };
        world.api.handle(call)
    };
    for (body, owner) in [
        (json!({"url": HOOK}), Some("u7")),
        (json!({"url": HOOK, "user_id": 42}), Some("42")),
        (json!({"url": HOOK, "user_id": null}), None),
    ] {
        assert_eq!(by(body).await.status(), 201);
        let registry = world.registry.load();
        let newest = registry.newest(None, WebhookNo(u32::MAX)).next().unwrap();
        assert_eq!(newest.user_id.as_deref(), owner);
    }
}

#[tokio::test]
async fn lists_are_filtered() {
    let world = world();
    for (uid, user, workspace, events) in
        [("a", "1", "w1", json!(["order.*"])), ("b", "2", "w1", json!(["user.created"])), ("c", "1", "w2", json!([]))]
    {
        let fields = json!({"uid": uid, "user_id": user, "workspace_id": workspace, "events": events});
        assert_eq!(create(&world, &with(&fields)).await.status, 201);
    }
    let body = json!({"event_type": "record.*"});
    assert_eq!(ask().json(&body).send(&world, "POST", &format!("{WEBHOOKS}/c/subscriptions")).await.status, 201);
    patch(&world, &format!("{WEBHOOKS}/b"), &json!({"active": false})).await;
    for (query, uids) in [
        ("", vec!["c", "b", "a"]),
        ("uid=b", vec!["b"]),
        ("uid=b&status=active", vec![]),
        ("uid=nobody", vec![]),
        ("user_id=1", vec!["c", "a"]),
        ("user_id=1&workspace_id=w1", vec!["a"]),
        ("workspace_id=w3", vec![]),
        ("status=inactive", vec!["b"]),
        ("type=record.updated", vec!["c"]),
        ("event_type=order.created", vec!["a"]),
        ("q=B", vec!["b"]),
        ("tenant=default&uid=a", vec!["a"]),
    ] {
        let got = ask().send(&world, "GET", &format!("{WEBHOOKS}?{query}")).await;
        let found: Vec<_> =
            got.body["data"].as_array().unwrap().iter().map(|row| row["uid"].as_str().unwrap()).collect();
        assert_eq!(found, uids, "{query}");
    }
    let any = ask().tenant(None).send(&world, "GET", &format!("{WEBHOOKS}?uid=a")).await;
    assert_eq!(any.ids().len(), 1, "a key of all tenants may leave the tenant out");
}

/// Create requests from the documentation of the systems that Hooktide replaces, and the fields that the response must have.
#[tokio::test]
async fn each_dialect_can_create_webhooks() {
    let world = world();
    for (body, answer) in [
        (
            json!({"url": HOOK, "events": ["order.created", "order.completed", "payment.success"], "description": "Orders",
                "retry_policy": {"max_retries": 3, "retry_delay": 60}}),
            json!({"is_active": true, "max_retries": 3,
                "retry_policy": {"max_retries": 3, "retry_delay": 60, "backoff": 2.0, "max_delay": 86400},
                "events": ["order.created", "order.completed", "payment.success"], "description": "Orders"}),
        ),
        (
            json!({"name": "My Webhook", "url": HOOK, "description": "Test", "max_retries": 3, "timeout_seconds": 30,
                "rate_limit_rps": 10, "headers": {"Authorization": "Bearer token", "X-Custom-Header": "value"},
                "metadata": {"environment": "production", "version": "1.0"}}),
            json!({"name": "My Webhook", "status": "active", "max_retries": 3, "timeout_seconds": 30, "rate_limit_rps": 10,
                "headers": {"authorization": "***", "x-custom-header": "value"},
                "metadata": {"environment": "production", "version": "1.0"},
                "warnings": ["no events: nothing will match"]}),
        ),
        (
            json!({"url": HOOK, "events": ["user.created", "subscription.created"], "description": "Users", "active": true}),
            json!({"active": true, "status": "active", "events": ["user.created", "subscription.created"]}),
        ),
        (
            json!({"url": HOOK, "events": ["*"], "active": false}),
            json!({"active": false, "status": "inactive", "events": ["*"]}),
        ),
    ] {
        // curl sends the data of `-d` as application/x-www-form-urlencoded.
        let asked = Ask { body: body.to_string().into_bytes(), ..ask() };
        let made =
            asked.header("content-type", "application/x-www-form-urlencoded").send(&world, "POST", WEBHOOKS).await;
        assert_eq!(made.status, 201, "{}", made.body);
        assert!(made.text("secret").starts_with("whsec_"));
        for (key, value) in answer.as_object().unwrap() {
            assert_eq!(&made.body[key], value, "{key} of {body}");
        }
        let place = made.header("location").to_owned();
        let changed = json!({"url": HOOK, "events": ["order.cancelled"], "is_active": false});
        let put = ask().json(&changed).send(&world, "PUT", &place).await;
        assert_eq!((put.status, put.text("status"), &put.body["events"]), (200, "inactive", &changed["events"]));
        let patched = patch(&world, &place, &json!({"active": true, "description": "changed"})).await;
        assert_eq!((patched.text("status"), patched.text("description")), ("active", "changed"));
        assert_eq!(patched.body["events"], changed["events"]);
        assert_eq!(ask().send(&world, "DELETE", &place).await.status, 204);
    }
}
