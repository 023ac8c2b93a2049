//! Signing secrets of profiles: their formats, and the keys made from secrets.

use super::{Profile, ProfileSigning};
use crate::limits::{PROFILE_SECRET_CHARS_MAX, PROFILE_SECRET_CHARS_MIN};
use crate::model::Secret;
use crate::signature::standard::SecretError;
use crate::signature::{SchemeError, SigningKey, SigningKind};

/// Why a profile cannot use or generate a secret. The message never contains the secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret is not a secret of the Standard Webhooks specification.
    #[error(transparent)]
    Standard(#[from] SecretError),
    /// The secret is too short or too long.
    #[error(
        "a secret of the profile {profile:?} has {PROFILE_SECRET_CHARS_MIN} to {PROFILE_SECRET_CHARS_MAX} characters, \
         this one has {chars}"
    )]
    Length {
        /// The name of the profile.
        profile: Box<str>,
        /// The length of the secret in characters.
        chars: usize,
    },
    /// The secret is not a key of the scheme of the profile.
    #[error("it is no secret of the profile {profile:?}: {detail}")]
    Scheme {
        /// The name of the profile.
        profile: Box<str>,
        /// What is wrong and what is allowed.
        detail: String,
    },
    /// The profile is not configured.
    #[error("the profile {0:?} is not configured")]
    ProfileNotConfigured(Box<str>),
    /// A key type was given, but the scheme of the profile decides the key type.
    #[error("the profile {0:?} has a scheme of its own, which decides what its keys are")]
    Type(Box<str>),
    /// The operating system provides no randomness.
    #[error("no secret could be made")]
    Random,
}

/// The type of a new key for a profile that signs according to the Standard Webhooks specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// HMAC-SHA256, whose key both sides know (`v1`).
    Hmac,
    /// Ed25519, whose public key the receiver knows (`v1a`).
    Ed25519,
}

impl KeyType {
    /// Each key type with its name in the API.
    pub const WORDS: [(&str, Self); 2] = [("hmac", Self::Hmac), ("ed25519", Self::Ed25519)];
}

impl Profile {
    /// Parses a secret in the format of this profile and prepares its key.
    ///
    /// # Errors
    /// [`KeyError`] if this is not a secret of the profile. The message says what such a secret looks like.
    pub fn key(&self, secret: Secret) -> Result<SigningKey, KeyError> {
        let scheme = match &self.signing {
            ProfileSigning::Standard => return Ok(SigningKey::try_new(secret)?),
            ProfileSigning::Scheme(scheme) => scheme,
            ProfileSigning::NotConfigured => return Err(KeyError::ProfileNotConfigured(self.name.clone())),
        };
        let chars = secret.reveal().chars().count();
        if !(PROFILE_SECRET_CHARS_MIN..=PROFILE_SECRET_CHARS_MAX).contains(&chars) {
            return Err(KeyError::Length { profile: self.name.clone(), chars });
        }
        let wrong = |error: SchemeError| KeyError::Scheme { profile: self.name.clone(), detail: error.detail };
        let kind = SigningKind::Scheme(Box::new(scheme.key(&secret).map_err(wrong)?));
        Ok(SigningKey { secret, kind })
    }

    /// Prepares the key of a stored secret, which was accepted earlier. If the profile can no longer use the secret,
    /// the key is [`SigningKind::Unusable`], and deliveries fail with the reason.
    pub fn stored_key(&self, secret: Secret) -> SigningKey {
        self.key(secret.clone())
            .unwrap_or_else(|why| SigningKey { secret, kind: SigningKind::Unusable(why.to_string().into()) })
    }

    /// Generates a secret and its key. A profile with its own scheme generates the key type of the scheme. Other
    /// profiles generate the wanted type, by default HMAC.
    ///
    /// # Errors
    /// [`KeyError`] if the profile is not configured, if `wanted` is given for a profile with its own scheme, or if
    /// there is no randomness.
    pub fn generate_key(&self, wanted: Option<KeyType>) -> Result<SigningKey, KeyError> {
        match (&self.signing, wanted) {
            (ProfileSigning::Standard, Some(KeyType::Ed25519)) => Ok(SigningKey::generate_ed25519()?),
            (ProfileSigning::Standard, _) => Ok(SigningKey::generate()),
            (ProfileSigning::Scheme(scheme), None) => self.key(scheme.generate().ok_or(KeyError::Random)?),
            (ProfileSigning::Scheme(_), Some(_)) => Err(KeyError::Type(self.name.clone())),
            (ProfileSigning::NotConfigured, _) => Err(KeyError::ProfileNotConfigured(self.name.clone())),
        }
    }
}
