//! Webhooks: their settings as documents, and the operations on them.
//!
//! A document is a JSON object. `settings` reads one into [`WebhookSettings`](crate::outbound::WebhookSettings) and names
//! each field that is wrong; [`document`] shows a webhook as one. What was read can be written back.

mod auth;
mod headers;
mod keys;
pub(crate) mod policy;
mod settings;
mod tls;

pub mod document;

mod catalogue;
mod list;
mod operations;
mod preview;
mod secret;
pub mod subscription;
mod test;

pub(crate) use catalogue::{type_warnings, unknown_type, unknown_types};
pub use list::WebhookFilter;
pub use operations::{WebhookDraft, Written};
pub use preview::Preview;
pub use secret::SecretDraft;
pub use test::{TestRequest, TestedWebhook};
