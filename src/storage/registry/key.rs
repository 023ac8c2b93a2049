//! The row of an API key that was created through the API.

use std::borrow::Cow;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::record::{RecordError, VERSION, damaged, parse, versioned};
use crate::model::{KeyId, Role, Timestamp};

/// An API key as it is stored. The key's text is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public id.
    pub id: KeyId,
    /// The SHA-256 hash of the key's text.
    pub hash: [u8; 32],
    /// The beginning of the key's text, for display.
    pub prefix: Box<str>,
    /// The display name.
    pub name: Option<Box<str>>,
    /// The role, which decides the permissions.
    pub role: Role,
    /// The tenant. `None`: all tenants.
    pub tenant: Option<Arc<str>>,
    /// When the key expires. `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When the key was created.
    pub created_at: Timestamp,
    /// Who created the key.
    pub created_by: Arc<str>,
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    v: u16,
    /// SHA-256 in hex.
    #[serde(borrow)]
    hash: Cow<'a, str>,
    #[serde(borrow)]
    prefix: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    role: Role,
    /// Absent: all tenants.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<i64>,
    created_ms: i64,
    #[serde(borrow)]
    created_by: Cow<'a, str>,
}

versioned!(Row<'_>);

pub(super) fn encode(key: &KeyRecord) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Row {
        v: VERSION,
        hash: HEXLOWER.encode(&key.hash).into(),
        prefix: (&*key.prefix).into(),
        name: key.name.as_deref().map(Into::into),
        role: key.role,
        tenant: key.tenant.as_deref().map(Into::into),
        expires_ms: key.expires_at.map(Timestamp::as_millis),
        created_ms: key.created_at.as_millis(),
        created_by: (&*key.created_by).into(),
    })
}

pub(super) fn decode(id: KeyId, bytes: &[u8]) -> Result<KeyRecord, RecordError> {
    let row: Row<'_> = parse(bytes)?;
    let hash = HEXLOWER.decode(row.hash.as_bytes()).map_err(damaged)?;
    Ok(KeyRecord {
        id,
        hash: hash.try_into().map_err(|_| damaged("the hash is not of 32 bytes"))?,
        prefix: (*row.prefix).into(),
        name: row.name.as_deref().map(Into::into),
        role: row.role,
        tenant: row.tenant.as_deref().map(Into::into),
        expires_at: row.expires_ms.map(Timestamp::from_millis),
        created_at: Timestamp::from_millis(row.created_ms),
        created_by: (*row.created_by).into(),
    })
}
