use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use serde_json::Value;

use super::super::docs::JSON;
use super::*;
use crate::http::{ListenerKind, Target};
use crate::model::WebhookId;
use crate::model::path::WEBHOOK_WORDS;

/// The description, with references to other paths resolved.
fn described() -> BTreeMap<(String, String), Value> {
    let document: Value = serde_json::from_str(JSON).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut described = BTreeMap::new();
    for (path, item) in paths {
        let item = match item["$ref"].as_str() {
            Some(to) => document.pointer(to.strip_prefix('#').unwrap()).unwrap(),
            None => item,
        };
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            let mut operation = operation.clone();
            operation.as_object_mut().unwrap().entry("security").or_insert_with(|| document["security"].clone());
            described.insert((method.to_uppercase(), path.clone()), operation);
        }
    }
    described
}

#[test]
fn every_route_is_described_and_no_other() {
    let described = described();
    let rows: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.method.as_str().to_owned(), route.path.to_owned())).collect();
    assert_eq!(rows, described.keys().cloned().collect());
    assert_eq!(rows.len(), ROUTES.len());
    for route in ROUTES {
        let operation = &described[&(route.method.as_str().to_owned(), route.path.to_owned())];
        assert_eq!(operation["operationId"], route.operation, "{}", route.path);
    }
}

/// The description says in its beginning: a viewer reads, a publisher only publishes, members and admins read and write. An
/// operation says where another role is needed.
#[test]
fn roles_are_as_they_are_described() {
    let described = described();
    for route in ROUTES {
        let operation = &described[&(route.method.as_str().to_owned(), route.path.to_owned())];
        let text = operation["description"].as_str().unwrap_or_default();
        let is_open = operation["security"].as_array().unwrap().contains(&serde_json::json!({}));
        let expected = if is_open && operation["tags"][0] == "inbound" {
            Needs::Source
        } else if is_open {
            Needs::Nothing
        } else if operation["operationId"] == "publishEvents" {
            Needs::Publish
        } else if text.starts_with("For an admin") {
            Needs::Role(Role::Admin)
        } else if route.method == Verb::Get || text.starts_with("For a viewer") {
            Needs::Role(Role::Viewer)
        } else {
            Needs::Role(Role::Member)
        };
        assert_eq!(route.needs, expected, "{} {}", route.method.as_str(), route.path);
    }
}

#[test]
fn a_uid_is_no_word_of_the_table() {
    let router = router().unwrap();
    let words: BTreeSet<_> = router.words().iter().collect();
    assert_eq!(words, WEBHOOK_WORDS.iter().collect());
}

#[test]
fn each_listener_has_its_routes() {
    use ListenerKind::{Admin, Public, Whole};
    use Target::{Document, Health, Live, Management, Metrics, Partner, Publish, Ready};
    let router = router().unwrap();
    let source = |name, path| Ok(Target::Source { name, path });
    for (method, path, surface, want) in [
        (Method::POST, "/api/v1/events", Whole, Ok(Publish)),
        (Method::GET, "/api/v1/events", Whole, Ok(Management)),
        (Method::POST, "/api/v1/events", Public, Ok(Publish)),
        (Method::GET, "/api/v1/events", Public, Err(405)),
        (Method::POST, "/api/v1/events", Admin, Err(405)),
        (Method::GET, "/api/v1/events", Admin, Ok(Management)),
        (Method::HEAD, "/health", Public, Ok(Health)),
        (Method::GET, "/api/v1/health", Admin, Ok(Health)),
        (Method::POST, "/health", Whole, Err(405)),
        (Method::GET, "/ready", Public, Ok(Ready)),
        (Method::GET, "/api/v1/health/ready", Whole, Ok(Ready)),
        (Method::GET, "/api/v1/health/live", Whole, Ok(Live)),
        (Method::GET, "/metrics", Whole, Ok(Metrics)),
        (Method::GET, "/metrics", Public, Err(404)),
        (Method::GET, "/docs/errors", Whole, Ok(Document)),
        (Method::GET, "/openapi.json", Admin, Ok(Document)),
        (Method::GET, "/openapi.json", Public, Err(404)),
        (Method::PATCH, "/api/v1/webhooks/wh_1", Whole, Ok(Management)),
        (Method::PATCH, "/api/v1/webhooks/wh_1", Public, Err(404)),
        (Method::POST, "/api/v1/webhooks/wh_1", Whole, source("wh_1", None)),
        (Method::POST, "/api/v1/webhooks/wh_1/pause", Whole, Ok(Management)),
        (Method::POST, "/webhook/v1/abc", Whole, Ok(Partner("abc"))),
        (Method::POST, "/webhook/v1/abc", Public, Ok(Partner("abc"))),
        (Method::POST, "/webhook/v1/abc", Admin, Err(404)),
        (Method::GET, "/webhook/v1/abc", Whole, Err(405)),
        (Method::POST, "/webhook/v1/", Whole, Err(404)),
        (Method::POST, "/webhook/v1/a/b", Whole, Err(404)),
        (Method::POST, "/api/v1/webhooks/stripe", Whole, source("stripe", None)),
        (Method::GET, "/api/v1/webhooks/meta", Public, source("meta", None)),
        (Method::POST, "/api/v1/webhooks/shopify/orders/create", Public, source("shopify", Some("orders/create"))),
        (Method::POST, "/api/v1/webhooks/src_1", Whole, source("src_1", None)),
        (Method::POST, "/api/v1/webhooks/stripe", Admin, Ok(Management)),
        (Method::GET, "/api/v1/webhooks/events", Whole, Ok(Management)),
        (Method::GET, "/api/v1/webhooks/deliveries", Public, Err(404)),
        (Method::GET, "/api/v1/webhooks/", Whole, Ok(Management)),
        (Method::POST, "/api/v1/webhooks", Whole, Ok(Management)),
        (Method::TRACE, "/health", Whole, Err(405)),
        (Method::CONNECT, "", Whole, Err(405)),
        (Method::GET, "/", Whole, Err(404)),
        (Method::GET, "//health", Whole, Err(404)),
        (Method::GET, "/../health", Whole, Err(404)),
        (Method::GET, "/%68ealth", Whole, Err(404)),
        (Method::POST, "/api/v1/events/", Whole, Ok(Management)),
        (Method::OPTIONS, "*", Whole, Err(404)),
    ] {
        let got = router.target(&method, path, surface).map_err(|problem| problem.code.status().as_u16());
        assert_eq!(got, want, "{method} {path} on {surface:?}");
    }
}

#[test]
fn what_is_no_resource_is_no_route() {
    let router = router().unwrap();
    let webhook = WebhookId::from_u128(1).to_string();
    for path in [
        "/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/webhooks/",
        "/api/v1/webhooks/wh_1",
        &format!("/api/v1/webhooks/{webhook}/"),
        &format!("/api/v1/webhooks/{webhook}/unknown"),
        &format!("/api/v1/webhooks/{webhook}/pause/x"),
        &format!("/api/v1/webhooks/{webhook}/dead-letters/dlv_1"),
        &format!("/api/v1/events/{webhook}"),
        "/api/v1/replays/1",
        "/api/v1/replay/rpl_1",
        "/api/v1/sources/",
        "/api/v1/sources/Acme",
        "/api/v1/sources/src_1",
        "/api/v1/sources/acme/",
        "/api/v1/sources/acme/unknown",
        "/api/v1/sources/acme/guide/x",
        "/api/v2/webhooks",
    ] {
        let status = router.management(&Method::GET, path).unwrap_err().code.status();
        assert_eq!(status, 404, "{path}");
    }
}

#[test]
fn what_the_place_has_is_named_where_a_method_is_not_allowed() {
    let router = router().unwrap();
    let webhook = WebhookId::from_u128(1).to_string();
    let allowed = |method: Method, path: &str| match router.management(&method, path) {
        Ok(_) => panic!("{method} {path}"),
        Err(problem) => problem.detail,
    };
    // What is posted to the place of a webhook is a source's, and to that of the events an application's.
    let place = format!("/api/v1/webhooks/{webhook}");
    assert_eq!(allowed(Method::POST, &place), "allowed here: GET, HEAD, POST, PUT, PATCH, DELETE");
    assert_eq!(allowed(Method::OPTIONS, "/api/v1/events"), "allowed here: GET, HEAD, POST");
    assert_eq!(allowed(Method::GET, &format!("{place}/dead-letters/bulk-replay")), "allowed here: POST");
    assert_eq!(allowed(Method::POST, "/api/v1/webhooks/events"), "allowed here: GET, HEAD");
    assert!(router.management(&Method::HEAD, &place).is_ok());
}
