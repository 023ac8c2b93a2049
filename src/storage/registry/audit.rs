//! Entries of the audit log as registry.redb keeps them: a row for each change, written in the transaction of the change;
//! bounded, the oldest go first.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{RecordError, VERSION, parse, versioned};
use crate::model::{AuditId, Timestamp};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Rises with each entry.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// Who: `key_…`, `user 42`, `the first key`, `the configuration file`, `the server`.
    pub actor: Arc<str>,
    /// In which request, if it was one.
    pub request_id: Option<Arc<str>>,
    /// Whose thing was changed; `None`: it is of no one tenant.
    pub tenant: Option<Arc<str>>,
    /// What: `webhook.created`.
    pub action: Cow<'static, str>,
    /// The id of what was changed, or its name where it has no other.
    pub target: Box<str>,
    /// Its name for people.
    pub target_name: Option<Box<str>>,
    /// The fields that have another value than before.
    pub changed: Vec<Cow<'static, str>>,
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Of this tenant alone.
    pub tenant: Option<Box<str>>,
    /// By this actor.
    pub actor: Option<Box<str>>,
    /// Of this action; `webhook.*` for all of a kind.
    pub action: Option<Box<str>>,
    /// Of the thing with this id or name.
    pub target: Option<Box<str>>,
    /// Not earlier.
    pub since: Option<Timestamp>,
    /// Earlier.
    pub until: Option<Timestamp>,
    /// Entries before this one.
    pub before: Option<AuditId>,
    /// So many at most.
    pub limit: usize,
    /// So many are looked at.
    pub scan: usize,
}

/// What a query found.
#[derive(Debug, Clone, Default)]
pub struct AuditPage {
    /// Newest first.
    pub entries: Vec<AuditEntry>,
    /// Where it stopped looking, if more may follow.
    pub stopped_at: Option<AuditId>,
}

impl AuditQuery {
    /// Whether an entry is asked for, its place aside.
    pub(crate) fn wants(&self, entry: &AuditEntry) -> bool {
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
