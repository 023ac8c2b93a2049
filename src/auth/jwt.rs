//! JSON Web Tokens (RFC 7519) as bearer tokens. Parsing is strict, and the key fixes the algorithm.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};

use super::is_user;
use crate::config::Auth;
use crate::limits::JWT_LEEWAY;
use crate::model::{DEFAULT_TENANT, Role, Secret, TENANT_NAME_ALLOWED, Timestamp, is_tenant_name};
use crate::signature::KeySet;

/// Verifies tokens.
pub struct TokenVerifier {
    keys: VerificationKeys,
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
    default_role: Role,
}

enum VerificationKeys {
    /// A shared secret for HS256.
    Shared(hmac::Key),
    /// A set of public keys. Each key has its own algorithm.
    Published(KeySet),
}

/// The identity of a token's bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The claim `org_id` or `tenant`.
    pub tenant: Arc<str>,
    /// The claim `role`.
    pub role: Role,
    /// The claim `sub`.
    pub user: Option<Arc<str>>,
}

/// Why a token is refused. The client gets this text. All errors before the signature is verified have the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// The text is not a token, the algorithm is another one, or no known key signed the token.
    #[error("the token is not valid")]
    Invalid,
    /// The expiry time (`exp`) has passed.
    #[error("the token has expired")]
    Expired,
    /// The start time (`nbf`) has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `exp` is missing, or `exp` or `nbf` is not a number.
    #[error("the token needs exp, and exp and nbf must be numbers of seconds")]
    Times,
    /// Another issuer issued the token (`iss`).
    #[error("the token's iss is not the one that is expected here")]
    Issuer,
    /// The token is for another audience (`aud`).
    #[error("the token's aud is not the one that is expected here")]
    Audience,
    /// `sub` is not a valid user id.
    #[error("the token's sub must be text of 1 to 256 characters, or a number")]
    User,
    /// `org_id` or `tenant` is not a valid tenant, or they differ.
    #[error("the token's org_id or tenant must be one tenant: {TENANT_NAME_ALLOWED}")]
    Tenant,
    /// `role` is not a known role.
    #[error("the token's role must be {}", Role::WORDS)]
    Role,
}

/// The members of a token header that are read. A duplicate member is a format error.
#[derive(Deserialize)]
struct TokenHeader<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Option<std::borrow::Cow<'a, str>>,
    /// Critical extensions (RFC 7515, 4.1.11). None is supported.
    #[serde(default, deserialize_with = "present")]
    crit: Option<Value>,
}

/// The claims that are read. A claim that is `null` counts as present with the wrong type.
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

impl TokenVerifier {
    /// Creates a verifier for the published keys, or for the configured secret if there are no published keys. Returns
    /// `None` if neither is configured.
    pub fn of(auth: &Auth, published: Option<KeySet>) -> Option<Self> {
        let shared = || auth.jwt_secret.as_ref().map(|secret| VerificationKeys::Shared(hmac_key(secret)));
        let keys = published.map(VerificationKeys::Published).or_else(shared)?;
        let (issuer, audience) = (auth.jwt_issuer.clone(), auth.jwt_audience.clone());
        Some(Self { keys, issuer, audience, default_role: auth.default_role })
    }

    /// Verifies a token and returns its claims.
    ///
    /// # Errors
    /// Why the token is refused. The claims are checked only after the signature.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, JwtError> {
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Invalid);
        };
        let signed = &token[..header.len() + 1 + claims.len()];
        let signature = decode(signature)?;
        self.check(&decode(header)?, signed.as_bytes(), &signature)?;
        let claims: RawClaims = object(&decode(claims)?)?;
        self.read(&claims, now)
    }

    fn check(&self, header: &[u8], signed: &[u8], signature: &[u8]) -> Result<(), JwtError> {
        let header: TokenHeader<'_> = object(header)?;
        let is_signed = match &self.keys {
            VerificationKeys::Shared(key) => header.alg == HS256 && hmac::verify(key, signed, signature).is_ok(),
            VerificationKeys::Published(keys) => keys.verify(&header.alg, header.kid.as_deref(), signed, signature),
        };
        if is_signed && header.crit.is_none() { Ok(()) } else { Err(JwtError::Invalid) }
    }

    fn read(&self, claims: &RawClaims, now: Timestamp) -> Result<Claims, JwtError> {
        let (now, leeway) = (now.as_millis() as f64 / 1000.0, JWT_LEEWAY.as_secs_f64());
        let end = claims.exp.as_ref().and_then(seconds).ok_or(JwtError::Times)?;
        let begin = claims.nbf.as_ref().map(|nbf| seconds(nbf).ok_or(JwtError::Times)).transpose()?;
        if now >= end + leeway {
            return Err(JwtError::Expired);
        }
        if begin.is_some_and(|begin| now < begin - leeway) {
            return Err(JwtError::NotYetValid);
        }
        let is = |claim: &Option<Value>, expected: &str| match claim {
            Some(Value::String(text)) => text == expected,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(expected)),
            _ => false,
        };
        if self.issuer.as_deref().is_some_and(|issuer| claims.iss.as_ref().and_then(Value::as_str) != Some(issuer)) {
            return Err(JwtError::Issuer);
        }
        if self.audience.as_deref().is_some_and(|audience| !is(&claims.aud, audience)) {
            return Err(JwtError::Audience);
        }
        let user = claims.sub.as_ref().map(|sub| text(sub).filter(|sub| is_user(sub)).ok_or(JwtError::User));
        Ok(Claims { tenant: tenant(claims)?, role: self.role(claims)?, user: user.transpose()?.map(Into::into) })
    }

    fn role(&self, claims: &RawClaims) -> Result<Role, JwtError> {
        // An unknown role must not fall back to the default role, which may grant more.
        claims
            .role
            .as_ref()
            .map_or(Ok(self.default_role), |role| role.as_str().and_then(Role::from_word).ok_or(JwtError::Role))
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

const HS256: &str = "HS256";

fn hmac_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes())
}

/// Decodes base64url strictly: without padding, and with only one encoding of each value.
fn decode(text: &str) -> Result<Vec<u8>, JwtError> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| JwtError::Invalid)
}

/// Parses a JSON object. The check is needed because serde also accepts an array, whose entries it assigns to the
/// fields in order.
fn object<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, JwtError> {
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    serde_json::from_slice(bytes).ok().filter(|_| is_object).ok_or(JwtError::Invalid)
}

/// Parses a `NumericDate`, which must be a JSON number.
fn seconds(value: &Value) -> Option<f64> {
    value.as_number().and_then(Number::as_f64).filter(|seconds| seconds.is_finite())
}

/// Converts an id to text. The systems that Hooktide replaces use numeric ids.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

/// Reads the tenant. `org_id` and `tenant` are two names of the same claim.
fn tenant(claims: &RawClaims) -> Result<Arc<str>, JwtError> {
    let read = |claim: &Option<Value>| {
        let name = claim.as_ref().map(|claim| text(claim).filter(|name| is_tenant_name(name)));
        name.map(|name| name.ok_or(JwtError::Tenant)).transpose()
    };
    match (read(&claims.org_id)?, read(&claims.tenant)?) {
        (Some(org), Some(tenant)) if org != tenant => Err(JwtError::Tenant),
        (org, tenant) => Ok(org.or(tenant).as_deref().unwrap_or(DEFAULT_TENANT).into()),
    }
}

fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

/// The claims of a token that this server issues.
#[derive(Debug, Serialize)]
struct MintedClaims<'a> {
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

/// Issues a token with these claims, valid from `now` until `end`. A [`TokenVerifier`] of the same configuration
/// accepts it. Returns `None` if there is no `auth.jwt_secret` to sign with.
pub fn mint(auth: &Auth, claims: &Claims, now: Timestamp, end: Timestamp) -> Option<String> {
    let secret = auth.jwt_secret.as_ref()?;
    let minted = MintedClaims {
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
