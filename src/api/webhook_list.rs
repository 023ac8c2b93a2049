//! The list of webhooks.

use super::page::Query;
use super::{Api, ManagementRequest};
use crate::http::{Problem, ProblemCode, Response};
use crate::model::{Principal, WebhookStatus, is_event_type};
use crate::service::access;
use crate::service::webhook::WebhookFilter;
use crate::service::webhook::document::WebhookDocument;

impl Api {
    /// Lists webhooks. Filters: `status`, `event_type` or `type` (webhooks that name it by pattern or active
    /// subscription), `q` (in name, description, uid and URL), `user_id`, `workspace_id`, `uid`.
    pub(super) fn list_webhooks(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let filter = WebhookFilter {
            tenant: tenant_of(&request.principal, &query)?,
            status: status(&query)?,
            event_type: event_type(&query)?,
            text: query.get("q"),
            uid: query.get("uid"),
            user_id: query.get("user_id"),
            workspace_id: query.get("workspace_id"),
        };
        let found = self.service.list_webhooks(&request.principal, filter, page, query.cursor()?)?;
        query.rows(&found, |webhook| {
            WebhookDocument::of(webhook, self.service.default_retry()).with_pause(self.service.pause_of(webhook))
        })
    }
}

/// The tenant whose resources are listed. `None` for the resources of all tenants, with a key of tenant `*`.
///
/// # Errors
/// When the caller may not name this tenant.
pub(super) fn tenant_of<'a>(principal: &'a Principal, query: &'a Query) -> Result<Option<&'a str>, Problem> {
    Ok(access::tenant_of(principal, query.tenant())?)
}

fn status(query: &Query) -> Result<Option<WebhookStatus>, Problem> {
    match query.get("status") {
        None => Ok(None),
        Some("active") => Ok(Some(WebhookStatus::Active)),
        Some("paused") => Ok(Some(WebhookStatus::Paused)),
        Some("inactive") => Ok(Some(WebhookStatus::Inactive)),
        Some("failed") => Ok(Some(WebhookStatus::Failed)),
        Some(_) => Err(Problem::new(
            ProblemCode::InvalidRequest,
            "query parameter status: expected active, paused, inactive or failed",
        )),
    }
}

/// The event type in the parameter `event_type` or `type`. `None` without the parameter.
///
/// # Errors
/// 400 for a text that is not an event type.
pub(super) fn event_type(query: &Query) -> Result<Option<&str>, Problem> {
    match query.get("event_type").or_else(|| query.get("type")) {
        Some(text) if !is_event_type(text) => Err(Problem::new(
            ProblemCode::InvalidRequest,
            "query parameter event_type: expected an event type such as order.created",
        )),
        given => Ok(given),
    }
}
