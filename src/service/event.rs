//! Events: list, read with their deliveries.

use bytes::Bytes;

use super::access::{may_see, sees, tenant_of};
use super::{Delivery, Error, Operation, Page, Rows, Service};
use crate::limits::{EVENT_DELIVERIES_SHOWN, PAGE_SCAN_MAX};
use crate::model::{
    DeliveryId, DeliveryStatus, EventHead, EventId, EventPattern, NewEvent, Principal, Timestamp, WebhookId, WebhookNo,
    data_of, raw_of,
};
use crate::storage::{ReadError, ReadLog, Stored};

/// Heads read at once while a list looks for the events that it wants.
const HEADS_AT_ONCE: usize = 512;

/// Which events are listed; an absent field takes all.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of a type that fits this pattern.
    pub event_type: Option<EventPattern>,
    /// From this source.
    pub source: Option<String>,
    /// With this id of the sender's own.
    pub external_id: Option<String>,
    /// Accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Accepted before this time.
    pub until: Option<Timestamp>,
}

/// An event as the log holds it. [`StoredEvent::head`] reads it.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    id: EventId,
    head: Bytes,
}

/// An event with its content and its deliveries.
#[derive(Debug, Clone)]
pub struct EventDetails {
    /// The event.
    pub event: StoredEvent,
    /// Its data.
    pub data: Bytes,
    /// The body of the request that it came with; `None` of an event that no source took in.
    pub raw: Option<Bytes>,
    /// Its first deliveries, as far as the caller may know of them.
    pub deliveries: Vec<DeliverySummary>,
}

/// What an event tells of one of its deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySummary {
    /// The delivery.
    pub id: DeliveryId,
    /// The webhook that it goes to.
    pub webhook: WebhookId,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Attempts made since it was accepted or last replayed.
    pub attempts: u16,
    /// When it is tried again, if it waits for a time.
    pub next_at: Option<Timestamp>,
}

impl StoredEvent {
    /// The event's id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// What the log holds of the event beside its body.
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
    /// Lists the events that the filter takes, newest first, from the one before `before`.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the tenant, or the log cannot be read.
    pub async fn list_events(
        &self,
        principal: &Principal,
        filter: EventFilter,
        page: Page,
        before: Option<EventId>,
    ) -> Result<Rows<StoredEvent, EventId>, Error> {
        Operation::ReadEvents.permit(principal.role)?;
        let tenant = tenant_of(principal, filter.tenant.as_deref())?.map(str::to_owned);
        let filter = EventFilter { tenant, ..filter };
        let wanted = move |event: &NewEvent<'_>| filter.takes(event);
        let (rows, before) = (page.wanted(), before.unwrap_or(EventId::MAX));
        let (found, stopped_at) = self.read(move |_, log| search(log, wanted, rows, before)).await?;
        Ok(page.rows(found, stopped_at, StoredEvent::id))
    }

    /// Reads an event with its content and its first deliveries.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the event, or the stores cannot be read.
    pub async fn read_event(&self, principal: &Principal, id: EventId) -> Result<EventDetails, Error> {
        Operation::ReadEvents.permit(principal.role)?;
        let (head, body) = self.stored_event(principal, id).await?;
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
        })
    }

    /// An event as the log holds it, if the caller may know of it.
    pub(super) async fn stored_event(&self, principal: &Principal, id: EventId) -> Result<Stored, Error> {
        let stored = self.read(move |_, log| Ok::<_, Error>(log.read(&[id])?.pop().flatten())).await?;
        stored
            .filter(|(head, _)| EventHead::parse(head).is_ok_and(|head| sees(principal, head.event.tenant)))
            .ok_or_else(|| Error::not_found("event"))
    }

    fn delivery_summary(&self, principal: &Principal, delivery: &Delivery, no: WebhookNo) -> Option<DeliverySummary> {
        let registry = self.registry.load();
        let known = registry.known(no).filter(|known| may_see(principal, known))?;
        Some(DeliverySummary {
            id: delivery.id,
            webhook: known.id(),
            status: delivery.status,
            attempts: delivery.attempts,
            next_at: delivery.next_at,
        })
    }
}

/// The newest events before `before` that are wanted, at most `rows`; and where the search stopped, if it stopped before the
/// end and before it found enough.
fn search(
    log: &dyn ReadLog,
    wanted: impl Fn(&NewEvent<'_>) -> bool,
    rows: usize,
    before: EventId,
) -> Result<(Vec<StoredEvent>, Option<EventId>), Error> {
    let (mut found, mut looked_at, mut cursor) = (Vec::new(), 0, before);
    while looked_at < PAGE_SCAN_MAX {
        let heads = log.heads_before(cursor, HEADS_AT_ONCE)?;
        let is_full = heads.len() == HEADS_AT_ONCE;
        for (id, head) in heads {
            (looked_at, cursor) = (looked_at + 1, id);
            let event = StoredEvent { id, head };
            if wanted(&event.head()?.event) {
                found.push(event);
            }
            if found.len() == rows {
                return Ok((found, None));
            }
        }
        if !is_full {
            return Ok((found, None));
        }
    }
    Ok((found, Some(cursor)))
}
