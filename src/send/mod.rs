//! send: makes one attempt of one delivery: sign, connect, send the request, read a bounded response.
//!
//! Invariants:
//! - Every attempt ends with an [`AttemptOutcome`](crate::handoff::AttemptOutcome), within the webhook's timeout. The
//!   timeout includes the response body.
//! - Every connection obeys the egress rules ([`crate::outbound::EgressGuard`]).
//!
//! This folder must never know redb or the retry schedule.
//!
//! [`DeliveryClient`] makes the attempts. The signer of [`crate::outbound`] makes the request, `pool` has an idle
//! connection or `connect` makes one (with the addresses that `dns` resolves), `connection` exchanges request and
//! response, `response` reads the response.
//!
//! [`Fetcher`] downloads public documents over connections with the same rules. [`CertificateCache`] caches the
//! certificates among them.

mod certificates;
mod client;
mod connect;
mod connection;
mod dns;
mod fetch;
#[cfg(test)]
mod fetch_tests;
mod metered_tcp;
mod pool;
#[cfg(test)]
mod profile_tests;
mod resolve;
mod response;
mod response_head;
mod response_meter;
mod response_normalizer;
#[cfg(test)]
mod tests;

pub use certificates::{CertificateCache, KeyDocumentCache, KeysUnavailable};
pub use client::{ClientSetup, DeliveryClient};
pub use connect::{TlsError, tls_config};
pub use dns::DnsResolver;
pub use fetch::{FetchError, Fetcher};

pub use resolve::Resolve;
