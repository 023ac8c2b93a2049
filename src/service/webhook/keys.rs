//! A webhook's profile and the keys that sign for it: from a body, or from the webhook as it is.

use std::sync::Arc;

use serde_json::Value;

use super::settings::Purpose;
use crate::model::{Secret, Timestamp};
use crate::outbound::profile::{KeyError, KeyType, Profile};
use crate::outbound::{SigningKeys, Webhook};
use crate::registry::Registry;
use crate::service::fields::{Fields, Given, pointer};
use crate::signature::{SigningKey, SigningKind};

/// The profile: named, or the present one in a patch, or the tenant's default.
pub(super) fn profile(
    fields: &mut Fields,
    purpose: Purpose<'_>,
    tenant: Option<&str>,
    registry: &Registry,
) -> Option<Arc<Profile>> {
    let profiles = registry.profiles();
    let before = fields.errors.len();
    let named = fields.take("profile", |value| match value.as_str() {
        // A webhook may keep one that is not configured any more.
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
        Given::Value(profile) => Some(profile),
        _ if fields.errors.len() > before => None,
        Given::Absent => Some(purpose.base().map_or_else(default, |w| profiles.resolve(w.profile.name()))),
        Given::Null => Some(default()),
    }
}

/// The secret is given at creation or made; afterwards it stays, read in the form of the profile.
pub(super) fn keys(fields: &mut Fields, current: Option<&Webhook>, profile: &Profile) -> Option<SigningKeys> {
    if let Some(current) = current {
        for field in ["secret", "key_type"] {
            if fields.left.remove(field).is_some() {
                fields.wrong(pointer(field), "is set at creation and by regenerate-secret, not here");
            }
        }
        return kept(fields, current, profile);
    }
    let wanted = new_secret(fields)?;
    match wanted.key(profile) {
        Ok(key) => Some(SigningKeys { current: Arc::new(key), previous: None }),
        Err((field, error)) => {
            fields.wrong(field, error.to_string());
            None
        }
    }
}

/// The keys as they are, or made anew from the same secrets for another profile.
fn kept(fields: &mut Fields, current: &Webhook, profile: &Profile) -> Option<SigningKeys> {
    if profile.name() == current.profile.name() {
        // Whatever was reloaded meanwhile, the registry has it right.
        return Some(current.keys.clone());
    }
    match profile.key(current.keys.current.secret.clone()) {
        Ok(key) => {
            let other = |(key, until): &(Arc<SigningKey>, Timestamp)| {
                (Arc::new(profile.stored_key(key.secret.clone())), *until)
            };
            Some(SigningKeys { current: Arc::new(key), previous: current.keys.previous.as_ref().map(other) })
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

/// A secret that is given or to be made.
pub(super) enum NewSecret {
    Given(Secret),
    Made(Option<KeyType>),
}

/// `secret` or `key_type`; `None`: what is wrong stands in the fields.
pub(super) fn new_secret(fields: &mut Fields) -> Option<NewSecret> {
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
        (None, key_type) => Some(NewSecret::Made(key_type)),
    };
    secret.filter(|_| fields.errors.len() == before)
}

impl NewSecret {
    /// The same, but where it was not said what is made, another of the present kind.
    pub(super) fn like(self, present: &SigningKey) -> Self {
        match (self, &present.kind) {
            (Self::Made(None), SigningKind::Ed25519(_)) => Self::Made(Some(KeyType::Ed25519)),
            (wanted, _) => wanted,
        }
    }

    /// The key for a profile, or the field that is wrong and why.
    pub(super) fn key(self, profile: &Profile) -> Result<SigningKey, (&'static str, KeyError)> {
        match self {
            Self::Given(secret) => profile.key(secret).map_err(|error| ("/secret", error)),
            Self::Made(wanted) => profile
                .generate_key(wanted)
                .map_err(|error| (if matches!(error, KeyError::Type(_)) { "/key_type" } else { "/profile" }, error)),
        }
    }
}
