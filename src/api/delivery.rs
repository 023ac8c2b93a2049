//! Deliveries: those of a webhook, and one with its attempts and payload.

use serde::Serialize;
use serde_json::value::RawValue;

use super::page::Query;
use super::route::WebhookRef;
use super::store::{Delivery, DeliveryStore};
use super::{Api, Call, Problem, Response, may_see, reply};
use crate::commit::ReadLog;
use crate::limits::{CHECKPOINT_LIST_MAX, PAGE_SCAN_MAX};
use crate::model::{Attempt, DeliveryId, DeliveryStatus, EventHead, EventId, Timestamp, WebhookId, data_of};

/// A delivery as the interface shows it, under the names of each dialect.
#[derive(Serialize)]
struct View {
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
    next_retry_at: Option<Timestamp>,
    delivered_at: Option<Timestamp>,
    failed_at: Option<Timestamp>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
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

/// What a delivery shows of its event.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) event_type: Box<str>,
    pub(super) received_at: Timestamp,
}

impl About {
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let head = EventHead::parse(head).ok()?.event;
        Some(Self { event_type: head.event_type.into(), received_at: head.received_at })
    }
}

impl View {
    fn of(delivery: &Delivery, webhook: WebhookId, about: Option<&About>) -> Self {
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
            next_retry_at: delivery.next_at,
            delivered_at: ended.filter(|_| delivery.status == DeliveryStatus::Delivered),
            failed_at: delivery.dead_at,
            created_at,
            updated_at: delivery.dead_at.or(ended).or(created_at),
            attempts: None,
            payload: None,
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
    /// Filters: `status`.
    pub(super) async fn list_deliveries(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let known = self.known(&call.principal, of)?;
        let (webhook, id) = (known.no(), known.id());
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let before = query.cursor::<EventId>()?;
        let status = status(&query)?;
        let waiting = self.deliveries.sync(Some(webhook), None, CHECKPOINT_LIST_MAX).await?;
        let wanted = page.wanted();
        let (found, end) =
            self.read(move |store, _| Ok(newest(store, webhook, &waiting, before, wanted, status)?)).await?;
        let (rows, more) = page.cut(found);
        let cursor = if more { rows.last().map(|row| row.id.event) } else { end };
        let rows = self.read(move |_, log| with_events(log, rows)).await?;
        let rows: Vec<_> = rows.into_iter().map(|(row, about)| View::of(&row, id, about.as_ref())).collect();
        reply::list(&rows, cursor.map(|event| query.next(&event)).as_ref())
    }

    pub(super) async fn read_delivery(&self, call: &Call, id: DeliveryId) -> Result<Response, Problem> {
        let webhook = {
            let registry = self.registry.load();
            let known = registry.known(id.webhook).filter(|known| may_see(&call.principal, known));
            known.map(crate::registry::Known::id).ok_or_else(|| Problem::not_found("delivery"))?
        };
        let waiting = self.deliveries.sync(Some(id.webhook), Some(id.event), 1).await?;
        let view = self
            .read(move |store, log| {
                let pending = (!waiting.is_empty()).then(|| Delivery::pending(id));
                let Some(delivery) = store.delivery(id)?.or(pending) else {
                    return Err(Problem::not_found("delivery"));
                };
                let attempts = store.attempts(id)?.into_iter().map(AttemptView::from).collect();
                let stored = log.read(&[id.event])?.pop().flatten();
                let about = stored.as_ref().and_then(|(head, _)| About::of(head));
                let payload = stored.map(|(head, body)| raw(&data_of(&head, &body)));
                Ok(View { attempts: Some(attempts), payload, ..View::of(&delivery, webhook, about.as_ref()) })
            })
            .await?;
        reply::read(&call.parts.headers, &view)
    }
}

/// Raw JSON as it is in the log; what is none reads as text.
pub(super) fn raw(data: &[u8]) -> Box<RawValue> {
    serde_json::from_slice(data).unwrap_or_else(|_| {
        let text = serde_json::to_string(&String::from_utf8_lossy(data)).unwrap_or_default();
        RawValue::from_string(text).unwrap_or_default()
    })
}

/// Deliveries of a webhook, newest first: those with rows, and those that wait without one. With a filter, also where the
/// search stopped, if that was before the end.
fn newest(
    store: &dyn DeliveryStore,
    webhook: crate::model::WebhookNo,
    waiting: &[(EventId, crate::model::WebhookNo)],
    before: Option<EventId>,
    wanted: usize,
    status: Option<DeliveryStatus>,
) -> Result<(Vec<Delivery>, Option<EventId>), super::StoreFailed> {
    let end = before.unwrap_or(EventId::MAX);
    let mut waiting = waiting.iter().map(|(event, _)| *event).filter(|event| *event < end).peekable();
    let (mut found, mut looked_at, mut cursor) = (Vec::new(), 0, before);
    loop {
        let rows = store.deliveries_of(webhook, cursor, wanted)?;
        let full = rows.len() == wanted;
        let floor = rows.last().filter(|_| full).map(|row| row.id.event);
        let mut rows = rows.into_iter().peekable();
        // Both lists fall; what has a row is shown by its row. Past the floor another page of rows may come first.
        while found.len() < wanted {
            let from_list = match (waiting.peek(), rows.peek()) {
                (Some(event), Some(row)) if *event == row.id.event => {
                    waiting.next();
                    continue;
                }
                (Some(event), Some(row)) => *event > row.id.event,
                (Some(event), None) => floor.is_none_or(|floor| *event > floor),
                (None, _) => false,
            };
            let next = if from_list {
                waiting.next().map(|event| Delivery::pending(DeliveryId { event, webhook }))
            } else {
                rows.next()
            };
            let Some(next) = next else { break };
            looked_at += 1;
            if status.is_none_or(|status| status == next.status) {
                found.push(next);
            }
        }
        match floor {
            Some(floor) if found.len() < wanted => {
                if looked_at >= PAGE_SCAN_MAX {
                    return Ok((found, Some(floor)));
                }
                cursor = Some(floor);
            }
            _ => return Ok((found, None)),
        }
    }
}

/// Each delivery with what it shows of its event, `None` where the log no longer has it.
fn with_events(log: &dyn ReadLog, rows: Vec<Delivery>) -> Result<Vec<(Delivery, Option<About>)>, Problem> {
    let with_event = |row: Delivery| {
        let about = about(log, row.id.event)?;
        Ok((row, about))
    };
    rows.into_iter().map(with_event).collect()
}

/// What is shown of an event, from its head alone.
pub(super) fn about(log: &dyn ReadLog, event: EventId) -> Result<Option<About>, Problem> {
    let after = EventId::from_u128(event.as_u128().saturating_sub(1));
    let head = log.heads_after(after, 1)?.pop().filter(|(id, _)| *id == event);
    Ok(head.and_then(|(_, head)| About::of(&head)))
}

fn status(query: &Query) -> Result<Option<DeliveryStatus>, Problem> {
    use DeliveryStatus::{Abandoned, Delivered, Failed, Pending, Retrying};
    let Some(text) = query.get("status") else { return Ok(None) };
    let all = [Pending, Retrying, Delivered, Failed, Abandoned];
    let found = all.into_iter().find(|status| status.as_str() == text);
    let bad = "query parameter status: expected pending, retrying, delivered, failed or abandoned";
    found.map(Some).ok_or_else(|| Problem::new(super::ProblemCode::InvalidRequest, bad))
}
