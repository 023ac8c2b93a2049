//! A webhook with `ordered_by` gets the events with one value of the field one after the other, also after failures and
//! crashes. Events with other values do not wait for them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Delivery, Reply, Server, Sink};

/// An attempt: the customer, the number of the event, and whether it was accepted.
type Attempt = (String, u64, bool);

/// A receiver that refuses the events of customer 7 while `down` is set.
struct CustomerReceiver {
    sink: Sink,
    is_down: Arc<AtomicBool>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

impl CustomerReceiver {
    fn start() -> Self {
        let (is_down, attempts) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (down, seen) = (Arc::clone(&is_down), Arc::clone(&attempts));
        let sink = Sink::answering(move |delivery: &Delivery| {
            let data = delivery.json()["data"].clone();
            // The customer's id is a number or text.
            let customer = data["customer"]["id"].to_string().trim_matches('"').to_owned();
            let is_taken = customer != "7" || !down.load(Ordering::Relaxed);
            seen.lock().unwrap().push((customer, data["n"].as_u64().unwrap(), is_taken));
            Reply { after: Duration::from_millis(3), ..if is_taken { 204 } else { 500 }.into() }
        });
        Self { sink, is_down, attempts }
    }

    /// The numbers of a customer's events in the order in which they were first accepted.
    fn accepted(&self, customer: &str) -> Vec<u64> {
        let mut accepted = Vec::new();
        for (of, n, is_taken) in &*self.attempts.lock().unwrap() {
            if of == customer && *is_taken && !accepted.contains(n) {
                accepted.push(*n);
            }
        }
        accepted
    }

    fn until_accepted(&self, customer: &str, count: usize) -> Vec<u64> {
        let until = Instant::now() + Duration::from_secs(30);
        while self.accepted(customer).len() < count {
            assert!(Instant::now() < until, "{customer}: {:?} of {count}", self.accepted(customer));
            std::thread::sleep(Duration::from_millis(20));
        }
        self.accepted(customer)
    }
}

/// Publishes the events of two customers in turn, and some events without a customer.
fn publish(server: &Server, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let data = match n % 5 {
            0 => json!({ "n": n, "customer": { "id": 7 } }),
            1 => json!({ "n": n, "customer": { "id": "7" } }),
            2 | 3 => json!({ "n": n, "customer": { "id": "eight" } }),
            _ => json!({ "n": n, "customer": { "id": null } }),
        };
        server.publish("order.updated", &data);
    }
}

fn numbers(upto: u64, rest: &[u64]) -> Vec<u64> {
    (0..upto).filter(|n| rest.contains(&(n % 5))).collect()
}

fn settings() -> serde_json::Value {
    json!({
        "ordered_by": "customer.id", "retry_policy": { "max_retries": 100, "retry_delay": 0.5, "backoff": 1.0 },
        "breaker": { "failure_ratio": 1.0 },
    })
}

#[test]
fn a_failing_event_holds_back_only_its_customers_events_and_keeps_their_order() {
    let server = Server::start(&[]);
    let receiver = CustomerReceiver::start();
    server.webhook(&receiver.sink.url("/"), &["*"], settings());
    publish(&server, 0..40);
    assert_eq!(receiver.until_accepted("eight", 16), numbers(40, &[2, 3]));
    assert_eq!(receiver.until_accepted("null", 8).len(), 8);
    assert!(receiver.attempts.lock().unwrap().iter().all(|(customer, n, _)| customer != "7" || *n == 0));
    receiver.is_down.store(false, Ordering::Relaxed);
    assert_eq!(receiver.until_accepted("7", 16), numbers(40, &[0, 1]));
}

#[test]
fn order_by_a_field_holds_across_kill_9_and_a_backlog_on_disk() {
    let mut server = Server::start(&[]);
    let receiver = CustomerReceiver::start();
    let (id, _) = server.webhook(&receiver.sink.url("/"), &["*"], settings());
    publish(&server, 0..20);
    receiver.until_accepted("eight", 8);
    server.restart(Signal::SIGKILL);
    publish(&server, 20..40);
    assert_eq!(receiver.until_accepted("eight", 16), numbers(40, &[2, 3]), "at once, though the other still fails");
    // Events that arrive during the pause wait on disk, behind the failed event.
    assert_eq!(server.call("POST", &format!("/api/v1/webhooks/{id}/pause"), None).status, 200);
    publish(&server, 40..60);
    server.restart(Signal::SIGKILL);
    assert!(receiver.accepted("7").is_empty());
    receiver.is_down.store(false, Ordering::Relaxed);
    assert_eq!(server.call("POST", &format!("/api/v1/webhooks/{id}/resume"), None).status, 200);
    assert_eq!(receiver.until_accepted("7", 24), numbers(60, &[0, 1]));
    assert_eq!(receiver.until_accepted("eight", 24), numbers(60, &[2, 3]));
    assert_eq!(receiver.until_accepted("null", 12).len(), 12);
    // After a crash, deliveries that were not settled are repeated. No event is sent before the events that it waits
    // for are accepted.
    for (customer, rest) in [("7", [0, 1]), ("eight", [2, 3])] {
        let mut accepted = BTreeSet::new();
        for (_, n, is_taken) in receiver.attempts.lock().unwrap().iter().filter(|(of, ..)| of == customer) {
            let before = numbers(*n, &rest);
            assert!(
                before.iter().all(|before| accepted.contains(before)),
                "{n} of {customer} came before {before:?} were taken"
            );
            if *is_taken {
                accepted.insert(*n);
            }
        }
    }
}
