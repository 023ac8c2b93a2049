//! An API key that the interface made, as registry.redb keeps it.

use std::borrow::Cow;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::record::{RecordError, VERSION, damaged, parse, versioned};
use crate::model::{KeyId, Role, Timestamp};

/// A key that the interface made. Its text is kept nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public id.
    pub id: KeyId,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// The beginning of its text, by which a person recognises it.
    pub prefix: Box<str>,
    /// A name for people.
    pub name: Option<Box<str>>,
    /// What it may do.
    pub role: Role,
    /// Its tenant; `None`: all.
    pub tenant: Option<Arc<str>>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
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
    /// Absent: all.
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
