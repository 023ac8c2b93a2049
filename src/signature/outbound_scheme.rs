//! Schemes that sign deliveries. The key is prepared once, the body is signed in parts without a copy, and the
//! signature is sent in headers. [`Scheme::verify`] accepts the result.

use std::fmt;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use super::key::{SecretFormat, bytes};
use super::scheme::Method;
use super::sign::{SchemeSigner, secret_error};
use super::signed_content::SignedContentValues;
use super::standard::{PRIVATE_PREFIX, SECRET_PREFIX};
use super::{RawScheme, RequestParts, Scheme, SchemeError, SignError, ValueLocation};
use crate::limits::HMAC_KEY_BYTES_MIN;
use crate::model::{HIDDEN, Secret, Timestamp};
use crate::runtime::Random;

/// The suffix of the header that carries the signature by the previous secret during a rotation.
const PREVIOUS: &str = "-previous";
/// The number of random bytes in a generated secret.
const SECRET_BYTES: usize = 32;

/// A compiled scheme that signs deliveries.
#[derive(Debug, Clone)]
pub struct OutboundScheme {
    scheme: Scheme,
    signature: HeaderName,
    previous: HeaderName,
    time: Option<HeaderName>,
}

/// A signing key of an [`OutboundScheme`]. Prints as `***`.
pub struct OutboundKey {
    signer: SchemeSigner,
    public: Option<Box<str>>,
}

impl OutboundKey {
    /// The public key of an asymmetric scheme, in the format of its `key` setting; `None` for other schemes.
    pub fn public_key(&self) -> Option<&str> {
        self.public.as_deref()
    }
}

impl fmt::Debug for OutboundKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// The parts of a delivery that can be signed.
#[derive(Debug, Clone, Copy)]
pub struct UnsignedDelivery<'a> {
    /// The URL of the endpoint.
    pub url: &'a str,
    /// The headers that the scheme signs. Other headers are ignored.
    pub headers: &'a HeaderMap,
    /// The value of `{id}`.
    pub id: &'a str,
    /// The time of this attempt.
    pub time: Timestamp,
    /// The body, in parts.
    pub body: &'a [&'a [u8]],
}

impl OutboundScheme {
    /// Compiles a scheme for deliveries.
    ///
    /// # Errors
    /// All errors of the settings, each with its field: those of [`Scheme::try_new`], and settings that deliveries
    /// cannot have.
    pub fn try_new(raw: &RawScheme) -> Result<Self, Vec<SchemeError>> {
        let scheme = Scheme::try_new(raw)?;
        let mut errors = Vec::new();
        let mut wrong = |field, detail: &str| errors.push(SchemeError { field, detail: detail.to_owned() });
        if let Method::Code(_) | Method::Jwt(_) | Method::None = scheme.method {
            wrong("scheme", "deliveries are signed by hmac, hash, ed25519, ecdsa-p256, token or basic");
        }
        let signature = match &scheme.sig[..] {
            [location] => header_of(location),
            _ => None,
        };
        if signature.is_none() && scheme.requires_verification() {
            wrong("sig", "the signature of a delivery stands in one header: header:NAME");
        }
        let time = scheme.time.as_ref().map(|rule| &rule.location);
        if time.is_some_and(|location| header_of(location).is_none() && !matches!(location, ValueLocation::Sig(_))) {
            wrong("time", "the time of a delivery stands in a header, header:NAME, or in the signature's, sig:PREFIX");
        }
        if scheme.signed.has_json() {
            wrong("signed", "{json:…} has no meaning here: the body of a delivery is signed as it lies");
        }
        if scheme.signed.has_values() {
            wrong("signed", "{query:…} and {form:…} have no meaning here: a delivery has neither");
        }
        if scheme.each.is_some() {
            wrong("each", "has no meaning here: a delivery is signed as a whole");
        }
        let time = time.and_then(header_of);
        let previous = signature.as_ref().and_then(|name| HeaderName::try_from(format!("{name}{PREVIOUS}")).ok());
        match (signature, previous) {
            (Some(signature), Some(previous)) if errors.is_empty() => Ok(Self { scheme, signature, previous, time }),
            _ => Err(errors),
        }
    }

    /// The scheme that verifies a delivery. If `{id}` is signed, [`Scheme::with_id`] must set its locations first.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The headers that signing sets.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.signature, &self.previous].into_iter().chain(&self.time)
    }

    /// The headers that are signed, which must exist before signing.
    pub fn signed_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.scheme.signed.headers().filter(|name| Some(*name) != self.time.as_ref())
    }

    /// Prepares the signing key of a secret.
    ///
    /// # Errors
    /// [`SchemeError`] if the text is not a key of this scheme. The error never contains the secret.
    pub fn key(&self, secret: &Secret) -> Result<OutboundKey, SchemeError> {
        let signer = self.scheme.signer(secret)?;
        match &signer {
            SchemeSigner::Symmetric(_) if bytes(self.scheme.form, secret)?.len() < HMAC_KEY_BYTES_MIN => {
                return Err(secret_error("a key of fewer than 8 bytes is guessed"));
            }
            SchemeSigner::Value(value) if HeaderValue::from_str(value).is_err() => {
                return Err(secret_error("it stands in a header, so visible characters of ASCII are needed"));
            }
            SchemeSigner::Value(_) if matches!(self.scheme.method, Method::Basic) && !secret.reveal().contains(':') => {
                return Err(secret_error("expected user:password"));
            }
            _ => {}
        }
        let public = match self.scheme.method {
            Method::Ed25519 | Method::EcdsaP256 => {
                let public =
                    self.scheme.verifying_secret(secret).map_err(|_| secret_error("expected a private key"))?;
                Some(public.reveal().into())
            }
            _ => None,
        };
        Ok(OutboundKey { signer, public })
    }

    /// Generates a secret in the format that [`Self::key`] reads; `None` if the operating system provides no
    /// randomness.
    pub fn generate(&self) -> Option<Secret> {
        let random = || Zeroizing::new(Random::secret::<SECRET_BYTES>());
        let private = |bytes: &[u8]| format!("{PRIVATE_PREFIX}{}", BASE64.encode(bytes));
        let text = match (&self.scheme.method, self.scheme.form) {
            (Method::Ed25519, _) => {
                let seed = random();
                let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).ok()?;
                private(&Zeroizing::new([&*seed, pair.public_key().as_ref()].concat()))
            }
            (Method::EcdsaP256, _) => {
                private(EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &Random::secure()).ok()?.as_ref())
            }
            (Method::Basic, _) => format!("hooktide:{}", BASE64URL_NOPAD.encode(&*random())),
            (Method::Token, _) => BASE64URL_NOPAD.encode(&*random()),
            (_, SecretFormat::Hex) => HEXLOWER.encode(&*random()),
            (_, SecretFormat::Base64) => BASE64.encode(&*random()),
            _ => format!("{SECRET_PREFIX}{}", BASE64.encode(&*random())),
        };
        Some(Secret::new(text))
    }

    /// Signs with the current key, and with the previous keys that are valid, the newest first. If the scheme allows several
    /// signatures in one value (`split`), the value contains all. Otherwise the signature of the newest previous key has its
    /// own header, and older keys do not sign.
    /// `set` receives each header.
    ///
    /// # Errors
    /// [`SignError`] if something to be signed is missing, or a value cannot be in a header.
    pub fn sign(
        &self,
        current: &OutboundKey,
        previous: &[&OutboundKey],
        message: &UnsignedDelivery<'_>,
        mut set: impl FnMut(&HeaderName, HeaderValue),
    ) -> Result<(), SignError> {
        let time = self.scheme.time.as_ref().map(|rule| (&rule.location, rule.format(message.time)));
        let mut value = String::new();
        match (&time, &self.time) {
            (Some((_, text)), Some(name)) => set(name, header(name, text)?),
            (Some((ValueLocation::Sig(prefix), text)), None) => {
                value.extend([&**prefix, text.as_str()]);
                value.extend(self.scheme.split);
            }
            _ => {}
        }
        let prefix_len = value.len();
        let time = time.as_ref().map(|(_, text)| text.as_str());
        self.append(&mut value, current, message, time)?;
        match (previous, self.scheme.split) {
            (previous, Some(split)) => {
                for key in previous {
                    value.push(split);
                    self.append(&mut value, key, message, time)?;
                }
            }
            ([previous, ..], None) => {
                let mut other = value[..prefix_len].to_owned();
                self.append(&mut other, previous, message, time)?;
                set(&self.previous, header(&self.previous, &other)?);
            }
            ([], None) => {}
        }
        let mut value = header(&self.signature, &value)?;
        value.set_sensitive(self.scheme.sends_secret());
        set(&self.signature, value);
        Ok(())
    }

    fn append(
        &self,
        value: &mut String,
        key: &OutboundKey,
        message: &UnsignedDelivery<'_>,
        time: Option<&str>,
    ) -> Result<(), SignError> {
        value.push_str(&self.scheme.prefix);
        if let SchemeSigner::Value(text) = &key.signer {
            value.push_str(text);
            return Ok(());
        }
        let (url, query) = match message.url.split_once('?') {
            Some((url, query)) => (url, Some(query)),
            None => (message.url, None),
        };
        let request = RequestParts { method: "POST", url, query, path: "", headers: message.headers, body: b"" };
        let values = SignedContentValues { time, id: Some(message.id), body: Some(message.body) };
        let parts = self.scheme.signed.parts(&request, values)?;
        value.push_str(&self.scheme.encoding.encode(&key.signer.sign(&parts)?));
        Ok(())
    }
}

fn header_of(location: &ValueLocation) -> Option<HeaderName> {
    match location {
        ValueLocation::Header(names) if names.len() == 1 => names.first().cloned(),
        _ => None,
    }
}

fn header(name: &HeaderName, text: &str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text).map_err(|_: InvalidHeaderValue| {
        SignError::UnwritableLocation(ValueLocation::Header(vec![name.clone()]).to_string().into())
    })
}
