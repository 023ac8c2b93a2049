//! One slow or dead webhook slows no other.

use std::time::Duration;

use serde_json::json;

use crate::support::{Reply, Server, Sink, dead_address};

#[test]
fn a_dead_and_a_slow_webhook_beside_a_healthy_one() {
    let server = Server::start(&[]);
    let healthy = Sink::start();
    let slow = Sink::answering(|_| Reply { after: Duration::from_secs(5), ..200.into() });
    server.webhook(&format!("http://{}/", dead_address()), &["*"], json!({}));
    server.webhook(&slow.url("/"), &["*"], json!({}));
    server.webhook(&healthy.url("/"), &["*"], json!({}));
    // Far more than the slow one's window, so that its backlog goes to the disk while the healthy one is served.
    let mut client = server.client();
    let total = 3_000;
    for begin in (0..total).step_by(100) {
        let batch: Vec<_> = (begin..begin + 100).map(|n| json!({ "type": "a.b", "data": n })).collect();
        assert_eq!(client.call("POST", "/api/v1/events", Some(&json!(batch))).status, 202);
    }
    for _ in 0..total {
        healthy.next();
    }
    let slow_so_far = slow.all().len();
    assert!(slow_so_far <= 8 * 13, "the healthy one waited for the slow one, which has {slow_so_far}");
    assert!(healthy.counts().values().all(|n| *n == 1), "each once");
}
