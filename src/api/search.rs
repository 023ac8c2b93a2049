//! Looking for deliveries and dead letters: what a list's query asks for, and the search from the newest down.
//!
//! Every search is bounded: it looks at so many rows, and at fewer where each needs a look into the log, and then ends with
//! the place where the next page goes on.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::page::Query;
use super::webhook::tenant_of;
use super::{Api, Call};
use crate::http::{Problem, ProblemCode};
use crate::limits::{PAGE_EVENTS_MAX, PAGE_SCAN_MAX};
use crate::model::{DeadReason, DeliveryId, DeliveryStatus, EventHead, EventId, EventPattern, Timestamp, WebhookNo};
use crate::registry::Known;
use crate::service::access::may_see;
use crate::service::{DeadLetter, Delivery, DeliveryStore, Part, StoreFailed, WebhookRef};
use crate::settle::Wanted;
use crate::storage::ReadLog;

/// Events are in order of acceptance, and so of their times but for what a clock that was set made of them.
const CLOCK_SLACK: Duration = Duration::from_secs(3_600);
/// Heads read at once: neighbours in a list are often neighbours in the log.
const HEADS_AT_ONCE: usize = 16;
/// Rows read at once while a filter looks for its own, and what such a part of a list costs at least.
const PART_COST: usize = 1_000;

/// What a list is asked for beside its page.
#[derive(Debug, Default)]
pub(super) struct Filters {
    status: Option<DeliveryStatus>,
    reason: Option<DeadReason>,
    pattern: Option<EventPattern>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    event: Option<EventId>,
    needle: Option<String>,
}

/// What is shown of a delivery's event.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) event_type: Box<str>,
    pub(super) received_at: Timestamp,
    pub(super) correlation_id: Box<str>,
    external_id: Option<Box<str>>,
}

/// What a search found, newest first.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// Each with what is known of its event, `None` where the log no longer has it.
    pub(super) rows: Vec<(T, Option<About>)>,
    /// Where it goes on, if it stopped before the end and before it had found enough.
    pub(super) next: Option<DeliveryId>,
}

/// The place of a search.
pub(super) struct Search<'a> {
    pub(super) store: &'a dyn DeliveryStore,
    pub(super) log: &'a dyn ReadLog,
    pub(super) filters: &'a Filters,
    /// Rows to find.
    pub(super) rows: usize,
}

impl About {
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let head = EventHead::parse(head).ok()?.event;
        Some(Self {
            event_type: head.event_type.into(),
            received_at: head.received_at,
            correlation_id: head.correlation_id.into(),
            external_id: head.external_id.map(Box::from),
        })
    }
}

impl Filters {
    /// Of deliveries: `status`, `event_type` or `type` (a type or a pattern), `event_id`, `since`, `until` (of the event's
    /// acceptance), `q`. Of dead letters: `failure_reason` in place of `status`, and `since`, `until` of their end.
    pub(super) fn of(query: &Query) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(ProblemCode::InvalidRequest, detail);
        let pattern = query.get("event_type").or_else(|| query.get("type")).map(EventPattern::try_new).transpose();
        Ok(Self {
            status: status(query)?,
            reason: reason(query)?,
            pattern: pattern.map_err(|error| bad(format!("query parameter event_type: {error}")))?,
            since: query.time("since")?,
            until: query.time("until")?,
            event: query.parse("event_id", "expected the id of an event")?,
            needle: query.get("q").map(str::to_lowercase),
        })
    }

    /// Narrows what is read to the events that can be wanted; `times`: by their acceptance too.
    fn narrow(&self, wanted: &mut Wanted, log: &dyn ReadLog, times: bool) -> Result<(), Problem> {
        let mut before = wanted.before;
        if let Some(event) = self.event {
            wanted.first = event;
            before = before.min(DeliveryId { event, webhook: WebhookNo(u32::MAX) });
        }
        if let Some(since) = self.since.filter(|_| times) {
            wanted.first = wanted.first.max(first_at(log, earlier(since))?);
        }
        if let Some(until) = self.until.filter(|_| times) {
            let event = first_at(log, until.plus(CLOCK_SLACK))?;
            before = before.min(DeliveryId { event, webhook: WebhookNo(0) });
        }
        wanted.before = before;
        wanted.status = self.status;
        Ok(())
    }

    fn reads_events(&self, times: bool) -> bool {
        self.pattern.is_some() || self.needle.is_some() || (times && (self.since.is_some() || self.until.is_some()))
    }

    fn takes_event(&self, about: Option<&About>) -> bool {
        let of_type = |pattern: &EventPattern| about.is_some_and(|about| pattern.matches(&about.event_type));
        self.pattern.as_ref().is_none_or(of_type)
    }

    fn takes_time(&self, at: Option<Timestamp>) -> bool {
        self.since.is_none_or(|since| at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| at.is_some_and(|at| at < until))
    }

    /// Whether one of these texts, or of the event's, holds what is looked for.
    fn takes_text(&self, texts: &[Option<&str>], about: Option<&About>) -> bool {
        let Some(needle) = &self.needle else { return true };
        let of_event =
            about.map(|about| [Some(&*about.event_type), Some(&*about.correlation_id), about.external_id.as_deref()]);
        let mut all = texts.iter().chain(of_event.iter().flatten()).flatten();
        all.any(|text| text.to_lowercase().contains(needle))
    }

    fn takes_delivery(&self, row: &Delivery, about: Option<&About>) -> bool {
        let error = row.last.as_ref().and_then(|last| last.error.as_ref()).map(ToString::to_string);
        let response = row.last.as_ref().map(|last| &*last.response);
        let created_at = about.map(|about| about.received_at).or(row.last.as_ref().map(|last| last.at));
        self.status.is_none_or(|status| status == row.status)
            && self.takes_event(about)
            && self.takes_time(created_at)
            && self.takes_text(&[error.as_deref(), response], about)
    }

    fn takes_letter(&self, letter: &DeadLetter, about: Option<&About>) -> bool {
        self.reason.is_none_or(|reason| reason == letter.reason)
            && self.takes_time(Some(letter.at))
            && self.takes_event(about)
            && self.takes_text(&[letter.error.as_deref(), Some(letter.reason.as_str())], about)
    }
}

impl Search<'_> {
    /// Deliveries; `waiting`: those without a row, newest first.
    pub(super) fn deliveries(&self, mut wanted: Wanted, waiting: &[DeliveryId]) -> Result<Found<Delivery>, Problem> {
        self.filters.narrow(&mut wanted, self.log, true)?;
        let (first, before) = (wanted.first, wanted.before);
        let webhooks = Arc::clone(&wanted.webhooks);
        let is_wanted =
            |id: &&DeliveryId| id.event >= first && **id < before && webhooks.binary_search(&id.webhook).is_ok();
        let mut waiting = waiting.iter().filter(is_wanted).copied().peekable();
        let read = |wanted: &Wanted, most: usize| {
            let Part { rows: mut part, next } = self.store.deliveries(wanted, most)?;
            let with_rows = part.len();
            while let Some(id) = waiting.next_if(|id| next.is_none_or(|next| *id >= next)) {
                // What has a row meanwhile is shown by it.
                if part[..with_rows].binary_search_by(|row| id.cmp(&row.id)).is_err() {
                    part.push(Delivery::pending(id));
                }
            }
            part.sort_unstable_by_key(|row| Reverse(row.id));
            Ok(Part { rows: part, next })
        };
        let takes = |row: &Delivery, about: Option<&About>| self.filters.takes_delivery(row, about);
        self.run(wanted, self.filters.reads_events(true), |row: &Delivery| row.id.event, read, takes)
    }

    /// Dead letters.
    pub(super) fn letters(&self, mut wanted: Wanted) -> Result<Found<DeadLetter>, Problem> {
        self.filters.narrow(&mut wanted, self.log, false)?;
        wanted.status = None;
        let read = |wanted: &Wanted, most: usize| self.store.dead_letters(wanted, most);
        let takes = |letter: &DeadLetter, about: Option<&About>| self.filters.takes_letter(letter, about);
        self.run(wanted, self.filters.reads_events(false), |letter: &DeadLetter| letter.id.event, read, takes)
    }

    fn run<T>(
        &self,
        mut wanted: Wanted,
        reads_events: bool,
        event_of: impl Fn(&T) -> EventId,
        mut read: impl FnMut(&Wanted, usize) -> Result<Part<T>, StoreFailed>,
        takes: impl Fn(&T, Option<&About>) -> bool,
    ) -> Result<Found<T>, Problem> {
        let scan = if reads_events { PAGE_EVENTS_MAX } else { PAGE_SCAN_MAX };
        let mut heads = Heads::new(self.log);
        let (mut rows, mut looked_at) = (Vec::new(), 0);
        loop {
            let most = self.rows - rows.len();
            // The first look is what an unfiltered list needs; after that a filter is at work.
            let part = read(&wanted, if looked_at == 0 { most } else { most.max(PART_COST) })?;
            looked_at += PART_COST.max(part.rows.len());
            for row in part.rows {
                let about = if reads_events { heads.about(event_of(&row))? } else { None };
                if takes(&row, about.as_ref()) {
                    rows.push((row, about));
                }
                if rows.len() == self.rows {
                    return Ok(Found { rows, next: None });
                }
            }
            match part.next {
                Some(next) if looked_at < scan => wanted.before = next,
                next => return Ok(Found { rows, next }),
            }
        }
    }
}

impl Api {
    /// The webhooks that a list over many is of, there or removed, ascending: those that the caller may see, of `tenant`
    /// and `webhook_id` where those are given.
    pub(super) fn scope(&self, call: &Call, query: &Query) -> Result<Arc<[WebhookNo]>, Problem> {
        let tenant = tenant_of(&call.principal, query)?;
        let registry = self.service.registry.load();
        let is_wanted =
            |known: &&Known| may_see(&call.principal, known) && tenant.is_none_or(|tenant| *tenant == **known.tenant());
        let Some(text) = query.get("webhook_id") else {
            return Ok(registry.all().filter(is_wanted).map(Known::no).collect());
        };
        let bad =
            || Problem::new(ProblemCode::InvalidRequest, "query parameter webhook_id: expected the id of a webhook");
        let named = match WebhookRef::parse(text).ok_or_else(bad)? {
            WebhookRef::Id(id) => registry.known_by_id(id),
            WebhookRef::Uid(uid) => {
                let tenant = tenant.unwrap_or(crate::model::DEFAULT_TENANT);
                registry.webhook_by_uid(tenant, uid).and_then(|webhook| registry.known(webhook.no))
            }
        };
        Ok(named.into_iter().filter(is_wanted).map(Known::no).collect())
    }
}

/// The heads of the log, as a list goes through them.
pub(super) struct Heads<'a> {
    log: &'a dyn ReadLog,
    /// The part of the log that was read, bounds included.
    read: Option<(EventId, EventId)>,
    found: BTreeMap<EventId, About>,
}

impl<'a> Heads<'a> {
    pub(super) fn new(log: &'a dyn ReadLog) -> Self {
        Self { log, read: None, found: BTreeMap::new() }
    }

    /// What is shown of an event; `None` if the log no longer has it.
    pub(super) fn about(&mut self, event: EventId) -> Result<Option<About>, Problem> {
        if !self.read.is_some_and(|(first, last)| (first..=last).contains(&event)) {
            let heads = self.log.heads_before(after(event), HEADS_AT_ONCE)?;
            self.read = Some((heads.last().map_or(event, |(id, _)| *id), event));
            self.found = heads.into_iter().filter_map(|(id, head)| Some((id, About::of(&head)?))).collect();
        }
        Ok(self.found.get(&event).cloned())
    }

    /// Each row with what is shown of its event.
    pub(super) fn fill<T>(
        &mut self,
        rows: &mut [(T, Option<About>)],
        event: impl Fn(&T) -> EventId,
    ) -> Result<(), Problem> {
        for (row, about) in rows.iter_mut().filter(|(_, about)| about.is_none()) {
            *about = self.about(event(row))?;
        }
        Ok(())
    }
}

fn after(event: EventId) -> EventId {
    EventId::from_u128(event.as_u128().saturating_add(1))
}

fn earlier(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis().saturating_sub(CLOCK_SLACK.as_millis() as i64))
}

/// An id that is after every event accepted before this time, and not after any accepted since, by halving.
fn first_at(log: &dyn ReadLog, time: Timestamp) -> Result<EventId, Problem> {
    let next = |after: u128| Ok::<_, Problem>(log.heads_after(EventId::from_u128(after), 1)?.pop());
    let is_before = |head: &[u8]| EventHead::parse(head).is_ok_and(|head| head.event.received_at < time);
    // Events up to `low` are before the time; the first one after `high` is not, or there is none.
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
    Ok(next(low)?.map_or_else(|| after(EventId::from_u128(low)), |(event, _)| event))
}

fn status(query: &Query) -> Result<Option<DeliveryStatus>, Problem> {
    use DeliveryStatus::{Abandoned, Delivered, Failed, Pending, Retrying};
    let Some(text) = query.get("status") else { return Ok(None) };
    let all = [Pending, Retrying, Delivered, Failed, Abandoned];
    let found = all.into_iter().find(|status| status.as_str() == text);
    let bad = "query parameter status: expected pending, retrying, delivered, failed or abandoned";
    found.map(Some).ok_or_else(|| Problem::new(ProblemCode::InvalidRequest, bad))
}

fn reason(query: &Query) -> Result<Option<DeadReason>, Problem> {
    let Some(text) = query.get("failure_reason") else { return Ok(None) };
    let bad =
        || Problem::new(ProblemCode::InvalidRequest, format!("query parameter failure_reason: {REASONS_ALLOWED}"));
    reason_of(text).map(Some).ok_or_else(bad)
}

/// What [`reason_of`] takes.
pub(super) const REASONS_ALLOWED: &str = "expected exhausted, not_retryable, gone, disabled, removed or expired";

/// The reason of this name.
pub(super) fn reason_of(text: &str) -> Option<DeadReason> {
    let mut all = (0..=u8::MAX).map_while(|n| DeadReason::from_u8(n + 1));
    all.find(|reason| reason.as_str() == text)
}
