//! The server on which declared things are made, whichever way it is reached.

use serde_json::{Map, Value};

use crate::model::{FieldError, Secret};
use crate::service::webhook::Preview;

/// A JSON object: a webhook, a subscription or an event type.
pub type Document = Map<String, Value>;

/// A server with the things of one tenant: the tenant that the file names. What is not there is `None`.
pub trait Target {
    /// The event type of this name.
    fn event_type(&self, name: &str) -> impl Future<Output = Result<Option<Document>, TargetError>>;
    /// Makes or replaces the event type of this name; with `dry_run` it is only checked.
    fn put_event_type(
        &self,
        name: &str,
        document: &Document,
        dry_run: bool,
    ) -> impl Future<Output = Result<(), TargetError>>;

    /// The webhook of this uid.
    fn webhook(&self, uid: &str) -> impl Future<Output = Result<Option<Document>, TargetError>>;
    /// Every webhook.
    fn webhooks(&self) -> impl Future<Output = Result<Vec<Document>, TargetError>>;
    /// Checks a new webhook, and makes none.
    fn check_new_webhook(&self, document: &Document) -> impl Future<Output = Result<(), TargetError>>;
    /// Makes a webhook; answers its secret.
    fn create_webhook(&self, document: &Document) -> impl Future<Output = Result<Option<Secret>, TargetError>>;
    /// What the webhook would become, without changing it.
    fn preview_webhook(&self, uid: &str, document: &Document) -> impl Future<Output = Result<Preview, TargetError>>;
    /// Replaces the webhook.
    fn replace_webhook(&self, uid: &str, document: &Document) -> impl Future<Output = Result<(), TargetError>>;
    /// Gives the webhook this secret.
    fn set_secret(&self, uid: &str, secret: &Secret) -> impl Future<Output = Result<(), TargetError>>;
    /// Deletes the webhook of this id.
    fn delete_webhook(&self, id: &str) -> impl Future<Output = Result<(), TargetError>>;

    /// Every subscription of the webhook.
    fn subscriptions(&self, uid: &str) -> impl Future<Output = Result<Vec<Document>, TargetError>>;
    /// Makes a subscription of the webhook.
    fn create_subscription(&self, uid: &str, document: &Document) -> impl Future<Output = Result<(), TargetError>>;
    /// Replaces the subscription of this id.
    fn replace_subscription(
        &self,
        uid: &str,
        id: &str,
        document: &Document,
    ) -> impl Future<Output = Result<(), TargetError>>;
    /// Deletes the subscription of this id.
    fn delete_subscription(&self, uid: &str, id: &str) -> impl Future<Output = Result<(), TargetError>>;
}

/// Why the server did not do what it was asked.
#[derive(Debug)]
pub enum TargetError {
    /// It refused.
    Refused(Refusal),
    /// It could not be asked.
    Failed(CallFailed),
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One for each field that is wrong.
    pub errors: Vec<FieldError>,
    /// The refusal as a whole, where no field is named.
    pub message: String,
}

/// A call that came to no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CallFailed(pub String);

impl From<CallFailed> for TargetError {
    fn from(failed: CallFailed) -> Self {
        Self::Failed(failed)
    }
}
