//! Webhooks, listed.

use std::sync::Arc;

use super::page::Query;
use super::webhook_view::View;
use super::{Api, Call, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{Principal, WebhookId, WebhookNo, WebhookStatus, is_event_type};
use crate::outbound::Webhook;
use crate::registry::Known;
use crate::service::access::{may_see, sees};

impl Api {
    /// Filters: `status`, `event_type` or `type` (webhooks that name it by pattern or active subscription), `q` (in name,
    /// description, uid and URL), `user_id`, `workspace_id`, `uid`.
    pub(super) fn list_webhooks(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let tenant = tenant_of(&call.principal, &query)?;
        let wanted = filter(&query)?;
        let registry = self.service.registry.load();
        let before = match query.cursor::<WebhookId>()? {
            None => WebhookNo(u32::MAX),
            Some(id) => registry.known_by_id(id).map_or(WebhookNo(0), Known::no),
        };
        let is_seen = |webhook: &Webhook| registry.known(webhook.no).is_some_and(|it| may_see(&call.principal, it));
        let all: Box<dyn Iterator<Item = &Arc<Webhook>>> = match (tenant, query.get("uid")) {
            // At most one, whatever else there is.
            (Some(tenant), Some(uid)) => {
                Box::new(registry.webhook_by_uid(tenant, uid).into_iter().filter(|webhook| webhook.no < before))
            }
            _ => registry.newest(tenant, before),
        };
        let mut found: Vec<&Arc<Webhook>> = Vec::new();
        let (mut looked_at, mut last) = (0, None);
        for webhook in all.take(PAGE_SCAN_MAX) {
            looked_at += 1;
            last = Some(webhook);
            if wanted(webhook) && is_seen(webhook) {
                found.push(webhook);
                if found.len() == page.wanted() {
                    break;
                }
            }
        }
        let (rows, more) = page.cut(found);
        let cursor = if more { rows.last().copied() } else { last.filter(|_| looked_at == PAGE_SCAN_MAX) };
        let next = cursor.map(|webhook| query.next(&webhook.id));
        let rows: Vec<_> = rows.into_iter().map(|webhook| View::of(webhook, &self.service.default_retry)).collect();
        reply::list(&rows, next.as_ref())
    }
}

/// The tenant whose things are listed; `None`: everybody's, for a key of tenant `*`.
pub(super) fn tenant_of<'a>(principal: &'a Principal, query: &'a Query) -> Result<Option<&'a str>, Problem> {
    match query.get("tenant").or_else(|| query.get("org_id")) {
        Some(named) if sees(principal, named) => Ok(Some(named)),
        Some(_) => Err(Problem::not_found("tenant")),
        None => Ok(principal.tenant.as_deref()),
    }
}

fn filter(query: &Query) -> Result<impl Fn(&Webhook) -> bool, Problem> {
    let bad = |detail| Problem::new(ProblemCode::InvalidRequest, detail);
    let status = match query.get("status") {
        None => None,
        Some("active") => Some(WebhookStatus::Active),
        Some("paused") => Some(WebhookStatus::Paused),
        Some("inactive") => Some(WebhookStatus::Inactive),
        Some("failed") => Some(WebhookStatus::Failed),
        Some(_) => return Err(bad("query parameter status: expected active, paused, inactive or failed")),
    };
    let event_type = event_type(query)?.map(str::to_owned);
    let needle = query.get("q").map(str::to_lowercase);
    let ids = ["uid", "user_id", "workspace_id"].map(|name| query.get(name).map(str::to_owned));
    Ok(move |webhook: &Webhook| {
        let texts = [&webhook.name, &webhook.description, &webhook.uid];
        let texts = texts.into_iter().flatten().map(|text| &**text).chain([&*webhook.endpoint.url]);
        let own = [&webhook.uid, &webhook.user_id, &webhook.workspace_id];
        status.is_none_or(|status| status == webhook.status)
            && ids.iter().zip(own).all(|(id, own)| id.is_none() || id.as_deref() == own.as_deref())
            && event_type.as_deref().is_none_or(|text| names(webhook, text))
            && needle.as_deref().is_none_or(|needle| texts.into_iter().any(|text| text.to_lowercase().contains(needle)))
    })
}

/// The type that `event_type`, or `type`, asks for.
pub(super) fn event_type(query: &Query) -> Result<Option<&str>, Problem> {
    match query.get("event_type").or_else(|| query.get("type")) {
        Some(text) if !is_event_type(text) => Err(Problem::new(
            ProblemCode::InvalidRequest,
            "query parameter event_type: expected an event type such as order.created",
        )),
        given => Ok(given),
    }
}

/// Whether a pattern or an active subscription names events of this type; conditions are not looked at.
fn names(webhook: &Webhook, event_type: &str) -> bool {
    let subscriptions = webhook.subscriptions.iter().filter(|subscription| subscription.is_active);
    let mut patterns = webhook.events.iter().chain(subscriptions.map(|subscription| &subscription.event_type));
    patterns.any(|pattern| pattern.matches(event_type))
}
