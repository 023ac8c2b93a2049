//! Finds and calls the handler of a management request.

use std::pin::Pin;
use std::str::FromStr;

use hyper::Method;

use super::page::Query;
use super::path_ids::{SourceRef, WebhookRef, decode_path, replay_number};
use super::routes::ROUTES;
use super::webhook_list::tenant_of;
use super::{Api, ManagementRequest, idempotency};
use crate::http::route::Handler;
use crate::http::router::RouteMatch;
use crate::http::{Problem, Response};
use crate::model::WebhookId;

/// The handler of a management operation.
pub(super) type HandlerFn = for<'a> fn(&'a Api, &'a ManagementRequest, PathValues<'a>) -> HandlerFuture<'a>;

/// The future of a handler.
pub(super) type HandlerFuture<'a> = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send + 'a>>;

/// The values in the path of a request. The router has validated them, so a client never sees the errors of these methods.
#[derive(Debug)]
pub(super) struct PathValues<'a> {
    route: RouteMatch<'a>,
    /// The webhook whose uid was resolved already, for the tenant in the query.
    webhook: Option<WebhookId>,
}

impl<'a> PathValues<'a> {
    fn text(&self, name: &str) -> Result<&'a str, Problem> {
        self.route.value(name).ok_or_else(not_found)
    }

    /// An id in the path.
    pub(super) fn id<T: FromStr>(&self, name: &str) -> Result<T, Problem> {
        self.text(name)?.parse().map_err(|_| not_found())
    }

    /// The webhook in the path.
    pub(super) fn webhook(&self) -> Result<WebhookRef<'a>, Problem> {
        match self.webhook {
            Some(id) => Ok(WebhookRef::Id(id)),
            None => WebhookRef::parse(self.text("webhook_id")?).ok_or_else(not_found),
        }
    }

    /// The source in the path.
    pub(super) fn source(&self) -> Result<SourceRef<'a>, Problem> {
        SourceRef::parse(self.text("source_id")?).ok_or_else(not_found)
    }

    /// The number of the replay in the path.
    pub(super) fn replay(&self) -> Result<u64, Problem> {
        replay_number(self.text("replay_id")?).ok_or_else(not_found)
    }

    /// The event type in the path.
    pub(super) fn event_type(&self) -> Result<&'a str, Problem> {
        self.text("event_type")
    }
}

fn not_found() -> Problem {
    Problem::not_found("path or id")
}

impl Api {
    /// Checks role, query and idempotency key of a request, and calls its handler.
    pub(super) async fn answer(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let path = decode_path(request.parts.uri.path());
        let route = self.router.management(&request.parts.method, &path)?;
        route.authorise(request.principal.role)?;
        Query::of(&request.parts.uri).reject_empty()?;
        idempotency::key_of(&request.parts.headers)?;
        let webhook = self.resolve_uid(request, &route)?;
        let Some(Handler::Management(handle)) = ROUTES.get(route.row).map(|route| route.handler) else {
            return Err(not_found());
        };
        let memory = match request.parts.method {
            Method::GET => Some(self.service.read_memory(&request.principal).await?),
            _ => None,
        };
        let response = handle(self, request, PathValues { route, webhook }).await?;
        Ok(match memory {
            Some(memory) => response.map(|body| body.counted(memory)),
            None => response,
        })
    }

    /// Resolves the uid of a webhook in the path, for a key of tenant `*` with `?tenant=`. The uid belongs to that tenant.
    /// `None` if the path has no uid or the query names no tenant.
    fn resolve_uid(&self, request: &ManagementRequest, route: &RouteMatch<'_>) -> Result<Option<WebhookId>, Problem> {
        if request.principal.tenant.is_none()
            && let Some(WebhookRef::Uid(uid)) = route.value("webhook_id").and_then(WebhookRef::parse)
            && let Some(tenant) = tenant_of(&request.principal, &Query::of(&request.parts.uri))?
        {
            return match self.service.resolve_in_tenant(&request.principal, Some(tenant), WebhookRef::Uid(uid))? {
                WebhookRef::Id(id) => Ok(Some(id)),
                WebhookRef::Uid(_) => Ok(None),
            };
        }
        Ok(None)
    }
}
