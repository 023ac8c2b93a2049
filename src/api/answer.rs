//! A call from its path to the handler that answers it.

use std::pin::Pin;
use std::str::FromStr;

use super::page::Query;
use super::route::{SourceRef, WebhookRef, number_of, spelled};
use super::routes::ROUTES;
use super::webhook_list::tenant_of;
use super::{Api, Call, idempotency};
use crate::http::route::Handler;
use crate::http::router::Found;
use crate::http::{Problem, Response};
use crate::model::WebhookId;

/// What answers an operation.
pub(super) type Handle = for<'a> fn(&'a Api, &'a Call, At<'a>) -> Answer<'a>;

/// A handler at work.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send + 'a>>;

/// The values in the path of a call. The router has checked their form, so that an error here is never told.
#[derive(Debug)]
pub(super) struct At<'a> {
    found: Found<'a>,
    /// The webhook that was found in place of its uid.
    webhook: Option<WebhookId>,
}

impl<'a> At<'a> {
    fn text(&self, name: &str) -> Result<&'a str, Problem> {
        self.found.value(name).ok_or_else(nowhere)
    }

    /// An id.
    pub(super) fn id<T: FromStr>(&self, name: &str) -> Result<T, Problem> {
        self.text(name)?.parse().map_err(|_| nowhere())
    }

    /// The webhook.
    pub(super) fn webhook(&self) -> Result<WebhookRef<'a>, Problem> {
        match self.webhook {
            Some(id) => Ok(WebhookRef::Id(id)),
            None => WebhookRef::parse(self.text("webhook_id")?).ok_or_else(nowhere),
        }
    }

    /// The source.
    pub(super) fn source(&self) -> Result<SourceRef<'a>, Problem> {
        SourceRef::parse(self.text("source_id")?).ok_or_else(nowhere)
    }

    /// The number of the replay.
    pub(super) fn replay(&self) -> Result<u64, Problem> {
        number_of(self.text("replay_id")?).ok_or_else(nowhere)
    }

    /// The event type.
    pub(super) fn event_type(&self) -> Result<&'a str, Problem> {
        self.text("event_type")
    }
}

fn nowhere() -> Problem {
    Problem::not_found("path or id")
}

impl Api {
    /// Checks a call in the order that the module names, as far as no route differs, and answers it.
    pub(super) async fn answer(&self, call: &Call) -> Result<Response, Problem> {
        let path = spelled(call.parts.uri.path());
        let found = self.router.management(&call.parts.method, &path)?;
        found.authorise(call.principal.role)?;
        Query::of(&call.parts.uri).none_is_empty()?;
        idempotency::key_of(&call.parts.headers)?;
        let webhook = self.look_up(call, &found)?;
        match ROUTES.get(found.row).map(|route| route.handler) {
            Some(Handler::Management(handle)) => handle(self, call, At { found, webhook }).await,
            _ => Err(nowhere()),
        }
    }

    /// The webhook whose uid is in the path, for a key of tenant `*` with `?tenant=`: the uid is one of that tenant.
    fn look_up(&self, call: &Call, found: &Found<'_>) -> Result<Option<WebhookId>, Problem> {
        if call.principal.tenant.is_none()
            && let Some(WebhookRef::Uid(uid)) = found.value("webhook_id").and_then(WebhookRef::parse)
            && let Some(tenant) = tenant_of(&call.principal, &Query::of(&call.parts.uri))?
        {
            return match self.service.within(&call.principal, Some(tenant), WebhookRef::Uid(uid))? {
                WebhookRef::Id(id) => Ok(Some(id)),
                WebhookRef::Uid(_) => Ok(None),
            };
        }
        Ok(None)
    }
}
