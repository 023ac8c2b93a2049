//! A hundred thousand webhooks are created and loaded fast. This test is a measurement and is run by hand. Its result
//! is meaningful only for a release build on an idle machine: `cargo test --release --test promises scale -- --ignored
//! --nocapture`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::Server;

const WEBHOOKS: usize = 100_000;
/// Number of connections of the import.
const CONNECTIONS: usize = 64;

#[test]
#[ignore = "a measurement of a release build, run by hand"]
fn a_hundred_thousand_webhooks() {
    let mut server = Server::start(&[]);
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut client = server.client();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= WEBHOOKS {
                        return;
                    }
                    let body = json!({
                        "url": format!("https://example.com/{n}"), "uid": format!("old-{n}"), "tenant": format!("t{}", n % 1_000),
                        "events": ["order.*"], "headers": {"X-Team": "a"}, "metadata": {"n": n},
                    });
                    let made = client.call("POST", "/api/v1/webhooks", Some(&body));
                    assert_eq!(made.status, 201, "{}", made.text());
                }
            });
        }
    });
    let rate = WEBHOOKS as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} webhooks a second");
    server.signal(Signal::SIGTERM);
    server.wait();
    let began = Instant::now();
    server.restart_ended();
    let start = began.elapsed();
    println!("ready after {} ms", start.as_millis());
    let last = server.call("GET", "/api/v1/webhooks/old-7?tenant=t7", None);
    assert_eq!(last.status, 200, "{}", last.text());
    assert!(rate >= 2_000.0, "{rate:.0} webhooks a second");
    assert!(start < Duration::from_secs(1), "{} ms to start", start.as_millis());
}
