use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use serde_json::Value;

use super::super::docs::JSON;
use super::*;
use crate::http::{ListenerKind, RouteTarget};
use crate::model::WebhookId;
use crate::model::path::RESERVED_WEBHOOK_SEGMENTS;

/// The OpenAPI document, with references to other paths resolved.
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
fn the_openapi_document_describes_exactly_the_routes() {
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

/// The OpenAPI document begins with the general rule: a viewer reads, a publisher only publishes, members and admins read
/// and write. An operation describes each exception.
#[test]
fn roles_are_as_they_are_described() {
    let described = described();
    for route in ROUTES {
        let operation = &described[&(route.method.as_str().to_owned(), route.path.to_owned())];
        let text = operation["description"].as_str().unwrap_or_default();
        let is_open = operation["security"].as_array().unwrap().contains(&serde_json::json!({}));
        let expected = if is_open && operation["tags"][0] == "inbound" {
            RequiredAccess::SourceCredentials
        } else if is_open {
            RequiredAccess::Anyone
        } else if operation["operationId"] == "publishEvents" {
            RequiredAccess::Publish
        } else if text.starts_with("For an admin") {
            RequiredAccess::Role(Role::Admin)
        } else if route.method == Verb::Get || text.starts_with("For a viewer") {
            RequiredAccess::Role(Role::Viewer)
        } else {
            RequiredAccess::Role(Role::Member)
        };
        assert_eq!(route.required_access, expected, "{} {}", route.method.as_str(), route.path);
    }
}

#[test]
fn the_reserved_names_cannot_be_uids() {
    let router = router().unwrap();
    let reserved_names: BTreeSet<_> = router.reserved_names().iter().collect();
    assert_eq!(reserved_names, RESERVED_WEBHOOK_SEGMENTS.iter().collect());
}

#[test]
fn each_listener_has_its_routes() {
    use ListenerKind::{Admin, Combined, Public};
    use RouteTarget::{Document, Health, Live, Management, Metrics, Partner, Publish, Ready};
    let router = router().unwrap();
    let source = |name, path| Ok(RouteTarget::Source { name, path });
    for (method, path, listener, want) in [
        (Method::POST, "/api/v1/events", Combined, Ok(Publish)),
        (Method::GET, "/api/v1/events", Combined, Ok(Management)),
        (Method::POST, "/api/v1/events", Public, Ok(Publish)),
        (Method::GET, "/api/v1/events", Public, Err(405)),
        (Method::POST, "/api/v1/events", Admin, Err(405)),
        (Method::GET, "/api/v1/events", Admin, Ok(Management)),
        (Method::HEAD, "/health", Public, Ok(Health)),
        (Method::GET, "/api/v1/health", Admin, Ok(Health)),
        (Method::POST, "/health", Combined, Err(405)),
        (Method::GET, "/ready", Public, Ok(Ready)),
        (Method::GET, "/api/v1/health/ready", Combined, Ok(Ready)),
        (Method::GET, "/api/v1/health/live", Combined, Ok(Live)),
        (Method::GET, "/metrics", Combined, Ok(Metrics)),
        (Method::GET, "/metrics", Public, Err(404)),
        (Method::GET, "/docs/errors", Combined, Ok(Document)),
        (Method::GET, "/openapi.json", Admin, Ok(Document)),
        (Method::GET, "/openapi.json", Public, Err(404)),
        (Method::PATCH, "/api/v1/webhooks/wh_1", Combined, Ok(Management)),
        (Method::PATCH, "/api/v1/webhooks/wh_1", Public, Err(404)),
        (Method::POST, "/api/v1/webhooks/wh_1", Combined, source("wh_1", None)),
        (Method::POST, "/api/v1/webhooks/wh_1/pause", Combined, Ok(Management)),
        (Method::POST, "/webhook/v1/abc", Combined, Ok(Partner("abc"))),
        (Method::POST, "/webhook/v1/abc", Public, Ok(Partner("abc"))),
        (Method::POST, "/webhook/v1/abc", Admin, Err(404)),
        (Method::GET, "/webhook/v1/abc", Combined, Err(405)),
        (Method::POST, "/webhook/v1/", Combined, Err(404)),
        (Method::POST, "/webhook/v1/a/b", Combined, Err(404)),
        (Method::POST, "/api/v1/webhooks/stripe", Combined, source("stripe", None)),
        (Method::GET, "/api/v1/webhooks/meta", Public, source("meta", None)),
        (Method::POST, "/api/v1/webhooks/shopify/orders/create", Public, source("shopify", Some("orders/create"))),
        (Method::POST, "/api/v1/webhooks/src_1", Combined, source("src_1", None)),
        (Method::POST, "/api/v1/webhooks/stripe", Admin, Ok(Management)),
        (Method::GET, "/api/v1/webhooks/events", Combined, Ok(Management)),
        (Method::GET, "/api/v1/webhooks/deliveries", Public, Err(404)),
        (Method::GET, "/api/v1/webhooks/", Combined, Ok(Management)),
        (Method::POST, "/api/v1/webhooks", Combined, Ok(Management)),
        (Method::TRACE, "/health", Combined, Err(405)),
        (Method::CONNECT, "", Combined, Err(405)),
        (Method::GET, "/", Combined, Err(404)),
        (Method::GET, "//health", Combined, Err(404)),
        (Method::GET, "/../health", Combined, Err(404)),
        (Method::GET, "/%68ealth", Combined, Err(404)),
        (Method::POST, "/api/v1/events/", Combined, Ok(Management)),
        (Method::OPTIONS, "*", Combined, Err(404)),
    ] {
        let got = router.target(&method, path, listener).map_err(|problem| problem.code.status().as_u16());
        assert_eq!(got, want, "{method} {path} on {listener:?}");
    }
}

#[test]
fn a_path_that_is_not_a_resource_is_not_a_route() {
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
fn a_refused_method_lists_the_methods_of_its_path() {
    let router = router().unwrap();
    let webhook = WebhookId::from_u128(1).to_string();
    let allowed = |method: Method, path: &str| match router.management(&method, path) {
        Ok(_) => panic!("{method} {path}"),
        Err(problem) => problem.detail,
    };
    // A POST to the path of a webhook is for a source, and a POST to the path of events is from an application.
    let place = format!("/api/v1/webhooks/{webhook}");
    assert_eq!(allowed(Method::POST, &place), "allowed here: GET, HEAD, POST, PUT, PATCH, DELETE");
    assert_eq!(allowed(Method::OPTIONS, "/api/v1/events"), "allowed here: GET, HEAD, POST");
    assert_eq!(allowed(Method::GET, &format!("{place}/dead-letters/bulk-replay")), "allowed here: POST");
    assert_eq!(allowed(Method::POST, "/api/v1/webhooks/events"), "allowed here: GET, HEAD");
    assert!(router.management(&Method::HEAD, &place).is_ok());
}
