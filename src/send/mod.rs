//! send: one attempt at one delivery: sign, connect within the egress guard, exchange, read a bounded answer.
//!
//! Promises: every way it can end is an [`Outcome`](crate::handoff::Outcome), within the webhook's timeout, body included. Must never know: redb,
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
mod fetch;
#[cfg(test)]
mod fetch_tests;
mod pool;
#[cfg(test)]
mod profile_tests;
mod resolve;
mod response;
#[cfg(test)]
mod tests;

pub use certificates::{Certificates, Unavailable};
pub use client::{Client, ClientSetup};
pub use connect::{TlsError, tls_config};
pub use fetch::{FetchError, Fetcher};

pub use resolve::{Resolve, SystemResolver};
