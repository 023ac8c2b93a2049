//! Once more: one delivery now, or everything of a webhook that failed since a time.

use std::sync::Arc;

use hyper::StatusCode;

use super::body::object;
use super::delivery::View;
use super::replay::{Started, place_of};
use super::search::About;
use super::{Api, Call, Made, reply};
use crate::handoff::Retried;
use crate::http::{Problem, ProblemCode, Response};
use crate::model::path::DELIVERIES;
use crate::model::{DeliveryId, DeliveryStatus, Principal, WebhookStatus};
use crate::outbound::Webhook;
use crate::registry::Known;
use crate::service::fields::Fields;
use crate::service::{Delivery, WebhookRef};

impl Api {
    /// One attempt now: of one that waits for its next, which then goes on in its schedule, and of one that has ended,
    /// delivered or not, which begins a new one.
    pub(super) async fn retry_delivery(&self, call: &Call, id: DeliveryId) -> Result<Response, Problem> {
        let known = self.of_delivery(&call.principal, id)?;
        let (delivery, stored) = self.delivery(id).await?;
        let webhook = sendable(&known)?.id;
        nothing_asked(call)?;
        let about = stored.as_ref().and_then(|(head, _)| About::of(head));
        if stored.is_none() {
            return Err(Problem::new(ProblemCode::Conflict, "the log no longer has the event's payload"));
        }
        let (store, now) = (Arc::clone(&self.service.deliveries), self.service.clock.now());
        let make = async move {
            match store.retry(id).await? {
                Retried::Again => {}
                Retried::Waits => {
                    return Err(Problem::new(ProblemCode::Conflict, "it waits for its turn or is under way"));
                }
                Retried::Abandoned(_) => return Err(no_more()),
                Retried::Unknown => return Err(Problem::not_found("delivery")),
            }
            let status = match delivery.status {
                DeliveryStatus::Retrying => DeliveryStatus::Retrying,
                _ => DeliveryStatus::Pending,
            };
            let again = Delivery { status, next_at: Some(now), dead_at: None, reason: None, ..delivery };
            let view = View::of(&again, webhook, about.as_ref());
            reply::made(StatusCode::ACCEPTED, &format!("{DELIVERIES}/{id}"), &view).map(Made::from)
        };
        self.make(call, make).await
    }

    /// `{"since"}`: dead letters since then begin anew, and what waits for its next attempt is due now.
    pub(super) async fn recover(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.deliverable(&call.principal, of)?.no;
        let mut fields = Fields::new(object(&call.parts.headers, &call.body, false)?);
        let is_given = fields.left.get("since").is_some_and(|since| !since.is_null());
        let since = fields.time("since");
        if !is_given {
            fields.wrong("/since", "is required: an RFC 3339 time such as 2026-01-31T12:00:00Z");
        }
        fields.finish("since")?;
        let store = Arc::clone(&self.service.deliveries);
        let make = async move {
            let no = store.recover(webhook, since.unwrap_or_default()).await?;
            let started = Started::new(no);
            reply::made(StatusCode::ACCEPTED, &place_of(no), &started).map(Made::from)
        };
        self.make(call, make).await
    }

    /// The webhook, if something can be delivered to it, now or when it is resumed.
    pub(super) fn deliverable(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Arc<Webhook>, Problem> {
        let known = self.service.known(principal, of)?;
        sendable(&known).cloned()
    }
}

fn sendable(known: &Known) -> Result<&Arc<Webhook>, Problem> {
    match known {
        Known::Live(webhook) if webhook.status != WebhookStatus::Failed => Ok(webhook),
        Known::Live(_) | Known::Removed(_) => Err(no_more()),
    }
}

fn no_more() -> Problem {
    Problem::new(ProblemCode::Conflict, "its webhook was removed, or has failed and must be resumed first")
}

/// The body of a call that takes none: nothing, or an object without fields.
pub(super) fn nothing_asked(call: &Call) -> Result<(), Problem> {
    Ok(Fields::new(object(&call.parts.headers, &call.body, true)?).finish("none")?)
}
