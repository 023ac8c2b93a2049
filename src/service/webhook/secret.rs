//! Replaces the secret of a webhook.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::keys::new_secret;
use crate::limits::{CHANGE_ATTEMPTS_MAX, PREVIOUS_SECRETS_MAX, SECRET_OVERLAP_DEFAULT, SECRET_OVERLAP_MAX};
use crate::model::{Principal, Secret, Timestamp, WebhookNo};
use crate::outbound::{SigningKeys, Webhook, WebhookSettings};
use crate::registry::ChangeError;
use crate::service::fields::{DocumentFields, FieldUpdate};
use crate::service::stored_response::changed_webhook;
use crate::service::{Error, ErrorKind, ExpectedVersion, Operation, ResponseRecorder, Service, WebhookRef};

/// A validated new secret of a webhook, ready to be activated.
#[derive(Debug)]
pub struct SecretDraft {
    of: WebhookNo,
    secret: Secret,
    /// How long the previous secret signs beside the new one.
    overlap: Duration,
    version: Option<u64>,
    by: Principal,
}

impl Service {
    /// Validates or generates the new secret of a webhook. The document is `{"overlap_seconds"?, "secret"?,
    /// "key_type"?}`.
    ///
    /// # Errors
    /// If the role is too low, a field is invalid, the webhook does not exist, or its version is not the expected one.
    pub fn draft_secret(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SecretDraft, Error> {
        Operation::RegenerateSecret.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let mut fields = DocumentFields::new(document);
        let overlap = match fields.whole("overlap_seconds", 0..=SECRET_OVERLAP_MAX.as_secs()) {
            FieldUpdate::Value(seconds) => Duration::from_secs(seconds),
            FieldUpdate::Absent | FieldUpdate::Null => SECRET_OVERLAP_DEFAULT,
        };
        let wanted = new_secret(&mut fields);
        let fresh = wanted.map(|wanted| wanted.like(&webhook.keys.current).key(&webhook.profile));
        let key = match fresh {
            Some(Ok(key)) if key.secret == webhook.keys.current.secret => {
                fields.wrong("/secret", "is the present secret; give another one, or none to have one made");
                None
            }
            Some(Ok(key)) => Some(key),
            // The document has no field `profile`.
            Some(Err(("/profile", error))) => return Err(Error::new(ErrorKind::Conflict, error.to_string())),
            Some(Err((field, error))) => {
                fields.wrong(field, error.to_string());
                None
            }
            None => None,
        };
        fields.finish("overlap_seconds, secret, key_type")?;
        let version = ExpectedVersion::bind(expected, webhook.version)?;
        let Some(key) = key else { return Err(Error::new(ErrorKind::Internal, "no secret was made")) };
        Ok(SecretDraft { of: webhook.no, secret: key.secret, overlap, version, by: principal.clone() })
    }

    /// Activates a new secret. The present secret signs beside it until the overlap ends, and older secrets until their own
    /// ends. Without an overlap all of them end now.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the webhook no longer exists, or its version is not the expected one.
    pub async fn regenerate_secret(
        &self,
        draft: SecretDraft,
        record: Option<ResponseRecorder<Arc<Webhook>>>,
    ) -> Result<Arc<Webhook>, Error> {
        let SecretDraft { of, secret, overlap, version, by } = draft;
        let answer = record.map(|record| record.of_change(changed_webhook));
        let writer = self.writer.on_behalf_of(&by).recording(answer);
        for _ in 0..CHANGE_ATTEMPTS_MAX {
            let found = self.registry.load().webhook(of).cloned();
            let webhook = found.ok_or_else(|| Error::not_found("webhook"))?;
            let settings = replaced(&webhook, &secret, overlap, self.clock.now())?;
            let changed = writer.replace(of, version.unwrap_or(webhook.version), settings).await;
            match changed {
                Err(ChangeError::Changed) if version.is_none() => {}
                changed => return Ok(changed?),
            }
        }
        Err(ChangeError::Changed.into())
    }
}

/// The webhook's settings with another secret. The profile may have changed since the secret was validated.
fn replaced(webhook: &Webhook, secret: &Secret, overlap: Duration, now: Timestamp) -> Result<WebhookSettings, Error> {
    let key = webhook.profile.key(secret.clone());
    let key = key.map_err(|error| Error::new(ErrorKind::Conflict, error.to_string()))?;
    let present = (Arc::clone(&webhook.keys.current), now.plus(overlap));
    let older = webhook.keys.previous.iter().filter(|(older, until)| now < *until && older.secret != *secret).cloned();
    let kept = if overlap.is_zero() { 0 } else { PREVIOUS_SECRETS_MAX };
    let previous = std::iter::once(present).chain(older).take(kept).collect();
    let keys = SigningKeys { current: Arc::new(key), previous };
    Ok(WebhookSettings { keys, ..webhook.settings.clone() })
}
