//! Hooktide: a webhook gateway in one binary.
//!
//! ```text
//!            admit ───────► commit ───────► dispatch ───────► send ───────► settle
//!            verify,        group commit    per-webhook       sign, HTTP     decide: delivered,
//!            validate,      to the log,     queues, buckets,  within the     retry at t, dead;
//!            match          fsync, ack      breakers          egress guard   record it
//! threads:   admit workers  one             one per shard     the shard's    one
//! ```
//!
//! Five verbs whose alphabetical order is nearly the order of the data. Each stage is a folder whose `mod.rs` says what it
//! promises and what it must never know; `docs/ARCHITECTURE.md` is the long form.

pub mod limits;
pub mod model;
pub mod template;

pub mod admit;
pub mod commit;
pub mod dispatch;
pub mod send;
pub mod settle;

pub mod catalogue;
pub mod filter;
pub mod json;
pub mod profile;
pub mod provider;
pub mod signature;
pub mod source;
pub mod tls;

pub mod api;
pub mod apply;
pub mod auth;
pub mod registry;

pub mod app;
pub mod cli;
pub mod config;
pub mod runtime;

#[cfg(test)]
mod sim;
