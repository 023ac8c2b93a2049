//! Public keys as others publish them (RFC 7517): RSA, P-256 and Ed25519, each of one algorithm.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

use crate::limits::{JWKS_BYTES_MAX, JWKS_KEYS_MAX};

/// The keys of a file.
#[derive(Debug)]
pub struct KeySet(Vec<PublicKey>);

/// Why a file has no keys for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is no JWK set.
    #[error("it is not a JWK set, {{\"keys\":[…]}}: {0}")]
    Format(Box<str>),
    /// A key that is not what it says.
    #[error("keys[{index}]: {problem}")]
    Key {
        /// Which.
        index: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// None of its keys is for signatures that are known here.
    #[error("it has no key for RS256, ES256 or EdDSA (Ed25519)")]
    None,
    /// More keys than one request may be tried with.
    #[error("it has more than {JWKS_KEYS_MAX} keys")]
    TooMany,
}

struct PublicKey {
    id: Option<Box<str>>,
    material: Material,
}

enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(UnparsedPublicKey<Vec<u8>>),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<RawKey>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawKey {
    kty: String,
    kid: Option<Box<str>>,
    r#use: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// Of a private key, which does not belong here.
    d: Option<serde::de::IgnoredAny>,
}

/// Bytes of the shortest RSA modulus that is taken: 2,048 bits.
const RSA_BYTES_MIN: usize = 256;

impl KeySet {
    /// The keys of a file.
    ///
    /// # Errors
    /// In words, with the path of the file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let read = File::open(path).and_then(|file| {
            let mut text = String::new();
            file.take(JWKS_BYTES_MAX).read_to_string(&mut text).map(|_| text)
        });
        let text = read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The keys of a JWK set that are for signatures known here; others are left out.
    ///
    /// # Errors
    /// If it is none, a key of it is damaged, or nothing is left.
    pub fn parse(text: &str) -> Result<Self, JwksError> {
        let raw: RawSet = serde_json::from_str(text).map_err(|error| JwksError::Format(error.to_string().into()))?;
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

    /// Whether a key of this algorithm, and of this id if the token names one, has signed.
    pub(super) fn verify(&self, alg: &str, id: Option<&str>, signed: &[u8], signature: &[u8]) -> bool {
        let fits = |key: &&PublicKey| key.material.alg() == alg && id.is_none_or(|id| key.id.as_deref() == Some(id));
        self.0.iter().filter(fits).any(|key| key.material.verify(signed, signature))
    }
}

impl Material {
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

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("id", &self.id).field("alg", &self.material.alg()).finish()
    }
}

/// The key, or `None` if it is for something else.
fn key(raw: RawKey) -> Result<Option<PublicKey>, &'static str> {
    if raw.d.is_some() {
        return Err("this is a private key; the file is for public ones");
    }
    let material = match (&*raw.kty, raw.crv.as_deref()) {
        ("RSA", _) => Material::Rsa(rsa(raw.n.as_deref(), raw.e.as_deref())?),
        ("EC", Some("P-256")) => {
            let point = [vec![4], bytes(raw.x.as_deref())?, bytes(raw.y.as_deref())?].concat();
            if point.len() != 65 {
                return Err("x and y of P-256 are 32 bytes each");
            }
            Material::P256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point))
        }
        ("OKP", Some("Ed25519")) => {
            let point = bytes(raw.x.as_deref())?;
            if point.len() != 32 {
                return Err("x of Ed25519 is 32 bytes");
            }
            Material::Ed25519(UnparsedPublicKey::new(&ED25519, point))
        }
        ("", _) => return Err("kty is missing"),
        // A secret in a file of public keys is a mistake to be told of; other kinds are for somebody else.
        ("oct", _) => return Err("a shared secret goes to auth.jwt_secret, not into this file"),
        _ => return Ok(None),
    };
    let is_ours = raw.r#use.is_none_or(|r#use| r#use == "sig") && raw.alg.is_none_or(|alg| alg == material.alg());
    Ok(is_ours.then_some(PublicKey { id: raw.kid, material }))
}

fn rsa(n: Option<&str>, e: Option<&str>) -> Result<RsaPublicKeyComponents<Vec<u8>>, &'static str> {
    // RFC 7518 has no zeros in front of a number; some publish them all the same, and ring takes none.
    let number = |text| bytes(text).map(|bytes| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>());
    let (n, e) = (number(n)?, number(e)?);
    if n.len() < RSA_BYTES_MIN {
        return Err("an RSA key has at least 2048 bits");
    }
    Ok(RsaPublicKeyComponents { n, e })
}

fn bytes(text: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("a member of the key is missing")?;
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| "a member of the key is not base64url without padding")
}
