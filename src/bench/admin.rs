//! Calls the server's management API: creates webhooks and reads percentiles.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::http::ResponseReader;
use super::traffic::{Audience, Traffic};
use crate::model::path::WEBHOOKS;

/// Connections that create webhooks in parallel. The number is high enough for the registry to make many webhooks
/// durable at once.
const CONNECTIONS: u32 = 64;
/// Timeout of one response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of the server's management API.
#[derive(Debug, Clone)]
pub(super) struct AdminClient {
    server: SocketAddr,
    key: String,
}

impl AdminClient {
    pub(super) fn new(server: SocketAddr, key: String) -> Self {
        Self { server, key }
    }

    /// Creates the webhooks of the traffic. Webhook `n` has the URL `http://<sink>/<n>`.
    pub(super) fn create_webhooks(&self, traffic: &Traffic, sink: SocketAddr) -> io::Result<()> {
        let body = |n| json!({"url": format!("http://{sink}/{n}"), "events": [traffic.pattern(n)]}).to_string();
        self.create_all((0..traffic.webhooks).map(body).collect())
    }

    /// Creates the dead webhook. Its endpoint at `refusing` refuses connections.
    pub(super) fn create_dead_webhook(&self, refusing: SocketAddr) -> io::Result<()> {
        let body = json!({"url": format!("http://{refusing}/"), "events": [Audience::DEAD_PATTERN]});
        self.create_all(vec![body.to_string()])
    }

    /// The server's own percentiles of the time from commit to first attempt; `None` if `/health` does not report them.
    pub(super) fn first_attempt(&self) -> io::Result<Option<FirstAttemptLatency>> {
        let answer = runtime()?.block_on(async {
            let mut stream = TcpStream::connect(self.server).await?;
            stream.write_all(self.request("GET", "/health", "").as_bytes()).await?;
            let mut reader = ResponseReader::new();
            let answer = timeout(RESPONSE_TIMEOUT, reader.next(&mut stream)).await??;
            serde_json::from_slice::<Value>(answer.body).map_err(io::Error::other)
        })?;
        let names = ["first_attempt_latency", "first_attempt"];
        let found = names.iter().find_map(|name| find_object(&answer, name));
        Ok(found.and_then(|object| serde_json::from_value(object.clone()).ok()))
    }

    fn create_all(&self, bodies: Vec<String>) -> io::Result<()> {
        let bodies = Arc::new(Mutex::new(bodies));
        runtime()?.block_on(async {
            let mut workers = JoinSet::new();
            for _ in 0..CONNECTIONS {
                workers.spawn(create_from_queue(self.clone(), Arc::clone(&bodies)));
            }
            while let Some(ended) = workers.join_next().await {
                ended.map_err(io::Error::other)??;
            }
            Ok(())
        })
    }

    fn request(&self, method: &str, path: &str, body: &str) -> String {
        let (server, key, len) = (self.server, &self.key, body.len());
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {server}\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {len}\r\n\r\n{body}"
        )
    }
}

/// Time in microseconds from the commit to the first attempt's bytes, since the server's start.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_field_names, reason = "a unit stands last in a name")]
pub(super) struct FirstAttemptLatency {
    pub(super) p50_us: u64,
    pub(super) p95_us: u64,
    pub(super) p99_us: u64,
}

/// Creates webhooks on one connection until `bodies` is empty.
async fn create_from_queue(admin: AdminClient, bodies: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    let mut stream = TcpStream::connect(admin.server).await?;
    stream.set_nodelay(true)?;
    let mut reader = ResponseReader::new();
    loop {
        let Some(body) = bodies.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(()) };
        stream.write_all(admin.request("POST", WEBHOOKS, &body).as_bytes()).await?;
        let answer = timeout(RESPONSE_TIMEOUT, reader.next(&mut stream)).await??;
        if answer.status != 201 {
            let text = String::from_utf8_lossy(answer.body);
            return Err(io::Error::other(format!("POST /api/v1/webhooks: {}: {text}", answer.status)));
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Finds the first object with this member name, at any depth.
fn find_object<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(map) => map
            .get(name)
            .filter(|found| found.is_object())
            .or_else(|| map.values().find_map(|inner| find_object(inner, name))),
        Value::Array(items) => items.iter().find_map(|inner| find_object(inner, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_found_at_any_depth() {
        let health = json!({"status": "ok", "parts": [{"x": 1}, {"latency": {"first_attempt": {
            "count": 9, "p50_us": 1, "p95_us": 2, "p99_us": 3, "max_us": 4}}}]});
        let found = find_object(&health, "first_attempt").unwrap();
        let first: FirstAttemptLatency = serde_json::from_value(found.clone()).unwrap();
        assert_eq!(first, FirstAttemptLatency { p50_us: 1, p95_us: 2, p99_us: 3 });
        assert_eq!(find_object(&health, "first_attempt_latency"), None);
        assert_eq!(find_object(&json!({"first_attempt": 3}), "first_attempt"), None);
    }
}
