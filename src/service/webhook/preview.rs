//! Previews a change of a webhook without making it.

use serde_json::{Map, Value};

use super::document::WebhookDocument;
use crate::model::{RetryPolicy, Timestamp, WebhookId, WebhookNo};
use crate::outbound::{Webhook, WebhookSettings};
use crate::service::{Error, ErrorKind};

/// Fields that a webhook gets only when it is created.
const SERVER_SET: [&str; 4] = ["id", "created_at", "updated_at", "secret_hint"];

/// A webhook as it would be after a change.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookPreview {
    /// The document of the webhook.
    pub document: Map<String, Value>,
    /// The names of the fields that would change. For a new webhook these are all fields.
    pub changed: Vec<String>,
}

impl WebhookPreview {
    /// Creates the preview of a webhook with these settings. `old` is the webhook that they would replace.
    pub(super) fn of(
        old: Option<&Webhook>,
        settings: WebhookSettings,
        default_retry: &RetryPolicy,
    ) -> Result<Self, Error> {
        let new = if let Some(old) = old {
            let (created_at, updated_at) = (old.created_at, old.updated_at);
            let (version, address_version) = (old.version, old.address_version);
            Webhook { no: old.no, id: old.id, settings, created_at, updated_at, version, address_version }
        } else {
            let (created_at, updated_at) = (Timestamp::default(), Timestamp::default());
            let (no, id) = (WebhookNo(u32::MAX), WebhookId::from_u128(0));
            Webhook { no, id, settings, created_at, updated_at, version: 0, address_version: 0 }
        };
        let mut document = fields(&new, default_retry)?;
        let changed = if let Some(old) = old {
            changed(&fields(old, default_retry)?, &document, old, &new)
        } else {
            document.retain(|name, _| !SERVER_SET.contains(&name.as_str()));
            document.keys().cloned().collect()
        };
        Ok(Self { document, changed })
    }
}

/// The names of the fields that differ. Hidden values are compared, not their displayed form.
fn changed(before: &Map<String, Value>, after: &Map<String, Value>, old: &Webhook, new: &Webhook) -> Vec<String> {
    let is_other = |name: &str| match name {
        "headers" => old.headers != new.headers,
        "auth" => old.auth != new.auth,
        "tls" => old.tls.as_ref().map(|tls| tls.settings()) != new.tls.as_ref().map(|tls| tls.settings()),
        _ => false,
    };
    let differs = |name: &String| before.get(name) != after.get(name) || is_other(name);
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    after.keys().chain(gone).filter(|name| differs(name)).cloned().collect()
}

/// The document of a webhook as a map.
pub(crate) fn fields(webhook: &Webhook, default_retry: &RetryPolicy) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(WebhookDocument::of(webhook, default_retry)) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Error::new(ErrorKind::Internal, "the answer could not be written")),
    }
}
