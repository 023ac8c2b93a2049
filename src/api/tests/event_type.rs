//! The event type catalogue over the API.

use super::*;
use crate::registry::catalogue::{CatalogueSetup, EventTypeDefinition};

const TYPES: &str = "/api/v1/event-types";

fn order() -> Value {
    json!({
        "name": "order.created", "category": "orders", "description": "A new order was placed.",
        "schema": {"type": "object", "required": ["order_id"]}, "example": {"order_id": "ord_1"}, "validate": true,
    })
}

async fn post(world: &World, body: &Value) -> Got {
    ask().json(body).send(world, "POST", TYPES).await
}

fn names(got: &Got) -> Vec<&str> {
    got.body["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

/// Types of the configuration, by name and tenant.
async fn configure(world: &World, strict: bool, types: &[(&str, Option<&str>)]) {
    let of = |(name, tenant): &(&str, Option<&str>)| {
        let settings = json!({"name": name, "tenant": tenant, "category": "file"});
        Arc::new(EventTypeDefinition::try_new(serde_json::from_value(settings).unwrap()).unwrap())
    };
    let setup = CatalogueSetup { strict, files: types.iter().map(of).collect() };
    world.writer.set_event_types(setup).await.unwrap();
}

#[tokio::test]
async fn an_event_type_can_be_created_read_replaced_and_deleted() {
    let world = world();
    let made = post(&world, &order()).await;
    let place = format!("{TYPES}/order.created");
    assert_eq!((made.status, made.header("location"), made.header("etag")), (201, &*place, "\"1\""), "{}", made.body);
    let read = ask().role(Role::Viewer).send(&world, "GET", &place).await;
    let mut expected = order();
    let more = json!({
        "tenant": "default", "deprecated": false, "managed_by": "api",
        "created_at": read.body["created_at"], "updated_at": read.body["created_at"],
    });
    expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!((read.status, read.header("etag"), &read.body), (200, "\"1\"", &expected));
    assert_eq!(ask().header("if-none-match", "\"1\"").send(&world, "GET", &place).await.status, 304);
    assert_eq!(post(&world, &order()).await.text("code"), "conflict");

    // A type can be written back as read. A missing field is removed.
    let same = ask().json(&read.body).send(&world, "PUT", &place).await;
    assert_eq!((same.status, same.header("etag")), (200, "\"2\""), "{}", same.body);
    let body = json!({"deprecated": true, "replaced_by": "order.placed"});
    let stale = ask().json(&body).header("if-match", "\"1\"").send(&world, "PUT", &place).await;
    assert_eq!((stale.status, stale.text("code")), (412, "precondition_failed"));
    let replaced = ask().json(&body).header("if-match", "\"2\"").send(&world, "PUT", &place).await;
    assert_eq!((replaced.status, replaced.header("etag")), (200, "\"3\""), "{}", replaced.body);
    assert_eq!((replaced.text("replaced_by"), &replaced.body["category"]), ("order.placed", &Value::Null));
    assert!(replaced.body.get("schema").is_none());

    // PUT creates a missing type, unless `If-Match` names a version.
    let other = format!("{TYPES}/order.placed");
    let named = ask().json(&json!({})).header("if-match", "*").send(&world, "PUT", &other).await;
    assert_eq!(named.status, 412);
    let preview = ask().json(&json!({})).send(&world, "PUT", &format!("{other}?dry_run=true")).await;
    assert_eq!((preview.status, ask().send(&world, "GET", &other).await.status), (200, 404));
    let new = ask().json(&json!({})).send(&world, "PUT", &other).await;
    assert_eq!((new.status, new.header("location")), (201, &*other));

    assert_eq!(ask().header("if-match", "\"1\"").send(&world, "DELETE", &place).await.status, 412);
    assert_eq!(ask().send(&world, "DELETE", &place).await.status, 204);
    assert_eq!(ask().send(&world, "DELETE", &place).await.status, 404);
    assert_eq!(names(&ask().send(&world, "GET", TYPES).await), ["order.placed"]);
}

#[tokio::test]
async fn each_invalid_field_of_an_event_type_is_reported() {
    let world = world();
    for (body, pointers) in [
        (json!({}), &["/name"][..]),
        (
            json!({"name": 7, "category": [], "deprecated": "yes", "colour": 1}),
            &["/name", "/category", "/deprecated", "/colour"],
        ),
        (json!({"name": "hooktide.x"}), &["/name"]),
        (json!({"name": "a", "schema": {"type": "objekt"}}), &["/schema/type"]),
        (json!({"name": "a", "schema": {"type": "object"}, "example": 7}), &["/example"]),
        (json!({"name": "a", "tenant": "acme"}), &["/tenant"]),
        (json!({"name": "a", "replaced_by": "b"}), &["/replaced_by"]),
    ] {
        assert_eq!(post(&world, &body).await.wrong(), pointers, "{body}");
    }
    let renamed = ask().json(&json!({"name": "b"})).send(&world, "PUT", &format!("{TYPES}/a")).await;
    assert_eq!(renamed.wrong(), ["/name"]);
}

#[tokio::test]
async fn the_catalogue_is_listed_by_name_under_all_its_paths() {
    let world = world();
    configure(&world, false, &[("b.two", None), ("c.three", Some("default")), ("c.other", Some("acme"))]).await;
    post(&world, &json!({"name": "a.one", "category": "x", "description": "The First", "deprecated": true})).await;
    for path in [TYPES, "/api/v1/webhooks/events", "/api/v1/webhooks/events/available"] {
        let all = ask().role(Role::Viewer).send(&world, "GET", path).await;
        assert_eq!((all.status, names(&all)), (200, vec!["a.one", "b.two", "c.three"]), "{path}");
    }
    for (query, wanted) in [
        ("category=file", &["b.two", "c.three"][..]),
        ("q=first", &["a.one"]),
        ("deprecated=true", &["a.one"]),
        ("deprecated=false&q=T", &["b.two", "c.three"]),
        ("category=none", &[]),
        ("page=2&limit=2", &["c.three"]),
    ] {
        assert_eq!(names(&ask().send(&world, "GET", &format!("{TYPES}?{query}")).await), wanted, "{query}");
    }
    let page = ask().send(&world, "GET", &format!("{TYPES}?limit=2")).await;
    assert_eq!((names(&page), page.text("next_cursor")), (vec!["a.one", "b.two"], "b.two"));
    let next = ask().send(&world, "GET", &format!("{TYPES}?limit=2&cursor=b.two")).await;
    assert_eq!((names(&next), &next.body["next_cursor"]), (vec!["c.three"], &Value::Null));
    let bad = ask().send(&world, "GET", &format!("{TYPES}?deprecated=maybe")).await;
    assert_eq!((bad.status, bad.text("code")), (400, "invalid_request"));
    // An alias only reads.
    let post = ask().json(&order()).send(&world, "POST", "/api/v1/webhooks/events").await;
    assert_eq!(post.status, 405);
}

#[tokio::test]
async fn an_admin_can_change_the_catalogue_of_its_tenant_but_not_the_configured_types() {
    let world = world();
    configure(&world, false, &[("file.type", None)]).await;
    post(&world, &order()).await;
    for (method, body) in [("PUT", json!({})), ("DELETE", Value::Null)] {
        let got = ask().json(&body).send(&world, method, &format!("{TYPES}/file.type")).await;
        assert_eq!((got.status, got.text("code")), (409, "managed_by_file"), "{method}");
        let got = ask().role(Role::Member).json(&body).send(&world, method, &format!("{TYPES}/order.created")).await;
        assert_eq!((got.status, got.text("code")), (403, "forbidden"), "{method}");
    }
    assert_eq!(post(&world, &json!({"name": "file.type"})).await.text("code"), "managed_by_file");

    let place = format!("{TYPES}/order.created");
    let acme = || ask().tenant(Some("acme"));
    assert_eq!(acme().send(&world, "GET", &place).await.status, 404);
    assert_eq!(acme().send(&world, "DELETE", &place).await.status, 404);
    assert_eq!(acme().send(&world, "GET", &format!("{place}?tenant=default")).await.status, 404);
    assert_eq!(acme().json(&json!({})).send(&world, "PUT", &format!("{place}?tenant=default")).await.status, 404);
    assert_eq!(names(&acme().send(&world, "GET", TYPES).await), ["file.type"]);
    assert_eq!(acme().json(&order()).send(&world, "POST", TYPES).await.status, 201);

    // A key of all tenants names a tenant, or uses the default tenant.
    let all = || ask().tenant(None);
    let body = json!({"name": "x", "tenant": "acme"});
    assert_eq!(all().json(&body).send(&world, "POST", TYPES).await.text("tenant"), "acme");
    assert_eq!(
        names(&all().send(&world, "GET", &format!("{TYPES}?tenant=acme")).await),
        ["file.type", "order.created", "x"]
    );
    assert_eq!(names(&all().send(&world, "GET", TYPES).await), ["file.type", "order.created"]);
    assert_eq!(all().send(&world, "DELETE", &format!("{TYPES}/x?tenant=acme")).await.status, 204);
}

#[tokio::test]
async fn a_strict_catalogue_checks_the_types_that_webhooks_name() {
    let world = world();
    let webhook = |events: &[&str]| json!({"url": "https://example.com/hook", "events": events});
    configure(&world, true, &[("order.created", None), ("order.old", None)]).await;
    let unknown = create(&world, &webhook(&["order.*", "order.lost", "*", "hooktide.webhook.*", "user.*"])).await;
    assert_eq!((unknown.wrong(), unknown.text("code")), (vec!["/events/1", "/events/4"], "unknown_event_type"));
    let made = create(&world, &webhook(&["order.created", "order.old", "order.*"])).await;
    assert_eq!((made.status, &made.body["warnings"]), (201, &json!([])));

    // A type may be deleted from the catalogue. A webhook that names it keeps it, but cannot name another missing type.
    configure(&world, true, &[("order.created", None)]).await;
    let place = format!("{WEBHOOKS}/{}", made.text("id"));
    let patch = ask().json(&json!({"events": ["order.old"], "name": "n"})).send(&world, "PATCH", &place).await;
    assert_eq!(patch.status, 200, "{}", patch.body);
    let patch = ask().json(&json!({"events": ["order.lost"]})).send(&world, "PATCH", &place).await;
    assert_eq!(patch.wrong(), ["/events/0"]);
    let put = ask().json(&webhook(&["order.lost"])).send(&world, "PUT", &place).await;
    assert_eq!(put.wrong(), ["/events/0"]);

    // The same applies to a subscription.
    let all = format!("{place}/subscriptions");
    let refused = ask().json(&json!({"event_type": "order.lost"})).send(&world, "POST", &all).await;
    assert_eq!((refused.wrong(), refused.text("code")), (vec!["/event_type"], "unknown_event_type"));
    let one = ask().json(&json!({"event_type": "order.created"})).send(&world, "POST", &all).await;
    assert_eq!(one.status, 201, "{}", one.body);
    configure(&world, true, &[("user.created", None)]).await;
    let kept = json!({"event_type": "order.created", "is_active": false});
    assert_eq!(ask().json(&kept).send(&world, "PUT", one.header("location")).await.status, 200);
    let other = json!({"event_type": "order.lost"});
    assert_eq!(ask().json(&other).send(&world, "PUT", one.header("location")).await.wrong(), ["/event_type"]);

    // An open catalogue only adds a warning to each change.
    configure(&world, false, &[("order.created", None)]).await;
    let made = create(&world, &webhook(&["order.lost", "order.created"])).await;
    assert_eq!(made.body["warnings"], json!(["no event type of the catalogue fits order.lost"]));
    let place = format!("{WEBHOOKS}/{}", made.text("id"));
    let patched = ask().json(&json!({"name": "n"})).send(&world, "PATCH", &place).await;
    assert_eq!(patched.body["warnings"], made.body["warnings"]);
    let put = ask().json(&webhook(&["order.created"])).send(&world, "PUT", &place).await;
    assert_eq!(put.body["warnings"], json!([]));
    configure(&world, false, &[]).await;
    assert_eq!(create(&world, &webhook(&["order.lost"])).await.body["warnings"], json!([]));
}

#[tokio::test]
async fn a_dry_run_shows_the_result_and_changes_nothing() {
    let world = world();
    let body = json!({"url": "https://example.com/hook", "events": ["a"], "headers": {"X-Api-Key": "canary-one"}});
    let preview = ask().json(&body).send(&world, "POST", &format!("{WEBHOOKS}?dry_run=true")).await;
    assert_eq!((preview.status, preview.text("url")), (200, "https://example.com/hook"), "{}", preview.body);
    assert!(["id", "secret", "secret_hint"].iter().all(|field| preview.body.get(field).is_none()), "{}", preview.body);
    assert_eq!(ask().send(&world, "GET", WEBHOOKS).await.ids(), [""; 0]);

    let made = create(&world, &body).await;
    let place = format!("{WEBHOOKS}/{}", made.text("id"));
    for (change, changed) in [
        (json!({}), &[][..]),
        (json!({"name": "n"}), &["name"]),
        (json!({"events": ["b"], "timeout_seconds": 5}), &["events", "timeout_seconds"]),
        (json!({"headers": {"X-Api-Key": "canary-two"}}), &["headers"]),
        (json!({"active": false}), &["active", "is_active", "status"]),
    ] {
        let mut whole = body.clone();
        whole.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let preview = ask().json(&whole).send(&world, "PUT", &format!("{place}?dry_run=true")).await;
        let mut found: Vec<_> =
            preview.body["changed"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, changed, "{}", preview.body);
        assert!(!preview.body.to_string().contains("canary"), "{}", preview.body);
    }
    let wrong = ask().json(&json!({"url": "nowhere"})).send(&world, "PUT", &format!("{place}?dry_run=true")).await;
    assert_eq!(wrong.wrong(), ["/url"]);
    assert_eq!(ask().send(&world, "GET", &place).await.header("etag"), "\"1\"");
}
