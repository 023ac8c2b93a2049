//! A slow or dead webhook does not slow other webhooks.

use std::time::Duration;

use serde_json::json;

use crate::support::{Reply, Server, Sink, dead_address};

#[test]
fn dead_and_slow_webhooks_do_not_slow_a_healthy_one() {
    let server = Server::start(&[]);
    let healthy = Sink::start();
    let slow = Sink::answering(|_| Reply { after: Duration::from_secs(5), ..200.into() });
    server.webhook(&format!("http://{}/", dead_address()), &["*"], json!({}));
    server.webhook(&slow.url("/"), &["*"], json!({}));
    server.webhook(&healthy.url("/"), &["*"], json!({}));
    // More events than the slow webhook's window holds, so that its backlog goes to disk while the healthy webhook is
    // served.
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
