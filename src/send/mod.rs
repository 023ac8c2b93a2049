//! send: one attempt at one delivery: sign, connect within the egress guard, exchange, read a bounded answer.
//!
//! Promises: every way it can end is an [`Outcome`], within the webhook's timeout, body included. Must never know: redb,
//! the retry schedule.
//!
//! [`Fetcher`] gets what others publish, over the same guarded connections, and [`Certificates`] remembers some of it.
//!
//! [`Client`] carries parcels: `sign` makes the request around the event's data (`envelope`), `pool` has a connection or
//! `connect` makes one within the egress rules (`guard`, `resolve`), `connection` exchanges, `response` reads.

mod certificates;
mod client;
mod connect;
mod connection;
mod endpoint;
mod envelope;
mod fetch;
#[cfg(test)]
mod fetch_tests;
mod guard;
mod pool;
mod probe;
#[cfg(test)]
mod profile_tests;
mod resolve;
mod response;
mod sign;
#[cfg(test)]
mod tests;

pub use certificates::{Certificates, Unavailable};
pub use client::{Client, ClientSetup};
pub use connect::{TlsError, tls_config};
pub use endpoint::EndpointError;
pub use fetch::{FetchError, Fetcher};
pub use guard::{Forbidden, Guard, SharedGuard};
pub use probe::{Probed, SentRequest};
pub use resolve::{Resolve, SystemResolver};
pub use sign::{Preview, is_reserved_header, is_signature_header, preview};

use std::sync::Arc;
use std::time::Duration;

use crate::model::{AttemptError, Event, Webhook};
use crate::runtime::{Instant, Moment};

/// What is sent: an event for a webhook, the how-manieth time.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// To whom.
    pub webhook: &'a Arc<Webhook>,
    /// What.
    pub event: &'a Arc<Event>,
    /// 1 for the first attempt.
    pub attempt: u16,
    /// For the whole attempt.
    pub timeout: Duration,
    /// When the attempt begins; the wall clock goes into its signature.
    pub began: Moment,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `Ok` for 200..=299.
    pub result: Result<(), AttemptError>,
    /// The answer's status, if there was one.
    pub http_status: Option<u16>,
    /// `Retry-After` of a 429 or 503, bounded by [`crate::limits::RETRY_DELAY_MAX`].
    pub retry_after: Option<Duration>,
    /// The first bytes of the answer's body, at most [`crate::limits::RESPONSE_BYTES_KEPT`], as text.
    pub response: Box<str>,
    /// From begin to end.
    pub latency: Duration,
    /// When the request's bytes had been handed to the socket.
    pub sent_at: Option<Instant>,
}

/// What carries parcels: the HTTP client of a shard, or a test's own. Not `Send`: a shard is one thread.
#[expect(async_fn_in_trait, reason = "used by one thread, which needs no Send bound")]
pub trait Carrier: 'static {
    /// One attempt; returns within the parcel's timeout.
    async fn carry(&self, parcel: Parcel<'_>) -> Outcome;

    /// The same, with all there is to see of it.
    async fn probe(&self, parcel: Parcel<'_>) -> Probed {
        self.carry(parcel).await.into()
    }
}
