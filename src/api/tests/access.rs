//! Roles, tenants, and the audit log.

use serde_json::json;

use super::*;
use crate::http::route::{Handler, Route};
use crate::model::{Principal, Visibility};

const KEYS: &str = "/api/v1/keys";
const TENANTS: &str = "/api/v1/tenants";
const AUDIT: &str = "/api/v1/audit";

/// A path for each route, with ids of resources of another tenant (`{w}` a webhook, `{e}` an event, `{d}` a delivery,
/// `{s}` a source, `{k}` a key), and its methods.
const ROUTES: [(&str, &str); 47] = [
    ("/webhooks", "GET POST"),
    ("/webhooks/{w}", "GET PUT PATCH DELETE"),
    ("/webhooks/{w}/pause", "POST"),
    ("/webhooks/{w}/resume", "POST"),
    ("/webhooks/{w}/test", "POST"),
    ("/webhooks/{w}/regenerate-secret", "POST"),
    ("/webhooks/{w}/recover", "POST"),
    ("/webhooks/{w}/metrics", "GET"),
    ("/webhooks/{w}/stats", "GET"),
    ("/webhooks/{w}/subscriptions", "GET POST"),
    ("/webhooks/{w}/subscriptions/sub_00000000000000000000000001", "GET PUT DELETE"),
    ("/webhooks/{w}/deliveries", "GET"),
    ("/webhooks/{w}/dead-letters", "GET"),
    ("/webhooks/{w}/dead-letters/{d}", "GET DELETE"),
    ("/webhooks/{w}/dead-letters/{d}/replay", "POST"),
    ("/webhooks/{w}/dead-letters/bulk-replay", "POST"),
    ("/webhooks/deliveries", "GET"),
    ("/deliveries", "GET"),
    ("/deliveries/{d}", "GET"),
    ("/webhooks/deliveries/{d}", "GET"),
    ("/deliveries/{d}/retry", "POST"),
    ("/webhooks/deliveries/{d}/retry", "POST"),
    ("/dead-letters", "GET"),
    ("/events", "GET"),
    ("/events/{e}", "GET"),
    ("/events/{e}/replay", "POST"),
    ("/replays", "GET POST"),
    ("/replay", "GET POST"),
    ("/replays/rpl_1", "GET DELETE"),
    ("/stats", "GET"),
    ("/filters/test", "POST"),
    ("/event-types", "GET POST"),
    ("/webhooks/events", "GET"),
    ("/webhooks/events/available", "GET"),
    ("/event-types/nobodys.type", "GET PUT DELETE"),
    ("/keys", "GET POST"),
    ("/keys/{k}", "GET DELETE"),
    ("/tenants", "GET POST"),
    ("/audit", "GET"),
    ("/sources", "GET POST"),
    ("/sources/{s}", "GET PATCH DELETE"),
    ("/sources/{s}/restore", "POST"),
    ("/sources/{s}/rotate-secret", "POST"),
    ("/sources/{s}/forget-secret", "POST"),
    ("/sources/{s}/rotate-token", "POST"),
    ("/sources/{s}/guide", "GET"),
    ("/sources/{s}/rejections", "GET"),
];

/// A world in which tenant `acme` has one resource of each kind, and the paths of the table with their ids.
async fn world_of_another() -> (World, Vec<(String, &'static str)>) {
    let world = world();
    let acme = || ask().tenant(Some("acme"));
    let url = json!({"url": "https://example.com/of-acme", "events": ["*"], "name": "canary"});
    let webhook = acme().json(&url).send(&world, "POST", WEBHOOKS).await.text("id").to_owned();
    let partner = json!({"name": "canary-source", "kind": "partner"});
    let source = acme().json(&partner).send(&world, "POST", "/api/v1/sources").await.text("id").to_owned();
    let key = acme().json(&json!({"role": "viewer", "name": "canary-key"})).send(&world, "POST", KEYS).await;
    let event = world.event(1, "acme", "order.created", &[0]);
    let delivery = world.row(event, 0, DeliveryStatus::Delivered);
    world.dead(event, 0);
    let paths = ROUTES.map(|(path, methods)| {
        let path = path.replace("{w}", &webhook).replace("{s}", &source).replace("{k}", key.text("id"));
        let path = path.replace("{e}", &event.to_string()).replace("{d}", &delivery.to_string());
        (format!("/api/v1{path}"), methods)
    });
    (world, paths.into())
}

#[tokio::test]
async fn the_table_has_every_route_and_every_method() {
    let (world, paths) = world_of_another().await;
    let mut rows = 0;
    for (path, methods) in &paths {
        let of = |method: &str| world.api.router.management(&method.parse().unwrap(), path).ok();
        let found: Vec<_> =
            ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().filter(|one| of(one).is_some()).collect();
        assert_eq!(found.join(" "), *methods, "{path}");
        rows += found.len();
    }
    let is_ours = |route: &&Route<_>| matches!(route.handler, Handler::Management(_));
    assert_eq!(rows, routes::ROUTES.iter().filter(is_ours).count());
}

#[tokio::test]
async fn resources_of_another_tenant_do_not_exist() {
    let (world, paths) = world_of_another().await;
    for (path, methods) in &paths {
        // The path contains an id of the other tenant.
        let is_theirs = path.contains('_') && !path.contains("rpl_");
        for method in methods.split(' ').filter(|method| is_theirs || *method == "GET") {
            let got = ask().json(&json!({})).send(&world, method, path).await;
            if is_theirs {
                assert_eq!(got.status, 404, "{method} {path}: {}", got.body);
            }
            assert!(!got.body.to_string().contains("canary"), "{method} {path}: {}", got.body);
            assert!(!got.body.to_string().contains("acme"), "{method} {path}: {}", got.body);
        }
        if !is_theirs && methods.starts_with("GET") {
            let asked = ask().send(&world, "GET", &format!("{path}?tenant=acme")).await;
            assert!(!asked.body.to_string().contains("canary"), "{path}: {}", asked.body);
        }
    }
    // No resource of the other tenant changed, and the other tenant sees them.
    for path in [WEBHOOKS, "/api/v1/sources", KEYS, AUDIT] {
        let theirs = ask().tenant(Some("acme")).send(&world, "GET", path).await;
        assert!(theirs.body.to_string().contains("canary"), "{path}: {}", theirs.body);
        let all = ask().tenant(None).send(&world, "GET", path).await;
        assert!(all.body.to_string().contains("canary"), "{path}: {}", all.body);
    }
}

#[tokio::test]
async fn roles_are_as_the_table_says() {
    let (world, paths) = world_of_another().await;
    for (path, methods) in &paths {
        let admins = ["/keys", "/audit"].iter().any(|part| path.contains(part));
        let writes_are_admins = admins || ["/tenants", "/event-types"].iter().any(|part| path.contains(part));
        for method in methods.split(' ') {
            let is_read = method == "GET" || path.ends_with("/filters/test");
            for (role, may) in [
                (Role::Publisher, false),
                (Role::Viewer, is_read && !admins),
                (Role::Member, !admins && (is_read || !writes_are_admins)),
                (Role::Admin, true),
            ] {
                // The tenant has no resources: an allowed caller gets a 404 or an error of the body.
                let got = ask().tenant(Some("nobody")).role(role).json(&json!([])).send(&world, method, path).await;
                let is_refused = got.status == 403 && !got.text("detail").contains("tenant *");
                assert_eq!(is_refused, !may, "{role:?} {method} {path}: {} {}", got.status, got.body);
            }
        }
    }
}

#[tokio::test]
async fn a_key_is_shown_once_and_works_until_it_is_revoked() {
    let world = world();
    let wanted = json!({"role": "member", "name": "ci", "expires_at": "2999-01-01T00:00:00Z"});
    let made = ask().json(&wanted).header("idempotency-key", "a").send(&world, "POST", KEYS).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let key = made.text("key").to_owned();
    assert!(key.starts_with("hk_") && key.len() == 46 && key.starts_with(made.text("prefix")), "{key}");
    assert_eq!(made.text("prefix").len(), 11);
    let again = ask().json(&wanted).header("idempotency-key", "a").send(&world, "POST", KEYS).await;
    assert_eq!((again.text("id"), again.body.get("key")), (made.text("id"), None));

    let place = made.header("location").to_owned();
    let read = ask().send(&world, "GET", &place).await;
    assert_eq!(
        read.body,
        json!({"id": made.text("id"), "name": "ci", "prefix": made.text("prefix"), "role": "member", "tenant": "default",
            "created_at": read.text("created_at"), "created_by": "", "expires_at": "2999-01-01T00:00:00.000Z"})
    );
    let listed = ask().send(&world, "GET", KEYS).await;
    assert_eq!(listed.ids(), [made.text("id")]);

    let who = |at| world.registry.load().authenticate_api_key(&key, at);
    let before = Timestamp::from_millis(1);
    let principal = who(before).unwrap();
    assert_eq!((principal.tenant.as_deref(), principal.role), (Some("default"), Role::Member));
    assert_eq!(&*principal.name, made.text("id"));
    assert!(who("2999-01-01T00:00:00Z".parse().unwrap()).is_none(), "it has ended");
    assert_eq!(ask().send(&world, "DELETE", &place).await.status, 204);
    assert!(who(before).is_none());
    assert_eq!(ask().send(&world, "DELETE", &place).await.status, 404);
}

#[tokio::test]
async fn nobody_grants_more_than_is_theirs() {
    let world = world();
    for (tenant, body, wrong) in [
        (Some("default"), json!({"role": "admin", "tenant": "*"}), "/tenant"),
        (Some("default"), json!({"role": "admin", "tenant": "acme"}), "/tenant"),
        (Some("default"), json!({"role": "admin", "org_id": "acme"}), "/org_id"),
        (None, json!({"role": "admin", "tenant": "a/b"}), "/tenant"),
        (None, json!({"role": "admin", "tenant": "a", "org_id": "b"}), "/org_id"),
        (None, json!({"role": "root"}), "/role"),
        (None, json!({}), "/role"),
        (None, json!({"role": "viewer", "expires_at": "1969-01-01T00:00:00Z"}), "/expires_at"),
        (None, json!({"role": "viewer", "name": ""}), "/name"),
        (None, json!({"role": "viewer", "key": "of-my-own"}), "/key"),
    ] {
        let got = ask().tenant(tenant).json(&body).send(&world, "POST", KEYS).await;
        assert_eq!(got.wrong(), [wrong], "{body}");
    }
    for (tenant, body, of) in [
        (Some("acme"), json!({"role": "admin"}), "acme"),
        (None, json!({"role": "admin"}), "default"),
        (None, json!({"role": "admin", "tenant": "*"}), "*"),
        (None, json!({"role": "admin", "org_id": "acme"}), "acme"),
    ] {
        let got = ask().tenant(tenant).json(&body).send(&world, "POST", KEYS).await;
        assert_eq!(got.text("tenant"), of, "{}", got.body);
    }
    let theirs = ask().tenant(Some("acme")).send(&world, "GET", KEYS).await;
    assert_eq!(theirs.ids().len(), 2, "not the one of tenant *: {}", theirs.body);
}

#[tokio::test]
async fn tenants_are_made_by_a_key_for_all_alone_and_hold_defaults() {
    let world = world();
    let body =
        json!({"name": "epic", "profile": "standard", "retry_policy": {"schedule": [60, 300]}, "visibility": "owner"});
    assert_eq!(ask().json(&body).send(&world, "POST", TENANTS).await.status, 403);
    let made = ask().tenant(None).json(&body).send(&world, "POST", TENANTS).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!((made.text("managed_by"), made.text("visibility")), ("api", "owner"));
    assert_eq!(ask().tenant(None).json(&body).send(&world, "POST", TENANTS).await.status, 409);
    let all = ask().tenant(None).send(&world, "GET", TENANTS).await;
    let names: Vec<_> = all.body["data"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["default", "epic"]);
    let own = ask().send(&world, "GET", TENANTS).await;
    assert_eq!(own.body["data"].as_array().unwrap().len(), 1, "{}", own.body);
    let settings = world.registry.load().tenant_settings("epic");
    assert_eq!((settings.profile.as_deref(), settings.visibility), (Some("standard"), Visibility::Owner));
    let wrong = json!({"name": "*", "visibility": "all", "retry_policy": {"schedule": [0]}, "more": 1});
    let got = ask().tenant(None).json(&wrong).send(&world, "POST", TENANTS).await;
    assert_eq!(got.wrong(), ["/name", "/visibility", "/retry_policy/schedule/0", "/more"]);
    let got = ask().tenant(None).json(&json!({"name": "a", "profile": "mine"})).send(&world, "POST", TENANTS).await;
    assert_eq!(got.wrong(), ["/profile"]);
    assert!(got.body.to_string().contains("there are: standard, raw, "), "{}", got.body);
}

#[tokio::test]
async fn members_of_a_tenant_of_owners_see_their_own_webhooks() {
    let world = world();
    let mine = create(&world, &json!({"url": "https://example.com/1", "user_id": "42"})).await;
    let other = create(&world, &json!({"url": "https://example.com/2", "user_id": "7"})).await;
    let event = world.event(1, "default", "a", &[0, 1]);
    let deliveries = [world.row(event, 0, DeliveryStatus::Delivered), world.row(event, 1, DeliveryStatus::Delivered)];
    for (role, user, sees) in [
        (Role::Member, Some("42"), [200, 404]),
        (Role::Viewer, Some("7"), [404, 200]),
        (Role::Member, None, [404, 404]),
        (Role::Admin, None, [200, 200]),
    ] {
        let principal = Principal {
            visibility: Visibility::Owner,
            user: user.map(Into::into),
            ..Principal::new(Some("default".into()), role)
        };
        let get = async |path: &str| {
            let (parts, ()) = Request::builder().uri(path).body(()).unwrap().into_parts();
            let call = ManagementRequest {
                parts,
                body: Bytes::new(),
                principal: principal.clone(),
                request_id: "req_1".into(),
            };
            world.api.handle(call).await
        };
        for (at, webhook) in [&mine, &other].into_iter().enumerate() {
            let path = format!("{WEBHOOKS}/{}", webhook.text("id"));
            assert_eq!(get(&path).await.status(), sees[at], "{role:?} {user:?}");
            assert_eq!(get(&format!("{path}/deliveries")).await.status(), sees[at], "{role:?} {user:?}");
            assert_eq!(get(&format!("/api/v1/deliveries/{}", deliveries[at])).await.status(), sees[at]);
        }
        let seen = sees.iter().filter(|status| **status == 200).count();
        for (path, list) in [(WEBHOOKS.to_owned(), "data"), (format!("/api/v1/events/{event}"), "deliveries")] {
            #[expect(clippy::disallowed_methods, reason = "the body is whole in memory already")]
            let bytes = get(&path).await.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(body[list].as_array().unwrap().len(), seen, "{role:?} {user:?} {path}: {body}");
        }
    }
}

#[tokio::test]
async fn each_change_is_in_the_audit_log_with_actor_and_fields() {
    let world = world();
    let webhook = made(&world).await;
    let id = webhook.rsplit('/').next().unwrap();
    for body in [json!({"name": "n", "description": "d"}), json!({"status": "paused"}), json!({"status": "active"})] {
        assert_eq!(ask().json(&body).send(&world, "PATCH", &webhook).await.status, 200);
    }
    assert_eq!(ask().send(&world, "DELETE", &webhook).await.status, 204);
    let log = ask().send(&world, "GET", AUDIT).await;
    let rows = log.body["data"].as_array().unwrap();
    let said: Vec<_> = rows.iter().map(|row| (row["action"].as_str().unwrap(), row["changed"].clone())).collect();
    assert_eq!(
        said,
        [
            ("webhook.deleted", json!([])),
            ("webhook.resumed", json!(["status"])),
            ("webhook.paused", json!(["status"])),
            ("webhook.updated", json!(["name", "description"])),
            ("webhook.created", json!([])),
        ]
    );
    assert!(rows.iter().all(|row| row["target"] == id && row["tenant"] == "default"), "{}", log.body);
    for (query, found) in [
        ("action=webhook.paused", 1),
        ("action=webhook.*", 5),
        ("action=key.*", 0),
        (&*format!("target={id}"), 5),
        ("target=n", 4),
        ("actor=nobody", 0),
        ("since=2000-01-01T00:00:00Z", 5),
        ("until=2000-01-01T00:00:00Z", 0),
    ] {
        let got = ask().send(&world, "GET", &format!("{AUDIT}?{query}")).await;
        assert_eq!(got.body["data"].as_array().unwrap().len(), found, "{query}: {}", got.body);
    }
    let first = ask().send(&world, "GET", &format!("{AUDIT}?limit=2")).await;
    let next = first.text("next_cursor");
    let second = ask().send(&world, "GET", &format!("{AUDIT}?limit=3&cursor={next}")).await;
    assert_eq!([first.ids(), second.ids()].concat(), log.ids());
    assert_eq!(second.body["next_cursor"], Value::Null);
    assert_eq!(ask().send(&world, "GET", &format!("{AUDIT}?since=yesterday")).await.status, 400);
}

#[tokio::test]
async fn changes_of_subscriptions_and_event_types_are_written_down() {
    let world = world();
    let webhook = made(&world).await;
    let id = webhook.rsplit('/').next().unwrap();
    let all = format!("{webhook}/subscriptions");
    let subscription = ask().json(&json!({"event_type": "a"})).send(&world, "POST", &all).await;
    let one = subscription.header("location").to_owned();
    let body = json!({"event_type": "a", "is_active": false, "filters": {"user_id": [1]}});
    assert_eq!(ask().json(&body).send(&world, "PUT", &one).await.status, 200);
    assert_eq!(ask().send(&world, "DELETE", &one).await.status, 204);
    let (types, name) = ("/api/v1/event-types", "order.created");
    assert_eq!(ask().json(&json!({"name": name})).send(&world, "POST", types).await.status, 201);
    let body = json!({"category": "orders", "example": {"a": 1}});
    assert_eq!(ask().json(&body).send(&world, "PUT", &format!("{types}/{name}")).await.status, 200);
    assert_eq!(ask().send(&world, "DELETE", &format!("{types}/{name}")).await.status, 204);
    let log = ask().send(&world, "GET", &format!("{AUDIT}?limit=6")).await;
    let row = |row: &Value| (row["action"].clone(), row["target"].clone(), row["changed"].clone());
    let said: Vec<_> = log.body["data"].as_array().unwrap().iter().map(row).collect();
    let expected = [
        ("event_type.deleted", name, json!([])),
        ("event_type.updated", name, json!(["category", "example"])),
        ("event_type.created", name, json!([])),
        ("subscription.deleted", id, json!([])),
        ("subscription.updated", id, json!(["is_active", "filters"])),
        ("subscription.created", id, json!([])),
    ];
    assert_eq!(said, expected.map(|(action, target, changed)| (json!(action), json!(target), changed)));
}

#[tokio::test]
async fn the_audit_log_is_limited_and_its_ids_ascend() {
    let world = world();
    let webhook = made(&world).await;
    for n in 0..crate::limits::AUDIT_ENTRIES_MAX {
        assert_eq!(ask().json(&json!({"name": n.to_string()})).send(&world, "PATCH", &webhook).await.status, 200);
    }
    let log = ask().send(&world, "GET", &format!("{AUDIT}?limit=250")).await;
    let ids = log.ids();
    assert_eq!(ids.len(), crate::limits::AUDIT_ENTRIES_MAX);
    assert!(ids.is_sorted_by(|newer, older| newer > older));
    assert!(!log.body.to_string().contains("webhook.created"), "the oldest went");
}
