//! A delivery as it is shown: in a list, and alone with its attempts, its payload and its request.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::listing::Listing;
use super::search::{About, Search};
use super::{Api, Call, reply};
use crate::http::{Problem, Response};
use crate::limits::CHECKPOINT_LIST_MAX;
use crate::model::{
    Attempt, DeadReason, DeliveryId, DeliveryStatus, EventHead, HIDDEN, Principal, Timestamp, WebhookId, data_of,
};
use crate::outbound::{Event, Webhook, preview};
use crate::registry::Known;
use crate::runtime::MemoryBudget;
use crate::service::access::may_see;
use crate::service::{Delivery, WebhookRef};
use crate::storage::Stored;

/// A delivery as the interface shows it, under the names of each dialect.
#[derive(Serialize)]
pub(super) struct View {
    id: String,
    webhook_id: String,
    event_id: String,
    event_type: Option<Box<str>>,
    event: Option<Box<str>>,
    status: &'static str,
    attempt_count: u16,
    attempt_number: u16,
    http_status: Option<u16>,
    response_status: Option<u16>,
    response: Option<Box<str>>,
    response_body: Option<Box<str>>,
    latency_ms: Option<u64>,
    error_message: Option<String>,
    failure_reason: Option<&'static str>,
    correlation_id: Option<Box<str>>,
    next_retry_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    failed_at: Option<Timestamp>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<RequestView>,
}

#[derive(Serialize)]
struct AttemptView {
    number: u16,
    at: Timestamp,
    http_status: Option<u16>,
    latency_ms: u64,
    error: Option<String>,
    response: Box<str>,
}

/// The request of the last attempt, made anew from the webhook and the event.
#[derive(Serialize)]
struct RequestView {
    /// The webhook was changed since, so that this is what would be sent now. Another definition of its profile in the
    /// configuration is no change of the webhook, and not known here.
    changed_since: bool,
    method: &'static str,
    url: Box<str>,
    headers: serde_json::Map<String, serde_json::Value>,
    body_bytes: u64,
}

impl View {
    pub(super) fn of(delivery: &Delivery, webhook: WebhookId, about: Option<&About>) -> Self {
        let last = delivery.last.as_ref();
        let ended = last.map(|attempt| attempt.at.plus(attempt.latency));
        let created_at = about.map(|about| about.received_at).or(last.map(|attempt| attempt.at));
        let event_type = about.map(|about| about.event_type.clone());
        let response = last.map(|attempt| attempt.response.clone());
        let http_status = last.and_then(|attempt| attempt.http_status);
        Self {
            id: delivery.id.to_string(),
            webhook_id: webhook.to_string(),
            event_id: delivery.id.event.to_string(),
            event: event_type.clone(),
            event_type,
            status: delivery.status.as_str(),
            attempt_count: delivery.attempts,
            attempt_number: delivery.attempts,
            http_status,
            response_status: http_status,
            response_body: response.clone(),
            response,
            latency_ms: last.map(|attempt| attempt.latency.as_millis() as u64),
            error_message: last.and_then(|attempt| attempt.error.as_ref()).map(ToString::to_string),
            failure_reason: delivery.reason.map(DeadReason::as_str),
            correlation_id: about.map(|about| about.correlation_id.clone()),
            next_retry_at: delivery.next_at,
            delivered_at: ended.filter(|_| delivery.status == DeliveryStatus::Delivered),
            failed_at: delivery.dead_at,
            created_at,
            updated_at: delivery.dead_at.or(ended).or(created_at),
            attempts: None,
            payload: None,
            request: None,
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at,
            http_status: attempt.http_status,
            latency_ms: attempt.latency.as_millis() as u64,
            error: attempt.error.map(|error| error.to_string()),
            response: attempt.response,
        }
    }
}

impl Api {
    /// Of one webhook or of all. Filters: `status`, `event_type` or `type`, `event_id`, `since`, `until`, `q`; of all also
    /// `webhook_id`, `tenant`.
    pub(super) async fn list_deliveries(&self, call: &Call, of: Option<WebhookRef<'_>>) -> Result<Response, Problem> {
        let Listing { part, webhook, wanted, filters } = self.listing(call, of)?;
        let rows = part.rows();
        let waiting = self.service.deliveries.sync(webhook, None, CHECKPOINT_LIST_MAX).await?;
        let mut waiting: Vec<_> = waiting.into_iter().map(|(event, webhook)| DeliveryId { event, webhook }).collect();
        waiting.sort_unstable_by(|one, other| other.cmp(one));
        let found = self
            .read(move |store, log| Search { store, log, filters: &filters, rows }.deliveries(wanted, &waiting))
            .await?;
        self.listed(part, found, |row| row.id, |row, webhook, about| View::of(&row, webhook, about.as_ref())).await
    }

    pub(super) async fn read_delivery(&self, call: &Call, id: DeliveryId) -> Result<Response, Problem> {
        let known = self.of_delivery(&call.principal, id)?;
        let (delivery, stored) = self.delivery(id).await?;
        let attempts = self.read(move |store, _| Ok(store.attempts(id)?)).await?;
        let about = stored.as_ref().and_then(|(head, _)| About::of(head));
        let request = match (&known, &stored, attempts.last()) {
            (Known::Live(webhook), Some(stored), Some(last)) => self.request(webhook, id, stored, last),
            _ => None,
        };
        let view = View {
            attempts: Some(attempts.into_iter().map(AttemptView::from).collect()),
            payload: stored.map(|(head, body)| raw(&data_of(&head, &body))),
            request,
            ..View::of(&delivery, known.id(), about.as_ref())
        };
        reply::read(&call.parts.headers, &view)
    }

    /// The webhook that a delivery goes to, there or removed, if the caller may know of it.
    pub(super) fn of_delivery(&self, principal: &Principal, id: DeliveryId) -> Result<Known, Problem> {
        let registry = self.service.registry.load();
        let known = registry.known(id.webhook).filter(|known| may_see(principal, known));
        known.cloned().ok_or_else(|| Problem::not_found("delivery"))
    }

    /// A delivery, and its event if the log still has it.
    pub(super) async fn delivery(&self, id: DeliveryId) -> Result<(Delivery, Option<Stored>), Problem> {
        let waiting = self.service.deliveries.sync(Some(id.webhook), Some(id.event), 1).await?;
        self.read(move |store, log| {
            let pending = (!waiting.is_empty()).then(|| Delivery::pending(id));
            let delivery = store.delivery(id)?.or(pending).ok_or_else(|| Problem::not_found("delivery"))?;
            Ok((delivery, log.read(&[id.event])?.pop().flatten()))
        })
        .await
    }

    fn request(&self, webhook: &Arc<Webhook>, id: DeliveryId, stored: &Stored, last: &Attempt) -> Option<RequestView> {
        let (head, body) = stored.clone();
        EventHead::parse(&head).ok()?;
        let (committed_at, lease) = (self.service.clock.instant(), MemoryBudget::new(usize::MAX).lease(0));
        let event = Event { id: id.event, head, body, committed_at, lease };
        let rebuilt = preview(webhook, &event, last.number, last.at).ok()?;
        let shown = rebuilt.headers.iter().map(|(name, value)| {
            let shown = if value.is_sensitive() { HIDDEN } else { value.to_str().unwrap_or(HIDDEN) };
            (name.to_string(), shown.into())
        });
        Some(RequestView {
            changed_since: webhook.updated_at >= last.at,
            method: "POST",
            url: webhook.endpoint.url.clone(),
            headers: shown.collect(),
            body_bytes: rebuilt.body_len as u64,
        })
    }
}

/// Raw JSON as it is in the log; what is none reads as text.
pub(super) fn raw(data: &[u8]) -> Box<RawValue> {
    serde_json::from_slice(data).unwrap_or_else(|_| {
        let text = serde_json::to_string(&String::from_utf8_lossy(data)).unwrap_or_default();
        RawValue::from_string(text).unwrap_or_default()
    })
}
