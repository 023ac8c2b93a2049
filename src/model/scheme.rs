//! The settings of a signature scheme. The folder `signature` compiles them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The settings of a signature scheme, in the same form in the table of providers, in `config.toml` and in the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScheme {
    /// `hmac`, `hash`, `ed25519`, `ecdsa-p256`, `jwt`, `token`, `basic`, `none`, or `code:NAME` (twilio, paypal, sns).
    pub scheme: String,
    /// The hash algorithm: `sha1`, `sha256` (default) or `sha512`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// The format of the secret: `utf8` (default), `hex`, `base64`, `whsec`, `whpk` or `spki-base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The location of the signature in the request. With several locations, any of the signatures may match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<OneOrMany>,
    /// The separator between several signatures in one value: `,`, `;` or a space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The prefix of a signature, such as `v1=` or `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The encoding of the signature: `hex`, `base64` or `base64url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// The template of the signed content; `{body}` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// The location of the timestamp in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The unit of the timestamp: `s` (default), `ms` or `rfc3339`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The allowed difference between the timestamp and the clock in seconds, in both directions; 300 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<u64>,
    /// The pointer to an array of the body whose elements are signed one by one. The pointers of `sig` and `signed` are
    /// relative to the element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    /// The rules of a token, for the scheme `jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<RawJwt>,
}

/// The rules of a JSON Web Token that a sender adds to its requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawJwt {
    /// The allowed algorithms: HS256, HS384 and HS512 with a shared secret, RS256, ES256 and EdDSA with public keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<OneOrMany>,
    /// The https URL of the public keys (a JWK set). `{kid}` is the id of the key, `{option:NAME}` an option of the
    /// source. Without it, the secrets of the source are the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,
    /// The members of the JSON that is sent to `jwks` in a POST, with the same placeholders. Empty: a GET.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jwks_body: BTreeMap<String, String>,
    /// The claims that must have one of these values, by name. `{url}` is the public URL of the source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, OneOrMany>,
    /// The claim that holds the SHA-256 of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_hash: Option<String>,
    /// The encoding of that digest: `hex` (default), `base64` or `base64url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_hash_encoding: Option<String>,
}

/// One text or a list of texts, such as the possible locations of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One text.
    One(String),
    /// A list of texts.
    Many(Vec<String>),
}

impl OneOrMany {
    /// Iterates over the texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
        .iter()
        .map(String::as_str)
    }
}
