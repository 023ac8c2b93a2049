//! Tenants: list, create.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::idempotency::encode;
use super::page::Query;
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Problem, Response};
use crate::model::path::TENANTS;
use crate::model::{RetryOn, Timestamp, Visibility};
use crate::registry::TenantInfo;
use crate::service::webhook::document::RetryPolicyDocument;
use crate::service::{ResponseRecorder, ResponseStore, Service};

#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    /// `null` for the profile `standard`.
    profile: Option<&'a str>,
    /// `null` for the configured retry policy.
    retry_policy: Option<RetryPolicyDocument<'a>>,
    visibility: Visibility,
    managed_by: &'static str,
    /// `null` for a tenant that exists only because a resource names it.
    created_at: Option<Timestamp>,
}

impl<'a> View<'a> {
    fn of(tenant: &'a TenantInfo) -> Self {
        Self {
            name: &tenant.name,
            profile: tenant.settings.profile.as_deref(),
            retry_policy: tenant.settings.retry_policy.as_ref().map(|policy| RetryPolicyDocument(policy, RetryOn::ALL)),
            visibility: tenant.settings.visibility,
            managed_by: if tenant.is_of_file { "file" } else { "api" },
            created_at: tenant.created_at,
        }
    }
}

impl Api {
    pub(super) async fn create_tenant(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        Service::may_create_tenant(&request.principal)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let draft = self.service.draft_tenant(&request.principal, document)?;
        let service = Arc::clone(&self.service);
        let created = |tenant: &TenantInfo| reply::created(StatusCode::CREATED, TENANTS, &View::of(tenant));
        let record = ResponseRecorder::new(claim.key(), move |tenant| encode(created(tenant)));
        let work = async move { created(&service.create_tenant(draft, record).await?) };
        self.complete(claim, work).await
    }

    /// Lists tenants by name: all tenants for a key of tenant `*`, otherwise the caller's own.
    pub(super) fn list_tenants(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let found = self.service.list_tenants(&request.principal, query.tenant(), page, query.get("cursor"))?;
        query.rows(&found, View::of)
    }
}
