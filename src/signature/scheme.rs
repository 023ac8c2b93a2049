//! A scheme: how a signature is made and where it stands, as data. The same value signs and verifies.

use serde::{Deserialize, Serialize};

use super::{Certificate, Key, OneOrMany, Request, VerifyError};
use crate::model::{Secret, Timestamp};

/// A scheme as it is written, in a table of providers, in `config.toml`, in the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScheme {
    /// `hmac`, `hash`, `ed25519`, `ecdsa-p256`, `token`, `basic`, `none`, or `code:NAME` (twilio, paypal, sns).
    pub scheme: String,
    /// `sha1`, `sha256` (default), `sha512`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// What a secret's text means: `utf8` (default), `hex`, `base64`, `whsec`, `whpk`, `spki-base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where the signature stands; several: any may match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<OneOrMany>,
    /// What separates several signatures in one value: `,`, `;` or a space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// What marks a signature: `v1=`, `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `hex` or `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// What is signed; `{body}` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// Where the time stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// `s` (default), `ms`, `rfc3339`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Seconds that the time may be off, either way; 300 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<u64>,
    /// Each element of this array of the body is signed by itself; the pointers of `sig` and `signed` start there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
}

/// What is wrong with a field of a scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct SchemeError {
    /// `sig`.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// A scheme that can be used.
#[derive(Debug, Clone)]
pub struct Scheme {}

impl Scheme {
    /// # Errors
    /// Everything that is wrong, by field (the loader's rules of the providers' page).
    pub fn try_new(_raw: &RawScheme) -> Result<Self, Vec<SchemeError>> {
        Ok(Self {})
    }

    /// Whether a secret is needed at all (all but `none`).
    pub fn needs_secret(&self) -> bool {
        true
    }

    /// Whether `{url}` is signed, so that the public URL must be known.
    pub fn needs_url(&self) -> bool {
        false
    }

    /// The key that a secret's text stands for.
    ///
    /// # Errors
    /// For text that is no such key; says nothing of the secret itself.
    pub fn key(&self, _secret: &Secret) -> Result<Key, SchemeError> {
        Err(SchemeError { field: "secrets", detail: String::new() })
    }

    /// Where the certificate is that this request was signed with, for the schemes that name one; checked against the
    /// hosts that the provider uses.
    ///
    /// # Errors
    /// For a request that names none, or one elsewhere.
    pub fn certificate_url(&self, _request: &Request<'_>) -> Result<Option<url::Url>, VerifyError> {
        Ok(None)
    }

    /// Whether one of the keys signed this request, `now` by the wall clock.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify<'k>(
        &self,
        _keys: impl IntoIterator<Item = &'k Key>,
        _certificate: Option<&Certificate>,
        _request: &Request<'_>,
        _now: Timestamp,
    ) -> Result<(), VerifyError> {
        Err(VerifyError::Mismatch)
    }
}
