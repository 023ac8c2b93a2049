//! Deliveries: list, read with attempts, payload and request, retry.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::idempotency::encode;
use super::listing::{Listing, listing};
use super::page::Query;
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Problem, Response};
use crate::model::path::DELIVERIES;
use crate::model::{Attempt, DeadReason, DeliveryId, DeliveryStatus, HIDDEN, Timestamp};
use crate::service::delivery::{DeliveryDetails, RebuiltRequest};
use crate::service::search::ListRow;
use crate::service::{Delivery, ResponseRecorder, ResponseStore, WebhookRef};

/// A delivery as JSON. Some fields occur under the names of several API dialects.
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

/// The request of the last attempt, rebuilt from the webhook and the event.
#[derive(Serialize)]
struct RequestView {
    changed_since: bool,
    method: &'static str,
    url: Box<str>,
    headers: serde_json::Map<String, serde_json::Value>,
    body_bytes: u64,
}

impl View {
    pub(super) fn of(ListRow { row: delivery, webhook, event }: &ListRow<Delivery>) -> Self {
        let (last, event) = (delivery.last.as_ref(), event.as_ref());
        let ended = last.map(|attempt| attempt.at.plus(attempt.latency));
        let created_at = event.map(|event| event.received_at).or(last.map(|attempt| attempt.at));
        let event_type = event.map(|event| event.event_type.clone());
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
            correlation_id: event.map(|event| event.correlation_id.clone()),
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

impl From<RebuiltRequest> for RequestView {
    fn from(request: RebuiltRequest) -> Self {
        let shown = |value: Option<Box<str>>| value.map_or_else(|| HIDDEN.into(), String::from);
        Self {
            changed_since: request.changed_since,
            method: "POST",
            url: request.url,
            headers: request.headers.into_iter().map(|(name, value)| (name.into(), shown(value).into())).collect(),
            body_bytes: request.body_bytes,
        }
    }
}

impl Api {
    /// Lists deliveries of one webhook or of all. Filters: `status`, `event_type` or `type`, `event_id`, `since`,
    /// `until`, `q`. A list of all webhooks also has `webhook_id`, `tenant`.
    pub(super) async fn list_deliveries(
        &self,
        request: &ManagementRequest,
        of: Option<WebhookRef<'_>>,
    ) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let Listing { scope, filter, page, before } = listing(&query, of)?;
        let found = self.service.list_deliveries(&request.principal, scope, filter, page, before).await?;
        query.rows(&found, View::of)
    }

    pub(super) async fn read_delivery(&self, request: &ManagementRequest, id: DeliveryId) -> Result<Response, Problem> {
        let DeliveryDetails { delivery, attempts, payload, request: rebuilt, memory } =
            self.service.read_delivery(&request.principal, id).await?;
        let view = View {
            attempts: Some(attempts.into_iter().map(AttemptView::from).collect()),
            payload: payload.map(|payload| raw(&payload)),
            request: rebuilt.map(RequestView::from),
            ..View::of(&delivery)
        };
        Ok(reply::json_with_etag(&request.parts.headers, &view)?.map(|body| body.counted(memory)))
    }

    /// Makes one attempt now. A delivery that waits for its next attempt continues its schedule after it. A delivery that
    /// has ended, successfully or not, starts a new schedule.
    pub(super) async fn retry_delivery(
        &self,
        request: &ManagementRequest,
        id: DeliveryId,
    ) -> Result<Response, Problem> {
        let claim = match self.claim(request, ResponseStore::Deliveries).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let retry = self.service.draft_retry(&request.principal, id).await?;
        body::nothing(request)?;
        let service = Arc::clone(&self.service);
        let retried = move |delivery: &ListRow<Delivery>| {
            reply::created(StatusCode::ACCEPTED, &format!("{DELIVERIES}/{id}"), &View::of(delivery))
        };
        let record = ResponseRecorder::new(claim.key(), move |delivery| encode(retried(delivery)));
        let work = async move { retried(&service.retry_delivery(retry, record).await?) };
        self.complete(claim, work).await
    }
}

/// Raw JSON as stored in the log. Data that are not JSON become a JSON string.
pub(super) fn raw(data: &[u8]) -> Box<RawValue> {
    serde_json::from_slice(data).unwrap_or_else(|_| {
        let text = serde_json::to_string(&String::from_utf8_lossy(data)).unwrap_or_default();
        RawValue::from_string(text).unwrap_or_default()
    })
}
