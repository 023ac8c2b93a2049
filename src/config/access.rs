//! Checks of `[auth]` and `server.cors_origins`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::check::{ConfigChecker, SECOND};
use super::raw;
use super::value::CommaList;
use super::{ApiKey, Auth};
use crate::limits::CORS_ORIGINS_MAX;
use crate::model::{Role, Secret, TENANT_NAME_ALLOWED, is_tenant_name};

/// Characters of an API key. The minimum cannot be guessed, and the maximum fits into a header.
const API_KEY_CHARS: RangeInclusive<usize> = 16..=256;
/// Bytes of `auth.jwt_secret`: at least the output length of HMAC-SHA256 (RFC 7518, 3.2), and at most a length that
/// rules out a key file by mistake.
const JWT_SECRET_BYTES: RangeInclusive<usize> = 32..=1024;
/// The maximum lifetime of a token, because a token cannot be revoked.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl ConfigChecker<'_> {
    pub(super) fn auth(&mut self, raw: &raw::Auth) -> Auth {
        let secret = raw.jwt_secret.reveal();
        if !secret.is_empty() && !JWT_SECRET_BYTES.contains(&secret.len()) {
            let (least, most) = JWT_SECRET_BYTES.into_inner();
            self.wrong("auth.jwt_secret", format!("{} bytes; allowed is {least} to {most}", secret.len()));
        }
        if !secret.is_empty() && !raw.jwks_file.is_empty() {
            self.wrong(
                "auth.jwks_file",
                "auth.jwt_secret is set as well; tokens are signed by the one or by the other",
            );
        }
        let default_role = Role::from_word(&raw.default_role);
        if default_role.is_none() {
            self.wrong("auth.default_role", format!("{:?} is not a role: {}", raw.default_role, Role::WORDS));
        }
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        Auth {
            api_keys: self.api_keys(&raw.api_keys),
            jwt_secret: (!secret.is_empty()).then(|| raw.jwt_secret.clone()),
            jwks_file: (!raw.jwks_file.is_empty()).then(|| PathBuf::from(&raw.jwks_file)),
            jwt_issuer: text(&raw.jwt_issuer),
            jwt_audience: text(&raw.jwt_audience),
            default_role: default_role.unwrap_or(Role::Viewer),
            token_ttl: self.seconds("auth.token_ttl_seconds", raw.token_ttl_seconds, SECOND..=YEAR),
            trusted_proxy: self.networks("auth.trusted_proxy", &raw.trusted_proxy),
        }
    }

    fn api_keys(&mut self, raw: &[raw::ApiKey]) -> Vec<ApiKey> {
        let mut keys: Vec<ApiKey> = Vec::with_capacity(raw.len());
        for (n, entry) in raw.iter().enumerate() {
            let at = |field: &str| format!("auth.api_keys[{n}].{field}");
            let role = Role::from_word(&entry.role);
            if role.is_none() {
                self.wrong(&at("role"), format!("{:?} is not a role: {}", entry.role, Role::WORDS));
            }
            let tenant = match &*entry.tenant {
                "*" => None,
                name => {
                    if !is_tenant_name(name) {
                        self.wrong(&at("tenant"), format!("{name:?} is not a tenant: \"*\", or {TENANT_NAME_ALLOWED}"));
                    }
                    Some(Arc::from(name))
                }
            };
            match api_key(entry.key.as_ref(), &keys) {
                Ok(key) => keys.extend(role.map(|role| ApiKey { key, tenant, role })),
                Err(problem) => self.wrong(&at("key"), problem),
            }
        }
        keys
    }

    /// Requires the form that browsers send, because origins are compared as text.
    pub(super) fn origins(&mut self, raw: &CommaList<String>) -> Vec<Box<str>> {
        const KEY: &str = "server.cors_origins";
        if raw.0.len() > CORS_ORIGINS_MAX {
            self.wrong(KEY, format!("{} origins; allowed is at most {CORS_ORIGINS_MAX}", raw.0.len()));
        }
        let mut origins = Vec::with_capacity(raw.0.len());
        for text in &raw.0 {
            let spelled = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            match spelled.map(|url| url.origin().ascii_serialization()) {
                Some(origin) if origin == text.trim_end_matches('/') => origins.push(origin.into()),
                Some(origin) => self.wrong(KEY, format!("{text:?} is not an origin; a browser says {origin:?}")),
                None if text == "*" => {
                    self.wrong(KEY, "\"*\" is not taken: name each site, such as \"https://app.example.com\"");
                }
                None => self.wrong(KEY, format!("{text:?} is not an origin such as \"https://app.example.com\"")),
            }
        }
        origins
    }
}

/// The key, or the problem with it.
fn api_key(written: Option<&Secret>, others: &[ApiKey]) -> Result<Secret, String> {
    let (least, most) = API_KEY_CHARS.into_inner();
    let Some(key) = written else { return Err(format!("a key of {least} to {most} characters is needed")) };
    let text = key.reveal();
    if !API_KEY_CHARS.contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("a key has {least} to {most} visible ASCII characters"));
    }
    if others.iter().any(|other| other.key == *key) {
        return Err("this key is there twice".to_owned());
    }
    Ok(key.clone())
}
