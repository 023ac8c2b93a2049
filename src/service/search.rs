//! Searches for deliveries and dead letters, from the newest to the oldest.
//!
//! Every search is bounded. It examines a limited number of rows, and fewer rows if each row needs a read of the log.
//! At the limit it stops and returns the position at which the next page begins.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::access::{may_see, tenant_of};
use super::summary::{EventSummary, Summaries};
use super::{
    BackendFailed, DeadLetter, Delivery, DeliveryBackend, Error, ListPage, PageRequest, RowBatch, Service, WebhookRef,
};
use crate::limits::{PAGE_EVENTS_MAX, PAGE_SCAN_MAX};
use crate::model::{
    DEFAULT_TENANT, DeadReason, DeliveryId, DeliveryStatus, EventHead, EventId, EventPattern, Principal, Timestamp,
    WebhookId, WebhookNo,
};
use crate::registry::WebhookEntry;
use crate::settle::DeliveryQuery;
use crate::storage::ReadLog;

/// How far acceptance times may deviate from the order of acceptance, because a clock was set.
const CLOCK_SLACK: Duration = Duration::from_secs(3_600);
/// Rows to read at once while a search looks for matching rows. Each read counts for at least this many rows.
const ROWS_AT_ONCE: usize = 1_000;

/// The webhooks whose deliveries or dead letters are listed.
#[derive(Debug, Clone, Copy)]
pub enum ListScope<'a> {
    /// One webhook, which must exist or have existed.
    Webhook(WebhookRef<'a>),
    /// Every webhook that the caller may see.
    All {
        /// Only webhooks of this tenant.
        tenant: Option<&'a str>,
        /// Only this webhook. An unknown webhook yields an empty list.
        webhook: Option<WebhookRef<'a>>,
    },
}

/// A filter for deliveries or dead letters. A field that is `None` matches everything.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Deliveries in this state.
    pub status: Option<DeliveryStatus>,
    /// Dead letters with this reason.
    pub reason: Option<DeadReason>,
    /// Rows of events whose type matches this pattern.
    pub event_type: Option<EventPattern>,
    /// Deliveries of events accepted at this time or later; dead letters that ended at this time or later.
    pub since: Option<Timestamp>,
    /// Deliveries of events accepted before this time; dead letters that ended before this time.
    pub until: Option<Timestamp>,
    /// Rows of this event.
    pub event: Option<EventId>,
    /// Rows with this text in the error, the response, or the ids and type of the event, ignoring case.
    pub text: Option<String>,
}

/// A row of a list with its webhook and its event.
#[derive(Debug, Clone)]
pub struct ListRow<T> {
    /// The delivery or the dead letter.
    pub row: T,
    /// The webhook that receives the delivery.
    pub webhook: WebhookId,
    /// The event; `None` if the log no longer has it.
    pub event: Option<EventSummary>,
}

/// The rows that a search found, newest first.
#[derive(Debug)]
pub(super) struct SearchResult<T> {
    /// Each row with its event, if the search read the event and the log still has it.
    pub(super) rows: Vec<(T, Option<EventSummary>)>,
    /// The position at which the search stopped, if it reached its scan limit before the end of the list and before it
    /// found enough rows.
    pub(super) stopped_at: Option<DeliveryId>,
}

/// A search through the delivery backend and the log.
pub(super) struct Search<'a> {
    pub(super) store: &'a dyn DeliveryBackend,
    pub(super) log: &'a dyn ReadLog,
    pub(super) filter: &'a DeliveryFilter,
    /// The number of rows to find.
    pub(super) rows: usize,
}

impl DeliveryFilter {
    /// Returns the filter with its text in lower case, which the search needs.
    pub(super) fn in_lower_case(self) -> Self {
        Self { text: self.text.map(|text| text.to_lowercase()), ..self }
    }

    /// Restricts the query to events that can match. With `by_acceptance`, `since` and `until` refer to the acceptance
    /// of the event.
    fn narrow(&self, query: &mut DeliveryQuery, log: &dyn ReadLog, by_acceptance: bool) -> Result<(), Error> {
        let mut before = query.before;
        if let Some(event) = self.event {
            query.first = event;
            before = before.min(DeliveryId { event, webhook: WebhookNo(u32::MAX) });
        }
        if let Some(since) = self.since.filter(|_| by_acceptance) {
            query.first = query.first.max(first_at(log, earlier(since))?);
        }
        if let Some(until) = self.until.filter(|_| by_acceptance) {
            let event = first_at(log, until.plus(CLOCK_SLACK))?;
            before = before.min(DeliveryId { event, webhook: WebhookNo(0) });
        }
        query.before = before;
        query.status = self.status;
        Ok(())
    }

    fn reads_events(&self, by_acceptance: bool) -> bool {
        self.event_type.is_some()
            || self.text.is_some()
            || (by_acceptance && (self.since.is_some() || self.until.is_some()))
    }

    fn takes_event(&self, event: Option<&EventSummary>) -> bool {
        let of_type = |pattern: &EventPattern| event.is_some_and(|event| pattern.matches(&event.event_type));
        self.event_type.as_ref().is_none_or(of_type)
    }

    fn takes_time(&self, at: Option<Timestamp>) -> bool {
        self.since.is_none_or(|since| at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| at.is_some_and(|at| at < until))
    }

    /// Whether one of these texts or a text of the event contains the filter's text.
    fn takes_text(&self, texts: &[Option<&str>], event: Option<&EventSummary>) -> bool {
        let Some(needle) = &self.text else { return true };
        let of_event =
            event.map(|event| [Some(&*event.event_type), Some(&*event.correlation_id), event.external_id.as_deref()]);
        let mut all = texts.iter().chain(of_event.iter().flatten()).flatten();
        all.any(|text| text.to_lowercase().contains(needle))
    }

    fn takes_delivery(&self, row: &Delivery, event: Option<&EventSummary>) -> bool {
        let error = row.last.as_ref().and_then(|last| last.error.as_ref()).map(ToString::to_string);
        let response = row.last.as_ref().map(|last| &*last.response);
        let created_at = event.map(|event| event.received_at).or(row.last.as_ref().map(|last| last.at));
        self.status.is_none_or(|status| status == row.status)
            && self.takes_event(event)
            && self.takes_time(created_at)
            && self.takes_text(&[error.as_deref(), response], event)
    }

    fn takes_dead_letter(&self, dead_letter: &DeadLetter, event: Option<&EventSummary>) -> bool {
        self.reason.is_none_or(|reason| reason == dead_letter.reason)
            && self.takes_time(Some(dead_letter.at))
            && self.takes_event(event)
            && self.takes_text(&[dead_letter.error.as_deref(), Some(dead_letter.reason.as_str())], event)
    }
}

impl Search<'_> {
    /// Finds deliveries. `waiting` are the deliveries that have no row yet, newest first.
    pub(super) fn deliveries(
        &self,
        mut query: DeliveryQuery,
        waiting: &[DeliveryId],
    ) -> Result<SearchResult<Delivery>, Error> {
        self.filter.narrow(&mut query, self.log, true)?;
        let (first, before) = (query.first, query.before);
        let webhooks = Arc::clone(&query.webhooks);
        let is_wanted =
            |id: &&DeliveryId| id.event >= first && **id < before && webhooks.binary_search(&id.webhook).is_ok();
        let mut waiting = waiting.iter().filter(is_wanted).copied().peekable();
        let read = |query: &DeliveryQuery, most: usize| {
            let RowBatch { rows: mut part, next } = self.store.deliveries(query, most)?;
            let with_rows = part.len();
            while let Some(id) = waiting.next_if(|id| next.is_none_or(|next| *id >= next)) {
                // A delivery whose row was written meanwhile is already in the batch.
                if part[..with_rows].binary_search_by(|row| id.cmp(&row.id)).is_err() {
                    part.push(Delivery::pending(id));
                }
            }
            part.sort_unstable_by_key(|row| Reverse(row.id));
            Ok(RowBatch { rows: part, next })
        };
        let takes = |row: &Delivery, event: Option<&EventSummary>| self.filter.takes_delivery(row, event);
        self.run(query, self.filter.reads_events(true), |row: &Delivery| row.id.event, read, takes)
    }

    /// Finds dead letters.
    pub(super) fn dead_letters(&self, mut query: DeliveryQuery) -> Result<SearchResult<DeadLetter>, Error> {
        self.filter.narrow(&mut query, self.log, false)?;
        query.status = None;
        let read = |query: &DeliveryQuery, most: usize| self.store.dead_letters(query, most);
        let takes =
            |dead_letter: &DeadLetter, event: Option<&EventSummary>| self.filter.takes_dead_letter(dead_letter, event);
        self.run(query, self.filter.reads_events(false), |dead_letter: &DeadLetter| dead_letter.id.event, read, takes)
    }

    fn run<T>(
        &self,
        mut query: DeliveryQuery,
        reads_events: bool,
        event_of: impl Fn(&T) -> EventId,
        mut read: impl FnMut(&DeliveryQuery, usize) -> Result<RowBatch<T>, BackendFailed>,
        takes: impl Fn(&T, Option<&EventSummary>) -> bool,
    ) -> Result<SearchResult<T>, Error> {
        let scan = if reads_events { PAGE_EVENTS_MAX } else { PAGE_SCAN_MAX };
        let mut summaries = Summaries::new(self.log);
        let (mut rows, mut looked_at) = (Vec::new(), 0);
        loop {
            let most = self.rows - rows.len();
            // The first read fetches what a list without a filter needs. A second read means that the filter excludes
            // rows, so it fetches more.
            let part = read(&query, if looked_at == 0 { most } else { most.max(ROWS_AT_ONCE) })?;
            looked_at += ROWS_AT_ONCE.max(part.rows.len());
            for row in part.rows {
                let event = if reads_events { summaries.of(event_of(&row))? } else { None };
                if takes(&row, event.as_ref()) {
                    rows.push((row, event));
                }
                if rows.len() == self.rows {
                    return Ok(SearchResult { rows, stopped_at: None });
                }
            }
            match part.next {
                Some(next) if looked_at < scan => query.before = next,
                stopped_at => return Ok(SearchResult { rows, stopped_at }),
            }
        }
    }
}

impl Service {
    /// The webhooks of a scope, deleted ones included, ascending. The second value is the webhook that the scope names,
    /// if it names one.
    pub(super) fn webhooks_in(
        &self,
        principal: &Principal,
        scope: ListScope<'_>,
    ) -> Result<(Arc<[WebhookNo]>, Option<WebhookNo>), Error> {
        let (tenant, webhook) = match scope {
            ListScope::Webhook(of) => {
                let no = self.find_webhook(principal, of)?.no();
                return Ok(([no].into(), Some(no)));
            }
            ListScope::All { tenant, webhook } => (tenant_of(principal, tenant)?, webhook),
        };
        let registry = self.registry.load();
        let is_wanted = |known: &&WebhookEntry| {
            may_see(principal, known) && tenant.is_none_or(|tenant| *tenant == **known.tenant())
        };
        let named = match webhook {
            None => return Ok((registry.webhook_entries().filter(is_wanted).map(WebhookEntry::no).collect(), None)),
            Some(WebhookRef::Id(id)) => registry.webhook_entry_by_id(id),
            Some(WebhookRef::Uid(uid)) => {
                let webhook = registry.webhook_by_uid(tenant.unwrap_or(DEFAULT_TENANT), uid);
                webhook.and_then(|webhook| registry.webhook_entry(webhook.no))
            }
        };
        Ok((named.into_iter().filter(is_wanted).map(WebhookEntry::no).collect(), None))
    }

    /// Builds the page of a search result, each row with its webhook and its event.
    pub(super) async fn listed<T: Send + 'static>(
        &self,
        page: PageRequest,
        found: SearchResult<T>,
        id: fn(&T) -> DeliveryId,
    ) -> Result<ListPage<ListRow<T>, DeliveryId>, Error> {
        let ListPage { mut rows, next } = page.rows(found.rows, found.stopped_at, |(row, _)| id(row));
        let with_events = move |_: &dyn DeliveryBackend, log: &dyn ReadLog| {
            Summaries::new(log).fill(&mut rows, |row| id(row).event)?;
            Ok::<_, Error>(rows)
        };
        let rows = self.read(with_events).await?;
        let registry = self.registry.load();
        let listed = |(row, event): (T, _)| {
            let webhook = registry.webhook_entry(id(&row).webhook)?.id();
            Some(ListRow { row, webhook, event })
        };
        Ok(ListPage { rows: rows.into_iter().filter_map(listed).collect(), next })
    }
}

fn earlier(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis().saturating_sub(CLOCK_SLACK.as_millis() as i64))
}

/// Finds an event id by binary search. All events accepted before `time` have smaller ids; no event accepted at `time`
/// or later does.
fn first_at(log: &dyn ReadLog, time: Timestamp) -> Result<EventId, Error> {
    let next = |after: u128| Ok::<_, Error>(log.heads_after(EventId::from_u128(after), 1)?.pop());
    let is_before = |head: &[u8]| EventHead::parse(head).is_ok_and(|head| head.event.received_at < time);
    // Events up to `low` were accepted before `time`. The first event after `high` was not, or there is none.
    let (mut low, mut high) = (0, log.last().as_u128());
    let Some((first, head)) = next(low)? else { return Ok(EventId::MIN) };
    if !is_before(&head) {
        return Ok(first);
    }
    low = low.max(first.as_u128());
    while low < high {
        let middle = low + (high - low) / 2;
        match next(middle)? {
            Some((event, head)) if is_before(&head) => low = event.as_u128(),
            found => {
                let follows = next(low)?.map(|(event, _)| event);
                if follows == found.map(|(event, _)| event) {
                    return Ok(follows.unwrap_or(EventId::MAX));
                }
                high = middle;
            }
        }
    }
    let after_low = EventId::from_u128(low.saturating_add(1));
    Ok(next(low)?.map_or(after_low, |(event, _)| event))
}
