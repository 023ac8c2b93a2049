//! Sources over the API.

use super::*;
use crate::inbound::source::{PartnerToken, Rejection};
use crate::model::{Principal, SourceId};

const SOURCES: &str = "/api/v1/sources";

async fn make(world: &World, body: &Value) -> Got {
    ask().json(body).send(world, "POST", SOURCES).await
}

fn custom(name: &str) -> Value {
    json!({
        "name": name, "kind": "custom", "description": "A shop", "secrets": ["0123456789abcdef-canary"],
        "verify": { "scheme": "hmac", "sig": "header:X-Acme-Signature", "prefix": "sha256=", "encoding": "hex" },
        "id": "header:X-Acme-Delivery", "type": "json:/type", "max_body_bytes": "2 MiB", "rate_limit_rps": 10,
    })
}

/// The text of a response that is not JSON.
async fn markdown(world: &World, target: &str) -> (String, String) {
    let (parts, ()) = Request::builder().uri(target).body(()).unwrap().into_parts();
    let principal = Principal::new(Some("default".into()), Role::Viewer);
    let call = ManagementRequest { parts, body: Bytes::new(), principal, request_id: "req_1".into() };
    let (head, body) = world.api.handle(call).await.into_parts();
    #[expect(clippy::disallowed_methods, reason = "the body is whole in memory already")]
    let bytes = body.collect().await.unwrap().to_bytes();
    let media = head.headers["content-type"].to_str().unwrap().to_owned();
    (media, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_source_can_be_created_read_changed_deleted_and_restored() {
    let world = world();
    let created = make(&world, &custom("acme")).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let place = created.header("location").to_owned();
    assert_eq!((&*place, created.header("etag")), (&*format!("{SOURCES}/{}", created.text("id")), "\"1\""));
    assert!(!created.body.to_string().contains("0123456789"), "{}", created.body);
    let read = ask().role(Role::Viewer).send(&world, "GET", &format!("{SOURCES}/acme")).await;
    assert_eq!((read.status, read.header("etag")), (200, "\"1\""));
    let expected = json!({
        "id": created.text("id"), "name": "acme", "kind": "custom", "tenant": "default", "description": "A shop",
        "status": "active", "url": read.text("url"), "secret_hints": ["…nary"], "secrets": [{ "hint": "…nary" }],
        "verify": { "scheme": "hmac", "sig": "header:X-Acme-Signature", "prefix": "sha256=", "encoding": "hex" },
        "delivery_id": "header:X-Acme-Delivery", "type": "json:/type", "dedup": "id", "validation_config": null,
        "event_map": null, "max_body_bytes": 2_097_152, "rate_limit_rps": 10.0, "burst": 10, "managed_by": "api",
        "warnings": read.body["warnings"], "created_at": read.body["created_at"], "modified_at": read.body["created_at"],
        "deleted_at": null,
    });
    assert_eq!(read.body, expected);
    assert!(read.text("url").ends_with("/api/v1/webhooks/acme"), "{}", read.text("url"));

    let patch = json!({
        "status": "SUSPENDED", "description": null, "burst": 20, "verify": { "prefix": null },
        "secrets": [{ "hint": "…nary", "until": "2099-01-01T00:00:00.000Z" }, "another-secret-of-theirs"],
    });
    let changed = ask().role(Role::Member).json(&patch).header("if-match", "\"1\"").send(&world, "PATCH", &place).await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""), "{}", changed.body);
    assert_eq!(changed.body["status"], "suspended");
    assert_eq!(changed.body["description"], Value::Null);
    assert_eq!((&changed.body["burst"], &changed.body["rate_limit_rps"]), (&json!(20), &json!(10.0)));
    assert_eq!(changed.body["verify"].get("prefix"), None);
    assert_eq!(
        changed.body["secrets"],
        json!([{ "hint": "…nary", "until": "2099-01-01T00:00:00.000Z" }, { "hint": "…eirs" }])
    );
    let stale = ask().json(&patch).header("if-match", "\"1\"").send(&world, "PATCH", &place).await;
    assert_eq!(stale.status, 412);

    let back = ask().json(&changed.body).send(&world, "PATCH", &place).await;
    assert_eq!(back.status, 200, "what was read may be sent back: {}", back.body);
    for key in ["url", "secrets", "burst", "max_body_bytes", "delivery_id", "status", "verify"] {
        assert_eq!(back.body[key], changed.body[key], "{key}");
    }
    for (patch, wrong) in [
        (json!({ "managed_by": "file" }), "/managed_by"),
        (json!({ "id": "src_00000000000000000000000000" }), "/id"),
        (json!({ "secret": "x" }), "/secret"),
        (json!({ "token": "x" }), "/token"),
        (json!({ "name": null }), "/name"),
        (json!({ "status": "gone" }), "/status"),
        (json!({ "secrets": [{ "hint": "…none" }] }), "/secrets/0/hint"),
        (json!({ "secrets": [{ "env": "HOME" }] }), "/secrets/0/env"),
        (json!({ "verify": { "nope": 1 } }), "/verify"),
        (json!({ "burst": "x" }), "/burst"),
        (json!({ "nope": 1 }), "/nope"),
    ] {
        assert_eq!(ask().json(&patch).send(&world, "PATCH", &place).await.wrong(), [wrong], "{patch}");
    }

    assert_eq!(ask().send(&world, "DELETE", &place).await.status, 204);
    assert_eq!(ask().send(&world, "GET", &place).await.status, 404);
    assert_eq!(ask().send(&world, "GET", &format!("{SOURCES}/acme")).await.status, 404);
    let deleted = ask().send(&world, "GET", &format!("{SOURCES}/acme?deleted=true")).await;
    assert!(deleted.body["deleted_at"].is_string(), "{}", deleted.body);
    assert_eq!(ask().send(&world, "GET", SOURCES).await.ids(), Vec::<&str>::new());
    assert_eq!(ask().send(&world, "GET", &format!("{SOURCES}?deleted=true")).await.ids(), [created.text("id")]);
    let restored = ask().send(&world, "POST", &format!("{SOURCES}/acme/restore")).await;
    assert_eq!((restored.status, &restored.body["deleted_at"]), (200, &Value::Null));
    assert_eq!(restored.body["secret_hints"], json!(["…nary", "…eirs"]));
}

#[tokio::test]
async fn null_goes_back_to_what_the_kind_says() {
    let world = world();
    let rules = json!([{ "when": "*", "type": "shop.{topic}" }]);
    let body = json!({ "name": "shop", "kind": "github", "secrets": ["0123456789-of-a-shop"], "event_map": rules, "dedup": "never" });
    let created = make(&world, &body).await;
    assert_eq!((created.status, &created.body["event_map"]), (201, &rules), "{}", created.body);
    assert_eq!(created.body["dedup"], "never");
    let place = created.header("location").to_owned();
    let changed = ask().json(&json!({ "event_map": null, "dedup": null })).send(&world, "PATCH", &place).await;
    assert_eq!((changed.status, &changed.body["event_map"]), (200, &Value::Null), "{}", changed.body);
    assert_eq!(changed.body["dedup"], "id");
    let none = ask().json(&json!({ "event_map": [] })).send(&world, "PATCH", &place).await;
    assert_eq!(none.body["event_map"], json!([]), "no map at all is not the kind's map: {}", none.body);
}

#[tokio::test]
async fn the_token_of_a_partner_is_shown_once() {
    let world = world();
    let body = json!({ "name": "acme", "kind": "partner", "validation_config": { "required_fields": ["data.id"] } });
    let created = ask().json(&body).header("idempotency-key", "k").send(&world, "POST", SOURCES).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let token = created.text("token").to_owned();
    assert!(PartnerToken::try_new(&token).is_ok());
    assert!(created.text("url").ends_with(&format!("/webhook/v1/{token}")), "{}", created.text("url"));
    assert!(
        created.text("guide").contains(&format!("/webhook/v1/{token}")) && created.text("guide").contains("`data.id`")
    );
    let again = ask().json(&body).header("idempotency-key", "k").send(&world, "POST", SOURCES).await;
    assert_eq!((again.status, again.text("id")), (201, created.text("id")));
    let read = ask().send(&world, "GET", &format!("{SOURCES}/acme")).await;
    let (media, guide) = markdown(&world, &format!("{SOURCES}/acme/guide")).await;
    assert_eq!(media, "text/markdown; charset=utf-8");
    let end = format!("/webhook/v1/…{}", &token[token.len() - 4..]);
    assert!(guide.contains(&end) && read.text("url").ends_with(&end), "{}", read.text("url"));
    for text in [guide, read.body.to_string(), again.body.to_string()] {
        assert!(!text.contains(&token[..12]), "{text}");
    }
    let id: SourceId = created.text("id").parse().unwrap();
    let by_token = |token: &str| world.registry.load().source_by_token(token).map(|source| source.id);
    assert_eq!(by_token(&token), Some(id));

    let rotated = ask().role(Role::Member).send(&world, "POST", &format!("{SOURCES}/acme/rotate-token")).await;
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    let second = rotated.text("token").to_owned();
    assert_eq!((by_token(&token), by_token(&second)), (None, Some(id)));
    assert!(rotated.text("guide").contains(&second));
    let given = json!({ "token": "the-old-one-lives-on-4QIb" });
    let place = format!("{SOURCES}/acme/rotate-token");
    assert_eq!(ask().role(Role::Member).json(&given).send(&world, "POST", &place).await.status, 403);
    assert_eq!(ask().json(&given).send(&world, "POST", &place).await.text("token"), "the-old-one-lives-on-4QIb");
    assert_eq!((by_token(&second), by_token("the-old-one-lives-on-4QIb")), (None, Some(id)));
    assert_eq!(ask().json(&json!({ "token": "short" })).send(&world, "POST", &place).await.wrong(), ["/token"]);

    let in_use = json!({ "name": "other", "kind": "partner", "token": "the-old-one-lives-on-4QIb" });
    assert_eq!(make(&world, &in_use).await.status, 409);
    assert_eq!(ask().role(Role::Member).json(&in_use).send(&world, "POST", SOURCES).await.status, 403);
    make(&world, &custom("shop")).await;
    assert_eq!(ask().send(&world, "POST", &format!("{SOURCES}/shop/rotate-token")).await.status, 409);
}

#[tokio::test]
async fn a_new_secret_is_valid_next_to_the_old_one_until_the_overlap_ends() {
    let world = world();
    assert_eq!(make(&world, &custom("acme")).await.status, 201);
    let place = format!("{SOURCES}/acme/rotate-secret");
    let rotated = ask().role(Role::Member).send(&world, "POST", &place).await;
    assert_eq!(rotated.status, 200, "{}", rotated.body);
    let secret = rotated.text("secret").to_owned();
    assert_eq!(secret.len(), 43, "32 bytes in base64");
    // A day after the test's now.
    let until = |got: &Got, n: usize| got.body["secrets"][n]["until"].as_str().unwrap()[..16].to_owned();
    assert_eq!((&rotated.body["secrets"][1]["hint"], &*until(&rotated, 1)), (&json!("…nary"), "2024-03-22T10:00"));
    let second = json!({ "secret": "a-secret-that-is-given", "overlap_seconds": 3600 });
    let rotated = ask().json(&second).send(&world, "POST", &place).await;
    assert_eq!(rotated.body.get("secret"), None, "whoever gave it knows it");
    assert_eq!(rotated.body["secrets"][0].get("until"), None);
    assert_eq!([until(&rotated, 1), until(&rotated, 2)], ["2024-03-21T11:00", "2024-03-21T11:00"]);
    let at_once = ask().json(&json!({ "overlap_seconds": 0 })).send(&world, "POST", &place).await;
    assert_eq!(at_once.body["secrets"].as_array().unwrap().len(), 1);
    for (body, wrong) in [
        (json!({ "overlap_seconds": -1 }), "/overlap_seconds"),
        (json!({ "secret": 7 }), "/secret"),
        (json!({ "secret": "" }), "/secrets/0"),
        (json!({ "nope": 7 }), "/nope"),
    ] {
        assert_eq!(ask().json(&body).send(&world, "POST", &place).await.wrong(), [wrong], "{body}");
    }
    let stripe = json!({ "name": "stripe", "kind": "stripe", "secrets": ["whsec_0123456789abcdef"] });
    assert_eq!(make(&world, &stripe).await.status, 201);
    let refused = ask().send(&world, "POST", &format!("{SOURCES}/stripe/rotate-secret")).await;
    assert_eq!(refused.wrong(), ["/secret"], "its provider makes it");
}

#[tokio::test]
async fn a_secret_is_generated_if_the_provider_has_none() {
    let world = world();
    let verify = json!({ "scheme": "hmac", "sig": "header:X-Signature", "encoding": "base64", "key": "whsec" });
    for (name, kind, verify, starts, chars) in [
        ("a", "custom", json!({ "scheme": "hmac", "sig": "header:X-S", "encoding": "hex", "key": "hex" }), "", 64),
        ("b", "partner", verify, "whsec_", 50),
        ("c", "standard-webhooks", Value::Null, "whsec_", 50),
        ("d", "token", Value::Null, "", 43),
    ] {
        let made = make(&world, &json!({ "name": name, "kind": kind, "verify": verify })).await;
        assert_eq!(made.status, 201, "{kind}: {}", made.body);
        assert!(made.text("secret").starts_with(starts) && made.text("secret").len() == chars, "{}", made.body);
        let read = ask().send(&world, "GET", &format!("{SOURCES}/{name}")).await;
        assert!(!read.body.to_string().contains(made.text("secret")));
        assert_eq!(read.body["secret_hints"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn errors_of_a_new_source_are_reported() {
    let world = world();
    for (body, wrong) in [
        (json!({}), vec!["/name", "/kind"]),
        (json!({ "name": "a", "kind": "nobody" }), vec!["/kind"]),
        (json!({ "name": "events", "kind": "none" }), vec!["/name"]),
        (json!({ "name": "a", "kind": "none", "nope": 1, "id": 7 }), vec!["/id", "/nope"]),
        (json!({ "name": "a", "kind": "partner", "token": "short" }), vec!["/token"]),
        (json!({ "name": "a", "kind": "partner", "tenant": "other" }), vec!["/tenant"]),
        (json!({ "name": "a", "kind": "stripe" }), vec!["/secrets"]),
        (json!({ "name": "a", "kind": "stripe", "secrets": [{ "file": "/etc/passwd" }] }), vec!["/secrets/0/file"]),
        (
            json!({ "name": "a", "kind": "partner", "validation_config": { "schema": { "$ref": "#" } } }),
            vec!["/validation_config/schema/$ref/$ref"],
        ),
    ] {
        assert_eq!(make(&world, &body).await.wrong(), wrong, "{body}");
    }
    assert_eq!(make(&world, &json!({ "name": "a", "kind": "none" })).await.status, 201);
    assert_eq!(make(&world, &json!({ "name": "a", "kind": "none" })).await.text("code"), "conflict");
}

#[tokio::test]
async fn tenants_roles_filters_and_pages() {
    let world = world();
    for name in ["a-one", "a-two", "b-one"] {
        assert_eq!(make(&world, &custom(name)).await.status, 201);
    }
    let other = ask()
        .tenant(Some("acme"))
        .json(&json!({ "name": "a-one", "kind": "none" }))
        .send(&world, "POST", SOURCES)
        .await;
    assert_eq!((other.status, other.text("tenant")), (201, "acme"));
    let place = format!("{SOURCES}/{}", other.text("id"));
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(ask().json(&json!({})).send(&world, method, &place).await.status, 404, "{method}");
    }
    for below in ["/guide", "/rejections"] {
        assert_eq!(ask().send(&world, "GET", &format!("{place}{below}")).await.status, 404);
    }
    let any = || ask().tenant(None);
    assert_eq!(any().send(&world, "GET", &place).await.status, 200);
    assert_eq!(any().send(&world, "GET", &format!("{SOURCES}/a-one")).await.text("tenant"), "default");
    assert_eq!(any().send(&world, "GET", &format!("{SOURCES}/a-one?tenant=acme")).await.text("id"), other.text("id"));
    assert_eq!(any().send(&world, "GET", SOURCES).await.ids().len(), 4);
    for role in [Role::Viewer, Role::Publisher] {
        assert_eq!(ask().role(role).json(&custom("c")).send(&world, "POST", SOURCES).await.status, 403);
    }
    for (query, count) in
        [("kind=custom", 3), ("kind=none", 0), ("q=a-", 2), ("q=SHOP", 3), ("status=ACTIVE", 3), ("status=inactive", 0)]
    {
        assert_eq!(ask().send(&world, "GET", &format!("{SOURCES}?{query}")).await.ids().len(), count, "{query}");
    }
    assert_eq!(ask().send(&world, "GET", &format!("{SOURCES}?status=gone")).await.status, 400);
    let mut names = Vec::new();
    let mut at = format!("{SOURCES}?limit=2");
    loop {
        let page = ask().send(&world, "GET", &at).await;
        names.extend(page.body["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        at = format!("{SOURCES}?limit=2&cursor={cursor}");
    }
    assert_eq!(names, ["b-one", "a-two", "a-one"]);
}

#[tokio::test]
async fn rejections_are_listed_newest_first() {
    let world = world();
    let created = make(&world, &custom("acme")).await;
    let id: SourceId = created.text("id").parse().unwrap();
    for n in 0..3 {
        let headers = [("x-a", "1"), ("x-a", "2"), ("x-acme-signature", "***")];
        let rejection = Rejection {
            at: Timestamp::from_millis(n),
            request_id: "req_1".into(),
            status: 401,
            reason: "the signature does not fit".into(),
            request: "POST /api/v1/webhooks/acme".into(),
            headers: headers.map(|(name, value)| (name.into(), value.into())).into(),
            body: b"{\"a\":\xff".as_slice().into(),
            body_bytes: 9000,
        };
        assert!(world.rejections.push(id, rejection));
    }
    let got = ask().role(Role::Viewer).send(&world, "GET", &format!("{SOURCES}/acme/rejections?limit=2")).await;
    let rows = got.body["data"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let expected = json!({
        "at": "1970-01-01T00:00:00.002Z", "request_id": "req_1", "status": 401, "reason": "the signature does not fit",
        "request": "POST /api/v1/webhooks/acme", "headers": { "x-a": "1, 2", "x-acme-signature": "***" },
        "body": "{\"a\":\u{fffd}", "body_bytes": 9000,
    });
    assert_eq!(rows[0], expected);
}
