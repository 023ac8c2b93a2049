//! The audit log: who changed what, and when.

use super::access::tenant_of;
use super::{Error, Operation, Page, Rows, Service};
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{AuditId, Principal, Timestamp};
use crate::registry::{AuditEntry, AuditQuery};

/// Which entries of the audit log are listed; an absent field takes all.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditFilter<'a> {
    /// Of this tenant.
    pub tenant: Option<&'a str>,
    /// By this actor.
    pub actor: Option<&'a str>,
    /// Of this action; `webhook.*` takes every action on webhooks.
    pub action: Option<&'a str>,
    /// On the thing with this id or name.
    pub target: Option<&'a str>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

impl Service {
    /// Lists the entries that the filter takes, newest first, from the one before `before`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not know of the tenant.
    pub async fn list_audit(
        &self,
        principal: &Principal,
        filter: AuditFilter<'_>,
        page: Page,
        before: Option<AuditId>,
    ) -> Result<Rows<AuditEntry, AuditId>, Error> {
        Operation::ReadAudit.permit(principal.role)?;
        let asked = AuditQuery {
            tenant: tenant_of(principal, filter.tenant)?.map(Into::into),
            actor: filter.actor.map(Into::into),
            action: filter.action.map(Into::into),
            target: filter.target.map(Into::into),
            since: filter.since,
            until: filter.until,
            before,
            limit: page.wanted(),
            scan: PAGE_SCAN_MAX,
        };
        let found = self.writer.audit(asked).await?;
        Ok(page.rows(found.entries, found.stopped_at, |entry| entry.id))
    }
}
