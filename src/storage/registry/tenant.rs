//! The row of a tenant that was created through the API.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::record::{RecordError, VERSION, parse, versioned};
use super::retry::RetryRow;
use crate::model::{TenantSettings, Timestamp, Visibility};

/// A tenant as it is stored. Its name is the key of its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// The settings for the tenant's webhooks.
    pub settings: TenantSettings,
    /// When the tenant was created.
    pub created_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    v: u16,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    profile: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryRow>,
    #[serde(default)]
    visibility: Visibility,
    created_ms: i64,
}

versioned!(Row<'_>);

pub(super) fn encode(tenant: &TenantRecord) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Row {
        v: VERSION,
        profile: tenant.settings.profile.as_deref().map(Into::into),
        retry: tenant.settings.retry_policy.as_ref().map(RetryRow::of),
        visibility: tenant.settings.visibility,
        created_ms: tenant.created_at.as_millis(),
    })
}

pub(super) fn decode(bytes: &[u8]) -> Result<TenantRecord, RecordError> {
    let row: Row<'_> = parse(bytes)?;
    let retry_policy = row.retry.map(RetryRow::policy);
    let profile = row.profile.as_deref().map(Into::into);
    let settings = TenantSettings { profile, retry_policy, visibility: row.visibility };
    Ok(TenantRecord { settings, created_at: Timestamp::from_millis(row.created_ms) })
}
