//! A tenant's defaults, as `[[tenants]]` sets them.

use super::RetryPolicy;

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
