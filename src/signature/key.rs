//! Verifying keys, which are prepared once from the text of a secret.

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
use super::code::CodeScheme;
use super::jwt::JwtKey;
use super::scheme::Method;
use super::standard::{PUBLIC_PREFIX, SECRET_PREFIX};
use crate::limits::{HMAC_KEY_BYTES_MIN, HMAC_KEY_BYTES_RECOMMENDED};
use crate::model::{HIDDEN, Secret};

/// The length of an Ed25519 public key in bytes.
const ED25519_BYTES: usize = 32;
/// The length in bytes of an uncompressed point on P-256, which begins with a 4.
const P256_BYTES: usize = 65;
/// The y coordinates of points of small order on Curve25519, without the sign of x. Under such a key, anyone can make
/// a signature for any message (<https://eprint.iacr.org/2020/1244>, table 1). Coordinates that are not below the prime
/// of the field are refused separately.
const SMALL_ORDER: [&str; 5] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// The format of the text of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretFormat {
    Utf8,
    Hex,
    Base64,
    Whsec,
    Whpk,
    SpkiBase64,
}

/// A key that verifies signatures. Prints as `***`.
pub struct VerifyingKey {
    secret: Secret,
    pub(super) kind: VerifyingKeyKind,
    is_short: bool,
}

/// A verifying key in the form of its algorithm.
pub(super) enum VerifyingKeyKind {
    Hmac(hmac::Key),
    /// The key is a part of the text that is hashed.
    Hash(&'static digest::Algorithm, Zeroizing<Vec<u8>>),
    Public(UnparsedPublicKey<Box<[u8]>>),
    /// The SHA-256 of a token or of `user:password`. Digests are compared, so that the comparison does not reveal the
    /// length of the text.
    Token(digest::Digest),
    Jwt(JwtKey),
    /// For a scheme implemented in code, which reads the secret itself.
    Text,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl VerifyingKey {
    /// Whether the key is so short that the user should be warned: an HMAC key below 16 bytes.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// The key of a token (scheme `jwt`).
    pub(super) fn jwt(&self) -> Option<&JwtKey> {
        if let VerifyingKeyKind::Jwt(key) = &self.kind { Some(key) } else { None }
    }

    /// The secret that the key was made from, for schemes implemented in code.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Prepares the key of a secret. `length_min` is the minimum length in bytes of an HMAC key.
    ///
    /// # Errors
    /// [`SchemeError`] if the text is not a key of this method and format.
    pub(super) fn try_new(
        method: &Method,
        form: SecretFormat,
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
                is_short = bytes.len() < HMAC_KEY_BYTES_RECOMMENDED;
                VerifyingKeyKind::Hmac(hmac::Key::new(*algorithm, &bytes))
            }
            // The auth token of the account is an HMAC key too.
            Method::Code(
                CodeScheme::Twilio | CodeScheme::Mandrill | CodeScheme::Contentful | CodeScheme::Braintree,
            ) => {
                is_short = symmetric(form, secret, length_min)?.len() < HMAC_KEY_BYTES_RECOMMENDED;
                VerifyingKeyKind::Text
            }
            Method::Hash(algorithm) => {
                let bytes = symmetric(form, secret, length_min)?;
                is_short = bytes.len() < HMAC_KEY_BYTES_RECOMMENDED;
                VerifyingKeyKind::Hash(algorithm, bytes)
            }
            Method::Ed25519 => VerifyingKeyKind::Public(ed25519(form, secret)?),
            Method::EcdsaP256 => VerifyingKeyKind::Public(p256(form, secret)?),
            Method::Basic if !secret.reveal().contains(':') => return Err(error("expected user:password")),
            Method::Token | Method::Basic => VerifyingKeyKind::Token(token_digest(secret.reveal().as_bytes())),
            Method::Jwt(rules) if rules.is_shared() => {
                let bytes = symmetric(form, secret, length_min)?;
                is_short = bytes.len() < HMAC_KEY_BYTES_RECOMMENDED;
                VerifyingKeyKind::Jwt(rules.key(&bytes).map_err(error)?)
            }
            Method::Jwt(rules) => VerifyingKeyKind::Jwt(rules.key(secret.reveal().as_bytes()).map_err(error)?),
            Method::None | Method::Code(_) => VerifyingKeyKind::Text,
        };
        Ok(Self { secret: secret.clone(), kind, is_short })
    }
}

/// The digest by which tokens are compared.
pub(super) fn token_digest(token: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, token)
}

/// Decodes the bytes of a secret, without the prefix of its format.
pub(super) fn bytes(form: SecretFormat, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
    let text = secret.reveal();
    let base64 = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| "base64 (RFC 4648 section 4, with padding)");
    match form {
        SecretFormat::Utf8 => Ok(text.as_bytes().to_vec()),
        SecretFormat::Hex => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| "hexadecimal digits, two a byte"),
        // Supabase writes the version of the signature before the secret.
        SecretFormat::Whsec => base64(without(text, ["v1,", SECRET_PREFIX])),
        SecretFormat::Whpk => base64(without(text, ["v1a,", PUBLIC_PREFIX])),
        SecretFormat::Base64 | SecretFormat::SpkiBase64 => base64(text),
    }
    .map(Zeroizing::new)
    .map_err(|expected| error(format!("expected {expected}")))
}

/// The text without these prefixes, of which each may be missing.
fn without<'a>(text: &'a str, prefixes: [&str; 2]) -> &'a str {
    prefixes.iter().fold(text, |text, prefix| text.strip_prefix(prefix).unwrap_or(text))
}

fn symmetric(form: SecretFormat, secret: &Secret, length_min: usize) -> Result<Zeroizing<Vec<u8>>, SchemeError> {
    let bytes = bytes(form, secret)?;
    match bytes.len() < length_min {
        true if length_min > 1 => {
            Err(error(format!("a secret of {} bytes is guessed; at least {HMAC_KEY_BYTES_MIN}", bytes.len())))
        }
        true => Err(error("a secret is not empty")),
        false => Ok(bytes),
    }
}

fn ed25519(form: SecretFormat, secret: &Secret) -> Result<UnparsedPublicKey<Box<[u8]>>, SchemeError> {
    let bytes = bytes(form, secret)?;
    let point: [u8; ED25519_BYTES] = match form {
        SecretFormat::SpkiBase64 => {
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

/// Whether a point has small order or is not in canonical form.
fn is_degenerate(mut point: [u8; ED25519_BYTES]) -> bool {
    point[ED25519_BYTES - 1] &= 0x7f;
    let hex = data_encoding::HEXLOWER.encode(&point);
    // 2^255 - 19 and above, little-endian: ed..ff ff … 7f.
    let is_canonical = point[0] < 0xed || point[1..ED25519_BYTES - 1].iter().any(|b| *b != 0xff) || point[31] != 0x7f;
    !is_canonical || SMALL_ORDER.contains(&hex.as_str())
}

fn p256(form: SecretFormat, secret: &Secret) -> Result<UnparsedPublicKey<Box<[u8]>>, SchemeError> {
    let bytes = bytes(form, secret)?;
    let point: Option<[u8; P256_BYTES]> = match form {
        SecretFormat::SpkiBase64 => {
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

/// The key of `N` bytes in a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) of this algorithm; `None` for anything
/// else.
fn from_spki<const N: usize>(algorithm: &AlgorithmIdentifier, der: &[u8]) -> Option<[u8; N]> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
    let key = info.subject_public_key.data.as_ref().try_into().ok()?;
    // The parser accepts more than DER, and any algorithm. The comparison accepts only the one DER encoding of a key of
    // this algorithm.
    (public_key_to_spki(algorithm, key).as_ref() == der).then_some(key)
}

fn error(detail: impl Into<String>) -> SchemeError {
    SchemeError { field: "secrets", detail: detail.into() }
}

/// The text of a public key, in a format that [`VerifyingKey::try_new`] reads.
pub(super) fn public_text(method: &Method, form: SecretFormat, point: &[u8]) -> String {
    let algorithm = if matches!(method, Method::Ed25519) { alg_id::ED25519 } else { alg_id::ECDSA_P256 };
    match form {
        SecretFormat::Hex => data_encoding::HEXLOWER.encode(point),
        SecretFormat::Whpk => format!("{PUBLIC_PREFIX}{}", BASE64.encode(point)),
        SecretFormat::SpkiBase64 => BASE64.encode(&public_key_to_spki(&algorithm, point)),
        SecretFormat::Utf8 | SecretFormat::Base64 | SecretFormat::Whsec => BASE64.encode(point),
    }
}
