//! Inbound webhooks: interprets the requests of providers and partners, without I/O.
//!
//! [`provider`] is the data about webhook providers: a recipe for each kind of source, handshakes, default event maps and
//! sample payloads. [`source`] builds a source from its settings and an event from a verified request. This module must
//! never know connections, the log or the owner of a source.

pub mod provider;
pub mod source;
