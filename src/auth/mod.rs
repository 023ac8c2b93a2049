//! auth: who asks, where no API key says it: tokens signed by others, users named by a trusted proxy; and which pages of
//! other sites a browser may let ask.
//!
//! Promises: an algorithm is fixed by the key, never by the token; a token without a time of its end is none; nothing that
//! a token or a header says makes anybody act for all tenants. API keys are the registry's. Must never know: redb, routes.
//!
//! Tokens are read by a small module of our own on ring, not by the `jsonwebtoken` crate: since version 10 that one brings a
//! second cryptographic backend (aws-lc or a dozen of RustCrypto's crates), and ring would have to be put under it by hand.

mod jwks;
mod jwt;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;

pub use jwks::{JwksError, KeySet};
pub use jwt::{Claims, TokenError, Tokens, mint};

use crate::config::{Config, PartError};
use crate::limits::CLIENT_ID_BYTES_MAX;
use crate::model::{DEFAULT_TENANT, Principal, Role, Timestamp, is_tenant_name};

/// Where every worker finds the rules in force.
pub type SharedAccess = Arc<ArcSwap<Access>>;

/// The rules of `[auth]` and `server.cors_origins` that are not API keys.
#[derive(Debug, Default)]
pub struct Access {
    tokens: Option<Tokens>,
    trusted_proxies: Vec<IpNet>,
    default_role: Option<Role>,
    origins: Vec<Box<str>>,
}

/// What a trusted proxy says of the user behind it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forwarded<'a> {
    /// `X-User-ID`.
    pub user: Option<&'a str>,
    /// `X-Org-ID`.
    pub org: Option<&'a str>,
}

impl Access {
    /// The rules of a configuration, with the keys of `auth.jwks_file` read.
    ///
    /// # Errors
    /// If that file cannot be read or has no keys for us; the path of the error begins below `auth`.
    pub fn try_new(config: &Config) -> Result<Self, PartError> {
        let auth = &config.auth;
        let published = auth.jwks_file.as_deref().map(KeySet::read).transpose();
        let published = published.map_err(|problem| PartError { path: vec!["jwks_file".to_owned()], problem })?;
        Ok(Self {
            tokens: Tokens::of(auth, published),
            trusted_proxies: auth.trusted_proxy.clone(),
            default_role: Some(auth.default_role),
            origins: config.server.cors_origins.clone(),
        })
    }

    /// Who bears this token; `None`: no tokens are taken here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn bearer(&self, token: &str, now: Timestamp) -> Option<Result<Principal, TokenError>> {
        let tokens = self.tokens.as_ref()?;
        Some(tokens.verify(token, now).map(|claims| principal(claims.tenant, claims.role, claims.user)))
    }

    /// The user that a request without credentials is of, if it comes from a trusted proxy that names one.
    pub fn forwarded(&self, peer: IpAddr, said: Forwarded<'_>) -> Option<Principal> {
        let peer = peer.to_canonical();
        if !self.trusted_proxies.iter().any(|network| network.contains(&peer)) {
            return None;
        }
        let user = said.user.filter(|user| is_user(user))?;
        let tenant = said.org.unwrap_or(DEFAULT_TENANT);
        is_tenant_name(tenant)
            .then(|| principal(tenant.into(), self.default_role.unwrap_or(Role::Viewer), Some(user.into())))
    }

    /// Whether pages of any other site may ask.
    pub fn has_origins(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Whether pages of this site may ask.
    pub fn allows_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| **allowed == *origin)
    }
}

fn principal(tenant: Arc<str>, role: Role, user: Option<Arc<str>>) -> Principal {
    let name = user.as_deref().map_or_else(|| "a token without a user".into(), |user| format!("user {user}").into());
    Principal { user, name, ..Principal::new(Some(tenant), role) }
}

/// Whether text may be a user's id: it stands in the audit log and is compared with a webhook's `user_id`.
fn is_user(text: &str) -> bool {
    (1..=CLIENT_ID_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}
