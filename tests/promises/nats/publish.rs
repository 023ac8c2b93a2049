//! A delivery is a message with the headers of its webhook, and succeeds with the ack of the stream.

use serde_json::{Value, json};

use super::broker::{Broker, STREAM, nats_part};

#[test]
fn a_webhook_publishes_signed_messages_and_the_ack_decides() {
    let broker = Broker::start();
    let server = broker.hooktide(&[]);
    let more = json!({ "headers": { "X-Own": "yes" } });
    let (webhook, _) = server.webhook("nats://hooktide.{tenant}.{type}.{data.id}", &["order.*"], more);
    let event = json!({ "type": "order.created", "data": { "id": "a.b *" } });
    let headers = [("Content-Type", "application/json"), ("X-Correlation-ID", "corr-1")];
    let answer = server.client().send("POST", "/api/v1/events", &headers, event.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let event = answer.json()["id"].as_str().unwrap().to_owned();

    let path = format!("/api/v1/webhooks/{webhook}/deliveries");
    let page = server.until(&path, |page| page["data"][0]["status"] == "delivered");
    let delivery = page["data"][0]["id"].as_str().unwrap();
    let attempts =
        server.until(&format!("/api/v1/deliveries/{delivery}"), |delivery| delivery["attempts"][0].is_object());
    let response: Value = serde_json::from_str(attempts["attempts"][0]["response"].as_str().unwrap()).unwrap();
    let expected =
        json!({ "stream": STREAM, "seq": 1, "duplicate": false, "subject": "hooktide.default.order_created.a_b" });
    assert_eq!(response, expected, "the ack is in the history");

    let messages = broker.client().messages();
    assert_eq!(messages.len(), 1);
    let message = &messages[0];
    assert_eq!(message.subject, "hooktide.default.order_created.a_b");
    assert_eq!(message.json()["data"], json!({ "id": "a.b *" }));
    for (name, value) in [
        ("Nats-Msg-Id", &*format!("{event}:{webhook}")),
        ("webhook-id", &event),
        ("webhook-event-type", "order.created"),
        ("webhook-hops", "1"),
        ("x-correlation-id", "corr-1"),
        ("x-own", "yes"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(message.headers.get(name).map(String::as_str), Some(value), "{name}: {:?}", message.headers);
    }
    assert!(message.headers["webhook-signature"].starts_with("v1,"), "{:?}", message.headers);
    assert!(["host", "user-agent"].iter().all(|name| !message.headers.contains_key(*name)), "{:?}", message.headers);
}

#[test]
fn a_test_delivery_shows_its_message_and_ack() {
    let broker = Broker::start();
    let server = broker.hooktide(&[]);
    let (webhook, _) = server.webhook("nats://hooktide.{type}", &["order.created"], json!({}));
    let answer = server.call("POST", &format!("/api/v1/webhooks/{webhook}/test"), Some(&json!({ "data": { "n": 1 } })));
    let shown = answer.json();
    assert_eq!((answer.status, &shown["success"]), (200, &json!(true)), "{shown}");
    assert!(shown["body"].as_str().unwrap().contains("hooktide.order_created"), "{shown}");
    assert!(shown["request"]["headers"]["nats-msg-id"].as_str().unwrap().ends_with(&webhook), "{shown}");
    assert_eq!(broker.client().messages()[0].json()["data"], json!({ "n": 1 }));
}

#[test]
fn a_message_over_the_limit_of_the_broker_is_a_dead_letter_at_once() {
    let broker = Broker::with("jetstream { sync_interval: always }\nmax_payload: 8KB");
    let server = broker.hooktide(&[]);
    let (webhook, _) = server.webhook("nats://hooktide.{type}", &["*"], json!({}));
    server.publish("order.large", &json!({ "text": "x".repeat(9_000) }));
    server.publish("order.small", &json!({ "text": "x" }));
    let dead = server.until(&format!("/api/v1/webhooks/{webhook}/dead-letters"), |page| page["data"][0].is_object());
    let letter = &dead["data"][0];
    assert_eq!((&letter["failure_reason"], &letter["attempt_count"]), (&json!("not_retryable"), &json!(1)), "{letter}");
    assert!(letter["error_message"].as_str().unwrap().contains("over the max_payload of the NATS server"), "{letter}");
    let client = broker.client();
    client.until_count(1);
    assert_eq!(client.messages()[0].subject, "hooktide.order_small");
    assert!(!server.log().contains("the connection to NATS is lost"), "the broker closed the connection");
}

#[test]
fn health_and_the_log_say_what_is_wrong_with_the_broker() {
    // The acks of this broker come before the sync.
    let broker = Broker::with("jetstream { sync_interval: 60s }");
    let client = broker.client();
    let other = async_nats::jetstream::stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["other.>".to_owned()],
        ..Default::default()
    };
    client.runtime.block_on(client.context.create_stream(other)).unwrap();
    let (url, monitor) = (broker.url(), broker.monitor_url());
    let mut server = crate::support::Server::start(&[("NATS__URL", &url), ("NATS__MONITOR_URL", &monitor)]);
    let said = |health: &Value| nats_part(health)["detail"].as_str().unwrap_or_default().to_owned();
    let health = server.until("/health", |health| said(health).contains("do not cover hooktide.>"));
    assert_eq!(health["status"], "degraded", "{health}");
    server.until_logged("acknowledges messages before it syncs them");
    assert_eq!(server.call("GET", "/ready", None).status, 200);
    // Adding the subject is enough.
    let both = async_nats::jetstream::stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["other.>".to_owned(), "hooktide.>".to_owned()],
        ..Default::default()
    };
    client.runtime.block_on(client.context.update_stream(both)).unwrap();
    server.until("/health", |health| nats_part(health)["state"] == "ok");
    drop(client);
    drop(broker);
    let health = server.until("/health", |health| said(health).contains("not connected"));
    assert_eq!(health["status"], "degraded", "{health}");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0), "the server stops without a broker");
}
