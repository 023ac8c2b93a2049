//! The bus belongs to the operator: who may use it, and for which subjects.

use serde_json::{Value, json};

use super::broker::{Broker, nats_part};
use crate::support::{Answer, Client, Server};

fn create(client: &mut Client, url: &str) -> Answer {
    client.call("POST", "/api/v1/webhooks", Some(&json!({ "url": url, "events": ["*"] })))
}

fn detail(answer: &Answer) -> String {
    answer.json()["errors"][0]["detail"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn only_a_key_of_all_tenants_decides_about_urls_of_the_bus() {
    let broker = Broker::start();
    let server = broker.hooktide(&[]);
    let key =
        server.call("POST", "/api/v1/keys", Some(&json!({ "name": "a", "tenant": "acme", "role": "admin" }))).json();
    let mut tenant = Client::to(server.addr, key["key"].as_str().unwrap().to_owned());
    let forbidden = |answer: Answer| {
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(answer.text().contains("only a key of tenant *"), "{}", answer.text());
    };
    for url in ["nats://hooktide.{type}", "nats://not allowed"] {
        forbidden(create(&mut tenant, url));
    }
    let own = create(&mut tenant, "https://example.com/hook").json()["id"].as_str().unwrap().to_owned();
    let own = format!("/api/v1/webhooks/{own}");
    forbidden(tenant.call("PATCH", &own, Some(&json!({ "url": "nats://hooktide.{type}" }))));

    let made = json!({ "url": "nats://hooktide.{type}", "events": ["*"], "tenant": "acme" });
    let made = server.call("POST", "/api/v1/webhooks", Some(&made)).json();
    let bus = format!("/api/v1/webhooks/{}", made["id"].as_str().unwrap());
    for url in ["https://example.com/hook", "nats://hooktide.other"] {
        forbidden(tenant.call("PATCH", &bus, Some(&json!({ "url": url }))));
        forbidden(tenant.call("PUT", &bus, Some(&json!({ "url": url, "events": ["*"] }))));
    }
    let same = json!({ "url": "nats://hooktide.{type}", "events": ["order.*"] });
    assert_eq!(tenant.call("PUT", &bus, Some(&same)).status, 200, "all else may be changed");
    let header = tenant.call("PATCH", &bus, Some(&json!({ "headers": { "Nats-Rollup": "all" } })));
    assert_eq!(header.status, 422, "a header cannot be a command: {}", header.text());
    assert_eq!(server.call("PATCH", &bus, Some(&json!({ "url": "nats://hooktide.other" }))).status, 200);
}

#[test]
fn a_url_of_the_bus_is_checked_at_creation() {
    let broker = Broker::start();
    let server = broker.hooktide(&[("NATS__SUBJECTS", "hooktide.>,orders.*")]);
    let mut client = server.client();
    for (url, said) in [
        ("nats://hooktide.{typ}", "{typ} is no placeholder of a subject; allowed: {type}"),
        ("nats://hooktide.{typ}", "(at character 17)"),
        ("nats://hooktide.*", "'*' cannot be part of a subject (at character 17)"),
        ("nats://hooktide.", "before, between and after the dots"),
        ("nats://$JS.API.STREAM.DELETE.HOOKTIDE", "webhooks may publish to hooktide.>, orders.*"),
        ("nats://orders.{type}.x", "this subject is not allowed"),
        ("nats://{type}.x", "this subject is not allowed"),
    ] {
        let answer = create(&mut client, url);
        assert_eq!(answer.status, 422, "{url}: {}", answer.text());
        assert!(detail(&answer).contains(said), "{url}: {}", answer.text());
        assert_eq!(answer.json()["errors"][0]["pointer"], "/url", "{url}");
    }
    assert_eq!(create(&mut client, "nats://orders.{type}").status, 201);
    let auth = json!({ "url": "nats://orders.a", "events": ["*"], "auth": { "type": "bearer", "token": "secret" } });
    assert_eq!(client.call("POST", "/api/v1/webhooks", Some(&auth)).status, 422);
}

#[test]
fn without_a_bus_its_urls_are_refused() {
    let server = Server::start(&[]);
    let answer = create(&mut server.client(), "nats://hooktide.{type}");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(detail(&answer).contains("set nats.url"), "{}", answer.text());
    assert_eq!(nats_part(&server.call("GET", "/health", None).json()), Value::Null);
}

#[test]
fn a_subject_that_is_no_longer_allowed_is_a_dead_letter() {
    let broker = Broker::start();
    let mut server = broker.hooktide(&[("NATS__SUBJECTS", "hooktide.>,orders.>")]);
    let (webhook, _) = server.webhook("nats://orders.{type}", &["*"], json!({}));
    server.set("NATS__SUBJECTS", "hooktide.>");
    server.restart(nix::sys::signal::Signal::SIGTERM);
    server.publish("order.created", &json!({}));
    let dead = server.until(&format!("/api/v1/webhooks/{webhook}/dead-letters"), |page| page["data"][0].is_object());
    let said = dead["data"][0]["error_message"].as_str().unwrap();
    assert!(said.contains("nats.subjects does not allow the subject orders.order_created"), "{dead}");
}
