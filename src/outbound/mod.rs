//! outbound: what a delivery looks like and where a delivery may go, compiled from plain settings.
//!
//! [`profile`] compiles envelopes, headers and signatures. [`tls`] holds whom a webhook trusts and which certificate the
//! webhook presents. A [`Webhook`] is the compiled form of what its owner configured. Must never know: sockets, the log,
//! the retry schedule.

pub mod profile;
pub mod tls;

mod endpoint;
mod endpoint_auth;
mod envelope;
mod event;
mod guard;
mod order;
mod sent;
mod sign;
mod webhook;

pub use endpoint::{EndpointError, is_localhost};
pub use endpoint_auth::{Credentials, EndpointAuth};
pub use envelope::Envelope;
pub use event::Event;
pub use guard::{Forbidden, Guard, SharedGuard};
pub use order::Order;
pub use sent::SentRequest;
pub use sign::{Preview, SignError, Signed, Signer, USER_AGENT, is_reserved_header, is_signature_header, preview};
pub use webhook::{Endpoint, SigningKeys, Subscription, Webhook, WebhookSettings};
