//! Events: list, and read with a summary of the deliveries.

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::delivery::raw;
use super::page::Query;
use super::{Api, ManagementRequest, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::model::{EventId, EventPattern, Mapping, Timestamp};
use crate::service::event::{DeliverySummary, EventDetails, EventFilter, StoredEvent};

/// An event as JSON.
#[derive(Serialize)]
struct View {
    id: String,
    r#type: Box<str>,
    source: Box<str>,
    tenant: Box<str>,
    timestamp: Timestamp,
    received_at: Timestamp,
    correlation_id: Box<str>,
    external_id: Option<Box<str>>,
    verified: bool,
    resource_id: Option<Box<RawValue>>,
    workspace_id: Option<Box<RawValue>>,
    user_id: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
    /// `Some` for an event of a source.
    #[serde(flatten)]
    inbound: Option<InboundView>,
    /// The number of matching webhooks.
    webhooks: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(flatten)]
    raw: Option<RawView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<DeliverySummaryView>>,
}

/// The stored parts of the request that delivered the event.
#[derive(Serialize)]
struct InboundView {
    /// The event type as the provider spells it.
    topic: Option<Box<str>>,
    /// The result of the event map of the source.
    mapping: Mapping,
    /// Whether the signature covers the origin of `external_id`.
    external_id_signed: bool,
    /// Whether the signature covers the origin of the type.
    type_signed: bool,
    content_type: Option<Box<str>>,
    headers: Box<RawValue>,
}

/// The unchanged body of the request, as text, or in base64 if it is not UTF-8.
#[derive(Serialize)]
enum RawView {
    #[serde(rename = "raw")]
    Text(String),
    #[serde(rename = "raw_base64")]
    Base64(String),
}

/// A summary of a delivery as JSON.
#[derive(Serialize)]
struct DeliverySummaryView {
    id: String,
    webhook_id: String,
    status: &'static str,
    attempt_count: u16,
    next_retry_at: Option<Timestamp>,
}

impl View {
    fn of(stored: &StoredEvent) -> Result<Self, Problem> {
        let head = stored.head()?;
        let event = head.event;
        let text = |text: Option<&str>| text.map(Box::from);
        // As it was published.
        let id = |id: Option<&str>, is_number: bool| {
            id.map(|id| if is_number { raw(id.as_bytes()) } else { raw(json!(id).to_string().as_bytes()) })
        };
        Ok(Self {
            id: stored.id().to_string(),
            r#type: event.event_type.into(),
            source: event.source.into(),
            tenant: event.tenant.into(),
            timestamp: event.timestamp,
            received_at: event.received_at,
            correlation_id: event.correlation_id.into(),
            external_id: text(event.external_id),
            verified: event.verified,
            resource_id: id(event.resource_id, event.numeric_ids.resource),
            workspace_id: id(event.workspace_id, event.numeric_ids.workspace),
            user_id: id(event.user_id, event.numeric_ids.user),
            metadata: event.metadata.map(|metadata| raw(metadata.as_bytes())),
            inbound: event.inbound.map(|inbound| InboundView {
                topic: text(inbound.topic),
                mapping: inbound.mapping,
                external_id_signed: inbound.signed_id,
                type_signed: inbound.signed_type,
                content_type: text(inbound.content_type),
                headers: raw(inbound.headers.as_bytes()),
            }),
            webhooks: head.webhook_count(),
            data: None,
            raw: None,
            deliveries: None,
        })
    }
}

impl RawView {
    fn of(body: &[u8]) -> Self {
        match std::str::from_utf8(body) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(data_encoding::BASE64.encode(body)),
        }
    }
}

impl From<DeliverySummary> for DeliverySummaryView {
    fn from(delivery: DeliverySummary) -> Self {
        Self {
            id: delivery.id.to_string(),
            webhook_id: delivery.webhook.to_string(),
            status: delivery.status.as_str(),
            attempt_count: delivery.attempts,
            next_retry_at: delivery.next_at,
        }
    }
}

impl Api {
    /// Lists events. Filters: `type` (a type or a pattern), `source`, `external_id`, `since`, `until` (of `received_at`).
    pub(super) async fn list_events(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let filter = filter(&query)?;
        let found = self.service.list_events(&request.principal, filter, page, query.cursor()?).await?;
        let rows = found.rows.iter().map(View::of).collect::<Result<Vec<_>, _>>()?;
        reply::list(&rows, found.next.map(|id| query.next(&id)).as_ref())
    }

    pub(super) async fn read_event(&self, request: &ManagementRequest, id: EventId) -> Result<Response, Problem> {
        let EventDetails { event, data, raw: body, deliveries, memory } =
            self.service.read_event(&request.principal, id).await?;
        let view = View {
            data: Some(raw(&data)),
            raw: body.map(|body| RawView::of(&body)),
            deliveries: Some(deliveries.into_iter().map(DeliverySummaryView::from).collect()),
            ..View::of(&event)?
        };
        Ok(reply::json_with_etag(&request.parts.headers, &view)?.map(|body| body.counted(memory)))
    }
}

fn filter(query: &Query) -> Result<EventFilter, Problem> {
    let pattern = query.get("type").or_else(|| query.get("event_type")).map(EventPattern::try_new).transpose();
    let pattern =
        pattern.map_err(|error| Problem::new(ProblemCode::InvalidRequest, format!("query parameter type: {error}")))?;
    Ok(EventFilter {
        tenant: query.tenant().map(str::to_owned),
        event_type: pattern,
        source: query.get("source").map(str::to_owned),
        external_id: query.get("external_id").map(str::to_owned),
        since: query.time("since")?,
        until: query.time("until")?,
    })
}
