//! The audit log: who changed what, and when.

use super::access::tenant_of;
use super::{Error, ListPage, Operation, PageRequest, Service};
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{AuditId, Principal, Timestamp};
use crate::registry::{AuditEntry, AuditQuery};

/// A filter for audit log entries. A field that is `None` matches everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditFilter<'a> {
    /// Entries of this tenant.
    pub tenant: Option<&'a str>,
    /// Entries of this actor.
    pub actor: Option<&'a str>,
    /// Entries of this action. `webhook.*` matches every action on webhooks.
    pub action: Option<&'a str>,
    /// Entries about the resource with this id or name.
    pub target: Option<&'a str>,
    /// Entries at this time or later.
    pub since: Option<Timestamp>,
    /// Entries before this time.
    pub until: Option<Timestamp>,
}

impl Service {
    /// Lists the entries that match the filter, newest first, starting before the entry `before`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the tenant.
    pub async fn list_audit(
        &self,
        principal: &Principal,
        filter: AuditFilter<'_>,
        page: PageRequest,
        before: Option<AuditId>,
    ) -> Result<ListPage<AuditEntry, AuditId>, Error> {
        Operation::ReadAudit.permit(principal.role)?;
        let asked = AuditQuery {
            tenant: tenant_of(principal, filter.tenant)?.map(Into::into),
            actor: filter.actor.map(Into::into),
            action: filter.action.map(Into::into),
            target: filter.target.map(Into::into),
            since: filter.since,
            until: filter.until,
            before,
            limit: page.fetch_limit(),
            scan: PAGE_SCAN_MAX,
        };
        let found = self.writer.audit(asked).await?;
        Ok(page.rows(found.entries, found.stopped_at, |entry| entry.id))
    }
}
