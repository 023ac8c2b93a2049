//! Figures of a tenant by event type.

use hyper::StatusCode;
use serde::Serialize;

use super::page::Query;
use super::webhook::tenant_of;
use super::webhook_metrics::{TypeView, day_until, together};
use super::{Api, Call, reply};
use crate::http::{Problem, Response};
use crate::limits::{FIGURES_HOURS, STATS_WEBHOOKS_MAX};
use crate::model::{Principal, Role, Timestamp, Visibility, WebhookNo};
use crate::registry::{Known, Registry};
use crate::service::FigureStore;
use crate::service::access::may_see;
use crate::settle::{FiguresOf, Hour};

#[derive(Serialize)]
struct Stats<'a> {
    /// The beginning of the first hour that is counted.
    since: Timestamp,
    until: Timestamp,
    data: Vec<TypeView<'a>>,
}

/// Whose figures are asked for.
enum Scope {
    Tenant(Box<str>),
    Everybody,
    Webhooks(Vec<WebhookNo>),
}

impl Api {
    /// Parameters: `since` (whole hours, back to 24 hours ago), `tenant`.
    pub(super) async fn stats(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let tenant = tenant_of(&call.principal, &query)?;
        let now = self.service.clock.now();
        let (day, last) = day_until(now);
        let first = query.time("since")?.map_or(day, |since| Hour::of(since).clamp(last.before(FIGURES_HOURS), last));
        let scope = scope(&self.service.registry.load(), &call.principal, tenant);
        let read = move |figures: &dyn FigureStore| {
            let of = match &scope {
                Scope::Tenant(name) => FiguresOf::Tenant(name),
                Scope::Everybody => FiguresOf::Everybody,
                Scope::Webhooks(webhooks) => FiguresOf::Webhooks(webhooks),
            };
            Ok(together(&figures.hours(of, first, last)?))
        };
        let types = self.figures_read(read).await?;
        reply::json(StatusCode::OK, &Stats { since: first.start(), until: now, data: TypeView::all(&types) })
    }
}

/// A tenant's figures are kept as one; who may not see all of its webhooks gets the sum of those that he may see.
fn scope(registry: &Registry, principal: &Principal, tenant: Option<&str>) -> Scope {
    let Some(tenant) = tenant else { return Scope::Everybody };
    if principal.role == Role::Admin || registry.tenant_settings(tenant).visibility == Visibility::Tenant {
        return Scope::Tenant(tenant.into());
    }
    let webhooks = registry.newest(Some(tenant), WebhookNo(u32::MAX));
    let seen = webhooks.filter(|webhook| may_see(principal, &Known::Live((*webhook).clone())));
    Scope::Webhooks(seen.take(STATS_WEBHOOKS_MAX).map(|webhook| webhook.no).collect())
}
