//! JSON Web Tokens (RFC 7519) as bearers: read strictly, signed by one key that fixes its algorithm.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};

use super::is_user;
use super::jwks::KeySet;
use crate::config::Auth;
use crate::limits::JWT_LEEWAY;
use crate::model::{DEFAULT_TENANT, Role, Secret, TENANT_NAME_ALLOWED, Timestamp, is_tenant_name};

/// Reads tokens.
pub struct Tokens {
    keys: Keys,
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
    default_role: Role,
}

enum Keys {
    /// HS256.
    Shared(hmac::Key),
    /// Each key has its own algorithm.
    Published(KeySet),
}

/// Who a token says its bearer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `org_id` or `tenant`.
    pub tenant: Arc<str>,
    /// `role`.
    pub role: Role,
    /// `sub`.
    pub user: Option<Arc<str>>,
}

/// Why a token is not taken. Said to whoever sent it: what a signature does not cover is told in one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token, of another algorithm, or not signed by a key of ours.
    #[error("the token is not valid")]
    Invalid,
    /// Its end has come.
    #[error("the token has expired")]
    Expired,
    /// Its beginning has not.
    #[error("the token is not valid yet")]
    NotYet,
    /// It has no end, or an end or beginning that is no number.
    #[error("the token needs exp, and exp and nbf must be numbers of seconds")]
    Times,
    /// Another issuer made it.
    #[error("the token's iss is not the one that is expected here")]
    Issuer,
    /// It is meant for somebody else.
    #[error("the token's aud is not the one that is expected here")]
    Audience,
    /// What it says of its bearer cannot be.
    #[error("the token's sub must be text of 1 to 256 characters, or a number")]
    User,
    /// The tenant cannot be one.
    #[error("the token's org_id or tenant must be one tenant: {TENANT_NAME_ALLOWED}")]
    Tenant,
    /// The role is none.
    #[error("the token's role must be {}", Role::WORDS)]
    Role,
}

/// What is read of a header: a member that is there twice is an error of the format.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Option<std::borrow::Cow<'a, str>>,
    /// Extensions that must be understood (RFC 7515, 4.1.11): none is.
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
}

/// What is read of the claims. One that is `null` is there, and of the wrong type.
#[derive(Deserialize)]
struct RawClaims {
    #[serde(default, deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    iss: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    sub: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    org_id: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    tenant: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    role: Option<Value>,
}

impl Tokens {
    /// Reads tokens that are signed by one of the published keys, or with the configured secret if there are none.
    /// `None`: no tokens are taken.
    pub fn of(auth: &Auth, published: Option<KeySet>) -> Option<Self> {
        let shared = || auth.jwt_secret.as_ref().map(|secret| Keys::Shared(hmac_key(secret)));
        let keys = published.map(Keys::Published).or_else(shared)?;
        let (issuer, audience) = (auth.jwt_issuer.clone(), auth.jwt_audience.clone());
        Some(Self { keys, issuer, audience, default_role: auth.default_role })
    }

    /// Who the bearer of this token is.
    ///
    /// # Errors
    /// What is wrong with it; of one that no key of ours has signed, only that.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Invalid);
        };
        let signed = &token[..header.len() + 1 + claims.len()];
        let signature = decode(signature)?;
        self.check(&decode(header)?, signed.as_bytes(), &signature)?;
        let claims: RawClaims = object(&decode(claims)?)?;
        self.read(&claims, now)
    }

    fn check(&self, header: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), TokenError> {
        let header: Header<'_> = object(header)?;
        let is_signed = match &self.keys {
            Keys::Shared(key) => header.alg == HS256 && hmac::verify(key, signed, signature).is_ok(),
            Keys::Published(keys) => keys.verify(&header.alg, header.kid.as_deref(), signed, signature),
        };
        if is_signed && header.crit.is_none() { Ok(()) } else { Err(TokenError::Invalid) }
    }

    fn read(&self, claims: &RawClaims, now: Timestamp) -> Result<Claims, TokenError> {
        let (now, leeway) = (now.as_millis() as f64 / 1000.0, JWT_LEEWAY.as_secs_f64());
        let end = claims.exp.as_ref().and_then(seconds).ok_or(TokenError::Times)?;
        let begin = claims.nbf.as_ref().map(|nbf| seconds(nbf).ok_or(TokenError::Times)).transpose()?;
        if now >= end + leeway {
            return Err(TokenError::Expired);
        }
        if begin.is_some_and(|begin| now < begin - leeway) {
            return Err(TokenError::NotYet);
        }
        let is = |claim: &Option<Value>, expected: &str| match claim {
            Some(Value::String(text)) => text == expected,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(expected)),
            _ => false,
        };
        if self.issuer.as_deref().is_some_and(|issuer| claims.iss.as_ref().and_then(Value::as_str) != Some(issuer)) {
            return Err(TokenError::Issuer);
        }
        if self.audience.as_deref().is_some_and(|audience| !is(&claims.aud, audience)) {
            return Err(TokenError::Audience);
        }
        let user = claims.sub.as_ref().map(|sub| text(sub).filter(|sub| is_user(sub)).ok_or(TokenError::User));
        Ok(Claims { tenant: tenant(claims)?, role: self.role(claims)?, user: user.transpose()?.map(Into::into) })
    }

    fn role(&self, claims: &RawClaims) -> Result<Role, TokenError> {
        // A word that means nothing here must not become a role that somebody else's word did not mean.
        claims
            .role
            .as_ref()
            .map_or(Ok(self.default_role), |role| role.as_str().and_then(Role::from_word).ok_or(TokenError::Role))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.issuer).field("audience", &self.audience).finish_non_exhaustive()
    }
}

const HS256: &str = "HS256";

fn hmac_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())
}

/// Strict: no padding, no second spelling.
fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TokenError::Invalid)
}

/// A JSON object; serde would read a list as one too, its entries in the order of the fields.
fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, TokenError> {
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    serde_json::from_slice(bytes).ok().filter(|_| is_object).ok_or(TokenError::Invalid)
}

/// A `NumericDate`, which is a number and nothing that looks like one.
fn seconds(value: &Value) -> Option<f64> {
    value.as_number().and_then(Number::as_f64).filter(|seconds| seconds.is_finite())
}

/// An id as text; the systems that Hooktide replaces have numbers.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// The two names say one thing.
fn tenant(claims: &RawClaims) -> Result<Arc<str>, TokenError> {
    let read = |claim: &Option<Value>| {
        let name = claim.as_ref().map(|claim| text(claim).filter(|name| is_tenant_name(name)));
        name.map(|name| name.ok_or(TokenError::Tenant)).transpose()
    };
    match (read(&claims.org_id)?, read(&claims.tenant)?) {
        (Some(org), Some(tenant)) if org != tenant => Err(TokenError::Tenant),
        (org, tenant) => Ok(org.or(tenant).as_deref().unwrap_or(DEFAULT_TENANT).into()),
    }
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// What a token of our own says.
#[derive(Debug, Serialize)]
struct Minted<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<&'a str>,
    tenant: &'a str,
    role: Role,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// A token for these claims that [`Tokens`] of the same configuration takes from `now` until `end`; `None`: there is no
/// `auth.jwt_secret` to sign with.
pub fn mint(auth: &Auth, claims: &Claims, now: Timestamp, end: Timestamp) -> Option<String> {
    let secret = auth.jwt_secret.as_ref()?;
    let minted = Minted {
        sub: claims.user.as_deref(),
        tenant: &claims.tenant,
        role: claims.role,
        iat: now.as_secs(),
        exp: end.as_secs(),
        iss: auth.jwt_issuer.as_deref(),
        aud: auth.jwt_audience.as_deref(),
    };
    let claims = BASE64URL_NOPAD.encode(&serde_json::to_vec(&minted).ok()?);
    let signed = format!("{}.{claims}", BASE64URL_NOPAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#));
    let signature = hmac::sign(&hmac_key(secret), signed.as_bytes());
    Some(format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref())))
}
