//! The settings of a signature scheme. The folder `signature` compiles them.

use serde::{Deserialize, Serialize};

/// The settings of a signature scheme, in the same form in the table of providers, in `config.toml` and in the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScheme {
    /// `hmac`, `hash`, `ed25519`, `ecdsa-p256`, `token`, `basic`, `none`, or `code:NAME` (twilio, paypal, sns).
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
