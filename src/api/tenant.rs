//! Tenants: list, make.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::page::Query;
use super::{Api, Call, body, reply};
use crate::http::{Problem, Response};
use crate::model::path::TENANTS;
use crate::model::{RetryOn, Timestamp, Visibility};
use crate::registry::TenantInfo;
use crate::service::Service;
use crate::service::webhook::document::Policy;

#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    /// Absent: `standard`.
    profile: Option<&'a str>,
    /// Absent: the configured one.
    retry_policy: Option<Policy<'a>>,
    visibility: Visibility,
    managed_by: &'static str,
    /// Absent of one that came into being because something is its.
    created_at: Option<Timestamp>,
}

impl<'a> View<'a> {
    fn of(tenant: &'a TenantInfo) -> Self {
        Self {
            name: &tenant.name,
            profile: tenant.settings.profile.as_deref(),
            retry_policy: tenant.settings.retry_policy.as_ref().map(|policy| Policy(policy, RetryOn::ALL)),
            visibility: tenant.settings.visibility,
            managed_by: if tenant.is_of_file { "file" } else { "api" },
            created_at: tenant.created_at,
        }
    }
}

impl Api {
    pub(super) async fn create_tenant(&self, call: &Call) -> Result<Response, Problem> {
        Service::may_create_tenant(&call.principal)?;
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let draft = self.service.draft_tenant(&call.principal, document)?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let tenant = service.create_tenant(draft).await?;
            Ok(reply::made(StatusCode::CREATED, TENANTS, &View::of(&tenant))?.into())
        };
        self.make(call, make).await
    }

    /// In the order of their names: all for a key of tenant `*`, else the caller's own.
    pub(super) fn list_tenants(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let found = self.service.list_tenants(&call.principal, query.tenant(), page, query.get("cursor"))?;
        query.rows(&found, View::of)
    }
}
