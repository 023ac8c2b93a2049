//! Events: those accepted, one with its deliveries in short.

use serde::Serialize;
use serde_json::value::RawValue;

use super::delivery::raw;
use super::page::Query;
use super::webhook::tenant_of;
use super::{Api, Call, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::limits::{EVENT_DELIVERIES_SHOWN, PAGE_SCAN_MAX};
use crate::model::{
    DeliveryId, EventHead, EventId, EventPattern, Mapping, NewEvent, Principal, Timestamp, WebhookNo, data_of, raw_of,
};
use crate::service::Delivery;
use crate::service::access::{may_see, sees};

/// Heads read at once while a list looks for those it wants.
const HEADS_AT_ONCE: usize = 512;

/// An event as the interface shows it.
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
    resource_id: Option<Box<str>>,
    workspace_id: Option<Box<str>>,
    user_id: Option<Box<str>>,
    metadata: Option<Box<RawValue>>,
    /// Of a source's event.
    #[serde(flatten)]
    inbound: Option<InboundView>,
    /// How many webhooks matched.
    webhooks: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(flatten)]
    raw: Option<RawView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<Vec<Short>>,
}

/// What is kept of the request that an event came with.
#[derive(Serialize)]
struct InboundView {
    /// The provider's type in its own spelling.
    topic: Option<Box<str>>,
    /// What the source's event map made of it.
    mapping: Mapping,
    /// Whether the signature covers where `external_id` came from.
    external_id_signed: bool,
    /// Whether the signature covers where the type came from.
    type_signed: bool,
    content_type: Option<Box<str>>,
    headers: Box<RawValue>,
}

/// The request's body, byte for byte: as text, or in base64 if it is none.
#[derive(Serialize)]
enum RawView {
    #[serde(rename = "raw")]
    Text(String),
    #[serde(rename = "raw_base64")]
    Base64(String),
}

/// A delivery in short.
#[derive(Serialize)]
struct Short {
    id: String,
    webhook_id: String,
    status: &'static str,
    attempt_count: u16,
    next_retry_at: Option<Timestamp>,
}

impl View {
    fn of(id: EventId, head: &EventHead<'_>) -> Self {
        let event = head.event;
        let text = |text: Option<&str>| text.map(Box::from);
        Self {
            id: id.to_string(),
            r#type: event.event_type.into(),
            source: event.source.into(),
            tenant: event.tenant.into(),
            timestamp: event.timestamp,
            received_at: event.received_at,
            correlation_id: event.correlation_id.into(),
            external_id: text(event.external_id),
            verified: event.verified,
            resource_id: text(event.resource_id),
            workspace_id: text(event.workspace_id),
            user_id: text(event.user_id),
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
        }
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

impl Api {
    /// Filters: `type` (a type or a pattern), `source`, `external_id`, `since`, `until` (of `received_at`).
    pub(super) async fn list_events(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let tenant = tenant_of(&call.principal, &query)?.map(str::to_owned);
        let wanted = filter(&query, tenant)?;
        let before = query.cursor::<EventId>()?.unwrap_or(EventId::MAX);
        let rows = page.wanted();
        let (found, end) = self
            .read(move |_, log| {
                let (mut found, mut looked_at, mut cursor) = (Vec::new(), 0, before);
                while looked_at < PAGE_SCAN_MAX {
                    let heads = log.heads_before(cursor, HEADS_AT_ONCE)?;
                    let full = heads.len() == HEADS_AT_ONCE;
                    for (id, head) in heads {
                        (looked_at, cursor) = (looked_at + 1, id);
                        let head = EventHead::parse(&head).map_err(|_| crate::storage::ReadError::Damaged(id))?;
                        if wanted(&head.event) {
                            found.push((id, View::of(id, &head)));
                        }
                        if found.len() == rows {
                            return Ok((found, None));
                        }
                    }
                    if !full {
                        return Ok((found, None));
                    }
                }
                Ok((found, Some(cursor)))
            })
            .await?;
        let (rows, more) = page.cut(found);
        let cursor = if more { rows.last().map(|(id, _)| *id) } else { end };
        let rows: Vec<_> = rows.into_iter().map(|(_, view)| view).collect();
        reply::list(&rows, cursor.map(|id| query.next(&id)).as_ref())
    }

    pub(super) async fn read_event(&self, call: &Call, id: EventId) -> Result<Response, Problem> {
        let (stored, body) = self.stored(call, id).await?;
        let head = EventHead::parse(&stored).map_err(|_| crate::storage::ReadError::Damaged(id))?;
        let mut webhooks = head.webhooks();
        webhooks.truncate(EVENT_DELIVERIES_SHOWN);
        let waiting = self.service.deliveries.sync(None, Some(id), head.webhook_count().max(1)).await?;
        let asked = webhooks.clone();
        let rows = self.read(move |store, _| Ok(store.of_event(id, &asked)?)).await?;
        let deliveries = webhooks.iter().filter_map(|no| {
            let row = rows.iter().find(|row| row.id.webhook == *no).cloned();
            let pending = || {
                let waits = waiting.iter().any(|(_, webhook)| webhook == no);
                waits.then(|| Delivery::pending(DeliveryId { event: id, webhook: *no }))
            };
            self.short(&call.principal, &row.or_else(pending)?, *no)
        });
        let view = View {
            data: Some(raw(&data_of(&stored, &body))),
            raw: head.event.inbound.is_some().then(|| RawView::of(&raw_of(&stored, &body))),
            deliveries: Some(deliveries.collect()),
            ..View::of(id, &head)
        };
        reply::read(&call.parts.headers, &view)
    }

    /// An event as the log holds it, if it is there for the caller.
    pub(super) async fn stored(&self, call: &Call, id: EventId) -> Result<crate::storage::Stored, Problem> {
        let stored = self.read(move |_, log| Ok(log.read(&[id])?.pop().flatten())).await?;
        stored
            .filter(|(head, _)| EventHead::parse(head).is_ok_and(|head| sees(&call.principal, head.event.tenant)))
            .ok_or_else(|| Problem::not_found("event"))
    }

    fn short(&self, principal: &Principal, delivery: &Delivery, no: WebhookNo) -> Option<Short> {
        let registry = self.service.registry.load();
        let known = registry.known(no).filter(|known| may_see(principal, known))?;
        Some(Short {
            id: delivery.id.to_string(),
            webhook_id: known.id().to_string(),
            status: delivery.status.as_str(),
            attempt_count: delivery.attempts,
            next_retry_at: delivery.next_at,
        })
    }
}

fn filter(query: &Query, tenant: Option<String>) -> Result<impl Fn(&NewEvent<'_>) -> bool + use<>, Problem> {
    let pattern = query.get("type").or_else(|| query.get("event_type")).map(EventPattern::try_new).transpose();
    let pattern =
        pattern.map_err(|error| Problem::new(ProblemCode::InvalidRequest, format!("query parameter type: {error}")))?;
    let (since, until) = (query.time("since")?, query.time("until")?);
    let source = query.get("source").map(str::to_owned);
    let external_id = query.get("external_id").map(str::to_owned);
    Ok(move |event: &NewEvent<'_>| {
        tenant.as_deref().is_none_or(|tenant| tenant == event.tenant)
            && pattern.as_ref().is_none_or(|pattern| pattern.matches(event.event_type))
            && source.as_deref().is_none_or(|source| source == event.source)
            && external_id.as_deref().is_none_or(|id| Some(id) == event.external_id)
            && since.is_none_or(|since| event.received_at >= since)
            && until.is_none_or(|until| event.received_at < until)
    })
}
