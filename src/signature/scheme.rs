//! Signature schemes: how a signature is made and where the signature is in a request, as data. The same value signs
//! and verifies.

use ring::{digest, hmac};

use super::code::CodeScheme;
use super::encoding::Encoding;
use super::jwk::KeySet;
use super::jwt::{JwtRules, KeySetRequest, bearer};
use super::key::SecretFormat;
use super::signed_content::{ContentPlaceholder, SignedContent};
use super::time::TimeRule;
use super::{RawScheme, RequestParts, ValueLocation, VerifyError, VerifyingKey, check, code};
use crate::json::Pointer;
use crate::limits::HMAC_KEY_BYTES_MIN;
use crate::model::{Secret, Timestamp};

/// An error in a field of a scheme, or in a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct SchemeError {
    /// The name of the field, such as `sig`.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// The signature algorithm of a scheme.
#[derive(Debug, Clone)]
pub(super) enum Method {
    Hmac(hmac::Algorithm),
    /// A digest over a text that contains the key.
    Hash(&'static digest::Algorithm),
    Ed25519,
    /// ECDSA over P-256 with SHA-256. The signature is in ASN.1.
    EcdsaP256,
    /// The request contains the secret itself.
    Token,
    /// Basic authentication (RFC 7617).
    Basic,
    /// A JSON Web Token.
    Jwt(Box<JwtRules>),
    /// Nothing is verified.
    None,
    /// A scheme implemented in code.
    Code(CodeScheme),
}

/// A compiled signature scheme.
#[derive(Debug, Clone)]
pub struct Scheme {
    pub(super) method: Method,
    pub(super) form: SecretFormat,
    /// The locations of signatures; empty only for `none` and for schemes implemented in code.
    pub(super) sig: Vec<ValueLocation>,
    pub(super) split: Option<char>,
    pub(super) prefix: Box<str>,
    pub(super) encoding: Encoding,
    pub(super) signed: SignedContent,
    pub(super) time: Option<TimeRule>,
    /// The locations whose values, joined by `:`, are the value of `{id}`.
    pub(super) id: Vec<ValueLocation>,
    pub(super) each: Option<Pointer>,
}

impl Scheme {
    /// Compiles a scheme.
    ///
    /// # Errors
    /// All errors of the settings, each with its field.
    pub fn try_new(raw: &RawScheme) -> Result<Self, Vec<SchemeError>> {
        check::scheme(raw)
    }

    /// Sets the locations whose values, joined by `:`, are the value of `{id}`. Without locations, a scheme that
    /// [`Self::needs_id`] accepts no request.
    #[must_use]
    pub fn with_id(self, id: &[ValueLocation]) -> Self {
        Self { id: id.to_vec(), ..self }
    }

    /// Whether a secret is required: for all schemes except `none` and SNS, whose messages are signed by a certificate.
    pub fn needs_secret(&self) -> bool {
        match &self.method {
            Method::None => false,
            Method::Code(which) => which.needs_secret(),
            Method::Jwt(rules) => rules.needs_secret(),
            _ => true,
        }
    }

    /// Whether a source may have secrets. The keys of a token can be secrets although they can be fetched too.
    pub fn takes_secrets(&self) -> bool {
        self.needs_secret() || matches!(self.method, Method::Jwt(_))
    }

    /// Whether a secret may begin with `whsec_` or `whpk_`, which are no part of the key.
    pub fn reads_key_prefix(&self) -> bool {
        matches!(self.form, SecretFormat::Whsec | SecretFormat::Whpk)
    }

    /// Whether requests are verified by their head alone, so that the body of a refused request need not be read.
    pub fn is_in_head(&self) -> bool {
        let covers_no_body = match &self.method {
            Method::Token | Method::Basic => true,
            Method::Jwt(rules) => !rules.covers_body(),
            _ => false,
        };
        let is_in_head =
            |location: &ValueLocation| matches!(location, ValueLocation::Header(_) | ValueLocation::Query(_));
        covers_no_body && self.each.is_none() && self.sig.iter().all(is_in_head)
    }

    /// Whether the scheme verifies anything: true for all schemes except `none`.
    pub fn requires_verification(&self) -> bool {
        !matches!(self.method, Method::None)
    }

    /// Whether `{url}` is signed, so that the public URL must be known.
    pub fn needs_url(&self) -> bool {
        self.signed.has_url()
            || match &self.method {
                Method::Code(which) => which.needs_url(),
                Method::Jwt(rules) => rules.needs_url(),
                _ => false,
            }
    }

    /// Whether `{id}` is signed, so that [`Self::with_id`] must set its locations.
    pub fn needs_id(&self) -> bool {
        self.signed.has(&ContentPlaceholder::Id)
    }

    /// Whether the request contains the secret itself at the location of the signature (`token`, `basic`). Such a value
    /// must not be stored.
    pub fn sends_secret(&self) -> bool {
        matches!(self.method, Method::Token | Method::Basic | Method::Jwt(_))
    }

    /// The locations of signatures.
    pub fn signature_locations(&self) -> &[ValueLocation] {
        &self.sig
    }

    /// Whether the signature covers the value at this location. If not, an attacker who saw one request can send it
    /// again with another value there.
    pub fn covers(&self, location: &ValueLocation) -> bool {
        match (&self.method, location) {
            (_, ValueLocation::Const(_)) => true,
            (Method::Token | Method::Basic | Method::None, _) => false,
            (Method::Code(which), _) => which.covers(location),
            (Method::Jwt(rules), location) => {
                rules.covers_body()
                    && matches!(location, ValueLocation::Json(_) | ValueLocation::Form(_) | ValueLocation::FormJson(..))
            }
            _ => {
                self.signed.covers(location)
                    || self.signed.has(&ContentPlaceholder::Time)
                        && self.time.as_ref().is_some_and(|time| time.location == *location)
                    || self.needs_id() && self.id.contains(location)
            }
        }
    }

    /// Prepares the key of a secret. A key of `hmac` or `hash` has at least 8 bytes.
    ///
    /// # Errors
    /// [`SchemeError`] if the text is not a key of this scheme. The error never contains the secret.
    pub fn key(&self, secret: &Secret) -> Result<VerifyingKey, SchemeError> {
        VerifyingKey::try_new(&self.method, self.form, secret, HMAC_KEY_BYTES_MIN)
    }

    /// Prepares the key of a secret of any length except zero, for published examples of providers, which use
    /// secrets like `12345`, and for people who verify these examples. Never use this method for a source.
    ///
    /// # Errors
    /// [`SchemeError`] if the text is not a key of this scheme.
    pub fn key_of_any_length(&self, secret: &Secret) -> Result<VerifyingKey, SchemeError> {
        VerifyingKey::try_new(&self.method, self.form, secret, 1)
    }

    /// The URL of the certificate that signed this request; `None` if the scheme uses no certificate. The URL was
    /// checked against the hosts of the provider.
    ///
    /// # Errors
    /// [`VerifyError`] if the request names no certificate, or one on another host.
    pub fn certificate_url(&self, request: &RequestParts<'_>) -> Result<Option<url::Url>, VerifyError> {
        match &self.method {
            Method::Code(which) => code::certificate_url(*which, request),
            _ => Ok(None),
        }
    }

    /// Where the public keys of this request are published; `None` if the scheme fetches none.
    ///
    /// # Errors
    /// [`VerifyError`] if the request has no token that a published key could verify.
    pub fn key_set(&self, request: &RequestParts<'_>) -> Result<Option<KeySetRequest>, VerifyError> {
        match &self.method {
            Method::Jwt(rules) => rules.key_set(bearer(&self.token(request)?)),
            _ => Ok(None),
        }
    }

    /// Verifies a request as [`Self::verify`] does, with the keys that [`Self::key_set`] asked for.
    ///
    /// # Errors
    /// [`VerifyError`] with the reason why the request is refused.
    pub fn verify_by_key_set<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k VerifyingKey>,
        published: Option<&KeySet>,
        request: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let Method::Jwt(rules) = &self.method else { return self.verify(keys, None, request, now) };
        let token = self.token(request)?;
        rules.verify(bearer(&token), keys.into_iter().filter_map(VerifyingKey::jwt), published, request, now)
    }
}
