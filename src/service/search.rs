//! Searches for deliveries and dead letters: which ones a list is of, and the way from the newest down.
//!
//! Every search is bounded. It looks at a limited number of rows, fewer where each row needs a look into the log, and then
//! ends with the place where the next page begins.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::access::{may_see, tenant_of};
use super::summary::{EventSummary, Summaries};
use super::{DeadLetter, Delivery, DeliveryStore, Error, Page, Part, Rows, Service, StoreFailed, WebhookRef};
use crate::limits::{PAGE_EVENTS_MAX, PAGE_SCAN_MAX};
use crate::model::{
    DEFAULT_TENANT, DeadReason, DeliveryId, DeliveryStatus, EventHead, EventId, EventPattern, Principal, Timestamp,
    WebhookId, WebhookNo,
};
use crate::registry::Lookup;
use crate::settle::Wanted;
use crate::storage::ReadLog;

/// How far the time of an event's acceptance may be out of the order of acceptance, where a clock was set.
const CLOCK_SLACK: Duration = Duration::from_secs(3_600);
/// Rows read at once while a filter looks for its own, and the least that such a read counts for.
const ROWS_AT_ONCE: usize = 1_000;

/// The webhooks whose deliveries or dead letters a list is of.
#[derive(Debug, Clone, Copy)]
pub enum ListScope<'a> {
    /// One webhook, which must be there or have been there.
    Webhook(WebhookRef<'a>),
    /// Every webhook that the caller may know of.
    All {
        /// Only webhooks of this tenant.
        tenant: Option<&'a str>,
        /// Only this webhook; one that is unknown has no rows.
        webhook: Option<WebhookRef<'a>>,
    },
}

/// Which deliveries or dead letters a list is of, beside its webhooks; an absent field takes all.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Deliveries in this state.
    pub status: Option<DeliveryStatus>,
    /// Dead letters for this reason.
    pub reason: Option<DeadReason>,
    /// Of events whose type fits this pattern.
    pub event_type: Option<EventPattern>,
    /// Of events that were accepted at this time or later; dead letters that died then.
    pub since: Option<Timestamp>,
    /// Of events that were accepted before this time; dead letters that died then.
    pub until: Option<Timestamp>,
    /// Of this event.
    pub event: Option<EventId>,
    /// With this text in the error, the response or the event's ids and type; upper and lower case are the same.
    pub text: Option<String>,
}

/// A row of a list, with its webhook and its event.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The delivery or the dead letter.
    pub row: T,
    /// The webhook that it is of.
    pub webhook: WebhookId,
    /// Its event; `None` if the log no longer has the event.
    pub event: Option<EventSummary>,
}

/// What a search found, newest first.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// Each row with its event, if the search looked at the event and the log still has it.
    pub(super) rows: Vec<(T, Option<EventSummary>)>,
    /// Where the search stopped, if it stopped before the end and before it found enough.
    pub(super) stopped_at: Option<DeliveryId>,
}

/// A search through the stores.
pub(super) struct Search<'a> {
    pub(super) store: &'a dyn DeliveryStore,
    pub(super) log: &'a dyn ReadLog,
    pub(super) filter: &'a DeliveryFilter,
    /// Rows to find.
    pub(super) rows: usize,
}

impl DeliveryFilter {
    /// The filter with its text in lower case, as the search compares it.
    pub(super) fn in_lower_case(self) -> Self {
        Self { text: self.text.map(|text| text.to_lowercase()), ..self }
    }

    /// Narrows what is read to the events that can be wanted. `by_acceptance`: `since` and `until` are of the event.
    fn narrow(&self, wanted: &mut Wanted, log: &dyn ReadLog, by_acceptance: bool) -> Result<(), Error> {
        let mut before = wanted.before;
        if let Some(event) = self.event {
            wanted.first = event;
            before = before.min(DeliveryId { event, webhook: WebhookNo(u32::MAX) });
        }
        if let Some(since) = self.since.filter(|_| by_acceptance) {
            wanted.first = wanted.first.max(first_at(log, earlier(since))?);
        }
        if let Some(until) = self.until.filter(|_| by_acceptance) {
            let event = first_at(log, until.plus(CLOCK_SLACK))?;
            before = before.min(DeliveryId { event, webhook: WebhookNo(0) });
        }
        wanted.before = before;
        wanted.status = self.status;
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

    /// Whether one of these texts, or of the event's, holds the text that is looked for.
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

    fn takes_letter(&self, letter: &DeadLetter, event: Option<&EventSummary>) -> bool {
        self.reason.is_none_or(|reason| reason == letter.reason)
            && self.takes_time(Some(letter.at))
            && self.takes_event(event)
            && self.takes_text(&[letter.error.as_deref(), Some(letter.reason.as_str())], event)
    }
}

impl Search<'_> {
    /// Finds deliveries. `waiting` are those that have no row yet, newest first.
    pub(super) fn deliveries(&self, mut wanted: Wanted, waiting: &[DeliveryId]) -> Result<Found<Delivery>, Error> {
        self.filter.narrow(&mut wanted, self.log, true)?;
        let (first, before) = (wanted.first, wanted.before);
        let webhooks = Arc::clone(&wanted.webhooks);
        let is_wanted =
            |id: &&DeliveryId| id.event >= first && **id < before && webhooks.binary_search(&id.webhook).is_ok();
        let mut waiting = waiting.iter().filter(is_wanted).copied().peekable();
        let read = |wanted: &Wanted, most: usize| {
            let Part { rows: mut part, next } = self.store.deliveries(wanted, most)?;
            let with_rows = part.len();
            while let Some(id) = waiting.next_if(|id| next.is_none_or(|next| *id >= next)) {
                // A delivery that got its row meanwhile is in the part already.
                if part[..with_rows].binary_search_by(|row| id.cmp(&row.id)).is_err() {
                    part.push(Delivery::pending(id));
                }
            }
            part.sort_unstable_by_key(|row| Reverse(row.id));
            Ok(Part { rows: part, next })
        };
        let takes = |row: &Delivery, event: Option<&EventSummary>| self.filter.takes_delivery(row, event);
        self.run(wanted, self.filter.reads_events(true), |row: &Delivery| row.id.event, read, takes)
    }

    /// Finds dead letters.
    pub(super) fn letters(&self, mut wanted: Wanted) -> Result<Found<DeadLetter>, Error> {
        self.filter.narrow(&mut wanted, self.log, false)?;
        wanted.status = None;
        let read = |wanted: &Wanted, most: usize| self.store.dead_letters(wanted, most);
        let takes = |letter: &DeadLetter, event: Option<&EventSummary>| self.filter.takes_letter(letter, event);
        self.run(wanted, self.filter.reads_events(false), |letter: &DeadLetter| letter.id.event, read, takes)
    }

    fn run<T>(
        &self,
        mut wanted: Wanted,
        reads_events: bool,
        event_of: impl Fn(&T) -> EventId,
        mut read: impl FnMut(&Wanted, usize) -> Result<Part<T>, StoreFailed>,
        takes: impl Fn(&T, Option<&EventSummary>) -> bool,
    ) -> Result<Found<T>, Error> {
        let scan = if reads_events { PAGE_EVENTS_MAX } else { PAGE_SCAN_MAX };
        let mut summaries = Summaries::new(self.log);
        let (mut rows, mut looked_at) = (Vec::new(), 0);
        loop {
            let most = self.rows - rows.len();
            // The first read is what a list without a filter needs; each further read shows that a filter is at work.
            let part = read(&wanted, if looked_at == 0 { most } else { most.max(ROWS_AT_ONCE) })?;
            looked_at += ROWS_AT_ONCE.max(part.rows.len());
            for row in part.rows {
                let event = if reads_events { summaries.of(event_of(&row))? } else { None };
                if takes(&row, event.as_ref()) {
                    rows.push((row, event));
                }
                if rows.len() == self.rows {
                    return Ok(Found { rows, stopped_at: None });
                }
            }
            match part.next {
                Some(next) if looked_at < scan => wanted.before = next,
                stopped_at => return Ok(Found { rows, stopped_at }),
            }
        }
    }
}

impl Service {
    /// The webhooks that a list is of, there or removed, ascending; and the only one, if the scope names one.
    pub(super) fn webhooks_in(
        &self,
        principal: &Principal,
        scope: ListScope<'_>,
    ) -> Result<(Arc<[WebhookNo]>, Option<WebhookNo>), Error> {
        let (tenant, webhook) = match scope {
            ListScope::Webhook(of) => {
                let no = self.known(principal, of)?.no();
                return Ok(([no].into(), Some(no)));
            }
            ListScope::All { tenant, webhook } => (tenant_of(principal, tenant)?, webhook),
        };
        let registry = self.registry.load();
        let is_wanted =
            |known: &&Lookup| may_see(principal, known) && tenant.is_none_or(|tenant| *tenant == **known.tenant());
        let named = match webhook {
            None => return Ok((registry.all().filter(is_wanted).map(Lookup::no).collect(), None)),
            Some(WebhookRef::Id(id)) => registry.known_by_id(id),
            Some(WebhookRef::Uid(uid)) => {
                let webhook = registry.webhook_by_uid(tenant.unwrap_or(DEFAULT_TENANT), uid);
                webhook.and_then(|webhook| registry.known(webhook.no))
            }
        };
        Ok((named.into_iter().filter(is_wanted).map(Lookup::no).collect(), None))
    }

    /// The page of what a search found, each row with its webhook and its event.
    pub(super) async fn listed<T: Send + 'static>(
        &self,
        page: Page,
        found: Found<T>,
        id: fn(&T) -> DeliveryId,
    ) -> Result<Rows<Listed<T>, DeliveryId>, Error> {
        let Rows { mut rows, next } = page.rows(found.rows, found.stopped_at, |(row, _)| id(row));
        let with_events = move |_: &dyn DeliveryStore, log: &dyn ReadLog| {
            Summaries::new(log).fill(&mut rows, |row| id(row).event)?;
            Ok::<_, Error>(rows)
        };
        let rows = self.read(with_events).await?;
        let registry = self.registry.load();
        let listed = |(row, event): (T, _)| {
            let webhook = registry.known(id(&row).webhook)?.id();
            Some(Listed { row, webhook, event })
        };
        Ok(Rows { rows: rows.into_iter().filter_map(listed).collect(), next })
    }
}

fn earlier(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis().saturating_sub(CLOCK_SLACK.as_millis() as i64))
}

/// An id after every event that was accepted before this time and not after any that was accepted since, found by halving.
fn first_at(log: &dyn ReadLog, time: Timestamp) -> Result<EventId, Error> {
    let next = |after: u128| Ok::<_, Error>(log.heads_after(EventId::from_u128(after), 1)?.pop());
    let is_before = |head: &[u8]| EventHead::parse(head).is_ok_and(|head| head.event.received_at < time);
    // Events up to `low` are before the time. The first one after `high` is not, or there is none.
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
