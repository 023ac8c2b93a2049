//! Events: list, and read with their deliveries.

use bytes::Bytes;

use super::access::{may_see, sees, tenant_of};
use super::{Delivery, Error, ListPage, Operation, PageRequest, Service};
use crate::limits::{EVENT_DELIVERIES_SHOWN, PAGE_BYTES_MAX, PAGE_SCAN_MAX};
use crate::model::{
    DeliveryId, DeliveryStatus, EventHead, EventId, EventPattern, NewEvent, Principal, Timestamp, WebhookId, WebhookNo,
    data_of, raw_of,
};
use crate::runtime::TenantShare;
use crate::storage::{LogRecord, ReadError, ReadLog};

/// Heads to read at once while a list searches for matching events.
const HEADS_AT_ONCE: usize = 64;

/// A filter for events. A field that is `None` matches everything.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Events of this tenant.
    pub tenant: Option<String>,
    /// Events whose type matches this pattern.
    pub event_type: Option<EventPattern>,
    /// Events of this source.
    pub source: Option<String>,
    /// Events with this id of the sender.
    pub external_id: Option<String>,
    /// Events accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Events accepted before this time.
    pub until: Option<Timestamp>,
}

/// The head of an event as the log stores it. [`StoredEvent::head`] parses it.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    id: EventId,
    head: Bytes,
}

/// An event with its payload and its deliveries.
#[derive(Debug)]
pub struct EventDetails {
    /// The event.
    pub event: StoredEvent,
    /// The event's data.
    pub data: Bytes,
    /// The body of the webhook request that created the event; `None` for an event that did not come from a source.
    pub raw: Option<Bytes>,
    /// The first deliveries of the event that the caller may see.
    pub deliveries: Vec<DeliverySummary>,
    /// The memory of the payload and of the response.
    pub memory: TenantShare,
}

/// The state of one delivery of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySummary {
    /// The delivery.
    pub id: DeliveryId,
    /// The webhook that receives the delivery.
    pub webhook: WebhookId,
    /// The state of the delivery.
    pub status: DeliveryStatus,
    /// The number of attempts since the event was accepted or last replayed.
    pub attempts: u16,
    /// The time of the next attempt, if the delivery waits for a time.
    pub next_at: Option<Timestamp>,
}

impl StoredEvent {
    /// The event's id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Parses the event's head: everything except its body.
    ///
    /// # Errors
    /// If the record is damaged.
    pub fn head(&self) -> Result<EventHead<'_>, Error> {
        Ok(EventHead::parse(&self.head).map_err(|_| ReadError::Damaged(self.id))?)
    }
}

impl EventFilter {
    fn takes(&self, event: &NewEvent<'_>) -> bool {
        self.tenant.as_deref().is_none_or(|tenant| tenant == event.tenant)
            && self.event_type.as_ref().is_none_or(|pattern| pattern.matches(event.event_type))
            && self.source.as_deref().is_none_or(|source| source == event.source)
            && self.external_id.as_deref().is_none_or(|id| Some(id) == event.external_id)
            && self.since.is_none_or(|since| event.received_at >= since)
            && self.until.is_none_or(|until| event.received_at < until)
    }
}

impl Service {
    /// Lists the events that match the filter, newest first, starting before the event `before`.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the tenant, or the log cannot be read.
    pub async fn list_events(
        &self,
        principal: &Principal,
        filter: EventFilter,
        page: PageRequest,
        before: Option<EventId>,
    ) -> Result<ListPage<StoredEvent, EventId>, Error> {
        Operation::ReadEvents.permit(principal.role)?;
        let tenant = tenant_of(principal, filter.tenant.as_deref())?.map(str::to_owned);
        let filter = EventFilter { tenant, ..filter };
        let wanted = move |event: &NewEvent<'_>| filter.takes(event);
        let (rows, before) = (page.fetch_limit(), before.unwrap_or(EventId::MAX));
        let (found, stopped_at) = self.read(move |_, log| search(log, wanted, rows, before)).await?;
        Ok(page.rows(found, stopped_at, StoredEvent::id))
    }

    /// Reads an event with its payload and its first deliveries.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the event, or the stores cannot be read.
    pub async fn read_event(&self, principal: &Principal, id: EventId) -> Result<EventDetails, Error> {
        Operation::ReadEvents.permit(principal.role)?;
        let ((head, body), memory) = self.stored_event(principal, id).await?;
        let event = StoredEvent { id, head };
        let parsed = event.head()?;
        let is_inbound = parsed.event.inbound.is_some();
        let mut webhooks = parsed.webhooks();
        webhooks.truncate(EVENT_DELIVERIES_SHOWN);
        let waiting = self.deliveries.sync(None, Some(id), parsed.webhook_count().max(1)).await?;
        let asked = webhooks.clone();
        let rows = self.read(move |store, _| Ok::<_, Error>(store.of_event(id, &asked)?)).await?;
        let deliveries = webhooks.iter().filter_map(|no| {
            let row = rows.iter().find(|row| row.id.webhook == *no).cloned();
            let pending = || {
                let waits = waiting.iter().any(|(_, webhook)| webhook == no);
                waits.then(|| Delivery::pending(DeliveryId { event: id, webhook: *no }))
            };
            self.delivery_summary(principal, &row.or_else(pending)?, *no)
        });
        Ok(EventDetails {
            data: data_of(&event.head, &body),
            raw: is_inbound.then(|| raw_of(&event.head, &body)),
            deliveries: deliveries.collect(),
            event,
            memory,
        })
    }

    /// Reads an event from the log, if the caller may see it. The caller holds its memory.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](super::ErrorKind::NotFound) for an event that the caller may not see or the log does not
    /// have; an error if the log cannot be read.
    pub(super) async fn stored_event(
        &self,
        principal: &Principal,
        id: EventId,
    ) -> Result<(LogRecord, TenantShare), Error> {
        let memory = self.payload_memory(principal, id).await?;
        let stored = self.read(move |_, log| Ok::<_, Error>(log.read(&[id])?.pop().flatten())).await?;
        stored
            .filter(|(head, _)| EventHead::parse(head).is_ok_and(|head| sees(principal, head.event.tenant)))
            .map(|stored| (stored, memory))
            .ok_or_else(|| Error::not_found("event"))
    }

    fn delivery_summary(&self, principal: &Principal, delivery: &Delivery, no: WebhookNo) -> Option<DeliverySummary> {
        let registry = self.registry.load();
        let known = registry.webhook_entry(no).filter(|known| may_see(principal, known))?;
        Some(DeliverySummary {
            id: delivery.id,
            webhook: known.id(),
            status: delivery.status,
            attempts: delivery.attempts,
            next_at: delivery.next_at,
        })
    }
}

/// Finds the newest matching events before `before`, at most `rows`. The second value is the position at which the
/// search stopped, if it reached its limit of events or bytes before the end of the log and before it found enough.
fn search(
    log: &dyn ReadLog,
    wanted: impl Fn(&NewEvent<'_>) -> bool,
    rows: usize,
    before: EventId,
) -> Result<(Vec<StoredEvent>, Option<EventId>), Error> {
    let (mut found, mut looked_at, mut cursor) = (Vec::new(), 0, before);
    let mut bytes = 0;
    while looked_at < PAGE_SCAN_MAX {
        let heads = log.heads_before(cursor, HEADS_AT_ONCE)?;
        let is_full = heads.len() == HEADS_AT_ONCE;
        for (id, head) in heads {
            (looked_at, cursor) = (looked_at + 1, id);
            let event = StoredEvent { id, head };
            if wanted(&event.head()?.event) {
                bytes += event.head.len();
                found.push(event);
            }
            if found.len() == rows {
                return Ok((found, None));
            }
            if bytes > PAGE_BYTES_MAX {
                return Ok((found, Some(cursor)));
            }
        }
        if !is_full {
            return Ok((found, None));
        }
    }
    Ok((found, Some(cursor)))
}
