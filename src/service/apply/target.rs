//! The server to which declarations are applied. Implementations reach it over HTTP or in process.

use serde_json::{Map, Value};

use crate::model::{FieldError, Secret};
use crate::service::webhook::WebhookPreview;

/// A JSON object: a webhook, a subscription or an event type.
pub type JsonObject = Map<String, Value>;

/// A server, restricted to the tenant that the file names. Methods that read one resource return `None` if it does not
/// exist.
pub trait ApplyTarget {
    /// Reads the event type with this name.
    fn event_type(&self, name: &str) -> impl Future<Output = Result<Option<JsonObject>, TargetError>>;
    /// Creates or replaces the event type with this name. With `dry_run` it is only validated.
    fn put_event_type(
        &self,
        name: &str,
        document: &JsonObject,
        dry_run: bool,
    ) -> impl Future<Output = Result<(), TargetError>>;

    /// Reads the webhook with this uid.
    fn webhook(&self, uid: &str) -> impl Future<Output = Result<Option<JsonObject>, TargetError>>;
    /// Lists all webhooks.
    fn webhooks(&self) -> impl Future<Output = Result<Vec<JsonObject>, TargetError>>;
    /// Validates a new webhook without creating it.
    fn check_new_webhook(&self, document: &JsonObject) -> impl Future<Output = Result<(), TargetError>>;
    /// Creates a webhook. Returns its secret.
    fn create_webhook(&self, document: &JsonObject) -> impl Future<Output = Result<Option<Secret>, TargetError>>;
    /// Previews a replacement of the webhook without changing it.
    fn preview_webhook(
        &self,
        uid: &str,
        document: &JsonObject,
    ) -> impl Future<Output = Result<WebhookPreview, TargetError>>;
    /// Replaces the webhook.
    fn replace_webhook(&self, uid: &str, document: &JsonObject) -> impl Future<Output = Result<(), TargetError>>;
    /// Sets the secret of the webhook.
    fn set_secret(&self, uid: &str, secret: &Secret) -> impl Future<Output = Result<(), TargetError>>;
    /// Deletes the webhook with this id.
    fn delete_webhook(&self, id: &str) -> impl Future<Output = Result<(), TargetError>>;

    /// Lists all subscriptions of the webhook.
    fn subscriptions(&self, uid: &str) -> impl Future<Output = Result<Vec<JsonObject>, TargetError>>;
    /// Creates a subscription of the webhook.
    fn create_subscription(&self, uid: &str, document: &JsonObject) -> impl Future<Output = Result<(), TargetError>>;
    /// Replaces the subscription with this id.
    fn replace_subscription(
        &self,
        uid: &str,
        id: &str,
        document: &JsonObject,
    ) -> impl Future<Output = Result<(), TargetError>>;
    /// Deletes the subscription with this id.
    fn delete_subscription(&self, uid: &str, id: &str) -> impl Future<Output = Result<(), TargetError>>;
}

/// Why a call to the server failed.
#[derive(Debug)]
pub enum TargetError {
    /// The server refused the request.
    Refused(TargetRefusal),
    /// The call got no valid response.
    Failed(TargetCallFailed),
}

/// A request that the server refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRefusal {
    /// One entry for each invalid field.
    pub errors: Vec<FieldError>,
    /// The explanation of the refusal as a whole, if it names no field.
    pub message: String,
}

/// A call that got no valid response. The text is the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TargetCallFailed(pub String);

impl From<TargetCallFailed> for TargetError {
    fn from(failed: TargetCallFailed) -> Self {
        Self::Failed(failed)
    }
}
