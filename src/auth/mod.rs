//! auth: identifies callers without an API key, and decides which web origins may call the API.
//!
//! Callers without an API key are bearers of tokens (JWT) that another system signed, and users that a trusted proxy
//! names. The registry authenticates API keys.
//!
//! Invariants:
//! - The key fixes the signature algorithm. The token does not choose it.
//! - A token without an expiry time is refused.
//! - No token and no header grants access to all tenants.
//!
//! This module must never know: redb, routes.
//!
//! A small module of this project on top of ring verifies tokens. The crate `jsonwebtoken` is not used: since version
//! 10 it needs a second cryptographic backend (aws-lc or a dozen of RustCrypto's crates), or a hand-written backend on
//! top of ring.

mod jwt;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

pub use jwt::{Claims, JwtError, TokenVerifier, mint};

use crate::config::{Config, PartError};
use crate::limits::{CLIENT_ID_BYTES_MAX, JWKS_BYTES_MAX};
use crate::model::{DEFAULT_TENANT, Principal, Role, Timestamp, is_tenant_name};
use crate::signature::KeySet;

/// The current access rules, shared by all worker threads.
pub type SharedAccessRules = Arc<ArcSwap<AccessRules>>;

/// The rules of `[auth]` and `server.cors_origins`, without API keys.
#[derive(Debug, Default)]
pub struct AccessRules {
    tokens: Option<TokenVerifier>,
    trusted_proxies: Vec<IpNet>,
    default_role: Option<Role>,
    origins: Vec<Box<str>>,
}

/// The identity that a trusted proxy sends in headers.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForwardedIdentity<'a> {
    /// The header `X-User-ID`.
    pub user: Option<&'a str>,
    /// The header `X-Org-ID`.
    pub org: Option<&'a str>,
}

impl AccessRules {
    /// Builds the rules from a configuration and reads the keys of `auth.jwks_file`.
    ///
    /// # Errors
    /// If the file cannot be read or contains no usable keys. The path of the error is relative to `auth`.
    pub fn try_new(config: &Config) -> Result<Self, PartError> {
        let auth = &config.auth;
        let published = auth.jwks_file.as_deref().map(read_key_set).transpose();
        let published = published.map_err(|problem| PartError { path: vec!["jwks_file".to_owned()], problem })?;
        Ok(Self {
            tokens: TokenVerifier::of(auth, published),
            trusted_proxies: auth.trusted_proxy.clone(),
            default_role: Some(auth.default_role),
            origins: config.server.cors_origins.clone(),
        })
    }

    /// Verifies a bearer token and returns its principal. Returns `None` if tokens are not configured.
    ///
    /// # Errors
    /// Why the token is refused.
    pub fn verify_bearer(&self, token: &str, now: Timestamp) -> Option<Result<Principal, JwtError>> {
        let tokens = self.tokens.as_ref()?;
        Some(tokens.verify(token, now).map(|claims| principal(claims.tenant, claims.role, claims.user)))
    }

    /// Returns the user of a request without credentials, if the request comes from a trusted proxy that names the
    /// user.
    pub fn forwarded_principal(&self, peer: IpAddr, said: ForwardedIdentity<'_>) -> Option<Principal> {
        let peer = peer.to_canonical();
        if !self.trusted_proxies.iter().any(|network| network.contains(&peer)) {
            return None;
        }
        let user = said.user.filter(|user| is_user(user))?;
        let tenant = said.org.unwrap_or(DEFAULT_TENANT);
        is_tenant_name(tenant)
            .then(|| principal(tenant.into(), self.default_role.unwrap_or(Role::Viewer), Some(user.into())))
    }

    /// Whether any web origin may call the API from a browser.
    pub fn has_origins(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Whether this web origin may call the API from a browser.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| **allowed == *origin)
    }
}

/// Reads the JWK set of a file.
///
/// # Errors
/// The reason as text, with the path of the file.
fn read_key_set(path: &Path) -> Result<KeySet, String> {
    let read = File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(JWKS_BYTES_MAX).read_to_string(&mut text).map(|_| text)
    });
    let text = read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    KeySet::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn principal(tenant: Arc<str>, role: Role, user: Option<Arc<str>>) -> Principal {
    let name = user.as_deref().map_or_else(|| "a token without a user".into(), |user| format!("user {user}").into());
    Principal { user, name, ..Principal::new(Some(tenant), role) }
}

/// Whether text is a valid user id. The audit log shows user ids, and they are compared with the `user_id` of webhooks.
fn is_user(text: &str) -> bool {
    (1..=CLIENT_ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}
