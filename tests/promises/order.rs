//! Of a webhook in order by a field, events of one value come one after the other, whatever fails or dies; others do not
//! wait for them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Delivery, Reply, Server, Sink};

/// An attempt: the customer, the number of the event, whether it was taken.
type Attempt = (String, u64, bool);

/// A receiver that takes nothing of customer 7 while that is asked.
struct Receiver {
    sink: Sink,
    is_down: Arc<AtomicBool>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

impl Receiver {
    fn start() -> Self {
        let (is_down, attempts) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (down, seen) = (Arc::clone(&is_down), Arc::clone(&attempts));
        let sink = Sink::answering(move |delivery: &Delivery| {
            let data = delivery.json()["data"].clone();
            // The customer's id comes as a number and as text.
            let customer = data["customer"]["id"].to_string().trim_matches('"').to_owned();
            let is_taken = customer != "7" || !down.load(Ordering::Relaxed);
            seen.lock().unwrap().push((customer, data["n"].as_u64().unwrap(), is_taken));
            Reply { after: Duration::from_millis(3), ..if is_taken { 204 } else { 500 }.into() }
        });
        Self { sink, is_down, attempts }
    }

    /// The numbers of a customer's events in the order in which they were first taken.
    fn taken(&self, customer: &str) -> Vec<u64> {
        let mut taken = Vec::new();
        for (of, n, is_taken) in &*self.attempts.lock().unwrap() {
            if of == customer && *is_taken && !taken.contains(n) {
                taken.push(*n);
            }
        }
        taken
    }

    fn until_taken(&self, customer: &str, count: usize) -> Vec<u64> {
        let until = Instant::now() + Duration::from_secs(30);
        while self.taken(customer).len() < count {
            assert!(Instant::now() < until, "{customer}: {:?} of {count}", self.taken(customer));
            std::thread::sleep(Duration::from_millis(20));
        }
        self.taken(customer)
    }
}

/// Two customers' events in turn, and some of nobody's.
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
fn a_failing_event_holds_back_those_of_its_customer_only_and_they_come_in_order() {
    let server = Server::start(&[]);
    let receiver = Receiver::start();
    server.webhook(&receiver.sink.url("/"), &["*"], settings());
    publish(&server, 0..40);
    assert_eq!(receiver.until_taken("eight", 16), numbers(40, &[2, 3]));
    assert_eq!(receiver.until_taken("null", 8).len(), 8);
    assert!(receiver.attempts.lock().unwrap().iter().all(|(customer, n, _)| customer != "7" || *n == 0));
    receiver.is_down.store(false, Ordering::Relaxed);
    assert_eq!(receiver.until_taken("7", 16), numbers(40, &[0, 1]));
}

#[test]
fn order_by_a_field_holds_across_kill_9_and_what_waits_on_disk() {
    let mut server = Server::start(&[]);
    let receiver = Receiver::start();
    let (id, _) = server.webhook(&receiver.sink.url("/"), &["*"], settings());
    publish(&server, 0..20);
    receiver.until_taken("eight", 8);
    server.restart(Signal::SIGKILL);
    publish(&server, 20..40);
    assert_eq!(receiver.until_taken("eight", 16), numbers(40, &[2, 3]), "at once, though the other still fails");
    // What comes while it is paused waits on disk, behind what failed.
    assert_eq!(server.call("POST", &format!("/api/v1/webhooks/{id}/pause"), None).status, 200);
    publish(&server, 40..60);
    server.restart(Signal::SIGKILL);
    assert!(receiver.taken("7").is_empty());
    receiver.is_down.store(false, Ordering::Relaxed);
    assert_eq!(server.call("POST", &format!("/api/v1/webhooks/{id}/resume"), None).status, 200);
    assert_eq!(receiver.until_taken("7", 24), numbers(60, &[0, 1]));
    assert_eq!(receiver.until_taken("eight", 24), numbers(60, &[2, 3]));
    assert_eq!(receiver.until_taken("null", 12).len(), 12);
    // A crash sends again what was not settled, and nothing before what it waits for was taken.
    for (customer, rest) in [("7", [0, 1]), ("eight", [2, 3])] {
        let mut taken = BTreeSet::new();
        for (_, n, is_taken) in receiver.attempts.lock().unwrap().iter().filter(|(of, ..)| of == customer) {
            let before = numbers(*n, &rest);
            assert!(
                before.iter().all(|before| taken.contains(before)),
                "{n} of {customer} came before {before:?} were taken"
            );
            if *is_taken {
                taken.insert(*n);
            }
        }
    }
}
