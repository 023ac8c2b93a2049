//! Dead letters: list, read, replay, discard. Dead letters stay readable after their webhook is deleted.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::delivery::deliverable;
use super::fields::{DocumentFields, unknown};
use super::search::{DeliveryFilter, ListRow, ListScope, Search};
use super::summary::{EventSummary, Summaries};
use super::{
    DeadLetter, DeliveryBackend, Error, ListPage, Operation, PageRequest, ResponseRecorder, Service, WebhookRef,
};
use crate::limits::{BULK_REPLAY_MAX, DEAD_LETTER_PAYLOADS_BYTES, PAGE_ROWS_MAX};
use crate::model::{DeadReason, DeliveryId, EventId, EventPattern, Principal, Timestamp, WebhookNo, data_of};
use crate::runtime::TenantShare;
use crate::settle::DeliveryQuery;
use crate::storage::ReadLog;

/// Error text that lists the names that [`dead_reason`] accepts.
pub const DEAD_REASONS_ALLOWED: &str =
    "expected exhausted, not_retryable, gone, disabled, removed, expired or filter_too_costly";

/// Parses the name of a reason. Returns `None` for an unknown name.
pub fn dead_reason(name: &str) -> Option<DeadReason> {
    let mut all = (0..=u8::MAX).map_while(|n| DeadReason::from_u8(n + 1));
    all.find(|reason| reason.as_str() == name)
}

/// A dead letter with its payload.
#[derive(Debug)]
pub struct DeadLetterDetails {
    /// The dead letter, its webhook and its event.
    pub dead_letter: ListRow<DeadLetter>,
    /// The data of its event; `None` if the log no longer has the event.
    pub payload: Option<Bytes>,
    /// The memory of the payload and of the response.
    pub memory: TenantShare,
}

/// A dead letter in a list.
#[derive(Debug)]
pub struct ListedDeadLetter {
    /// The dead letter, its webhook and its event.
    pub dead_letter: ListRow<DeadLetter>,
    /// The data of its event; `None` if the log no longer has the event, or if the payload is left out.
    pub payload: Option<Bytes>,
    /// Whether the payload is left out because the payloads of the page are large.
    pub is_payload_omitted: bool,
}

/// A validated selection of one webhook's dead letters, ready to be replayed.
#[derive(Debug, Clone)]
pub struct DeadLetterReplayDraft {
    webhook: WebhookNo,
    /// `None`: all dead letters of the webhook.
    events: Option<Vec<EventId>>,
}

/// Reads the payloads of a page. A payload that does not fit is left out, and smaller ones after it are shown.
fn with_payloads(rows: Vec<ListRow<DeadLetter>>, log: &dyn ReadLog) -> Result<Vec<ListedDeadLetter>, Error> {
    let mut left = DEAD_LETTER_PAYLOADS_BYTES;
    let mut listed = Vec::with_capacity(rows.len());
    for dead_letter in rows {
        // Retention has kept only the body of an event without a summary, so its length is not known before the read.
        let fits = dead_letter.event.as_ref().map_or(left > 0, |event| event.body_len <= left);
        let stored = if fits { log.read(&[dead_letter.row.id.event])?.pop().flatten() } else { None };
        let is_too_long = stored.as_ref().is_some_and(|(_, body)| body.len() > left);
        left = left.saturating_sub(stored.as_ref().map_or(0, |(_, body)| body.len()));
        let payload = stored.filter(|_| !is_too_long).map(|(head, body)| data_of(&head, &body));
        listed.push(ListedDeadLetter { dead_letter, payload, is_payload_omitted: !fits || is_too_long });
    }
    Ok(listed)
}

impl Service {
    /// Lists the dead letters in the scope that match the filter, newest first, starting before the dead letter
    /// `before`, with payloads of together at most [`DEAD_LETTER_PAYLOADS_BYTES`].
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the webhook or the tenant, or the stores cannot be read.
    pub async fn list_dead_letters(
        &self,
        principal: &Principal,
        scope: ListScope<'_>,
        filter: DeliveryFilter,
        page: PageRequest,
        before: Option<DeliveryId>,
    ) -> Result<ListPage<ListedDeadLetter, DeliveryId>, Error> {
        Operation::ReadDeadLetters.permit(principal.role)?;
        let (webhooks, only) = self.webhooks_in(principal, scope)?;
        let query = DeliveryQuery { before: before.unwrap_or(DeliveryQuery::END), ..DeliveryQuery::all(webhooks) };
        self.deliveries.sync(only, None, 1).await?;
        let (filter, rows) = (filter.in_lower_case(), page.fetch_limit());
        let found =
            self.read(move |store, log| Search { store, log, filter: &filter, rows }.dead_letters(query)).await?;
        let ListPage { rows, next } = self.listed(page, found, |dead_letter| dead_letter.id).await?;
        let rows = self.read(move |_, log| with_payloads(rows, log)).await?;
        Ok(ListPage { rows, next })
    }

    /// Reads a dead letter with its payload.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the dead letter, or the stores cannot be read.
    pub async fn read_dead_letter(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: DeliveryId,
    ) -> Result<DeadLetterDetails, Error> {
        Operation::ReadDeadLetters.permit(principal.role)?;
        let webhook = self.find_webhook(principal, of)?.id();
        let row = self.dead_letter(principal, of, id).await?;
        let memory = self.payload_memory(principal, id.event).await?;
        let stored = self.read(move |_, log| Ok::<_, Error>(log.read(&[id.event])?.pop().flatten())).await?;
        let event = stored.as_ref().and_then(|(head, _)| EventSummary::of(head));
        let payload = stored.map(|(head, body)| data_of(&head, &body));
        Ok(DeadLetterDetails { dead_letter: ListRow { row, webhook, event }, payload, memory })
    }

    /// Discards a dead letter. It is not delivered again. Its delivery stays in the history as failed.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the dead letter, or the store accepts no changes.
    pub async fn discard_dead_letter(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: DeliveryId,
    ) -> Result<(), Error> {
        Operation::ChangeDeadLetters.permit(principal.role)?;
        self.dead_letter(principal, of, id).await?;
        match self.deliveries.discard(id.webhook, vec![id.event]).await? {
            0 => Err(Error::not_found("dead letter")),
            _ => Ok(()),
        }
    }

    /// Selects one dead letter to be replayed.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the dead letter, or its webhook accepts no deliveries.
    pub async fn draft_dead_letter_replay(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: DeliveryId,
    ) -> Result<DeadLetterReplayDraft, Error> {
        Operation::ChangeDeadLetters.permit(principal.role)?;
        self.dead_letter(principal, of, id).await?;
        let webhook = deliverable(&self.find_webhook(principal, of)?)?.no;
        Ok(DeadLetterReplayDraft { webhook, events: Some(vec![id.event]) })
    }

    /// Checks whether dead letters of a webhook can be replayed.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the webhook, or the webhook accepts no deliveries.
    pub fn may_replay_dead_letters(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<(), Error> {
        Operation::ChangeDeadLetters.permit(principal.role)?;
        deliverable(&self.find_webhook(principal, of)?).map(drop)
    }

    /// Selects the dead letters of a webhook to be replayed. The document is `{"ids": […]}`, `{"filter": {"since",
    /// "until", "types", "failure_reason"}}`, or `{}` for all.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the webhook, the webhook accepts no deliveries, the document is
    /// invalid, or the stores cannot be read.
    pub async fn draft_bulk_replay(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
    ) -> Result<DeadLetterReplayDraft, Error> {
        Operation::ChangeDeadLetters.permit(principal.role)?;
        let webhook = deliverable(&self.find_webhook(principal, of)?)?.no;
        let events = match read_choice(document, webhook)? {
            Choice::All => None,
            Choice::These(events) => Some(events),
            Choice::Filter(filter) => {
                self.deliveries.sync(Some(webhook), None, 1).await?;
                Some(self.read(move |store, log| matching(store, log, webhook, &filter)).await?)
            }
        };
        Ok(DeadLetterReplayDraft { webhook, events })
    }

    /// Delivers dead letters again. Returns their number.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the store accepts no changes.
    pub async fn replay_dead_letters(
        &self,
        replay: DeadLetterReplayDraft,
        record: Option<ResponseRecorder<u64>>,
    ) -> Result<u64, Error> {
        let answer = record.and_then(ResponseRecorder::numbered);
        Ok(self.deliveries.replay_dead(replay.webhook, replay.events, answer).await?)
    }

    async fn dead_letter(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: DeliveryId,
    ) -> Result<DeadLetter, Error> {
        let webhook = self.find_webhook(principal, of)?.no();
        if id.webhook != webhook {
            return Err(Error::not_found("dead letter"));
        }
        self.deliveries.sync(Some(webhook), Some(id.event), 1).await?;
        let found = self.read(move |store, _| Ok::<_, Error>(store.dead_letter(id)?)).await?;
        found.ok_or_else(|| Error::not_found("dead letter"))
    }
}

/// The selection of dead letters in the document of a bulk replay.
enum Choice {
    All,
    These(Vec<EventId>),
    Filter(DeadLetterFilter),
}

struct DeadLetterFilter {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// An empty list matches every type.
    types: Vec<EventPattern>,
    reason: Option<DeadReason>,
}

fn read_choice(document: Map<String, Value>, webhook: WebhookNo) -> Result<Choice, Error> {
    let mut fields = DocumentFields::new(document);
    let ids = fields.take("ids", |value| read_ids(&value, webhook)).value();
    let filter = fields.take("filter", |value| match value {
        Value::Object(filter) => Ok(filter),
        _ => Err("expected an object".to_owned()),
    });
    let filter = filter.value();
    if ids.is_some() && filter.is_some() {
        fields.wrong("/filter", "contradicts ids");
    }
    let filter = filter.map(|filter| {
        let mut inner = DocumentFields::new(filter);
        let read = DeadLetterFilter {
            since: inner.time("since"),
            until: inner.time("until"),
            types: inner.types("types"),
            reason: inner.take("failure_reason", |value| read_reason(&value)).value(),
        };
        inner.errors.extend(unknown(&inner.unread, "since, until, types, failure_reason"));
        for error in inner.errors {
            fields.wrong(format!("/filter{}", error.pointer), error.detail);
        }
        read
    });
    fields.finish("ids, filter")?;
    Ok(match (ids, filter) {
        (Some(ids), _) => Choice::These(ids),
        (None, Some(filter)) => Choice::Filter(filter),
        (None, None) => Choice::All,
    })
}

/// The events of the dead letters with these ids, ascending and without duplicates.
fn read_ids(value: &Value, webhook: WebhookNo) -> Result<Vec<EventId>, String> {
    let id = |value: &Value| value.as_str()?.parse::<DeliveryId>().ok().filter(|id| id.webhook == webhook);
    let ids = value.as_array().filter(|ids| ids.len() <= BULK_REPLAY_MAX);
    let ids = ids.and_then(|ids| ids.iter().map(id).collect::<Option<Vec<_>>>());
    let ids = ids.ok_or_else(|| format!("expected at most {BULK_REPLAY_MAX} ids of this webhook's dead letters"))?;
    let mut events: Vec<_> = ids.into_iter().map(|id| id.event).collect();
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn read_reason(value: &Value) -> Result<DeadReason, String> {
    value.as_str().and_then(dead_reason).ok_or_else(|| DEAD_REASONS_ALLOWED.to_owned())
}

/// The events of the newest dead letters that match the filter, ascending, at most [`BULK_REPLAY_MAX`]. A further
/// replay with the same filter continues with the remaining dead letters.
fn matching(
    store: &dyn DeliveryBackend,
    log: &dyn ReadLog,
    webhook: WebhookNo,
    filter: &DeadLetterFilter,
) -> Result<Vec<EventId>, Error> {
    let (mut events, mut query, mut summaries) = (Vec::new(), DeliveryQuery::all([webhook]), Summaries::new(log));
    loop {
        let part = store.dead_letters(&query, PAGE_ROWS_MAX)?;
        for dead_letter in part.rows {
            let is_taken = filter.since.is_none_or(|since| dead_letter.at >= since)
                && filter.until.is_none_or(|until| dead_letter.at < until)
                && filter.reason.is_none_or(|reason| reason == dead_letter.reason);
            let mut is_of_type = || -> Result<bool, Error> {
                let event = summaries.of(dead_letter.id.event)?;
                Ok(event.is_some_and(|event| filter.types.iter().any(|pattern| pattern.matches(&event.event_type))))
            };
            if is_taken && (filter.types.is_empty() || is_of_type()?) {
                events.push(dead_letter.id.event);
            }
        }
        match part.next {
            Some(next) if events.len() < BULK_REPLAY_MAX => query.before = next,
            _ => break,
        }
    }
    events.truncate(BULK_REPLAY_MAX);
    events.sort_unstable();
    Ok(events)
}
