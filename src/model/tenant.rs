//! A tenant's defaults, as `[[tenants]]` sets them.

use super::RetryPolicy;

/// The tenant of whoever names none. It exists without being made.
pub const DEFAULT_TENANT: &str = "default";
/// Bytes of a tenant's name.
pub const TENANT_BYTES_MAX: usize = 63;
/// What [`is_tenant_name`] takes, in words.
pub const TENANT_NAME_ALLOWED: &str = "1 to 63 of A-Z a-z 0-9 . _ : -, the first a letter or digit";

/// Whether text may be the name of a tenant; `*` never is.
pub fn is_tenant_name(text: &str) -> bool {
    (1..=TENANT_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}

/// What holds for a tenant's webhooks that do not say otherwise, so that old clients need not name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantSettings {
    /// The profile of new webhooks; `None`: `standard`.
    pub profile: Option<Box<str>>,
    /// The retry policy of new webhooks; `None`: the configured default.
    pub retry_policy: Option<RetryPolicy>,
    /// What a member sees.
    pub visibility: Visibility,
}

/// Whose webhooks a member of a tenant sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// All of the tenant.
    #[default]
    Tenant,
    /// Those whose `user_id` is the caller's, and their deliveries.
    Owner,
}
