//! Tenants: names and the defaults that `[[tenants]]` sets.

use super::RetryPolicy;

/// The tenant of a request that names no tenant. The default tenant always exists.
pub const DEFAULT_TENANT: &str = "default";
/// The maximum length of a tenant name in bytes.
pub const TENANT_BYTES_MAX: usize = 63;
/// The rule of [`is_tenant_name`] in words, for error messages.
pub const TENANT_NAME_ALLOWED: &str = "1 to 63 of A-Z a-z 0-9 . _ : -, the first a letter or digit";

/// Whether a text is a valid tenant name. `*` is never valid.
pub fn is_tenant_name(text: &str) -> bool {
    (1..=TENANT_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// The defaults for webhooks of a tenant that do not set these values. Old clients need not send the values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantSettings {
    /// The profile of new webhooks; `None` means `standard`.
    pub profile: Option<Box<str>>,
    /// The retry policy of new webhooks; `None` means the configured default.
    pub retry_policy: Option<RetryPolicy>,
    /// Which webhooks a member sees.
    pub visibility: Visibility,
}

/// Which webhooks a member of a tenant sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// All webhooks of the tenant.
    #[default]
    Tenant,
    /// The webhooks whose `user_id` is the user of the caller, and the deliveries of these webhooks.
    Owner,
}
