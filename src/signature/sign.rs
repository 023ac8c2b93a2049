//! Signs a request as a provider would, so that what verifies believes it: for trials, tests and receivers of ours.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::value::RawValue;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::code::{self, Code, twilio};
use super::key::{Kind, public_text};
use super::scheme::Method;
use super::standard::PRIVATE_PREFIX;
use super::template::{Part, Values};
use super::time::{TimeRule, Unit};
use super::verify::{hash, join, mac};
use super::{Key, Place, Request, Scheme, SchemeError, VerifyError};
use crate::json::{self, Pointer};
use crate::model::header::FORM;
use crate::model::{HIDDEN, Secret, Timestamp};
use crate::runtime::Random;

/// A request that is to be signed.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// `POST`.
    pub method: String,
    /// The public URL, without a query.
    pub url: String,
    /// What follows `?`.
    pub query: Option<String>,
    /// What is there already; a header that the scheme signs (the message's id) must be.
    pub headers: HeaderMap,
    /// The body; a scheme whose signature or time stands in it writes there.
    pub body: Vec<u8>,
}

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The secret is no key of this scheme.
    #[error(transparent)]
    Secret(#[from] SchemeError),
    /// What the scheme signs is not there.
    #[error(transparent)]
    Request(#[from] VerifyError),
    /// The signature, or the time, cannot be put where the scheme has it.
    #[error("nothing can be written to {0}")]
    Place(Box<str>),
    /// The key is the provider's own, of a certificate.
    #[error("only the provider can sign with code:{0}, by its certificate")]
    Provider(&'static str),
}

/// A key that makes signatures, prepared once. Prints as `***`.
pub(super) enum Signer {
    /// Of HMAC and hashes: the key that verifies.
    Symmetric(Key),
    Ed25519(Box<Ed25519KeyPair>),
    EcdsaP256(Box<EcdsaKeyPair>),
    /// The value itself (`token`, `basic`).
    Value(Zeroizing<String>),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Scheme {
    /// Signs a request at this time: headers, query or body have what [`Self::verify`] looks for afterwards. The secret may
    /// be of any length but none. For `ed25519` it is the private key (a seed of 32 bytes, seed and public key, or PKCS #8),
    /// for `ecdsa-p256` PKCS #8; either in hexadecimal, base64 or as `whsk_…`.
    ///
    /// What is signed beside the time must be there: the header of the message's id above all.
    ///
    /// # Errors
    /// If the secret is no key, something to be signed is missing, or only the provider can sign.
    pub fn sign(&self, secret: &Secret, outgoing: &mut Outgoing, time: Timestamp) -> Result<(), SignError> {
        let signer = match &self.method {
            Method::None => return Ok(()),
            Method::Code(Code::Twilio) => return sign_twilio(secret, outgoing),
            Method::Code(which) => return Err(SignError::Provider(which.name())),
            _ => self.signer(secret)?,
        };
        let Some(each) = &self.each else { return self.sign_at("", &signer, outgoing, time) };
        let missing = || VerifyError::Missing(Place::Json(each.clone()).to_string().into());
        let count = each.find(&outgoing.body).and_then(json::elements).map(|elements| elements.len());
        (0..count.filter(|count| *count > 0).ok_or_else(missing)?)
            .try_for_each(|index| self.sign_at(&format!("{each}/{index}"), &signer, outgoing, time))
    }

    /// The secret that verifies what this one signs: the public key of an asymmetric scheme, in the form that its `key`
    /// names; the same secret of any other.
    ///
    /// # Errors
    /// If the secret is no key.
    pub fn verifying_secret(&self, secret: &Secret) -> Result<Secret, SignError> {
        let public = |point: &[u8]| Secret::new(public_text(&self.method, self.form, point));
        match self.method {
            Method::Ed25519 => Ok(public(ed25519(secret)?.public_key().as_ref())),
            Method::EcdsaP256 => Ok(public(p256(secret)?.public_key().as_ref())),
            _ => Ok(secret.clone()),
        }
    }

    pub(super) fn signer(&self, secret: &Secret) -> Result<Signer, SchemeError> {
        Ok(match self.method {
            Method::Ed25519 => Signer::Ed25519(Box::new(ed25519(secret)?)),
            Method::EcdsaP256 => Signer::EcdsaP256(Box::new(p256(secret)?)),
            Method::Token => Signer::Value(Zeroizing::new(secret.reveal().to_owned())),
            Method::Basic => {
                Signer::Value(Zeroizing::new(format!("Basic {}", BASE64.encode(secret.reveal().as_bytes()))))
            }
            _ => Signer::Symmetric(self.key_of_any_length(secret)?),
        })
    }

    /// Signs the body's value at this pointer: the whole of it, or an element of which each is signed.
    fn sign_at(&self, base: &str, signer: &Signer, outgoing: &mut Outgoing, time: Timestamp) -> Result<(), SignError> {
        let spelled = self.time.as_ref().map(|rule| (rule, rule.spell(time)));
        let mut value = String::new();
        match &spelled {
            Some((TimeRule { place: Place::Sig(prefix), .. }, text)) => {
                value.extend([&**prefix, text.as_str()]);
                value.extend(self.split);
            }
            Some((rule, text)) => put(outgoing, base, &rule.place, text, rule.unit != Unit::Rfc3339)?,
            None => (),
        }
        value.push_str(&self.prefix);
        value.push_str(&self.signature(base, signer, outgoing, spelled.as_ref().map(|(_, text)| text.as_str()))?);
        let place = self.sig.first().ok_or_else(|| SignError::Place("sig".into()))?;
        put(outgoing, base, place, &value, false)
    }

    fn signature(
        &self,
        base: &str,
        signer: &Signer,
        outgoing: &Outgoing,
        time: Option<&str>,
    ) -> Result<String, SignError> {
        if let Signer::Value(value) = signer {
            return Ok(value.to_string());
        }
        let mut request = outgoing.request();
        if !base.is_empty() {
            let element = Pointer::try_new(base).ok().and_then(|pointer| pointer.find(&outgoing.body));
            request.body = element.map(RawValue::get).ok_or(VerifyError::Body("JSON"))?.as_bytes();
        }
        let id = self.id(&request)?;
        let parts = self.signed.parts(&request, Values { time, id: id.as_deref(), body: None })?;
        Ok(self.encoding.encode(&signer.sign(&parts)?))
    }
}

impl Outgoing {
    /// As it is verified.
    pub fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            url: &self.url,
            query: self.query.as_deref(),
            path: "",
            headers: &self.headers,
            body: &self.body,
        }
    }
}

impl Signer {
    pub(super) fn sign(&self, parts: &[Part<'_>]) -> Result<Vec<u8>, SchemeError> {
        match self {
            Self::Symmetric(key) => match &key.kind {
                Kind::Hmac(key) => Ok(mac(key, parts).as_ref().to_vec()),
                Kind::Hash(algorithm, key) => Ok(hash(algorithm, key, parts).as_ref().to_vec()),
                _ => Err(no_key("expected a symmetric key")),
            },
            Self::Ed25519(pair) => Ok(pair.sign(&join(parts)).as_ref().to_vec()),
            Self::EcdsaP256(pair) => pair
                .sign(&Random::secure(), &join(parts))
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| no_key("the key does not sign")),
            Self::Value(value) => Ok(value.as_bytes().to_vec()),
        }
    }
}

pub(super) fn no_key(detail: &str) -> SchemeError {
    SchemeError { field: "secrets", detail: detail.to_owned() }
}

/// A private key's bytes: digits if there are only digits, base64 else.
fn private(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
    let text = secret.reveal().strip_prefix(PRIVATE_PREFIX).unwrap_or(secret.reveal());
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).or_else(|_| BASE64.decode(text.as_bytes()));
    bytes.map(Zeroizing::new).map_err(|_| no_key("expected a private key in hexadecimal or base64"))
}

pub(super) fn ed25519(secret: &Secret) -> Result<Ed25519KeyPair, SchemeError> {
    let bytes = private(secret)?;
    match bytes.len() {
        32 => Ed25519KeyPair::from_seed_unchecked(&bytes),
        64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
        _ => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes),
    }
    .map_err(|_| no_key("expected an Ed25519 private key: a seed of 32 bytes, or PKCS #8"))
}

fn p256(secret: &Secret) -> Result<EcdsaKeyPair, SchemeError> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &private(secret)?, &Random::secure())
        .map_err(|_| no_key("expected a private key on P-256 in PKCS #8"))
}

/// Writes a value to a place; a number in JSON stays text where text stands.
fn put(outgoing: &mut Outgoing, base: &str, place: &Place, text: &str, is_number: bool) -> Result<(), SignError> {
    let refused = || SignError::Place(place.to_string().into());
    match place {
        Place::Header(names) => {
            let name = names.first().ok_or_else(refused)?.clone();
            outgoing.headers.insert(name, HeaderValue::from_str(text).map_err(|_| refused())?);
        }
        Place::Json(pointer) => {
            let pointer = Pointer::try_new(&format!("{base}{pointer}")).map_err(|_| refused())?;
            let is_text = pointer.find(&outgoing.body).is_some_and(|there| there.get().starts_with('"'));
            let value = if is_number && !is_text { text.to_owned() } else { serde_json::Value::from(text).to_string() };
            outgoing.body = json::set(&outgoing.body, &pointer, &value).ok_or_else(refused)?;
        }
        Place::Query(name) => {
            outgoing.query = Some(with_pair(outgoing.query.as_deref().unwrap_or_default(), name, text));
        }
        Place::Form(name) => {
            let form = std::str::from_utf8(&outgoing.body).map_err(|_| refused())?;
            outgoing.body = with_pair(form, name, text).into_bytes();
        }
        Place::Sig(_) | Place::Path | Place::Const(_) => return Err(refused()),
    }
    Ok(())
}

/// `a=b&c=d` with this pair in place of any other of its name, the others as they are written.
fn with_pair(pairs: &str, name: &str, value: &str) -> String {
    let is_other = |pair: &&str| form_urlencoded::parse(pair.as_bytes()).all(|(given, _)| given != name);
    let others: Vec<&str> = pairs.split('&').filter(|pair| !pair.is_empty()).filter(is_other).collect();
    let mut joined = others.join("&");
    if !joined.is_empty() {
        joined.push('&');
    }
    joined.push_str(&form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish());
    joined
}

fn sign_twilio(token: &Secret, outgoing: &mut Outgoing) -> Result<(), SignError> {
    let kind = outgoing.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_form = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM));
    if !is_form && !outgoing.body.is_empty() {
        let written = code::body_hash(&outgoing.body);
        let (name, value) = written.split_once('=').unwrap_or_default();
        outgoing.query = Some(with_pair(outgoing.query.as_deref().unwrap_or_default(), name, value));
    }
    let url = match &outgoing.query {
        Some(query) => format!("{}?{query}", outgoing.url),
        None => outgoing.url.clone(),
    };
    let value = code::sign_twilio(token, &url, is_form.then_some(&*outgoing.body));
    let value = HeaderValue::from_str(&value).map_err(|_| SignError::Place(twilio::SIGNATURE.into()))?;
    outgoing.headers.insert(twilio::SIGNATURE, value);
    Ok(())
}
