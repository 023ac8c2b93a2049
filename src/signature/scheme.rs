//! A scheme: how a signature is made and where it stands, as data. The same value signs and verifies.

use ring::{digest, hmac};

use super::code::Code;
use super::encoding::Encoding;
use super::key::Form;
use super::template::{Placeholder, Signed};
use super::time::TimeRule;
use super::{Key, Place, RawScheme, Request, VerifyError, check, code};
use crate::json::Pointer;
use crate::limits::HMAC_KEY_BYTES_MIN;
use crate::model::Secret;

/// What is wrong with a field of a scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {detail}")]
pub struct SchemeError {
    /// `sig`.
    pub field: &'static str,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// What makes a signature.
#[derive(Debug, Clone)]
pub(super) enum Method {
    Hmac(hmac::Algorithm),
    /// A digest over a text with the key in it.
    Hash(&'static digest::Algorithm),
    Ed25519,
    /// With SHA-256, in ASN.1.
    EcdsaP256,
    /// The secret itself.
    Token,
    /// RFC 7617.
    Basic,
    /// Nothing is verified.
    None,
    /// One that no data says.
    Code(Code),
}

/// A scheme that can be used.
#[derive(Debug, Clone)]
pub struct Scheme {
    pub(super) method: Method,
    pub(super) form: Form,
    /// Where signatures stand; empty only if nothing or code verifies.
    pub(super) sig: Vec<Place>,
    pub(super) split: Option<char>,
    pub(super) prefix: Box<str>,
    pub(super) encoding: Encoding,
    pub(super) signed: Signed,
    pub(super) time: Option<TimeRule>,
    /// What `{id}` stands for: the values of these, joined by `:`.
    pub(super) id: Vec<Place>,
    pub(super) each: Option<Pointer>,
}

impl Scheme {
    /// # Errors
    /// Everything that is wrong, by field (the loader's rules of the providers' page).
    pub fn try_new(raw: &RawScheme) -> Result<Self, Vec<SchemeError>> {
        check::scheme(raw)
    }

    /// The same scheme, where `{id}` stands for the values at these places, joined by `:`. Without them a scheme that
    /// [`Self::needs_id`] believes nothing.
    #[must_use]
    pub fn with_id(self, id: &[Place]) -> Self {
        Self { id: id.to_vec(), ..self }
    }

    /// Whether a secret is needed: for all but `none`, and SNS, whose messages are signed by a certificate alone.
    pub fn needs_secret(&self) -> bool {
        match self.method {
            Method::None => false,
            Method::Code(which) => which.needs_secret(),
            _ => true,
        }
    }

    /// Whether anything is checked: for all but `none`.
    pub fn checks(&self) -> bool {
        !matches!(self.method, Method::None)
    }

    /// Whether `{url}` is signed, so that the public URL must be known.
    pub fn needs_url(&self) -> bool {
        self.signed.has_url() || matches!(self.method, Method::Code(which) if which.needs_url())
    }

    /// Whether `{id}` is signed, so that [`Self::with_id`] must say where it stands.
    pub fn needs_id(&self) -> bool {
        self.signed.has(&Placeholder::Id)
    }

    /// Whether the secret itself travels where the signature stands (`token`, `basic`), so that the value there is kept
    /// nowhere.
    pub fn sends_secret(&self) -> bool {
        matches!(self.method, Method::Token | Method::Basic)
    }

    /// Where signatures stand.
    pub fn places(&self) -> &[Place] {
        &self.sig
    }

    /// Whether the signature covers what stands at this place: if not, somebody who saw one request can send it again with
    /// another value there.
    pub fn covers(&self, place: &Place) -> bool {
        match (&self.method, place) {
            (_, Place::Const(_)) => true,
            (Method::Token | Method::Basic | Method::None, _) => false,
            (Method::Code(which), _) => which.covers(place),
            _ => {
                self.signed.covers(place)
                    || self.signed.has(&Placeholder::Time)
                        && self.time.as_ref().is_some_and(|time| time.place == *place)
                    || self.needs_id() && self.id.contains(place)
            }
        }
    }

    /// The key that a secret's text stands for. An HMAC key (and that of a `hash`) has at least 8 bytes.
    ///
    /// # Errors
    /// For text that is no such key; says nothing of the secret itself.
    pub fn key(&self, secret: &Secret) -> Result<Key, SchemeError> {
        Key::try_new(&self.method, self.form, secret, HMAC_KEY_BYTES_MIN)
    }

    /// The same for a key of any length but none: for the examples that providers publish, signed with secrets like
    /// `12345`, and for people who check them. Never for a source.
    ///
    /// # Errors
    /// For text that is no such key.
    pub fn key_of_any_length(&self, secret: &Secret) -> Result<Key, SchemeError> {
        Key::try_new(&self.method, self.form, secret, 1)
    }

    /// Where the certificate is that this request was signed with, for the schemes that name one; checked against the
    /// hosts that the provider uses.
    ///
    /// # Errors
    /// For a request that names none, or one elsewhere.
    pub fn certificate_url(&self, request: &Request<'_>) -> Result<Option<url::Url>, VerifyError> {
        match &self.method {
            Method::Code(which) => code::certificate_url(*which, request),
            _ => Ok(None),
        }
    }
}
