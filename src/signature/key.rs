//! Keys: what a secret's text stands for, prepared once.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};
use ring::{digest, hmac};
use rustls::pki_types::{AlgorithmIdentifier, alg_id};
use rustls::sign::public_key_to_spki;
use x509_parser::asn1_rs::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use super::SchemeError;
use super::code::Code;
use super::scheme::Method;
use super::standard::{PUBLIC_PREFIX, SECRET_PREFIX};
use crate::limits::{HMAC_KEY_BYTES_MIN, HMAC_KEY_BYTES_WANTED};
use crate::model::{HIDDEN, Secret};

/// Bytes of an Ed25519 public key.
const ED25519_BYTES: usize = 32;
/// Bytes of an uncompressed point on P-256, which begins with a 4.
const P256_BYTES: usize = 65;
/// The y coordinates of points of small order on Curve25519, the sign of x left out: under such a key anybody can make a
/// signature for anything (<https://eprint.iacr.org/2020/1244>, table 1). Those that are not below the field's prime are
/// refused apart.
const SMALL_ORDER: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// What a secret's text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Utf8,
    Hex,
    Base64,
    Whsec,
    Whpk,
    SpkiBase64,
}

/// A key that verifies. Prints as `***`.
pub struct Key {
    secret: Secret,
    pub(super) kind: Kind,
    is_short: bool,
}

/// A key by what it is used with.
pub(super) enum Kind {
    Hmac(hmac::Key),
    /// Stands in the digested text itself.
    Hash(&'static digest::Algorithm, Zeroizing<Vec<u8>>),
    Public(UnparsedPublicKey<Box<[u8]>>),
    /// SHA-256 of a token, or of `user:password`: equal digests are compared, so that nothing tells how long the text is.
    Token(digest::Digest),
    /// For a scheme in code, which reads the secret itself.
    Text,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Key {
    /// Whether a person should be told that this key is short: an HMAC key below 16 bytes.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// The secret it was made from, for the schemes in code.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The key that a secret's text stands for; `length_min` in bytes for HMAC.
    pub(super) fn try_new(
        method: &Method,
        form: Form,
        secret: &Secret,
        length_min: usize,
    ) -> Result<Self, SchemeError> {
        if secret.reveal().trim().is_empty() {
            return Err(error("a secret is not empty"));
        }
        let mut is_short = false;
        let kind = match method {
            Method::Hmac(algorithm) => {
                let bytes = symmetric(form, secret, length_min)?;
                is_short = bytes.len() < HMAC_KEY_BYTES_WANTED;
                Kind::Hmac(hmac::Key::new(*algorithm, &bytes))
            }
            // The account's auth token is an HMAC key too.
            Method::Code(Code::Twilio) => {
                is_short = symmetric(form, secret, length_min)?.len() < HMAC_KEY_BYTES_WANTED;
                Kind::Text
            }
            Method::Hash(algorithm) => {
                let bytes = symmetric(form, secret, length_min)?;
                is_short = bytes.len() < HMAC_KEY_BYTES_WANTED;
                Kind::Hash(algorithm, bytes)
            }
            Method::Ed25519 => Kind::Public(ed25519(form, secret)?),
            Method::EcdsaP256 => Kind::Public(p256(form, secret)?),
            Method::Basic if !secret.reveal().contains(':') => return Err(error("expected user:password")),
            Method::Token | Method::Basic => Kind::Token(token_digest(secret.reveal().as_bytes())),
            Method::None | Method::Code(_) => Kind::Text,
        };
        Ok(Self { secret: secret.clone(), kind, is_short })
    }
}

/// What tokens are compared by.
pub(super) fn token_digest(token: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, token)
}

/// The bytes that a text stands for, without the prefix of its form.
pub(super) fn bytes(form: Form, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
    let text = secret.reveal();
    let base64 = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| "base64 (RFC 4648 section 4, with padding)");
    match form {
        Form::Utf8 => Ok(text.as_bytes().to_vec()),
        Form::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| "hexadecimal digits, two a byte"),
        Form::Whsec => base64(text.strip_prefix(SECRET_PREFIX).unwrap_or(text)),
        Form::Whpk => base64(text.strip_prefix(PUBLIC_PREFIX).unwrap_or(text)),
        Form::Base64 | Form::SpkiBase64 => base64(text),
    }
    .map(Zeroizing::new)
    .map_err(|expected| error(format!("expected {expected}")))
}

fn symmetric(form: Form, secret: &Secret, length_min: usize) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
    let bytes = bytes(form, secret)?;
    match bytes.len() < length_min {
        true if length_min > 1 => {
            Err(error(format!("a secret of {} bytes is guessed; at least {HMAC_KEY_BYTES_MIN}", bytes.len())))
        }
        true => Err(error("a secret is not empty")),
        false => Ok(bytes),
    }
}

fn ed25519(form: Form, secret: &Secret) -> Result<UnparsedPublicKey<Box<[u8]>>, SchemeError> {
    let bytes = bytes(form, secret)?;
    let point: [u8; ED25519_BYTES] = match form {
        Form::SpkiBase64 => {
            from_spki(&alg_id::ED25519, &bytes).ok_or_else(|| error("expected an Ed25519 key in SPKI"))?
        }
        _ => bytes
            .as_slice()
            .try_into()
            .map_err(|_| error(format!("an Ed25519 public key has {ED25519_BYTES} bytes, not {}", bytes.len())))?,
    };
    if is_degenerate(point) {
        return Err(error("not a key: every signature would fit it"));
    }
    Ok(UnparsedPublicKey::new(&ED25519, Box::from(point)))
}

/// Whether a point is of small order, or not written in the one way there is.
fn is_degenerate(mut point: [u8; ED25519_BYTES]) -> bool {
    point[ED25519_BYTES - 1] &= 0x7f;
    let hex = data_encoding::HEXLOWER.encode(&point);
    // 2^255 - 19 and above, little-endian: ed..ff ff … 7f.
    let is_canonical = point[0] < 0xed || point[1..ED25519_BYTES - 1].iter().any(|b| *b != 0xff) || point[31] != 0x7f;
    !is_canonical || SMALL_ORDER.contains(&hex.as_str())
}

fn p256(form: Form, secret: &Secret) -> Result<UnparsedPublicKey<Box<[u8]>>, SchemeError> {
    let bytes = bytes(form, secret)?;
    let point: Option<[u8; P256_BYTES]> = match form {
        Form::SpkiBase64 => {
            Some(from_spki(&alg_id::ECDSA_P256, &bytes).ok_or_else(|| error("expected a key on P-256 in SPKI"))?)
        }
        _ => bytes.as_slice().try_into().ok(),
    };
    let is_uncompressed = |point: &[u8; P256_BYTES]| point[0] == 4;
    let point = point
        .filter(is_uncompressed)
        .ok_or_else(|| error(format!("a public key on P-256 is an uncompressed point of {P256_BYTES} bytes")))?;
    Ok(UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, Box::from(point)))
}

/// The key of `N` bytes that a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) of this algorithm holds.
fn from_spki<const N: usize>(algorithm: &AlgorithmIdentifier, der: &[u8]) -> Option<[u8; N]> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
    let key = info.subject_public_key.data.as_ref().try_into().ok()?;
    // The parser takes more than DER, and any algorithm. Equality leaves the one spelling of a key of this algorithm.
    (public_key_to_spki(algorithm, key).as_ref() == der).then_some(key)
}

fn error(detail: impl Into<String>) -> SchemeError {
    SchemeError { field: "secrets", detail: detail.into() }
}

/// A public key's text, of the form that [`Key::try_new`] reads.
pub(super) fn public_text(method: &Method, form: Form, point: &[u8]) -> String {
    let algorithm = if matches!(method, Method::Ed25519) { alg_id::ED25519 } else { alg_id::ECDSA_P256 };
    match form {
        Form::Hex => data_encoding::HEXLOWER.encode(point),
        Form::Whpk => format!("{PUBLIC_PREFIX}{}", BASE64.encode(point)),
        Form::SpkiBase64 => BASE64.encode(&public_key_to_spki(&algorithm, point)),
        Form::Utf8 | Form::Base64 | Form::Whsec => BASE64.encode(point),
    }
}
