//! What the bench asks of the server beside the load: webhooks made, percentiles read.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::http::Reader;
use super::traffic::{Audience, Traffic};
use crate::model::path::WEBHOOKS;

/// Connections that make webhooks: enough for the registry to make many durable at once.
const CONNECTIONS: u32 = 64;
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A server's management interface.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    server: SocketAddr,
    key: String,
}

impl Admin {
    pub(super) fn new(server: SocketAddr, key: String) -> Self {
        Self { server, key }
    }

    /// Makes the webhooks of the traffic, with endpoints at `sink`.
    pub(super) fn make_webhooks(&self, traffic: &Traffic, sink: SocketAddr) -> io::Result<()> {
        let body = |n| json!({"url": format!("http://{sink}/{n}"), "events": [traffic.pattern(n)]}).to_string();
        self.make_all((0..traffic.webhooks).map(body).collect())
    }

    /// Makes a webhook whose endpoint, at `refusing`, refuses connections.
    pub(super) fn make_dead_webhook(&self, refusing: SocketAddr) -> io::Result<()> {
        let body = json!({"url": format!("http://{refusing}/"), "events": [Audience::DEAD_PATTERN]});
        self.make_all(vec![body.to_string()])
    }

    /// The server's own percentiles of the time from an event's commit to its first attempt.
    pub(super) fn first_attempt(&self) -> io::Result<Option<FirstAttempt>> {
        let answer = runtime()?.block_on(async {
            let mut stream = TcpStream::connect(self.server).await?;
            stream.write_all(self.request("GET", "/health", "").as_bytes()).await?;
            let mut reader = Reader::new();
            let answer = timeout(ANSWER_WITHIN, reader.next(&mut stream)).await??;
            serde_json::from_slice::<Value>(answer.body).map_err(io::Error::other)
        })?;
        let names = ["first_attempt_latency", "first_attempt"];
        let found = names.iter().find_map(|name| find_object(&answer, name));
        Ok(found.and_then(|object| serde_json::from_value(object.clone()).ok()))
    }

    fn make_all(&self, bodies: Vec<String>) -> io::Result<()> {
        let bodies = Arc::new(Mutex::new(bodies));
        runtime()?.block_on(async {
            let mut workers = JoinSet::new();
            for _ in 0..CONNECTIONS {
                workers.spawn(make_some(self.clone(), Arc::clone(&bodies)));
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

/// Microseconds from the commit to the first attempt's bytes, since the server's start.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_field_names, reason = "a unit stands last in a name")]
pub(super) struct FirstAttempt {
    pub(super) p50_us: u64,
    pub(super) p95_us: u64,
    pub(super) p99_us: u64,
}

/// Makes webhooks on one connection as long as there are any to be made.
async fn make_some(admin: Admin, bodies: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    let mut stream = TcpStream::connect(admin.server).await?;
    stream.set_nodelay(true)?;
    let mut reader = Reader::new();
    loop {
        let Some(body) = bodies.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(()) };
        stream.write_all(admin.request("POST", WEBHOOKS, &body).as_bytes()).await?;
        let answer = timeout(ANSWER_WITHIN, reader.next(&mut stream)).await??;
        if answer.status != 201 {
            let text = String::from_utf8_lossy(answer.body);
            return Err(io::Error::other(format!("POST /api/v1/webhooks: {}: {text}", answer.status)));
        }
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The first object of that name, at any depth.
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
    fn percentiles_are_found_wherever_they_stand() {
        let health = json!({"status": "ok", "parts": [{"x": 1}, {"latency": {"first_attempt": {
            "count": 9, "p50_us": 1, "p95_us": 2, "p99_us": 3, "max_us": 4}}}]});
        let found = find_object(&health, "first_attempt").unwrap();
        let first: FirstAttempt = serde_json::from_value(found.clone()).unwrap();
        assert_eq!(first, FirstAttempt { p50_us: 1, p95_us: 2, p99_us: 3 });
        assert_eq!(find_object(&health, "first_attempt_latency"), None);
        assert_eq!(find_object(&json!({"first_attempt": 3}), "first_attempt"), None);
    }
}
