//! Hooktide: a webhook gateway in one binary.
//!
//! ```text
//!            admit ───────► commit ───────► dispatch ───────► send ───────► settle
//!            verify,        group commit    per-webhook       sign, HTTP     decide: delivered,
//!            validate,      to the log,     queues, buckets,  within the     retry at t, dead;
//!            match          fsync, ack      breakers          egress rules   record it
//! threads:   admit workers  one             one per shard     the shard's    one
//! ```
//!
//! Each folder is a stage or a layer, and imports only folders of lower layers. `docs/ARCHITECTURE.md` has the table of
//! layers, and `tests/architecture` enforces it. The modules below are in the order of the layers, from the bottom up.
//! The names of the five stages are verbs whose alphabetical order is nearly the order of the data.

pub mod limits;
pub mod model;

pub mod json;
pub mod runtime;
pub mod template;

pub mod config;
pub mod filter;
pub mod signature;

pub mod inbound;
pub mod outbound;

pub mod storage;

pub mod handoff;

pub mod registry;

pub mod commit;
pub mod dispatch;
pub mod send;
pub mod settle;

pub mod auth;
pub mod ingest;

pub mod bus;
pub mod http;
pub mod service;

pub mod admit;
pub mod api;

pub mod app;
pub mod bench;

pub mod cli;

#[cfg(test)]
mod sim;
