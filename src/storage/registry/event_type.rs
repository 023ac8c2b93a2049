//! The row of an event type that was created through the API.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::record::{RecordError, VERSION, parse, versioned};
use crate::model::Timestamp;

/// An event type as it is stored, with its schema not compiled.
#[derive(Debug, Clone)]
pub struct EventTypeRecord {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The name of the event type.
    pub name: Box<str>,
    /// The settings as JSON.
    pub settings: Box<RawValue>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The version. Increases with each change.
    pub version: u64,
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    v: u16,
    #[serde(borrow)]
    settings: &'a RawValue,
    created_ms: i64,
    updated_ms: i64,
    version: u64,
}

versioned!(Row<'_>);

pub(super) fn encode(event_type: &EventTypeRecord) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Row {
        v: VERSION,
        settings: &event_type.settings,
        created_ms: event_type.created_at.as_millis(),
        updated_ms: event_type.updated_at.as_millis(),
        version: event_type.version,
    })
}

pub(super) fn decode(tenant: &str, name: &str, bytes: &[u8]) -> Result<EventTypeRecord, RecordError> {
    let row: Row<'_> = parse(bytes)?;
    Ok(EventTypeRecord {
        tenant: tenant.into(),
        name: name.into(),
        settings: row.settings.to_owned(),
        created_at: Timestamp::from_millis(row.created_ms),
        updated_at: Timestamp::from_millis(row.updated_ms),
        version: row.version,
    })
}
