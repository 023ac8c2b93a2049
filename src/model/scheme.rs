//! A signature scheme as it is written. `signature` compiles it.

use serde::{Deserialize, Serialize};

/// A signature scheme as a person writes it: in the table of providers, in `config.toml`, in the API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawScheme {
    /// `hmac`, `hash`, `ed25519`, `ecdsa-p256`, `token`, `basic`, `none`, or `code:NAME` (twilio, paypal, sns).
    pub scheme: String,
    /// `sha1`, `sha256` (default), `sha512`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// What a secret's text means: `utf8` (default), `hex`, `base64`, `whsec`, `whpk`, `spki-base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where the signature stands; several: any may match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<OneOrMany>,
    /// What separates several signatures in one value: `,`, `;` or a space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// What marks a signature: `v1=`, `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `hex`, `base64` or `base64url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<String>,
    /// What is signed; `{body}` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// Where the time stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// `s` (default), `ms`, `rfc3339`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Seconds that the time may be off, either way; 300 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<u64>,
    /// Each element of this array of the body is signed by itself; the pointers of `sig` and `signed` start there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
}

/// One text, or a list of texts: the places of a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl OneOrMany {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
        .iter()
        .map(String::as_str)
    }
}
