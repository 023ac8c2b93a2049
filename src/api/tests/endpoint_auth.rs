//! Authentication at endpoints: the fields `auth` and `tls`, set, shown, kept, changed and refused.

use super::*;
use crate::outbound::Webhook;

const HOOK: &str = "https://example.com/hook";
const CA: &str = include_str!("../../../tests/data/tls/ca.pem");
const ONE: &str = include_str!("../../../tests/data/tls/client-one.pem");
const ONE_KEY: &str = include_str!("../../../tests/data/tls/client-one.key");
const TWO: &str = include_str!("../../../tests/data/tls/client-two.pem");
const TWO_KEY: &str = include_str!("../../../tests/data/tls/client-two.key");

fn with(fields: &Value) -> Value {
    let mut body = json!({"url": HOOK, "events": ["a"]});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

async fn made_with(world: &World, fields: &Value) -> String {
    let got = create(world, &with(fields)).await;
    assert_eq!((got.status, &got.body["warnings"]), (201, &json!([])), "{}", got.body);
    got.header("location").to_owned()
}

async fn patch(world: &World, place: &str, fields: &Value) -> Got {
    ask().json(fields).send(world, "PATCH", place).await
}

fn live(world: &World) -> Arc<Webhook> {
    Arc::clone(world.registry.load().webhook(WebhookNo(0)).unwrap())
}

/// The header that deliveries carry.
fn carried(world: &World) -> String {
    let webhook = live(world);
    let (name, value) = webhook.auth.as_ref().unwrap().header();
    format!("{name}: {}", value.to_str().unwrap())
}

#[tokio::test]
async fn each_kind_is_shown_without_its_secret_and_can_be_written_back() {
    for (auth, shown, header) in [
        (
            json!({"type": "basic", "username": "shop", "password": "canary:1"}),
            json!({"type": "basic", "username": "shop", "password": "***"}),
            "authorization: Basic c2hvcDpjYW5hcnk6MQ==",
        ),
        (
            json!({"type": "basic", "username": "", "password": "***"}),
            json!({"type": "basic", "username": "", "password": "***"}),
            "",
        ),
        (
            json!({"type": "bearer", "token": "canary"}),
            json!({"type": "bearer", "token": "***"}),
            "authorization: Bearer canary",
        ),
        (
            json!({"type": "header", "name": "X-Api-Key", "value": "canary of two words"}),
            json!({"type": "header", "name": "x-api-key", "value": "***"}),
            "x-api-key: canary of two words",
        ),
    ] {
        let world = world();
        if header.is_empty() {
            let got = create(&world, &with(&json!({"auth": auth}))).await;
            assert_eq!(got.wrong(), ["/auth/password"], "there is none to keep");
            continue;
        }
        let place = made_with(&world, &json!({"auth": auth})).await;
        let read = ask().send(&world, "GET", &place).await;
        assert_eq!(read.body["auth"], shown);
        for method in ["PUT", "PATCH"] {
            let got = ask().json(&read.body).send(&world, method, &place).await;
            assert_eq!((got.status, &got.body["auth"]), (200, &shown), "{method} {}", got.body);
            assert_eq!(carried(&world), header, "{method}");
        }
        let seen = format!("{} {:?}", read.body, live(&world));
        assert!(!seen.contains("canary") && !seen.contains("Y2FuYXJ5"), "{seen}");
    }
}

#[tokio::test]
async fn a_patch_of_auth_keeps_the_unnamed_members() {
    let world = world();
    let place = made_with(&world, &json!({"auth": {"type": "basic", "username": "a", "password": "p"}})).await;
    for (change, header) in [
        (json!({"name": "n"}), "authorization: Basic YTpw"),
        (json!({"auth": {"username": "b"}}), "authorization: Basic Yjpw"),
        (json!({"auth": {"password": "q"}}), "authorization: Basic Yjpx"),
        (
            json!({"auth": {"type": "bearer", "token": "t", "username": null, "password": null}}),
            "authorization: Bearer t",
        ),
        (json!({"auth": {"token": "u"}}), "authorization: Bearer u"),
        (json!({"auth": {"type": "header", "name": "x-key", "value": "v"}}), "x-key: v"),
        (json!({"auth": {"name": "X-Other", "value": "***"}}), "x-other: v"),
    ] {
        let got = patch(&world, &place, &change).await;
        assert_eq!(got.status, 200, "{change} {}", got.body);
        assert_eq!(carried(&world), header, "{change}");
    }
    for (change, wrong) in [
        (json!({"auth": {"type": "basic", "username": "a"}}), "/auth/password"),
        (json!({"auth": {"type": "basic", "username": "a", "password": "***"}}), "/auth/password"),
        (json!({"auth": {"value": null}}), "/auth/value"),
        (json!({"auth": {"type": null}}), "/auth/type"),
        (json!({"auth": {"token": "t"}}), "/auth/token"),
    ] {
        let got = patch(&world, &place, &change).await;
        assert_eq!(got.wrong(), [wrong], "{change}");
    }
    assert_eq!(patch(&world, &place, &json!({"auth": null})).await.body.get("auth"), None);
    assert!(live(&world).auth.is_none());
    patch(&world, &place, &json!({"auth": {"type": "bearer", "token": "t"}})).await;
    let put = ask().json(&with(&json!({}))).send(&world, "PUT", &place).await;
    assert_eq!((put.status, put.body.get("auth")), (200, None), "PUT resets what it does not name");
}

#[tokio::test]
async fn each_invalid_member_of_auth_is_reported() {
    let world = world();
    let basic = |username: &str, password: &str| json!({"type": "basic", "username": username, "password": password});
    let bearer = |token: &str| json!({"type": "bearer", "token": token});
    let header = |name: &str, value: &str| json!({"type": "header", "name": name, "value": value});
    for (auth, wrong) in [
        (json!("Bearer canary"), vec!["/auth"]),
        (json!({}), vec!["/auth/type"]),
        (json!({"type": "digest", "token": "canary"}), vec!["/auth/type"]),
        (json!({"type": "basic"}), vec!["/auth/username", "/auth/password"]),
        (json!({"type": "bearer", "token": 1}), vec!["/auth/token"]),
        (json!({"type": "bearer", "token": "t", "value": "canary"}), vec!["/auth/value"]),
        (basic("a:b", "canary"), vec!["/auth/username"]),
        (basic("a\nb", "canary"), vec!["/auth/username"]),
        (basic(&"x".repeat(257), "canary"), vec!["/auth/username"]),
        (basic("a", ""), vec!["/auth/password"]),
        (basic("a", "canary\u{7f}"), vec!["/auth/password"]),
        (basic("a", &"x".repeat(1_025)), vec!["/auth/password"]),
        (bearer(""), vec!["/auth/token"]),
        (bearer("canary canary"), vec!["/auth/token"]),
        (bearer("canary\r\nx: y"), vec!["/auth/token"]),
        (bearer(&"x".repeat(4_097)), vec!["/auth/token"]),
        (header("x-key", "é"), vec!["/auth/value"]),
        (header("x-key", " canary"), vec!["/auth/value"]),
        (header("x key", "canary"), vec!["/auth/name"]),
        (header("", "canary"), vec!["/auth/name"]),
        (header("Host", "canary"), vec!["/auth/name"]),
        (header("Content-Type", "canary"), vec!["/auth/name"]),
        (header("Transfer-Encoding", "canary"), vec!["/auth/name"]),
        (header("Webhook-Signature", "canary"), vec!["/auth/name"]),
        (header("X-Hub-Signature", "canary"), vec!["/auth/name"]),
    ] {
        let got = create(&world, &with(&json!({"auth": auth}))).await;
        assert_eq!(got.wrong(), wrong, "{auth}");
        assert!(!got.body.to_string().contains("canary"), "{}", got.body);
    }
    assert_eq!(create(&world, &with(&json!({"auth": null, "tls": null}))).await.status, 201);
}

#[tokio::test]
async fn a_header_may_be_set_only_once() {
    let world = world();
    let bearer = json!({"type": "bearer", "token": "t"});
    let key = json!({"type": "header", "name": "X-Key", "value": "v"});
    for (fields, wrong) in [
        (json!({"auth": bearer, "headers": {"AUTHORIZATION": "x"}}), ["/auth", "/headers/authorization"]),
        (json!({"auth": key, "headers": {"x-key": "x"}}), ["/auth/name", "/headers/x-key"]),
    ] {
        assert_eq!(create(&world, &with(&fields)).await.wrong(), wrong);
    }
    let place = made_with(&world, &json!({"headers": {"Authorization": "x"}})).await;
    assert_eq!(patch(&world, &place, &json!({"auth": bearer})).await.wrong(), ["/auth", "/headers/authorization"]);
    let moved = patch(&world, &place, &json!({"auth": bearer, "headers": {"Authorization": null}})).await;
    assert_eq!(moved.status, 200, "{}", moved.body);
    let back = patch(&world, &place, &json!({"headers": {"Authorization": "x"}})).await;
    assert_eq!(back.wrong(), ["/auth", "/headers/authorization"]);
    let profile =
        json!({"profile": "pyairtable", "auth": {"type": "header", "name": "X-PyAirtable-Timestamp", "value": "v"}});
    let got = create(&world, &with(&profile)).await;
    assert_eq!(got.wrong(), ["/auth/name"], "the profile sets it");
}

#[tokio::test]
async fn tls_is_shown_without_its_key_and_written_back_as_it_was() {
    let world = world();
    let tls = json!({"ca": format!("a note: canary\n{CA}"), "client_certificate": ONE, "client_key": ONE_KEY});
    let place = made_with(&world, &json!({"tls": tls})).await;
    let read = ask().send(&world, "GET", &place).await;
    assert_eq!(read.body["tls"], json!({"ca": CA, "client_certificate": ONE, "client_key": "***"}));
    let before = live(&world).tls.clone().unwrap();
    let key = ONE_KEY.lines().nth(1).unwrap();
    let seen = format!("{} {:?}", read.body, live(&world));
    assert!(!seen.contains(key) && !seen.contains("canary"), "{seen}");
    for method in ["PUT", "PATCH"] {
        let got = ask().json(&read.body).send(&world, method, &place).await;
        assert_eq!((got.status, &got.body["tls"]), (200, &read.body["tls"]), "{method} {}", got.body);
        assert!(Arc::ptr_eq(live(&world).tls.as_ref().unwrap(), &before), "{method}: its connections stay good");
    }
    for (change, shown) in [
        (json!({"name": "n"}), read.body["tls"].clone()),
        (json!({"tls": {"ca": null}}), json!({"client_certificate": ONE, "client_key": "***"})),
        (
            json!({"tls": {"client_certificate": TWO, "client_key": TWO_KEY}}),
            json!({"client_certificate": TWO, "client_key": "***"}),
        ),
        (json!({"tls": {"ca": CA, "client_certificate": null, "client_key": null}}), json!({"ca": CA})),
        (json!({"tls": {"ca": null}}), Value::Null),
        (json!({"tls": {"ca": CA}}), json!({"ca": CA})),
        (json!({"tls": null}), Value::Null),
    ] {
        let got = patch(&world, &place, &change).await;
        assert_eq!((got.status, &got.body["tls"]), (200, &shown), "{}", got.body);
    }
    let empty = ask().json(&with(&json!({"tls": {}}))).send(&world, "PUT", &place).await;
    assert_eq!((empty.status, empty.body.get("tls")), (200, None));
    let http = patch(&world, &place, &json!({"tls": {"client_key": "***"}})).await;
    assert_eq!(http.wrong(), ["/tls/client_key"], "there is none to keep");
}

#[tokio::test]
async fn each_invalid_member_of_tls_is_reported() {
    let world = world();
    for (tls, wrong) in [
        (json!(true), "/tls"),
        (json!({"ca": 7}), "/tls/ca"),
        (json!({"ca": "none"}), "/tls/ca"),
        (json!({"ca": format!("{CA}{}", " ".repeat(48 * 1024))}), "/tls/ca"),
        (json!({"insecure": true}), "/tls/insecure"),
        (json!({"client_certificate": ONE}), "/tls/client_key"),
        (json!({"client_key": ONE_KEY}), "/tls/client_certificate"),
        (json!({"client_certificate": ONE, "client_key": TWO_KEY}), "/tls/client_key"),
        (json!({"client_certificate": format!("{ONE}{ONE_KEY}"), "client_key": ONE_KEY}), "/tls/client_certificate"),
    ] {
        let got = create(&world, &with(&json!({"tls": tls}))).await;
        assert_eq!(got.wrong(), [wrong], "{tls}");
        assert!(!got.body.to_string().contains(ONE_KEY.lines().nth(1).unwrap()), "{}", got.body);
    }
}

#[tokio::test]
async fn tls_is_for_https_and_auth_over_http_is_warned_of() {
    let world = world();
    let http = |fields: Value| {
        let mut body = with(&fields);
        body["url"] = "http://example.com/hook".into();
        body
    };
    assert_eq!(create(&world, &http(json!({"tls": {"ca": CA}}))).await.wrong(), ["/tls"]);
    let place = made_with(&world, &json!({"tls": {"ca": CA}})).await;
    let url = json!({"url": "http://example.com/hook"});
    assert_eq!(patch(&world, &place, &url).await.wrong(), ["/tls"]);
    let mut both = url.clone();
    both["tls"] = Value::Null;
    assert_eq!(patch(&world, &place, &both).await.status, 200);
    let got = create(&world, &http(json!({"auth": {"type": "bearer", "token": "t"}}))).await;
    assert_eq!(got.body["warnings"], json!(["auth goes to an http endpoint: whoever is on the way reads it"]));
}

#[tokio::test]
async fn a_dry_run_and_the_audit_log_show_that_a_secret_changed_without_the_secret() {
    let world = world();
    let basic = |password: &str| json!({"type": "basic", "username": "u", "password": password});
    let fields = |password: &str, certificate: &str, key: &str| {
        with(&json!({"auth": basic(password), "tls": {"client_certificate": certificate, "client_key": key}}))
    };
    let place = made_with(&world, &fields("canary-1", ONE, ONE_KEY)).await;
    let dry = format!("{place}?dry_run=true");
    for (body, changed) in [
        (fields("canary-1", ONE, ONE_KEY), json!([])),
        (fields("***", ONE, "***"), json!([])),
        (fields("canary-2", ONE, ONE_KEY), json!(["auth"])),
        // The same key in another spelling.
        (fields("canary-1", ONE, &ONE_KEY.replace('\n', "\r\n")), json!(["tls"])),
    ] {
        let got = ask().json(&body).send(&world, "PUT", &dry).await;
        assert_eq!((got.status, &got.body["changed"]), (200, &changed), "{}", got.body);
        assert!(!got.body.to_string().contains("canary"), "{}", got.body);
    }
    let got = ask().json(&fields("canary-2", TWO, TWO_KEY)).send(&world, "PUT", &place).await;
    assert_eq!(got.status, 200, "{}", got.body);
    let audit = ask().send(&world, "GET", "/api/v1/audit").await;
    assert_eq!(audit.body["data"][0]["changed"], json!(["auth", "tls"]));
    assert!(!audit.body.to_string().contains("canary"), "{}", audit.body);
}
