//! outbound: what a delivery looks like and where a delivery may go, compiled from plain settings.
//!
//! - [`profile`] compiles envelopes, headers and signatures.
//! - [`tls`] holds the certificate authorities that a webhook trusts and the client certificate that the webhook
//!   presents.
//! - A [`Webhook`] is the compiled form of the settings that its owner chose.
//!
//! This folder must never know sockets, the log or the retry schedule.

pub mod profile;
pub mod tls;

mod delivery_body;
mod delivery_order;
mod egress_guard;
mod endpoint;
mod endpoint_auth;
mod event;
mod sent_request;
mod sign;
mod signed_delivery;
mod subject;
mod webhook;

pub use delivery_body::DeliveryBody;
pub use delivery_order::DeliveryOrder;
pub use egress_guard::{EgressGuard, ForbiddenAddress, SharedEgressGuard};
pub use endpoint::{EndpointError, is_localhost};
pub use endpoint_auth::{Credentials, EndpointAuth};
pub use event::Event;
pub use sent_request::SentRequest;
pub use sign::{
    DeliverySignError, DeliverySigner, RequestPreview, USER_AGENT, is_reserved_header, is_signature_header, preview,
};
pub use signed_delivery::{BUS_HEADER_PREFIX, SignedDelivery};
pub use subject::{SUBJECT_SCHEME, SubjectTemplate, SubjectTemplateError, SubjectTooLong};
pub use webhook::{Endpoint, SigningKeys, Subscription, Webhook, WebhookSettings};
