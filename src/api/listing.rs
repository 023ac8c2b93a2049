//! The parameters that lists of deliveries and lists of dead letters share.

use super::page::{PageRequest, Query};
use crate::http::{Problem, ProblemCode};
use crate::model::{DeadReason, DeliveryId, DeliveryStatus, EventPattern};
use crate::service::WebhookRef;
use crate::service::dead_letter::{DEAD_REASONS_ALLOWED, dead_reason};
use crate::service::search::{DeliveryFilter, ListScope};

/// The parsed parameters of a list.
pub(super) struct Listing<'a> {
    pub(super) scope: ListScope<'a>,
    pub(super) filter: DeliveryFilter,
    pub(super) page: PageRequest,
    pub(super) before: Option<DeliveryId>,
}

/// Parses the parameters of a list, for the webhook in the path or for all webhooks.
///
/// - Deliveries: `status`, `event_type` or `type` (a type or a pattern), `event_id`, `q`, and `since` and `until`, which
///   refer to the acceptance of the event.
/// - Dead letters: `failure_reason` instead of `status`, and `since` and `until` refer to the time of the dead letter.
///
/// # Errors
/// 400 for an invalid parameter.
pub(super) fn listing<'a>(query: &'a Query, of: Option<WebhookRef<'a>>) -> Result<Listing<'a>, Problem> {
    let scope = match of {
        Some(webhook) => ListScope::Webhook(webhook),
        None => ListScope::All { tenant: query.tenant(), webhook: webhook(query)? },
    };
    let pattern = query.get("event_type").or_else(|| query.get("type")).map(EventPattern::try_new).transpose();
    let page = query.page()?;
    let before = query.cursor::<DeliveryId>()?;
    let filter = DeliveryFilter {
        status: status(query)?,
        reason: reason(query)?,
        event_type: pattern.map_err(|error| bad(format!("query parameter event_type: {error}")))?,
        since: query.time("since")?,
        until: query.time("until")?,
        event: query.parse("event_id", "expected the id of an event")?,
        text: query.get("q").map(str::to_owned),
    };
    Ok(Listing { scope, filter, page, before })
}

fn webhook(query: &Query) -> Result<Option<WebhookRef<'_>>, Problem> {
    let Some(text) = query.get("webhook_id") else { return Ok(None) };
    let bad = || bad("query parameter webhook_id: expected the id of a webhook".to_owned());
    WebhookRef::parse(text).map(Some).ok_or_else(bad)
}

fn status(query: &Query) -> Result<Option<DeliveryStatus>, Problem> {
    use DeliveryStatus::{Abandoned, Delivered, Failed, Pending, Retrying};
    let Some(text) = query.get("status") else { return Ok(None) };
    let all = [Pending, Retrying, Delivered, Failed, Abandoned];
    let found = all.into_iter().find(|status| status.as_str() == text);
    let detail = "query parameter status: expected pending, retrying, delivered, failed or abandoned";
    found.map(Some).ok_or_else(|| bad(detail.to_owned()))
}

fn reason(query: &Query) -> Result<Option<DeadReason>, Problem> {
    let Some(text) = query.get("failure_reason") else { return Ok(None) };
    let bad = || bad(format!("query parameter failure_reason: {DEAD_REASONS_ALLOWED}"));
    dead_reason(text).map(Some).ok_or_else(bad)
}

fn bad(detail: String) -> Problem {
    Problem::new(ProblemCode::InvalidRequest, detail)
}
