//! A webhook's secret, made anew.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::keys::new_secret;
use crate::limits::{CHANGE_TRIES, SECRET_OVERLAP_DEFAULT, SECRET_OVERLAP_MAX};
use crate::model::{Principal, Secret, Timestamp, WebhookNo};
use crate::outbound::{SigningKeys, Webhook, WebhookSettings};
use crate::registry::ChangeError;
use crate::service::fields::{Fields, Given};
use crate::service::{Error, ErrorKind, ExpectedVersion, Operation, Service, WebhookRef};

/// A secret that was checked and can be put in force.
#[derive(Debug)]
pub struct SecretDraft {
    of: WebhookNo,
    secret: Secret,
    /// How long the secret before signs beside the new one.
    overlap: Duration,
    version: Option<u64>,
    by: Principal,
}

impl Service {
    /// Checks or makes a webhook's new secret. The document: `{"overlap_seconds"?, "secret"?, "key_type"?}`.
    ///
    /// # Errors
    /// Each field that is wrong; a webhook that is not there, or not of the expected version.
    pub fn draft_secret(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<SecretDraft, Error> {
        Operation::RegenerateSecret.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let mut fields = Fields::new(document);
        let overlap = match fields.whole("overlap_seconds", 0..=SECRET_OVERLAP_MAX.as_secs()) {
            Given::Value(seconds) => Duration::from_secs(seconds),
            Given::Absent | Given::Null => SECRET_OVERLAP_DEFAULT,
        };
        let wanted = new_secret(&mut fields);
        let fresh = wanted.map(|wanted| wanted.like(&webhook.keys.current).key(&webhook.profile));
        let key = match fresh {
            Some(Ok(key)) if key.secret == webhook.keys.current.secret => {
                fields.wrong("/secret", "is the present secret; give another one, or none to have one made");
                None
            }
            Some(Ok(key)) => Some(key),
            // The document has no such field.
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

    /// Puts a new secret in force. The secret before signs beside it until the overlap ends; one before that ends now.
    ///
    /// # Errors
    /// A webhook that is not there any more, or not of the expected version.
    pub async fn regenerate_secret(&self, draft: SecretDraft) -> Result<Arc<Webhook>, Error> {
        let SecretDraft { of, secret, overlap, version, by } = draft;
        let writer = self.writer.by(&by);
        for _ in 0..CHANGE_TRIES {
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

/// The webhook's settings with another secret. Its profile may have changed since the secret was made.
fn replaced(webhook: &Webhook, secret: &Secret, overlap: Duration, now: Timestamp) -> Result<WebhookSettings, Error> {
    let key = webhook.profile.key(secret.clone());
    let key = key.map_err(|error| Error::new(ErrorKind::Conflict, error.to_string()))?;
    let previous = (!overlap.is_zero()).then(|| (Arc::clone(&webhook.keys.current), now.plus(overlap)));
    let keys = SigningKeys { current: Arc::new(key), previous };
    Ok(WebhookSettings { keys, ..webhook.settings.clone() })
}
