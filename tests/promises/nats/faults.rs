//! No accepted event in flight to the stream is lost, whichever side fails, and the stream has each event once.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::broker::{Broker, BrokerClient, nats_part};
use crate::support::{Server, scaled};

/// Publishes events one by one until `seconds` are over, also while the server restarts. Returns the accepted ids.
fn publish_while(server: &Server, events: usize, pause: Duration) -> Vec<String> {
    let mut client = server.client();
    let body = json!({ "type": "order.created", "data": { "text": "x".repeat(200) } });
    let publish = |_| {
        thread::sleep(pause);
        let answer = client.call("POST", "/api/v1/events", Some(&body));
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    (0..events).map(publish).collect()
}

/// Checks that the stream has each of these events once.
fn has_each_once(client: &BrokerClient, accepted: &[String]) {
    client.until_count(accepted.len() as u64);
    let messages = client.messages();
    let ids: Vec<&str> = messages.iter().map(|message| &*message.headers["webhook-id"]).collect();
    let distinct: HashSet<&str> = ids.iter().copied().collect();
    assert!(accepted.iter().all(|id| distinct.contains(&**id)), "{} of {} arrived", distinct.len(), accepted.len());
    assert_eq!(ids.len(), distinct.len(), "a repeated message is recognised by its id");
}

#[test]
fn a_broker_that_comes_back_gets_everything() {
    let mut broker = Broker::start();
    let server =
        broker.hooktide(&[("DELIVERY__BREAKER__OPEN_SECONDS", "1"), ("DELIVERY__BREAKER__OPEN_SECONDS_MAX", "1")]);
    let (webhook, _) = server.webhook("nats://hooktide.{type}", &["*"], json!({}));
    broker.kill();
    server.until("/health", |health| nats_part(health)["state"] == "degraded");
    let accepted = publish_while(&server, 50, Duration::ZERO);
    let path = format!("/api/v1/webhooks/{webhook}/deliveries?status=retrying");
    server.until(&path, |page| page["data"][0].is_object());
    broker.start_again();
    has_each_once(&broker.client(), &accepted);
}

#[test]
fn kills_of_the_broker_and_of_the_server_lose_nothing() {
    let mut broker = Broker::start();
    // Attempts outlast the outages.
    let schedule = ["100ms"; 60].join(",");
    let breaker = [
        ("DELIVERY__SCHEDULE", &*schedule),
        ("DELIVERY__BREAKER__OPEN_SECONDS", "1"),
        ("DELIVERY__BREAKER__OPEN_SECONDS_MAX", "1"),
    ];
    let mut server = broker.hooktide(&breaker);
    let more = json!({ "max_in_flight": 64 });
    let (webhook, _) = server.webhook("nats://hooktide.{type}", &["*"], more);
    let mut accepted = Vec::new();
    for round in 0..scaled(3) {
        let half = thread::scope(|scope| {
            let publisher = scope.spawn(|| publish_while(&server, 150, Duration::from_millis(2)));
            thread::sleep(Duration::from_millis(120));
            broker.kill();
            thread::sleep(Duration::from_millis(150));
            broker.start_again();
            publisher.join().unwrap()
        });
        accepted.extend(half);
        accepted.extend(publish_while(&server, 30 + round, Duration::ZERO));
        server.restart(Signal::SIGKILL);
    }
    server.until(&format!("/api/v1/webhooks/{webhook}/metrics"), |metrics| metrics["queue_depth"] == 0);
    has_each_once(&broker.client(), &accepted);
    println!("{} accepted, 0 lost", accepted.len());
}
