//! Secrets: what one looks like, by profile, and the keys made from them.

use super::{Profile, Signing};
use crate::limits::{PROFILE_SECRET_CHARS_MAX, PROFILE_SECRET_CHARS_MIN};
use crate::model::Secret;
use crate::signature::standard::SecretError;
use crate::signature::{SchemeError, SigningKey, SigningKind};

/// What is wrong with a secret, or with what it is for. Says nothing of the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of Standard Webhooks.
    #[error(transparent)]
    Standard(#[from] SecretError),
    /// Too short to be safe, or longer than any.
    #[error(
        "a secret of the profile {profile:?} has {PROFILE_SECRET_CHARS_MIN} to {PROFILE_SECRET_CHARS_MAX} characters, \
         this one has {chars}"
    )]
    Length {
        /// Of which profile.
        profile: Box<str>,
        /// How many it has.
        chars: usize,
    },
    /// No key of the profile's scheme.
    #[error("it is no secret of the profile {profile:?}: {detail}")]
    Scheme {
        /// Of which profile.
        profile: Box<str>,
        /// What is wrong and what is allowed.
        detail: String,
    },
    /// The profile is not configured.
    #[error("the profile {0:?} is not configured")]
    Unknown(Box<str>),
    /// The scheme says what its keys are.
    #[error("the profile {0:?} has a scheme of its own, which decides what its keys are")]
    Type(Box<str>),
    /// The operating system gives no randomness.
    #[error("no secret could be made")]
    Random,
}

/// What kind of key is made for a profile of Standard Webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyType {
    /// HMAC-SHA256, which both sides know (`v1`).
    Hmac,
    /// Ed25519, whose public key the receiver knows (`v1a`).
    Ed25519,
}

impl KeyType {
    /// Each with the word that means it.
    pub const WORDS: [(&str, Self); 2] = [("hmac", Self::Hmac), ("ed25519", Self::Ed25519)];
}

impl Profile {
    /// Reads a secret in this profile's form, and prepares its key.
    ///
    /// # Errors
    /// What a secret of this profile looks like.
    pub fn key(&self, secret: Secret) -> Result<SigningKey, KeyError> {
        let scheme = match &self.signing {
            Signing::Standard => return Ok(SigningKey::try_new(secret)?),
            Signing::Scheme(scheme) => scheme,
            Signing::Unknown => return Err(KeyError::Unknown(self.name.clone())),
        };
        let chars = secret.reveal().chars().count();
        if !(PROFILE_SECRET_CHARS_MIN..=PROFILE_SECRET_CHARS_MAX).contains(&chars) {
            return Err(KeyError::Length { profile: self.name.clone(), chars });
        }
        let wrong = |error: SchemeError| KeyError::Scheme { profile: self.name.clone(), detail: error.detail };
        let kind = SigningKind::Scheme(Box::new(scheme.key(&secret).map_err(wrong)?));
        Ok(SigningKey { secret, kind })
    }

    /// The same of a secret that was accepted once: if the profile cannot use it any more, it is kept, and deliveries say
    /// why.
    pub fn stored_key(&self, secret: Secret) -> SigningKey {
        self.key(secret.clone())
            .unwrap_or_else(|why| SigningKey { secret, kind: SigningKind::Unfit(why.to_string().into()) })
    }

    /// A key from a new secret. Profiles with a scheme of their own make what that needs; others what is asked for, HMAC by
    /// default.
    ///
    /// # Errors
    /// If the profile is not configured, or leaves no choice.
    pub fn generate_key(&self, wanted: Option<KeyType>) -> Result<SigningKey, KeyError> {
        match (&self.signing, wanted) {
            (Signing::Standard, Some(KeyType::Ed25519)) => Ok(SigningKey::generate_ed25519()?),
            (Signing::Standard, _) => Ok(SigningKey::generate()),
            (Signing::Scheme(scheme), None) => self.key(scheme.generate().ok_or(KeyError::Random)?),
            (Signing::Scheme(_), Some(_)) => Err(KeyError::Type(self.name.clone())),
            (Signing::Unknown, _) => Err(KeyError::Unknown(self.name.clone())),
        }
    }
}
