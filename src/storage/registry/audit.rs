//! Entries of the audit log in registry.redb. Each change writes an entry in its own transaction. The number of entries
//! is limited; the oldest is deleted first.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{RecordError, VERSION, parse, versioned};
use crate::model::{AuditId, Timestamp};

/// An entry of the audit log: one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The entry's id. Ids ascend.
    pub id: AuditId,
    /// When the change was made.
    pub at: Timestamp,
    /// Who made the change: `key_…`, `user 42`, `the first key`, `the configuration file`, `the server`.
    pub actor: Arc<str>,
    /// The id of the request that made the change, if there was one.
    pub request_id: Option<Arc<str>>,
    /// The tenant of the changed resource. `None` if it belongs to no single tenant.
    pub tenant: Option<Arc<str>>,
    /// The action, for instance `webhook.created`.
    pub action: Cow<'static, str>,
    /// The id of the changed resource, or its name if it has no id.
    pub target: Box<str>,
    /// The display name of the changed resource.
    pub target_name: Option<Box<str>>,
    /// The names of the fields that changed.
    pub changed: Vec<Cow<'static, str>>,
}

/// A query of the audit log.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only entries of this tenant.
    pub tenant: Option<Box<str>>,
    /// Only entries by this actor.
    pub actor: Option<Box<str>>,
    /// Only entries of this action. `webhook.*` matches all actions with this prefix.
    pub action: Option<Box<str>>,
    /// Only entries of the resource with this id or name.
    pub target: Option<Box<str>>,
    /// Only entries at or after this time.
    pub since: Option<Timestamp>,
    /// Only entries before this time.
    pub until: Option<Timestamp>,
    /// Only entries before this one, for paging.
    pub before: Option<AuditId>,
    /// The maximum number of entries to return.
    pub limit: usize,
    /// The maximum number of entries to read.
    pub scan: usize,
}

/// The result of an [`AuditQuery`].
#[derive(Debug, Clone, Default)]
pub struct AuditPage {
    /// The entries, newest first.
    pub entries: Vec<AuditEntry>,
    /// The last entry that was read, if more entries may follow. `None` at the end.
    pub stopped_at: Option<AuditId>,
}

impl AuditQuery {
    /// Returns whether an entry matches the query, apart from `before`.
    pub(crate) fn matches(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<Box<str>>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        let is_action = self.action.as_deref().is_none_or(|wanted| match wanted.strip_suffix('*') {
            Some(prefix) => entry.action.starts_with(prefix),
            None => entry.action == wanted,
        });
        self.tenant.as_deref().is_none_or(|tenant| entry.tenant.as_deref() == Some(tenant))
            && is(&self.actor, &entry.actor)
            && is_action
            && (is(&self.target, &entry.target) || self.target.as_deref() == entry.target_name.as_deref())
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    v: u16,
    at_ms: i64,
    #[serde(borrow)]
    actor: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    request: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Cow<'a, str>>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<Cow<'a, str>>,
}

versioned!(Row<'_>);

pub(super) fn encode(entry: &AuditEntry) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Row {
        v: VERSION,
        at_ms: entry.at.as_millis(),
        actor: (&*entry.actor).into(),
        request: entry.request_id.as_deref().map(Into::into),
        tenant: entry.tenant.as_deref().map(Into::into),
        action: (&*entry.action).into(),
        target: (&*entry.target).into(),
        name: entry.target_name.as_deref().map(Into::into),
        changed: entry.changed.iter().map(|field| (&**field).into()).collect(),
    })
}

pub(super) fn decode(id: AuditId, bytes: &[u8]) -> Result<AuditEntry, RecordError> {
    let row: Row<'_> = parse(bytes)?;
    Ok(AuditEntry {
        id,
        at: Timestamp::from_millis(row.at_ms),
        actor: (*row.actor).into(),
        request_id: row.request.as_deref().map(Into::into),
        tenant: row.tenant.as_deref().map(Into::into),
        action: row.action.into_owned().into(),
        target: (*row.target).into(),
        target_name: row.name.as_deref().map(Into::into),
        changed: row.changed.into_iter().map(|field| field.into_owned().into()).collect(),
    })
}
