//! The audit log: who changed what, when.

use serde::Serialize;

use super::page::Query;
use super::webhook::tenant_of;
use super::{Api, Call, reply};
use crate::http::{Problem, Response};
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{AuditId, Timestamp};
use crate::registry::{AuditEntry, AuditQuery};

#[derive(Serialize)]
struct View<'a> {
    id: String,
    at: Timestamp,
    actor: &'a str,
    action: &'a str,
    target: &'a str,
    target_name: Option<&'a str>,
    tenant: Option<&'a str>,
    changed: Vec<&'a str>,
    request_id: Option<&'a str>,
}

impl<'a> View<'a> {
    fn of(entry: &'a AuditEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            at: entry.at,
            actor: &entry.actor,
            action: &entry.action,
            target: &entry.target,
            target_name: entry.target_name.as_deref(),
            tenant: entry.tenant.as_deref(),
            changed: entry.changed.iter().map(|field| &**field).collect(),
            request_id: entry.request_id.as_deref(),
        }
    }
}

impl Api {
    /// Filters: `actor`, `action` (or `webhook.*`), `target` (id or name), `since`, `until`; `tenant` for a key of tenant `*`.
    pub(super) async fn list_audit(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let text = |name: &str| query.get(name).map(Into::into);
        let asked = AuditQuery {
            tenant: tenant_of(&call.principal, &query)?.map(Into::into),
            actor: text("actor"),
            action: text("action"),
            target: text("target"),
            since: query.time("since")?,
            until: query.time("until")?,
            before: query.cursor::<AuditId>()?,
            limit: page.wanted(),
            scan: PAGE_SCAN_MAX,
        };
        let found = self.service.writer.audit(asked).await?;
        let stopped_at = found.stopped_at;
        let (rows, more) = page.cut(found.entries);
        // A page that ended because enough was looked at goes on where the looking stopped.
        let cursor = if more { rows.last().map(|entry| entry.id) } else { stopped_at };
        let next = cursor.map(|id| query.next(&id));
        let rows: Vec<_> = rows.iter().map(View::of).collect();
        reply::list(&rows, next.as_ref())
    }
}
