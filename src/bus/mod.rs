//! bus: the event bus, NATS JetStream. Webhooks publish to it, and sources consume from it.
//!
//! ```text
//! shards (BusTransport) ──► Context ──► connection task ──► broker     the ack returns to the attempt
//! broker ──► consumers ──► ingest ──► commit                           the ack follows the fsync
//! ```
//!
//! The thread `nats` has a runtime of its own with the connection, the check of the stream and the consumers. Attempts
//! run on the runtimes of their shards. They pass messages to the connection and wait for the acks, and many messages of
//! one webhook are in flight at the same time.
//!
//! Invariants:
//!
//! - A delivery succeeds only with the publish ack of the configured stream.
//! - A subject is checked against the configuration after the values of the event were inserted.
//! - Only configured servers are used. Servers that a broker names are ignored.
//!
//! This folder must never know HTTP requests, queues or the retry schedule.

mod connection;
mod consume;
mod monitor;
mod settings;
mod stream;
mod transport;

pub use connection::{EventBus, EventBusHandle};
pub use consume::{BusReceipt, InboundMessage, MessageFuture, MessageReceiver};
pub use settings::BusSettings;
pub use transport::BusTransport;
