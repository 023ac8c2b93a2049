//! The profile and the signing keys of a webhook, from a document or from the present webhook.

use std::sync::Arc;

use serde_json::Value;

use super::settings::Purpose;
use crate::model::{Secret, Timestamp};
use crate::outbound::profile::{KeyError, KeyType, Profile};
use crate::outbound::{SigningKeys, Webhook};
use crate::registry::Registry;
use crate::service::fields::{DocumentFields, FieldUpdate, pointer};
use crate::signature::{SigningKey, SigningKind};

/// Reads the profile: the named one, the present one in a patch, or the tenant's default.
pub(super) fn profile(
    fields: &mut DocumentFields,
    purpose: Purpose<'_>,
    tenant: Option<&str>,
    registry: &Registry,
) -> Option<Arc<Profile>> {
    let profiles = registry.profiles();
    let before = fields.errors.len();
    let named = fields.take("profile", |value| match value.as_str() {
        // A webhook may keep a profile that is no longer configured.
        Some(name) if purpose.current().is_some_and(|w| w.profile.name() == name) => Ok(profiles.resolve(name)),
        name => name.and_then(|name| profiles.get(name)).map(Arc::clone).ok_or_else(|| {
            format!("expected the name of a profile: {}", profiles.names().collect::<Vec<_>>().join(", "))
        }),
    });
    let default = || {
        let settings = tenant.map(|tenant| registry.tenant_settings(tenant)).unwrap_or_default();
        profiles.resolve(settings.profile.as_deref().unwrap_or(Profile::STANDARD))
    };
    match named {
        FieldUpdate::Value(profile) => Some(profile),
        _ if fields.errors.len() > before => None,
        FieldUpdate::Absent => Some(purpose.base().map_or_else(default, |w| profiles.resolve(w.profile.name()))),
        FieldUpdate::Null => Some(default()),
    }
}

/// Reads the signing keys. At creation the secret is given or generated. Later it stays, in the form that the profile
/// needs.
pub(super) fn keys(fields: &mut DocumentFields, current: Option<&Webhook>, profile: &Profile) -> Option<SigningKeys> {
    if let Some(current) = current {
        for field in ["secret", "key_type"] {
            if fields.unread.remove(field).is_some() {
                fields.wrong(pointer(field), "is set at creation and by regenerate-secret, not here");
            }
        }
        return kept(fields, current, profile);
    }
    let wanted = new_secret(fields)?;
    match wanted.key(profile) {
        Ok(key) => Some(SigningKeys { current: Arc::new(key), previous: Vec::new() }),
        Err((field, error)) => {
            fields.wrong(field, error.to_string());
            None
        }
    }
}

/// The present keys, or keys built from the same secrets if the profile changes.
fn kept(fields: &mut DocumentFields, current: &Webhook, profile: &Profile) -> Option<SigningKeys> {
    if profile.name() == current.profile.name() {
        // The registry keeps these keys up to date when the configuration is reloaded.
        return Some(current.keys.clone());
    }
    match profile.key(current.keys.current.secret.clone()) {
        Ok(key) => {
            let other = |(key, until): &(Arc<SigningKey>, Timestamp)| {
                (Arc::new(profile.stored_key(key.secret.clone())), *until)
            };
            Some(SigningKeys { current: Arc::new(key), previous: current.keys.previous.iter().map(other).collect() })
        }
        Err(error) => {
            let detail = format!(
                "the webhook's secret does not fit the profile {:?} ({error}); give it one that fits both by \
                 regenerate-secret first",
                profile.name()
            );
            fields.wrong("/profile", detail);
            None
        }
    }
}

/// A secret that the client gives, or that the server generates.
pub(super) enum NewSecret {
    Given(Secret),
    Generate(Option<KeyType>),
}

/// Reads `secret` or `key_type`. Returns `None` if an error was recorded in the fields.
pub(super) fn new_secret(fields: &mut DocumentFields) -> Option<NewSecret> {
    let before = fields.errors.len();
    let given = fields.take("secret", |value| match value {
        Value::String(text) => Ok(Secret::new(text)),
        _ => Err("expected text".to_owned()),
    });
    let key_type = fields.take("key_type", |value| {
        let word = KeyType::WORDS.iter().find(|(word, _)| value.as_str() == Some(word));
        word.map(|(_, key_type)| *key_type).ok_or_else(|| "expected hmac or ed25519".to_owned())
    });
    let secret = match (given.value(), key_type.value()) {
        (Some(_), Some(_)) => {
            fields.wrong("/key_type", "says which secret is made; this one is given");
            None
        }
        (Some(secret), None) => Some(NewSecret::Given(secret)),
        (None, key_type) => Some(NewSecret::Generate(key_type)),
    };
    secret.filter(|_| fields.errors.len() == before)
}

impl NewSecret {
    /// Chooses the type of the present key for a secret to be generated without a given type.
    pub(super) fn like(self, present: &SigningKey) -> Self {
        match (self, &present.kind) {
            (Self::Generate(None), SigningKind::Ed25519(_)) => Self::Generate(Some(KeyType::Ed25519)),
            (wanted, _) => wanted,
        }
    }

    /// Creates the key for a profile. The error names the invalid field and the reason.
    pub(super) fn key(self, profile: &Profile) -> Result<SigningKey, (&'static str, KeyError)> {
        match self {
            Self::Given(secret) => profile.key(secret).map_err(|error| ("/secret", error)),
            Self::Generate(wanted) => profile
                .generate_key(wanted)
                .map_err(|error| (if matches!(error, KeyError::Type(_)) { "/key_type" } else { "/profile" }, error)),
        }
    }
}
