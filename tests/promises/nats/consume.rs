//! A source consumes messages: each becomes one event, and its ack comes after the fsync of the event.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Config;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::broker::{Broker, BrokerClient, nats_part};
use crate::support::{Server, Sink, WAIT_TIMEOUT, scaled};

const INBOX: &str = "INBOX";
const DUPLICATE_WINDOW: Duration = Duration::from_millis(200);
const DURABLE: &str = "hooktide-orders";

fn inbox(broker: &Broker) -> BrokerClient {
    let client = broker.client();
    let config = Config {
        name: INBOX.to_owned(),
        subjects: vec!["orders.>".to_owned()],
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    };
    client.runtime.block_on(client.context.create_stream(config)).unwrap();
    client
}

/// Creates the source `shop`.
fn source(server: &Server, more: Value) -> Value {
    let mut body = json!({ "name": "shop", "kind": "nats", "subjects": ["orders.>"], "durable": DURABLE });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let answer = server.call("POST", "/api/v1/sources", Some(&body));
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

/// Waits until no message waits for its delivery or its ack. Returns the number of deliveries so far.
fn until_consumed(client: &BrokerClient) -> u64 {
    let until = Instant::now() + WAIT_TIMEOUT;
    loop {
        let info = client.runtime.block_on(async {
            let stream = client.context.get_stream(INBOX).await.unwrap();
            let consumer = stream.get_consumer::<async_nats::jetstream::consumer::pull::Config>(DURABLE).await;
            Some(consumer.ok()?.cached_info().clone())
        });
        let counts = info.as_ref().map(|info| (info.num_pending, info.num_ack_pending));
        if let (Some((0, 0)), Some(info)) = (counts, &info) {
            return info.delivered.consumer_sequence;
        }
        assert!(Instant::now() < until, "pending and unacknowledged: {counts:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_message_becomes_one_event_however_often_it_arrives() {
    let broker = Broker::start();
    let client = inbox(&broker);
    let server = broker.hooktide(&[]);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    let made = source(&server, json!({}));
    assert_eq!((&made["subjects"], &made["durable"]), (&json!(["orders.>"]), &json!(DURABLE)), "{made}");

    let headers = [("Nats-Msg-Id", "order-1"), ("x-correlation-id", "corr-1"), ("webhook-hops", "2")];
    client.publish("orders.eu.created", &headers, br#"{"n": 1}"#);
    let first = sink.next();
    assert_eq!(first.json()["type"], "shop.orders.eu.created");
    assert_eq!(first.json()["data"], json!({ "n": 1 }));
    assert_eq!((&*first.headers["x-correlation-id"], &*first.headers["webhook-hops"]), ("corr-1", "3"));
    // The stream remembers ids for a short time. Afterwards, a repeated message is new to the stream.
    thread::sleep(2 * DUPLICATE_WINDOW);
    client.publish("orders.eu.created", &headers, br#"{"n": 1}"#);
    // Messages without an id are different, even with the same body.
    for _ in 0..2 {
        client.publish("orders.plain", &[], b"text");
    }
    for _ in 0..2 {
        assert_eq!(sink.next().json()["data"], json!("text"));
    }
    until_consumed(&client);
    // A new consumer gets all messages once more.
    client.runtime.block_on(async {
        let stream = client.context.get_stream(INBOX).await.unwrap();
        stream.delete_consumer(DURABLE).await.unwrap();
    });
    client.publish("orders.last", &[], b"{}");
    assert_eq!(sink.next().json()["type"], "shop.orders.last");
    until_consumed(&client);
    assert_eq!(sink.all().len(), 4, "{:?}", sink.counts());
}

#[test]
fn an_event_map_names_the_events() {
    let broker = Broker::start();
    let client = inbox(&broker);
    let server = broker.hooktide(&[]);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    source(
        &server,
        json!({ "event_map": [{ "when": "orders.created", "type": "order.created", "data": { "id": "/order/id" } }] }),
    );
    client.publish("orders.created", &[], br#"{"order": {"id": 7}}"#);
    let event = sink.next().json();
    assert_eq!((&event["type"], &event["data"]), (&json!("order.created"), &json!({ "id": 7 })), "{event}");
}

#[test]
fn a_message_that_can_never_be_accepted_is_terminated_and_listed() {
    let broker = Broker::start();
    let client = inbox(&broker);
    let server = broker.hooktide(&[]);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    source(&server, json!({ "max_body_bytes": 1024 }));
    client.publish("orders.large", &[], &[b'x'; 2000]);
    // This event went round in a loop of gateways.
    client.publish("orders.loop", &[("webhook-hops", "9")], b"{}");
    client.publish("orders.good", &[], b"{}");
    assert_eq!(sink.next().json()["type"], "shop.orders.good");
    let listed = server
        .until("/api/v1/sources/shop/rejections", |page| page["data"].as_array().is_some_and(|all| all.len() == 2));
    let reasons: HashMap<&str, &str> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["request"].as_str().unwrap(), one["reason"].as_str().unwrap()))
        .collect();
    assert!(reasons["NATS orders.large"].contains("2000 bytes"), "{listed}");
    assert!(reasons["NATS orders.loop"].contains("loop of gateways"), "{listed}");
    assert_eq!(until_consumed(&client), 3, "each message was delivered once");
    // The name of the source takes no requests.
    assert_eq!(server.call("POST", "/api/v1/webhooks/shop", Some(&json!({}))).status, 404);
}

#[test]
fn messages_wait_while_the_source_may_not_accept_more() {
    let broker = Broker::start();
    let client = inbox(&broker);
    let server = broker.hooktide(&[]);
    let sink = Sink::start();
    server.webhook(&sink.url("/"), &["*"], json!({}));
    source(&server, json!({ "rate_limit_rps": 2, "burst": 2 }));
    for n in 0..6 {
        client.publish("orders.created", &[], n.to_string().as_bytes());
    }
    let numbers: HashSet<u64> = (0..6).map(|_| sink.next().json()["data"].as_u64().unwrap()).collect();
    assert_eq!(numbers.len(), 6, "a refused message comes back");
    assert!(until_consumed(&client) > 6, "some messages were delivered again");
}

#[test]
fn kills_of_the_server_lose_no_message_and_repeat_no_event() {
    let broker = Broker::start();
    let client = inbox(&broker);
    let mut server = broker.hooktide(&[]);
    source(&server, json!({}));
    let messages = scaled(600);
    thread::scope(|scope| {
        let url = broker.url();
        scope.spawn(move || {
            let client = BrokerClient::to(&url);
            for n in 0..messages {
                client.publish("orders.created", &[], format!(r#"{{"n":{n}}}"#).as_bytes());
                thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(200));
            server.restart(Signal::SIGKILL);
        }
    });
    until_consumed(&client);
    let mut seen: Vec<u64> = Vec::new();
    let mut path = "/api/v1/events?limit=100&include=payload".to_owned();
    loop {
        let page = server.call("GET", &path, None).json();
        for event in page["data"].as_array().unwrap() {
            let event = server.call("GET", &format!("/api/v1/events/{}", event["id"].as_str().unwrap()), None).json();
            seen.push(event["data"]["n"].as_u64().unwrap_or_else(|| panic!("{event}")));
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("/api/v1/events?limit=100&cursor={next}");
    }
    let distinct: HashSet<u64> = seen.iter().copied().collect();
    assert_eq!((seen.len(), distinct.len()), (messages, messages));
}

#[test]
fn a_source_of_the_bus_belongs_to_the_operator_and_says_what_is_wrong() {
    let broker = Broker::start();
    let server = broker.hooktide(&[]);
    let key = json!({ "name": "a", "tenant": "acme", "role": "admin" });
    let key = server.call("POST", "/api/v1/keys", Some(&key)).json();
    let mut tenant = crate::support::Client::to(server.addr, key["key"].as_str().unwrap().to_owned());
    let body = json!({ "name": "shop", "kind": "nats", "subjects": ["orders.>"], "durable": DURABLE });
    assert_eq!(tenant.call("POST", "/api/v1/sources", Some(&body)).status, 403);
    for (field, value, pointer) in [
        ("subjects", json!([]), "/subjects"),
        ("subjects", json!(["a..b"]), "/subjects/0"),
        ("durable", json!("a.b"), "/durable"),
        ("stream", json!("a b"), "/stream"),
        ("url", json!("https://example.com"), "/url"),
        ("secret", json!("0123456789abcdef0123"), "/secrets"),
    ] {
        let mut body = body.clone();
        body[field] = value;
        let answer = server.call("POST", "/api/v1/sources", Some(&body));
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["pointer"]),
            (422, &json!(pointer)),
            "{}",
            answer.text()
        );
    }
    // There is no stream with this subject.
    source(&server, json!({}));
    server.until("/health", |health| {
        nats_part(health)["detail"].as_str().is_some_and(|detail| detail.contains("no stream has the subject orders.>"))
    });
    let client = inbox(&broker);
    server.until("/health", |health| nats_part(health)["state"] == "ok");
    client.publish("orders.created", &[], b"{}");
    until_consumed(&client);
}
