//! inbound: what a request from a provider or a partner means, without I/O.
//!
//! [`provider`] holds who signs how, as data: a recipe for each kind of source, handshakes, default event maps, samples.
//! [`source`] turns settings into a source, and a verified request into an event. Must never know: connections, the log,
//! who has a source.

pub mod provider;
pub mod source;
