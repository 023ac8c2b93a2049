//! A scheme that deliveries are signed by: the key is prepared once, the body is signed in parts as it lies, and the
//! signature goes into headers. What [`Scheme::verify`] believes afterwards, it signs.

use std::fmt;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use super::key::{Form, bytes};
use super::scheme::Method;
use super::sign::{Signer, no_key};
use super::standard::{PRIVATE_PREFIX, SECRET_PREFIX};
use super::template::Values;
use super::{Place, RawScheme, Request, Scheme, SchemeError, SignError};
use crate::limits::HMAC_KEY_BYTES_MIN;
use crate::model::{HIDDEN, Secret, Timestamp};
use crate::runtime::Random;

/// Behind the signature's name: the header with the old secret's signature while a secret is replaced.
const PREVIOUS: &str = "-previous";
/// Random bytes in a secret.
const SECRET_BYTES: usize = 32;

/// See the module.
#[derive(Debug, Clone)]
pub struct Outbound {
    scheme: Scheme,
    signature: HeaderName,
    previous: HeaderName,
    time: Option<HeaderName>,
}

/// A key of an [`Outbound`] scheme. Prints as `***`.
pub struct OutboundKey {
    signer: Signer,
    public: Option<Box<str>>,
}

impl OutboundKey {
    /// The public key of an asymmetric scheme, in the form that its `key` names.
    pub fn public_key(&self) -> Option<&str> {
        self.public.as_deref()
    }
}

impl fmt::Debug for OutboundKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// What a delivery is, before it is signed.
#[derive(Debug, Clone, Copy)]
pub struct ToSign<'a> {
    /// The receiver's URL.
    pub url: &'a str,
    /// The headers that the scheme signs; others do no harm.
    pub headers: &'a HeaderMap,
    /// What `{id}` stands for.
    pub id: &'a str,
    /// The time of this attempt.
    pub time: Timestamp,
    /// The body, in parts.
    pub body: &'a [&'a [u8]],
}

impl Outbound {
    /// # Errors
    /// Everything that is wrong, by field: as [`Scheme::try_new`], and what a delivery cannot have.
    pub fn try_new(raw: &RawScheme) -> Result<Self, Vec<SchemeError>> {
        let scheme = Scheme::try_new(raw)?;
        let mut errors = Vec::new();
        let mut wrong = |field, detail: &str| errors.push(SchemeError { field, detail: detail.to_owned() });
        if let Method::Code(_) | Method::None = scheme.method {
            wrong("scheme", "deliveries are signed by hmac, hash, ed25519, ecdsa-p256, token or basic");
        }
        let signature = match &scheme.sig[..] {
            [place] => header_of(place),
            _ => None,
        };
        if signature.is_none() && scheme.checks() {
            wrong("sig", "the signature of a delivery stands in one header: header:NAME");
        }
        let time = scheme.time.as_ref().map(|rule| &rule.place);
        if time.is_some_and(|place| header_of(place).is_none() && !matches!(place, Place::Sig(_))) {
            wrong("time", "the time of a delivery stands in a header, header:NAME, or in the signature's, sig:PREFIX");
        }
        if scheme.signed.has_json() {
            wrong("signed", "{json:…} has no meaning here: the body of a delivery is signed as it lies");
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

    /// What verifies a delivery; where `{id}` is signed, [`Scheme::with_id`] must still say where it stands.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The headers that signing sets.
    pub fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.signature, &self.previous].into_iter().chain(&self.time)
    }

    /// The headers that are signed, which must be there before.
    pub fn signed_headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.scheme.signed.headers().filter(|name| Some(*name) != self.time.as_ref())
    }

    /// The key that a secret's text stands for.
    ///
    /// # Errors
    /// For text that is no such key; says nothing of the secret itself.
    pub fn key(&self, secret: &Secret) -> Result<OutboundKey, SchemeError> {
        let signer = self.scheme.signer(secret)?;
        match &signer {
            Signer::Symmetric(_) if bytes(self.scheme.form, secret)?.len() < HMAC_KEY_BYTES_MIN => {
                return Err(no_key("a key of fewer than 8 bytes is guessed"));
            }
            Signer::Value(value) if HeaderValue::from_str(value).is_err() => {
                return Err(no_key("it stands in a header, so visible characters of ASCII are needed"));
            }
            Signer::Value(_) if matches!(self.scheme.method, Method::Basic) && !secret.reveal().contains(':') => {
                return Err(no_key("expected user:password"));
            }
            _ => {}
        }
        let public = match self.scheme.method {
            Method::Ed25519 | Method::EcdsaP256 => {
                let public = self.scheme.verifying_secret(secret).map_err(|_| no_key("expected a private key"))?;
                Some(public.reveal().into())
            }
            _ => None,
        };
        Ok(OutboundKey { signer, public })
    }

    /// A new secret of the form that [`Self::key`] reads; `None` if the operating system gives no randomness.
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
            (_, Form::Hex) => HEXLOWER.encode(&*random()),
            (_, Form::Base64) => BASE64.encode(&*random()),
            _ => format!("{SECRET_PREFIX}{}", BASE64.encode(&*random())),
        };
        Some(Secret::new(text))
    }

    /// Signs by the current key, and by the one before it while that is in force: beside it where the scheme has several
    /// signatures in one value (`split`), else in a header of its own. Each header goes to `set`.
    ///
    /// # Errors
    /// If something to be signed is missing, or a value cannot stand in a header.
    pub fn sign(
        &self,
        current: &OutboundKey,
        previous: Option<&OutboundKey>,
        message: &ToSign<'_>,
        mut set: impl FnMut(&HeaderName, HeaderValue),
    ) -> Result<(), SignError> {
        let time = self.scheme.time.as_ref().map(|rule| (&rule.place, rule.spell(message.time)));
        let mut value = String::new();
        match (&time, &self.time) {
            (Some((_, text)), Some(name)) => set(name, header(name, text)?),
            (Some((Place::Sig(prefix), text)), None) => {
                value.extend([&**prefix, text.as_str()]);
                value.extend(self.scheme.split);
            }
            _ => {}
        }
        let lead = value.len();
        let time = time.as_ref().map(|(_, text)| text.as_str());
        self.append(&mut value, current, message, time)?;
        match (previous, self.scheme.split) {
            (Some(previous), Some(split)) => {
                value.push(split);
                self.append(&mut value, previous, message, time)?;
            }
            (Some(previous), None) => {
                let mut other = value[..lead].to_owned();
                self.append(&mut other, previous, message, time)?;
                set(&self.previous, header(&self.previous, &other)?);
            }
            (None, _) => {}
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
        message: &ToSign<'_>,
        time: Option<&str>,
    ) -> Result<(), SignError> {
        value.push_str(&self.scheme.prefix);
        if let Signer::Value(text) = &key.signer {
            value.push_str(text);
            return Ok(());
        }
        let (url, query) = match message.url.split_once('?') {
            Some((url, query)) => (url, Some(query)),
            None => (message.url, None),
        };
        let request = Request { method: "POST", url, query, path: "", headers: message.headers, body: b"" };
        let values = Values { time, id: Some(message.id), body: Some(message.body) };
        let parts = self.scheme.signed.parts(&request, values)?;
        value.push_str(&self.scheme.encoding.encode(&key.signer.sign(&parts)?));
        Ok(())
    }
}

fn header_of(place: &Place) -> Option<HeaderName> {
    match place {
        Place::Header(names) if names.len() == 1 => names.first().cloned(),
        _ => None,
    }
}

fn header(name: &HeaderName, text: &str) -> Result<HeaderValue, SignError> {
    HeaderValue::from_str(text)
        .map_err(|_: InvalidHeaderValue| SignError::Place(Place::Header(vec![name.clone()]).to_string().into()))
}
