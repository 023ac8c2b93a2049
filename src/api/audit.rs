//! The audit log: who changed which resource and when.

use serde::Serialize;

use super::page::Query;
use super::{Api, ManagementRequest};
use crate::http::{Problem, Response};
use crate::model::{AuditId, Timestamp};
use crate::registry::AuditEntry;
use crate::service::audit::AuditFilter;

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
    /// Lists audit entries. Filters: `actor`, `action` (or `webhook.*`), `target` (id or name), `since`, `until`;
    /// `tenant` for a key of tenant `*`.
    pub(super) async fn list_audit(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let filter = AuditFilter {
            tenant: query.tenant(),
            actor: query.get("actor"),
            action: query.get("action"),
            target: query.get("target"),
            since: query.time("since")?,
            until: query.time("until")?,
        };
        let before = query.cursor::<AuditId>()?;
        let found = self.service.list_audit(&request.principal, filter, page, before).await?;
        query.rows(&found, View::of)
    }
}
