//! Signs a request as a provider does, so that verification accepts the request. Used for test requests, tests and
//! receivers of deliveries.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::value::RawValue;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::code::{self, CodeScheme, braintree, contentful, twilio};
use super::jwt::JwtRules;
use super::key::{VerifyingKeyKind, bytes, public_text};
use super::scheme::Method;
use super::signed_content::{ContentPart, SignedContentValues};
use super::standard::PRIVATE_PREFIX;
use super::time::{TimeRule, TimestampUnit};
use super::verify::{FIRST_ELEMENT, hash, join, mac};
use super::{RequestParts, Scheme, SchemeError, ValueLocation, VerifyError, VerifyingKey};
use crate::json::{self, Pointer};
use crate::model::header::FORM;
use crate::model::{HIDDEN, Secret, Timestamp};
use crate::runtime::Random;

/// A request to be signed. Signing adds the signature and the timestamp.
#[derive(Debug, Clone, Default)]
pub struct OutgoingRequest {
    /// The method, such as `POST`.
    pub method: String,
    /// The public URL, without a query.
    pub url: String,
    /// The query after `?`.
    pub query: Option<String>,
    /// The headers. A header that the scheme signs (such as the message id) must exist before signing.
    pub headers: HeaderMap,
    /// The body. A scheme whose signature or timestamp is in the body changes the body.
    pub body: Vec<u8>,
}

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The secret is not a key of this scheme.
    #[error(transparent)]
    Secret(#[from] SchemeError),
    /// Something that the scheme signs is missing.
    #[error(transparent)]
    Request(#[from] VerifyError),
    /// The signature or the timestamp cannot be written to its location.
    #[error("nothing can be written to {0}")]
    UnwritableLocation(Box<str>),
    /// Only the provider has the key, which belongs to a certificate.
    #[error("only the provider can sign with {0}, by a key of its own")]
    ProviderOnly(&'static str),
}

/// A prepared key that makes signatures. Prints as `***`.
pub(super) enum SchemeSigner {
    /// The key of an HMAC or a hash, which also verifies.
    Symmetric(VerifyingKey),
    Ed25519(Box<Ed25519KeyPair>),
    EcdsaP256(Box<EcdsaKeyPair>),
    /// The value that is sent (`token`, `basic`).
    Value(Zeroizing<String>),
}

impl fmt::Debug for SchemeSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Scheme {
    /// Signs a request at this time. The method adds what [`Self::verify`] requires to the headers, the query or the
    /// body. The secret may have any length except zero. For `ed25519`, the secret is the private key (a seed of 32
    /// bytes, seed and public key, or PKCS #8). For `ecdsa-p256`, the secret is PKCS #8. Both are in hexadecimal,
    /// base64 or `whsk_…`.
    ///
    /// Everything that is signed, except the timestamp, must exist before signing, such as the header with the message
    /// id.
    ///
    /// # Errors
    /// [`SignError`] if the secret is not a key, something to be signed is missing, or only the provider can sign.
    pub fn sign(&self, secret: &Secret, outgoing: &mut OutgoingRequest, time: Timestamp) -> Result<(), SignError> {
        let signer = match &self.method {
            Method::None => return Ok(()),
            Method::Code(CodeScheme::Twilio) => return sign_twilio(secret, outgoing, twilio::SIGNATURE),
            Method::Code(CodeScheme::Mandrill) => return sign_twilio(secret, outgoing, twilio::MANDRILL_SIGNATURE),
            Method::Code(CodeScheme::Contentful) => return sign_contentful(secret, outgoing, time),
            Method::Code(CodeScheme::Braintree) => return sign_braintree(secret, outgoing),
            Method::Code(which) => return Err(SignError::ProviderOnly(which.name())),
            Method::Jwt(rules) => return self.sign_jwt(rules, secret, outgoing, time),
            _ => self.signer(secret)?,
        };
        let Some(each) = &self.each else { return self.sign_at("", &signer, outgoing, time) };
        let missing = || VerifyError::Missing(ValueLocation::Json(each.clone()).to_string().into());
        let count = each.find(&outgoing.body).and_then(json::elements).map(|elements| elements.len());
        (0..count.filter(|count| *count > 0).ok_or_else(missing)?)
            .try_for_each(|index| self.sign_at(&format!("{each}/{index}"), &signer, outgoing, time))
    }

    fn sign_jwt(
        &self,
        rules: &JwtRules,
        secret: &Secret,
        outgoing: &mut OutgoingRequest,
        time: Timestamp,
    ) -> Result<(), SignError> {
        let key = bytes(self.form, secret)?;
        let token = rules.sign(&key, &outgoing.request(), time).ok_or(SignError::ProviderOnly("jwt"))?;
        let location = self.sig.first().ok_or_else(|| SignError::UnwritableLocation("sig".into()))?;
        let is_authorization =
            matches!(location, ValueLocation::Header(names) if names.first() == Some(&AUTHORIZATION));
        let value = if is_authorization { format!("Bearer {token}") } else { token };
        put(outgoing, "", location, &value, false)
    }

    /// The secret that verifies the signatures of this secret: for an asymmetric scheme, the public key in the format
    /// of the `key` setting; for other schemes, the same secret.
    ///
    /// # Errors
    /// [`SignError`] if the secret is not a key.
    pub fn verifying_secret(&self, secret: &Secret) -> Result<Secret, SignError> {
        let public = |point: &[u8]| Secret::new(public_text(&self.method, self.form, point));
        match self.method {
            Method::Ed25519 => Ok(public(ed25519(secret)?.public_key().as_ref())),
            Method::EcdsaP256 => Ok(public(p256(secret)?.public_key().as_ref())),
            _ => Ok(secret.clone()),
        }
    }

    /// Prepares the key of a secret, which may have any length except zero.
    ///
    /// # Errors
    /// [`SchemeError`] if the text is not a key of this scheme.
    pub(super) fn signer(&self, secret: &Secret) -> Result<SchemeSigner, SchemeError> {
        Ok(match self.method {
            Method::Ed25519 => SchemeSigner::Ed25519(Box::new(ed25519(secret)?)),
            Method::EcdsaP256 => SchemeSigner::EcdsaP256(Box::new(p256(secret)?)),
            Method::Token => SchemeSigner::Value(Zeroizing::new(secret.reveal().to_owned())),
            Method::Basic => {
                SchemeSigner::Value(Zeroizing::new(format!("Basic {}", BASE64.encode(secret.reveal().as_bytes()))))
            }
            _ => SchemeSigner::Symmetric(self.key_of_any_length(secret)?),
        })
    }

    /// Signs the body, or the element of the body at the pointer `base` if each element is signed.
    fn sign_at(
        &self,
        base: &str,
        signer: &SchemeSigner,
        outgoing: &mut OutgoingRequest,
        time: Timestamp,
    ) -> Result<(), SignError> {
        let formatted = self.time.as_ref().map(|rule| (rule, rule.format(time)));
        let mut value = String::new();
        match &formatted {
            Some((TimeRule { location: ValueLocation::Sig(prefix), .. }, text)) => {
                let prefix = if **prefix == *FIRST_ELEMENT { "" } else { prefix };
                value.extend([prefix, text.as_str()]);
                value.extend(self.split);
            }
            Some((rule, text)) => put(outgoing, base, &rule.location, text, rule.unit != TimestampUnit::Rfc3339)?,
            None => (),
        }
        value.push_str(&self.prefix);
        value.push_str(&self.signature(base, signer, outgoing, formatted.as_ref().map(|(_, text)| text.as_str()))?);
        let location = self.sig.first().ok_or_else(|| SignError::UnwritableLocation("sig".into()))?;
        put(outgoing, base, location, &value, false)
    }

    fn signature(
        &self,
        base: &str,
        signer: &SchemeSigner,
        outgoing: &OutgoingRequest,
        time: Option<&str>,
    ) -> Result<String, SignError> {
        if let SchemeSigner::Value(value) = signer {
            return Ok(value.to_string());
        }
        let mut request = outgoing.request();
        if !base.is_empty() {
            let element = Pointer::try_new(base).ok().and_then(|pointer| pointer.find(&outgoing.body));
            request.body = element.map(RawValue::get).ok_or(VerifyError::Body("JSON"))?.as_bytes();
        }
        let id = self.id(&request)?;
        let parts = self.signed.parts(&request, SignedContentValues { time, id: id.as_deref(), body: None })?;
        Ok(self.encoding.encode(&signer.sign(&parts)?))
    }
}

impl OutgoingRequest {
    /// The parts of the request, for verification.
    pub fn request(&self) -> RequestParts<'_> {
        RequestParts {
            method: &self.method,
            url: &self.url,
            query: self.query.as_deref(),
            path: "",
            headers: &self.headers,
            body: &self.body,
        }
    }
}

impl SchemeSigner {
    /// Signs the content.
    ///
    /// # Errors
    /// [`SchemeError`] if the key cannot sign.
    pub(super) fn sign(&self, parts: &[ContentPart<'_>]) -> Result<Vec<u8>, SchemeError> {
        match self {
            Self::Symmetric(key) => match &key.kind {
                VerifyingKeyKind::Hmac(key) => Ok(mac(key, parts).as_ref().to_vec()),
                VerifyingKeyKind::Hash(algorithm, key) => Ok(hash(algorithm, key, parts).as_ref().to_vec()),
                _ => Err(secret_error("expected a symmetric key")),
            },
            Self::Ed25519(pair) => Ok(pair.sign(&join(parts)).as_ref().to_vec()),
            Self::EcdsaP256(pair) => pair
                .sign(&Random::secure(), &join(parts))
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| secret_error("the key does not sign")),
            Self::Value(value) => Ok(value.as_bytes().to_vec()),
        }
    }
}

/// An error about the secret.
pub(super) fn secret_error(detail: &str) -> SchemeError {
    SchemeError { field: "secrets", detail: detail.to_owned() }
}

/// Decodes a private key: as hexadecimal if all characters are hexadecimal digits, otherwise as base64.
fn private(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
    let text = secret.reveal().strip_prefix(PRIVATE_PREFIX).unwrap_or(secret.reveal());
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).or_else(|_| BASE64.decode(text.as_bytes()));
    bytes.map(Zeroizing::new).map_err(|_| secret_error("expected a private key in hexadecimal or base64"))
}

/// Parses an Ed25519 private key: a seed of 32 bytes, seed and public key, or PKCS #8.
pub(super) fn ed25519(secret: &Secret) -> Result<Ed25519KeyPair, SchemeError> {
    let bytes = private(secret)?;
    match bytes.len() {
        32 => Ed25519KeyPair::from_seed_unchecked(&bytes),
        64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
        _ => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes),
    }
    .map_err(|_| secret_error("expected an Ed25519 private key: a seed of 32 bytes, or PKCS #8"))
}

fn p256(secret: &Secret) -> Result<EcdsaKeyPair, SchemeError> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &private(secret)?, &Random::secure())
        .map_err(|_| secret_error("expected a private key on P-256 in PKCS #8"))
}

/// Writes a value to a location. A number replaces a JSON string as a string.
fn put(
    outgoing: &mut OutgoingRequest,
    base: &str,
    location: &ValueLocation,
    text: &str,
    is_number: bool,
) -> Result<(), SignError> {
    let refused = || SignError::UnwritableLocation(location.to_string().into());
    match location {
        ValueLocation::Header(names) => {
            let name = names.first().ok_or_else(refused)?.clone();
            outgoing.headers.insert(name, HeaderValue::from_str(text).map_err(|_| refused())?);
        }
        ValueLocation::Json(pointer) => {
            let pointer = Pointer::try_new(&format!("{base}{pointer}")).map_err(|_| refused())?;
            let is_text = pointer.find(&outgoing.body).is_some_and(|there| there.get().starts_with('"'));
            let value = if is_number && !is_text { text.to_owned() } else { serde_json::Value::from(text).to_string() };
            outgoing.body = json::set(&outgoing.body, &pointer, &value).ok_or_else(refused)?;
        }
        ValueLocation::Query(name) => {
            outgoing.query = Some(with_pair(outgoing.query.as_deref().unwrap_or_default(), name, text));
        }
        ValueLocation::Form(name) => {
            let form = std::str::from_utf8(&outgoing.body).map_err(|_| refused())?;
            outgoing.body = with_pair(form, name, text).into_bytes();
        }
        ValueLocation::FormJson(name, pointer) => {
            let field = ValueLocation::Form(name.clone());
            let there = field.read(&outgoing.request()).ok().flatten().ok_or_else(refused)?.into_owned();
            let value = if is_number { text.to_owned() } else { serde_json::Value::from(text).to_string() };
            let changed = json::set(there.as_bytes(), pointer, &value).ok_or_else(refused)?;
            put(outgoing, base, &field, &String::from_utf8(changed).map_err(|_| refused())?, false)?;
        }
        ValueLocation::Sig(_) | ValueLocation::Path | ValueLocation::Const(_) => return Err(refused()),
    }
    Ok(())
}

/// Replaces or adds a pair in `a=b&c=d`. Other pairs stay as written.
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

fn sign_contentful(secret: &Secret, outgoing: &mut OutgoingRequest, time: Timestamp) -> Result<(), SignError> {
    let listed = format!("{},{}", contentful::SIGNED_HEADERS, contentful::TIMESTAMP);
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| SignError::UnwritableLocation("header".into()));
    outgoing.headers.insert(contentful::TIMESTAMP, HeaderValue::from(time.as_millis()));
    outgoing.headers.insert(contentful::SIGNED_HEADERS, value(&listed)?);
    let signature = contentful::sign(secret, &outgoing.request())?;
    outgoing.headers.insert(contentful::SIGNATURE, value(&signature)?);
    Ok(())
}

fn sign_braintree(secret: &Secret, outgoing: &mut OutgoingRequest) -> Result<(), SignError> {
    let payload = ValueLocation::Form(braintree::PAYLOAD.into());
    let signed = payload.read(&outgoing.request()).ok().flatten();
    let signed = signed.ok_or_else(|| VerifyError::Missing(payload.to_string().into()))?;
    let signature = braintree::sign(secret, &signed);
    put(outgoing, "", &ValueLocation::Form(braintree::SIGNATURE.into()), &signature, false)
}

fn sign_twilio(token: &Secret, outgoing: &mut OutgoingRequest, name: &'static str) -> Result<(), SignError> {
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
    let value = HeaderValue::from_str(&value).map_err(|_| SignError::UnwritableLocation(name.into()))?;
    outgoing.headers.insert(name, value);
    Ok(())
}
