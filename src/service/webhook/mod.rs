//! Webhooks: their JSON documents and the operations on them.
//!
//! A document is a JSON object. `settings` parses one into [`WebhookSettings`](crate::outbound::WebhookSettings) and
//! reports each invalid field. [`document`] renders a webhook as one. A client may send back a document that it read.

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
mod test_delivery;

pub(crate) use catalogue::{type_warnings, unknown_type, unknown_types};
pub use list::WebhookFilter;
pub use operations::{SavedWebhook, WebhookDraft};
pub use preview::WebhookPreview;
pub use secret::SecretDraft;
pub use test_delivery::{TestRequest, WebhookTestResult};
