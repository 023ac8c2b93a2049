//! The scheme `jwt`: a JSON Web Token (RFC 7519) in a header, whose claims name the sender and may hold the digest of the
//! body.
//!
//! The settings fix the algorithms, so the token cannot choose one. Either all algorithms use a shared secret or all use
//! public keys: a public key is never the secret of an HMAC. Claims are read after the signature was verified.

mod claims;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::{digest, hmac};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use super::encoding::Encoding;
use super::jwk::KeySet;
use super::{OneOrMany, RawJwt, RequestParts, VerifyError};
use crate::limits::{JWT_BYTES_MAX, KEY_ID_BYTES_MAX, URL_BYTES_MAX};
use crate::model::{Secret, Timestamp};

/// The value of a required claim that stands for the URL of the source.
const URL_OF_SOURCE: &str = "{url}";
/// Stands for the id of the key in `jwks` and `jwks_body`.
const KEY_ID: &str = "{kid}";
/// What the source's options have not replaced yet, as in the table of providers.
const OPTION: &str = "{option:";
/// The validity of tokens that are made here, in seconds.
const MADE_FOR_S: i64 = 300;

/// A signature algorithm of tokens (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Es256,
    EdDsa,
}

/// The compiled settings of the scheme.
#[derive(Debug, Clone)]
pub(super) struct JwtRules {
    algorithms: Vec<JwtAlgorithm>,
    /// The address of the public keys, with placeholders.
    jwks: Option<Box<str>>,
    /// The members of the JSON body by which the keys are asked for, with placeholders. Empty: a GET.
    jwks_body: Vec<(Box<str>, Secret)>,
    claims: Vec<(Box<str>, Vec<Box<str>>)>,
    body_hash: Option<(Box<str>, Encoding)>,
    /// The allowed age of `iat` in seconds. Without it, `exp` is required.
    max_age_s: Option<u64>,
}

/// A key that verifies tokens.
pub(super) enum JwtKey {
    /// The keys of a shared secret, one for each algorithm.
    Shared(Vec<(JwtAlgorithmName, hmac::Key)>),
    Public(KeySet),
}

/// The name of an algorithm, as in a token.
type JwtAlgorithmName = &'static str;

/// Where the public keys of a token are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetRequest {
    /// The address, which is https.
    pub url: Url,
    /// The JSON that is sent in a POST. `None`: a GET.
    pub body: Option<Secret>,
    /// The algorithm of the token.
    pub alg: Box<str>,
    /// The id of the key, if the token names one.
    pub key_id: Option<Box<str>>,
}

/// A token that was split into its parts.
struct SplitToken<'a> {
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
    header: JoseHeader,
}

#[derive(Deserialize)]
struct JoseHeader {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Critical extensions (RFC 7515, 4.1.11). None is supported.
    #[serde(default)]
    crit: Option<Value>,
}

impl JwtAlgorithm {
    const ALL: [Self; 6] = [Self::Hs256, Self::Hs384, Self::Hs512, Self::Rs256, Self::Es256, Self::EdDsa];

    fn name(self) -> JwtAlgorithmName {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }
}

impl JwtRules {
    /// Compiles the settings.
    ///
    /// # Errors
    /// The texts of all errors.
    pub(super) fn try_new(raw: &RawJwt, max_age_s: Option<u64>) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let mut algorithms = Vec::new();
        for name in raw.alg.as_ref().map(OneOrMany::iter).into_iter().flatten() {
            match JwtAlgorithm::ALL.into_iter().find(|known| known.name() == name) {
                Some(known) => algorithms.push(known),
                None => errors
                    .push(format!("alg: {name:?} is not known; allowed: HS256, HS384, HS512, RS256, ES256, EdDSA")),
            }
        }
        let shared = algorithms.iter().filter(|algorithm| algorithm.hmac().is_some()).count();
        if algorithms.is_empty() {
            errors.push("alg is missing: which algorithms does the sender use?".to_owned());
        } else if shared > 0 && shared < algorithms.len() {
            errors.push("alg: HS256, HS384 and HS512 do not go together with others, whose keys are public".to_owned());
        }
        if let Some(jwks) = &raw.jwks {
            let url = Url::parse(&jwks.replace(KEY_ID, "kid"));
            if shared > 0 {
                errors.push("jwks: a shared secret is not published; allowed with RS256, ES256 and EdDSA".to_owned());
            } else if !jwks.contains(OPTION)
                && !url
                    .is_ok_and(|url| url.scheme() == "https" && url.username().is_empty() && url.fragment().is_none())
            {
                errors.push("jwks: expected an https URL without a user and a fragment".to_owned());
            }
        } else if !raw.jwks_body.is_empty() {
            errors.push("jwks_body has a meaning with jwks only".to_owned());
        }
        let encoding = match raw.body_hash_encoding.as_deref() {
            None | Some("hex") => Encoding::Hex,
            Some("base64") => Encoding::Base64,
            Some("base64url") => Encoding::Base64Url,
            Some(other) => {
                errors.push(format!("body_hash_encoding: {other:?} is not known; allowed: hex, base64, base64url"));
                Encoding::Hex
            }
        };
        if raw.body_hash.is_none() && raw.body_hash_encoding.is_some() {
            errors.push("body_hash_encoding has a meaning with body_hash only".to_owned());
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // Without a source, as in a command that verifies one request, no option is set.
        let texts = |texts: &OneOrMany| -> Vec<Box<str>> {
            texts.iter().filter(|text| !text.contains(OPTION)).map(Into::into).collect()
        };
        let claims = raw.claims.iter().map(|(name, wanted)| (name.as_str().into(), texts(wanted)));
        let claims = claims.filter(|(_, wanted): &(Box<str>, Vec<Box<str>>)| !wanted.is_empty()).collect();
        Ok(Self {
            algorithms,
            jwks: raw.jwks.as_deref().map(Into::into),
            jwks_body: raw
                .jwks_body
                .iter()
                .map(|(name, text)| (name.as_str().into(), Secret::new(text.clone())))
                .collect(),
            claims,
            body_hash: raw.body_hash.as_deref().map(|name| (name.into(), encoding)),
            max_age_s,
        })
    }

    /// Whether the keys are secrets of the source and not fetched.
    pub(super) fn needs_secret(&self) -> bool {
        self.jwks.is_none()
    }

    /// Whether the keys of the secret are shared with the sender.
    pub(super) fn is_shared(&self) -> bool {
        self.algorithms.iter().any(|algorithm| algorithm.hmac().is_some())
    }

    /// Whether a claim holds the digest of the body.
    pub(super) fn covers_body(&self) -> bool {
        self.body_hash.is_some()
    }

    /// Whether a claim must be the URL of the source.
    pub(super) fn needs_url(&self) -> bool {
        self.claims.iter().any(|(_, wanted)| wanted.iter().any(|wanted| **wanted == *URL_OF_SOURCE))
    }

    /// The keys of a shared secret, or of a public key in PEM or as JWK.
    ///
    /// # Errors
    /// The text for the user.
    pub(super) fn key(&self, secret: &[u8]) -> Result<JwtKey, &'static str> {
        if self.is_shared() {
            let keys = self.algorithms.iter().filter_map(|alg| Some((alg.name(), hmac::Key::new(alg.hmac()?, secret))));
            return Ok(JwtKey::Shared(keys.collect()));
        }
        let expected =
            "expected a public key: PEM (-----BEGIN PUBLIC KEY-----), a JWK or a JWK set of RSA, P-256 or Ed25519";
        let text = std::str::from_utf8(secret).map_err(|_| expected)?;
        let set = if text.trim_start().starts_with('{') {
            KeySet::parse_published(text).ok()
        } else {
            KeySet::from_pem(text)
        };
        let set = set.ok_or(expected)?;
        if !self.algorithms.iter().any(|algorithm| set.has_key(algorithm.name(), None)) {
            return Err("the key is of another algorithm than alg allows");
        }
        Ok(JwtKey::Public(set))
    }

    /// Where the keys of this token are published. Returns `None` if the keys are the secrets of the source.
    ///
    /// # Errors
    /// [`VerifyError`] if the text is not a token that any key could verify.
    pub(super) fn key_set(&self, token: &str) -> Result<Option<KeySetRequest>, VerifyError> {
        let Some(jwks) = &self.jwks else { return Ok(None) };
        let split = self.split(token)?;
        let key_id = split.header.kid.as_deref();
        let in_body = self.jwks_body.iter().any(|(_, text)| text.reveal().contains(KEY_ID));
        let fill = |text: &str| match key_id {
            Some(key_id) => text.replace(KEY_ID, key_id),
            None => text.to_owned(),
        };
        if key_id.is_none() && (in_body || jwks.contains(KEY_ID)) {
            return Err(refused("it names no key (kid)"));
        }
        let url = Some(fill(jwks)).filter(|url| url.len() <= URL_BYTES_MAX).and_then(|url| Url::parse(&url).ok());
        let url = url.filter(|url| url.scheme() == "https").ok_or_else(|| refused("its keys have no address"))?;
        let body: Map<String, Value> =
            self.jwks_body.iter().map(|(name, text)| (name.to_string(), fill(text.reveal()).into())).collect();
        Ok(Some(KeySetRequest {
            url,
            body: (!body.is_empty()).then(|| Secret::new(Value::Object(body).to_string())),
            alg: split.header.alg.as_str().into(),
            key_id: key_id.map(Into::into),
        }))
    }

    /// Verifies a token by the keys of the source and by the published keys.
    ///
    /// # Errors
    /// [`VerifyError`] with the reason why the token is refused.
    pub(super) fn verify<'k>(
        &self,
        token: &str,
        keys: impl Iterator<Item = &'k JwtKey>,
        published: Option<&KeySet>,
        request: &RequestParts<'_>,
        now: Timestamp,
    ) -> Result<(), VerifyError> {
        let split = self.split(token)?;
        let (alg, key_id) = (split.header.alg.as_str(), split.header.kid.as_deref());
        let signed = split.signed.as_bytes();
        let mut fits = published.is_some_and(|set| set.verify(alg, key_id, signed, &split.signature));
        for key in keys {
            fits |= match key {
                JwtKey::Shared(keys) => {
                    keys.iter().any(|(name, key)| *name == alg && hmac::verify(key, signed, &split.signature).is_ok())
                }
                JwtKey::Public(set) => set.verify(alg, key_id, signed, &split.signature),
            };
        }
        if !fits {
            return Err(VerifyError::Mismatch);
        }
        let claims = decode(split.claims).ok_or_else(malformed)?;
        let claims: Map<String, Value> = serde_json::from_slice(&claims).map_err(|_| malformed())?;
        self.check_times(&claims, now)?;
        self.check_claims(&claims, request)?;
        self.check_body(&claims, request.body)
    }

    /// Makes a token with a shared secret, as a sender does; `None` if the algorithms need a private key.
    pub(super) fn sign(&self, secret: &[u8], request: &RequestParts<'_>, now: Timestamp) -> Option<String> {
        let (name, algorithm) = self.algorithms.iter().find_map(|alg| Some((alg.name(), alg.hmac()?)))?;
        let mut claims = Map::new();
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), (now.as_secs() + MADE_FOR_S).into());
        for (claim, wanted) in &self.claims {
            let wanted =
                wanted.first().map_or("", |wanted| if **wanted == *URL_OF_SOURCE { request.url } else { wanted });
            claims.insert(claim.to_string(), wanted.into());
        }
        if let Some((claim, encoding)) = &self.body_hash {
            let hash = digest::digest(&digest::SHA256, request.body);
            claims.insert(claim.to_string(), encoding.encode(hash.as_ref()).into());
        }
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&json!({ "alg": name, "typ": "JWT" })), part(&Value::Object(claims)));
        let tag = hmac::sign(&hmac::Key::new(algorithm, secret), signed.as_bytes());
        Some(format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref())))
    }

    /// Splits a token and checks its header.
    fn split<'a>(&self, token: &'a str) -> Result<SplitToken<'a>, VerifyError> {
        if token.len() > JWT_BYTES_MAX {
            return Err(malformed());
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let signed = &token[..header.len() + 1 + claims.len()];
        let signature = decode(signature).ok_or_else(malformed)?;
        let header = decode(header).ok_or_else(malformed)?;
        // serde would also read an array.
        if header.first() != Some(&b'{') {
            return Err(malformed());
        }
        let header: JoseHeader = serde_json::from_slice(&header).map_err(|_| malformed())?;
        if !self.algorithms.iter().any(|allowed| allowed.name() == header.alg) {
            return Err(refused("its algorithm (alg) is not one of the allowed"));
        }
        if header.crit.is_some() {
            return Err(refused("it has critical extensions (crit)"));
        }
        let is_key_id = |id: &String| {
            (1..=KEY_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+=".contains(&b))
        };
        // An id of another form is the id of no published key, but may occur in a token by a shared secret.
        if self.jwks.is_some() && header.kid.as_ref().is_some_and(|id| !is_key_id(id)) {
            return Err(refused("its kid is no id of a key"));
        }
        Ok(SplitToken { signed, claims, signature, header })
    }
}

impl KeySetRequest {
    /// The name of the keys in a cache: the URL, with the digest of what is posted there, which holds credentials.
    pub fn name(&self) -> Cow<'_, str> {
        match &self.body {
            None => Cow::Borrowed(self.url.as_str()),
            Some(json) => {
                let digest = digest::digest(&digest::SHA256, json.reveal().as_bytes());
                Cow::Owned(format!("{} {}", self.url, HEXLOWER.encode(digest.as_ref())))
            }
        }
    }
}

/// The token in the value of a header. The word `Bearer` before it is optional: LiveKit and Plaid leave it out.
pub(super) fn bearer(value: &str) -> &str {
    match value.split_once(' ') {
        Some((word, token)) if word.eq_ignore_ascii_case("bearer") => token.trim_matches(' '),
        _ => value,
    }
}

fn malformed() -> VerifyError {
    refused("it is not a JSON Web Token")
}

fn refused(why: impl Into<String>) -> VerifyError {
    VerifyError::Jwt(why.into().into())
}

/// Decodes base64url strictly: without padding, and with only one encoding of each value.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()
}
