//! JSON Web Key sets (RFC 7517): public keys of RSA, P-256 and Ed25519. Each key has one algorithm.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Map, Value};
use x509_parser::asn1_rs::FromDer;
use x509_parser::oid_registry::{OID_EC_P256, OID_SIG_ED25519};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::limits::{FETCHED_KEYS_MAX, JWKS_KEYS_MAX};

/// The public keys of a JWK set.
#[derive(Debug)]
pub struct KeySet(Vec<PublishedKey>);

/// Why a JWK set is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// The text is not a JWK set.
    #[error("it is not a JWK set, {{\"keys\":[…]}}: {0}")]
    Format(Box<str>),
    /// A key is invalid.
    #[error("keys[{index}]: {problem}")]
    Key {
        /// The index of the key.
        index: usize,
        /// What is wrong with the key.
        problem: &'static str,
    },
    /// No key is usable for RS256, ES256 or EdDSA signatures.
    #[error("it has no key for RS256, ES256 or EdDSA (Ed25519)")]
    None,
    /// The set has more keys than one request may be tried with.
    #[error("it has more than {JWKS_KEYS_MAX} keys")]
    TooMany,
}

struct PublishedKey {
    id: Option<Box<str>>,
    material: KeyMaterial,
}

enum KeyMaterial {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(UnparsedPublicKey<Vec<u8>>),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
}

#[derive(Deserialize)]
struct RawKeySet {
    keys: Vec<RawKey>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawKey {
    kty: String,
    kid: Option<Box<str>>,
    r#use: Option<String>,
    /// What the key may be used for (RFC 7517, 4.3).
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// The time at which Plaid withdrew the key.
    expired_at: Option<serde_json::Number>,
    /// A member of private keys. Its presence is an error.
    d: Option<serde::de::IgnoredAny>,
}

/// Minimum number of bytes of an RSA modulus: 2,048 bits.
const RSA_BYTES_MIN: usize = 256;

impl KeySet {
    /// Parses a JWK set. Keys that are not for RS256, ES256 or EdDSA signatures are ignored.
    ///
    /// # Errors
    /// If the text is not a JWK set, a key is invalid, no usable key remains, or there are too many keys.
    pub fn parse(text: &str) -> Result<Self, JwksError> {
        let raw: RawKeySet = serde_json::from_str(text).map_err(|error| JwksError::Format(error.to_string().into()))?;
        let mut keys = Vec::new();
        for (index, raw) in raw.keys.into_iter().enumerate() {
            keys.extend(key(raw).map_err(|problem| JwksError::Key { index, problem })?);
        }
        match keys.len() {
            0 => Err(JwksError::None),
            n if n > JWKS_KEYS_MAX => Err(JwksError::TooMany),
            _ => Ok(Self(keys)),
        }
    }

    /// Parses what a provider publishes: a JWK set, one JWK, or a document whose member `key` is one JWK (Plaid). Unlike
    /// [`Self::parse`], a key that cannot be used does not spoil the others.
    ///
    /// # Errors
    /// If the text is no such document, no usable key remains, or there are too many keys.
    pub fn parse_published(text: &str) -> Result<Self, JwksError> {
        let format = |error: serde_json::Error| JwksError::Format(error.to_string().into());
        let mut document: Map<String, Value> = serde_json::from_str(text).map_err(format)?;
        let keys = match (document.remove("keys"), document.remove("key")) {
            (Some(Value::Array(keys)), _) => keys,
            (None, Some(key)) if key.is_object() => vec![key],
            (None, None) if document.contains_key("kty") => vec![Value::Object(document)],
            _ => return Err(JwksError::Format("expected a JWK set or a JWK".into())),
        };
        let keys: Vec<PublishedKey> = keys
            .into_iter()
            .filter_map(|raw| RawKey::deserialize(raw).ok())
            .filter_map(|raw| key(raw).ok().flatten())
            .take(FETCHED_KEYS_MAX + 1)
            .collect();
        match keys.len() {
            0 => Err(JwksError::None),
            n if n > FETCHED_KEYS_MAX => Err(JwksError::TooMany),
            _ => Ok(Self(keys)),
        }
    }

    /// Reads a public key in PEM (`-----BEGIN PUBLIC KEY-----`) of RSA, P-256 or Ed25519. Returns `None` if it is none.
    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&spki).ok()?;
        let material = match info.parsed().ok()? {
            PublicKey::RSA(key) => rsa_numbers(key.modulus, key.exponent).map(KeyMaterial::Rsa).ok()?,
            PublicKey::EC(point) if info.algorithm.parameters.as_ref()?.as_oid().ok()? == OID_EC_P256 => {
                KeyMaterial::P256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, p256_point(point.data())?))
            }
            PublicKey::Unknown(point) if info.algorithm.algorithm == OID_SIG_ED25519 && point.len() == 32 => {
                KeyMaterial::Ed25519(UnparsedPublicKey::new(&ED25519, point.to_vec()))
            }
            _ => return None,
        };
        Some(Self(vec![PublishedKey { id: None, material }]))
    }

    /// Whether the set has a key with this algorithm, and with this id if the token names one.
    pub fn has_key(&self, alg: &str, id: Option<&str>) -> bool {
        self.0.iter().any(|key| key.fits(alg, id))
    }

    /// Whether a key with this algorithm, and with this id if the token names one, verifies the signature.
    pub fn verify(&self, alg: &str, id: Option<&str>, signed: &[u8], signature: &[u8]) -> bool {
        self.0.iter().filter(|key| key.fits(alg, id)).any(|key| key.material.verify(signed, signature))
    }
}

impl PublishedKey {
    fn fits(&self, alg: &str, id: Option<&str>) -> bool {
        // A key without an id (PEM) is tried whatever the token names.
        self.material.alg() == alg && (self.id.is_none() || id.is_none_or(|id| self.id.as_deref() == Some(id)))
    }
}

impl KeyMaterial {
    fn alg(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
        }
    }

    fn verify(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok(),
            Self::P256(key) | Self::Ed25519(key) => key.verify(signed, signature).is_ok(),
        }
    }
}

impl fmt::Debug for PublishedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedKey").field("id", &self.id).field("alg", &self.material.alg()).finish()
    }
}

/// Parses a key. Returns `None` for a key of another type, use or algorithm.
fn key(raw: RawKey) -> Result<Option<PublishedKey>, &'static str> {
    if raw.d.is_some() {
        return Err("this is a private key; the file is for public ones");
    }
    // RFC 7517, sections 4.2 and 4.3: a key for other operations verifies nothing.
    let verifies = raw.key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    if !verifies || raw.r#use.is_some_and(|r#use| r#use != "sig") || raw.expired_at.is_some() {
        return Ok(None);
    }
    let material = match (&*raw.kty, raw.crv.as_deref()) {
        ("RSA", _) => KeyMaterial::Rsa(rsa(raw.n.as_deref(), raw.e.as_deref())?),
        ("EC", Some("P-256")) => {
            let point = [vec![4], bytes(raw.x.as_deref())?, bytes(raw.y.as_deref())?].concat();
            let point = p256_point(&point).ok_or("x and y of P-256 are 32 bytes each")?;
            KeyMaterial::P256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point))
        }
        ("OKP", Some("Ed25519")) => {
            let point = bytes(raw.x.as_deref())?;
            if point.len() != 32 {
                return Err("x of Ed25519 is 32 bytes");
            }
            KeyMaterial::Ed25519(UnparsedPublicKey::new(&ED25519, point))
        }
        ("", _) => return Err("kty is missing"),
        // A shared secret in a file of public keys is a mistake and is reported. Keys of other types are ignored.
        ("oct", _) => return Err("a shared secret goes to auth.jwt_secret, not into this file"),
        _ => return Ok(None),
    };
    let is_ours = raw.alg.is_none_or(|alg| alg == material.alg());
    Ok(is_ours.then_some(PublishedKey { id: raw.kid, material }))
}

fn rsa(n: Option<&str>, e: Option<&str>) -> Result<RsaPublicKeyComponents<Vec<u8>>, &'static str> {
    rsa_numbers(&bytes(n)?, &bytes(e)?)
}

fn rsa_numbers(n: &[u8], e: &[u8]) -> Result<RsaPublicKeyComponents<Vec<u8>>, &'static str> {
    // RFC 7518 forbids leading zeros in these numbers. Some publishers have them, and ring refuses them.
    let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
    let (n, e) = (number(n), number(e));
    if n.len() < RSA_BYTES_MIN {
        return Err("an RSA key has at least 2048 bits");
    }
    Ok(RsaPublicKeyComponents { n, e })
}

/// An uncompressed point on P-256.
fn p256_point(point: &[u8]) -> Option<Vec<u8>> {
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
}

fn bytes(text: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("a member of the key is missing")?;
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| "a member of the key is not base64url without padding")
}
