//! Deliveries: list, read, retry.

use std::sync::Arc;

use bytes::Bytes;

use super::access::may_see;
use super::search::{DeliveryFilter, ListRow, ListScope, Search};
use super::summary::EventSummary;
use super::{Delivery, Error, ErrorKind, ListPage, Operation, PageRequest, ResponseRecorder, Service};
use crate::handoff::RetryResult;
use crate::limits::CHECKPOINT_LIST_MAX;
use crate::model::{Attempt, DeliveryId, DeliveryStatus, EventHead, Principal, WebhookId, WebhookStatus, data_of};
use crate::outbound::{Event, Webhook, preview};
use crate::registry::WebhookEntry;
use crate::runtime::{MemoryBudget, TenantShare};
use crate::settle::DeliveryQuery;
use crate::storage::LogRecord;

/// A delivery with its attempts, its payload and its request.
#[derive(Debug)]
pub struct DeliveryDetails {
    /// The delivery, its webhook and its event.
    pub delivery: ListRow<Delivery>,
    /// The attempts, oldest first, as far as the history still holds them.
    pub attempts: Vec<Attempt>,
    /// The data of its event; `None` if the log no longer has the event.
    pub payload: Option<Bytes>,
    /// The request of the last attempt, if the webhook and the event still exist.
    pub request: Option<RebuiltRequest>,
    /// The memory of the payload and of the response.
    pub memory: TenantShare,
}

/// The request of an attempt, rebuilt from the webhook and the event.
#[derive(Debug, Clone)]
pub struct RebuiltRequest {
    /// Whether the webhook was changed after the attempt. If so, this is the request that would be sent now. A profile
    /// that was redefined in the configuration does not count as a change of the webhook and is not detected.
    pub changed_since: bool,
    /// The URL of the endpoint.
    pub url: Box<str>,
    /// Names and values of the headers; `None` for a value that is secret or is not text.
    pub headers: Vec<(Box<str>, Option<Box<str>>)>,
    /// The size of the body in bytes.
    pub body_bytes: u64,
}

/// A validated retry, ready to be made.
#[derive(Debug, Clone)]
pub struct RetryDraft {
    row: Delivery,
    webhook: WebhookId,
    /// The head of the event, if the log still has the event.
    head: Option<Bytes>,
}

impl Service {
    /// Lists the deliveries in the scope that match the filter, newest first, starting before the delivery `before`.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the webhook or the tenant, or the stores cannot be read.
    pub async fn list_deliveries(
        &self,
        principal: &Principal,
        scope: ListScope<'_>,
        filter: DeliveryFilter,
        page: PageRequest,
        before: Option<DeliveryId>,
    ) -> Result<ListPage<ListRow<Delivery>, DeliveryId>, Error> {
        Operation::ReadDeliveries.permit(principal.role)?;
        let (webhooks, only) = self.webhooks_in(principal, scope)?;
        let query = DeliveryQuery { before: before.unwrap_or(DeliveryQuery::END), ..DeliveryQuery::all(webhooks) };
        let waiting = self.deliveries.sync(only, None, CHECKPOINT_LIST_MAX).await?;
        let mut waiting: Vec<_> = waiting.into_iter().map(|(event, webhook)| DeliveryId { event, webhook }).collect();
        waiting.sort_unstable_by(|one, other| other.cmp(one));
        let (filter, rows) = (filter.in_lower_case(), page.fetch_limit());
        let found = self
            .read(move |store, log| Search { store, log, filter: &filter, rows }.deliveries(query, &waiting))
            .await?;
        self.listed(page, found, |row| row.id).await
    }

    /// Reads a delivery with its attempts, its payload and its request.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the delivery, or the stores cannot be read.
    pub async fn read_delivery(&self, principal: &Principal, id: DeliveryId) -> Result<DeliveryDetails, Error> {
        Operation::ReadDeliveries.permit(principal.role)?;
        let known = self.webhook_of(principal, id)?;
        let memory = self.payload_memory(principal, id.event).await?;
        let (row, stored) = self.delivery(id).await?;
        let attempts = self.read(move |store, _| Ok::<_, Error>(store.attempts(id)?)).await?;
        let request = match (&known, &stored, attempts.last()) {
            (WebhookEntry::Live(webhook), Some(stored), Some(last)) => self.rebuilt_request(webhook, id, stored, last),
            _ => None,
        };
        let event = stored.as_ref().and_then(|(head, _)| EventSummary::of(head));
        let delivery = ListRow { row, webhook: known.id(), event };
        Ok(DeliveryDetails {
            delivery,
            attempts,
            payload: stored.map(|(head, body)| data_of(&head, &body)),
            request,
            memory,
        })
    }

    /// Checks whether a delivery can be retried. Its webhook must accept deliveries.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the delivery, or the delivery cannot be retried.
    pub async fn draft_retry(&self, principal: &Principal, id: DeliveryId) -> Result<RetryDraft, Error> {
        Operation::RetryDeliveries.permit(principal.role)?;
        let known = self.webhook_of(principal, id)?;
        let _memory = self.payload_memory(principal, id.event).await?;
        let (row, stored) = self.delivery(id).await?;
        let webhook = deliverable(&known)?.id;
        Ok(RetryDraft { row, webhook, head: stored.map(|(head, _)| head) })
    }

    /// Makes one attempt now. A delivery that waits for its next attempt then continues its retry schedule. A delivery
    /// that has ended, delivered or not, begins a new schedule.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the log no longer has the event, the delivery is queued or in progress, or its webhook no longer accepts
    /// deliveries.
    pub async fn retry_delivery(
        &self,
        retry: RetryDraft,
        record: Option<ResponseRecorder<ListRow<Delivery>>>,
    ) -> Result<ListRow<Delivery>, Error> {
        let RetryDraft { row: delivery, webhook, head } = retry;
        let Some(head) = head else {
            return Err(Error::new(ErrorKind::Conflict, "the log no longer has the event's payload"));
        };
        let event = EventSummary::of(&head);
        let now = self.clock.now();
        let id = delivery.id;
        let status = match delivery.status {
            DeliveryStatus::Retrying => DeliveryStatus::Retrying,
            _ => DeliveryStatus::Pending,
        };
        let row = Delivery { status, next_at: Some(now), dead_at: None, reason: None, ..delivery };
        let row = ListRow { row, webhook, event };
        match self.deliveries.retry(id, record.and_then(|record| record.response(&row))).await? {
            RetryResult::Scheduled => Ok(row),
            RetryResult::AlreadyPending => {
                Err(Error::new(ErrorKind::Conflict, "it waits for its turn or is under way"))
            }
            RetryResult::Abandoned(_) => Err(takes_no_deliveries()),
            RetryResult::NotFound => Err(Error::not_found("delivery")),
        }
    }

    /// The webhook of a delivery, deleted or not, if the caller may see it.
    fn webhook_of(&self, principal: &Principal, id: DeliveryId) -> Result<WebhookEntry, Error> {
        let registry = self.registry.load();
        let known = registry.webhook_entry(id.webhook).filter(|known| may_see(principal, known));
        known.cloned().ok_or_else(|| Error::not_found("delivery"))
    }

    /// Reads a delivery, and its event if the log still has the event.
    async fn delivery(&self, id: DeliveryId) -> Result<(Delivery, Option<LogRecord>), Error> {
        let waiting = self.deliveries.sync(Some(id.webhook), Some(id.event), 1).await?;
        self.read(move |store, log| {
            let pending = (!waiting.is_empty()).then(|| Delivery::pending(id));
            let delivery = store.delivery(id)?.or(pending).ok_or_else(|| Error::not_found("delivery"))?;
            Ok((delivery, log.read(&[id.event])?.pop().flatten()))
        })
        .await
    }

    fn rebuilt_request(
        &self,
        webhook: &Arc<Webhook>,
        id: DeliveryId,
        stored: &LogRecord,
        last: &Attempt,
    ) -> Option<RebuiltRequest> {
        let (head, body) = stored.clone();
        EventHead::parse(&head).ok()?;
        let (committed_at, lease) = (self.clock.instant(), MemoryBudget::new(usize::MAX).lease(0));
        let event = Event { id: id.event, head, body, committed_at, lease };
        let rebuilt = preview(webhook, &event, last.number, last.at).ok()?;
        let headers = rebuilt.headers.iter().map(|(name, value)| {
            let text = value.to_str().ok().filter(|_| !value.is_sensitive());
            (name.as_str().into(), text.map(Into::into))
        });
        Some(RebuiltRequest {
            changed_since: webhook.updated_at >= last.at,
            url: webhook.endpoint.url.clone(),
            headers: headers.collect(),
            body_bytes: rebuilt.body_len as u64,
        })
    }
}

/// Returns the webhook if it accepts deliveries. A paused webhook does: its deliveries wait until it is resumed.
///
/// # Errors
/// [`ErrorKind::Conflict`] if the webhook is removed or has failed.
pub(super) fn deliverable(known: &WebhookEntry) -> Result<&Arc<Webhook>, Error> {
    match known {
        WebhookEntry::Live(webhook) if webhook.status != WebhookStatus::Failed => Ok(webhook),
        WebhookEntry::Live(_) | WebhookEntry::Removed(_) => Err(takes_no_deliveries()),
    }
}

fn takes_no_deliveries() -> Error {
    Error::new(ErrorKind::Conflict, "its webhook was removed, or has failed and must be resumed first")
}
