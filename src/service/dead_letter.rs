//! Dead letters: list, read, replay, discard. They stay readable after their webhook is removed.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::delivery::deliverable;
use super::fields::{Fields, unknown};
use super::search::{DeliveryFilter, ListScope, Listed, Search};
use super::summary::{EventSummary, Summaries};
use super::{DeadLetter, DeliveryStore, Error, Operation, Page, Rows, Service, WebhookRef};
use crate::limits::{BULK_REPLAY_MAX, PAGE_ROWS_MAX};
use crate::model::{DeadReason, DeliveryId, EventId, EventPattern, Principal, Timestamp, WebhookNo, data_of};
use crate::settle::Wanted;
use crate::storage::ReadLog;

/// What [`dead_reason`] takes.
pub const DEAD_REASONS_ALLOWED: &str = "expected exhausted, not_retryable, gone, disabled, removed or expired";

/// The reason of this name.
pub fn dead_reason(name: &str) -> Option<DeadReason> {
    let mut all = (0..=u8::MAX).map_while(|n| DeadReason::from_u8(n + 1));
    all.find(|reason| reason.as_str() == name)
}

/// A dead letter with its payload.
#[derive(Debug, Clone)]
pub struct DeadLetterDetails {
    /// The dead letter, its webhook and its event.
    pub letter: Listed<DeadLetter>,
    /// The data of its event; `None` if the log no longer has the event.
    pub payload: Option<Bytes>,
}

/// Dead letters of one webhook that were checked and can be replayed.
#[derive(Debug, Clone)]
pub struct DeadLetterReplayDraft {
    webhook: WebhookNo,
    /// `None`: all of them.
    events: Option<Vec<EventId>>,
}

impl Service {
    /// Lists the dead letters that scope and filter take, newest first, from the one before `before`.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the webhook or the tenant, or the stores cannot be read.
    pub async fn list_dead_letters(
        &self,
        principal: &Principal,
        scope: ListScope<'_>,
        filter: DeliveryFilter,
        page: Page,
        before: Option<DeliveryId>,
    ) -> Result<Rows<Listed<DeadLetter>, DeliveryId>, Error> {
        Operation::ReadDeadLetters.permit(principal.role)?;
        let (webhooks, only) = self.webhooks_in(principal, scope)?;
        let wanted = Wanted { before: before.unwrap_or(Wanted::END), ..Wanted::all(webhooks) };
        self.deliveries.sync(only, None, 1).await?;
        let (filter, rows) = (filter.in_lower_case(), page.wanted());
        let found = self.read(move |store, log| Search { store, log, filter: &filter, rows }.letters(wanted)).await?;
        self.listed(page, found, |letter| letter.id).await
    }

    /// Reads a dead letter with its payload.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the dead letter, or the stores cannot be read.
    pub async fn read_dead_letter(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: DeliveryId,
    ) -> Result<DeadLetterDetails, Error> {
        Operation::ReadDeadLetters.permit(principal.role)?;
        let webhook = self.known(principal, of)?.id();
        let row = self.dead_letter(principal, of, id).await?;
        let stored = self.read(move |_, log| Ok::<_, Error>(log.read(&[id.event])?.pop().flatten())).await?;
        let event = stored.as_ref().and_then(|(head, _)| EventSummary::of(head));
        let payload = stored.map(|(head, body)| data_of(&head, &body));
        Ok(DeadLetterDetails { letter: Listed { row, webhook, event }, payload })
    }

    /// Discards a dead letter: it is not delivered again. Its delivery stays in history as failed.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the dead letter, or the store takes no change.
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

    /// Chooses one dead letter to be replayed.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the dead letter, or its webhook takes no deliveries.
    pub async fn draft_dead_letter_replay(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: DeliveryId,
    ) -> Result<DeadLetterReplayDraft, Error> {
        Operation::ChangeDeadLetters.permit(principal.role)?;
        self.dead_letter(principal, of, id).await?;
        let webhook = deliverable(&self.known(principal, of)?)?.no;
        Ok(DeadLetterReplayDraft { webhook, events: Some(vec![id.event]) })
    }

    /// Looks whether dead letters of a webhook can be replayed.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the webhook, or the webhook takes no deliveries.
    pub fn may_replay_dead_letters(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<(), Error> {
        Operation::ChangeDeadLetters.permit(principal.role)?;
        deliverable(&self.known(principal, of)?).map(drop)
    }

    /// Chooses dead letters of a webhook to be replayed, as a document says: `{"ids": […]}`,
    /// `{"filter": {"since", "until", "types", "failure_reason"}}`, or `{}` for all.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the webhook, the webhook takes no deliveries, the document breaks
    /// its rules, or the stores cannot be read.
    pub async fn draft_bulk_replay(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        document: Map<String, Value>,
    ) -> Result<DeadLetterReplayDraft, Error> {
        Operation::ChangeDeadLetters.permit(principal.role)?;
        let webhook = deliverable(&self.known(principal, of)?)?.no;
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

    /// Delivers dead letters again; answers how many there were.
    ///
    /// # Errors
    /// If the store takes no change.
    pub async fn replay_dead_letters(&self, replay: DeadLetterReplayDraft) -> Result<u64, Error> {
        Ok(self.deliveries.replay_dead(replay.webhook, replay.events).await?)
    }

    async fn dead_letter(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
        id: DeliveryId,
    ) -> Result<DeadLetter, Error> {
        let webhook = self.known(principal, of)?.no();
        if id.webhook != webhook {
            return Err(Error::not_found("dead letter"));
        }
        self.deliveries.sync(Some(webhook), Some(id.event), 1).await?;
        let found = self.read(move |store, _| Ok::<_, Error>(store.dead_letter(id)?)).await?;
        found.ok_or_else(|| Error::not_found("dead letter"))
    }
}

/// Which dead letters of a webhook are replayed.
enum Choice {
    All,
    These(Vec<EventId>),
    Filter(LetterFilter),
}

struct LetterFilter {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Empty: of any type.
    types: Vec<EventPattern>,
    reason: Option<DeadReason>,
}

fn read_choice(document: Map<String, Value>, webhook: WebhookNo) -> Result<Choice, Error> {
    let mut fields = Fields::new(document);
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
        let mut inner = Fields::new(filter);
        let read = LetterFilter {
            since: inner.time("since"),
            until: inner.time("until"),
            types: inner.types("types"),
            reason: inner.take("failure_reason", |value| read_reason(&value)).value(),
        };
        inner.errors.extend(unknown(&inner.left, "since, until, types, failure_reason"));
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

/// The events of these dead letters, ascending, each once.
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

/// The events of the newest dead letters that a filter takes, ascending, at most [`BULK_REPLAY_MAX`]. The next replay with
/// the same filter takes the rest.
fn matching(
    store: &dyn DeliveryStore,
    log: &dyn ReadLog,
    webhook: WebhookNo,
    filter: &LetterFilter,
) -> Result<Vec<EventId>, Error> {
    let (mut events, mut wanted, mut summaries) = (Vec::new(), Wanted::all([webhook]), Summaries::new(log));
    loop {
        let part = store.dead_letters(&wanted, PAGE_ROWS_MAX)?;
        for letter in part.rows {
            let is_taken = filter.since.is_none_or(|since| letter.at >= since)
                && filter.until.is_none_or(|until| letter.at < until)
                && filter.reason.is_none_or(|reason| reason == letter.reason);
            let mut is_of_type = || -> Result<bool, Error> {
                let event = summaries.of(letter.id.event)?;
                Ok(event.is_some_and(|event| filter.types.iter().any(|pattern| pattern.matches(&event.event_type))))
            };
            if is_taken && (filter.types.is_empty() || is_of_type()?) {
                events.push(letter.id.event);
            }
        }
        match part.next {
            Some(next) if events.len() < BULK_REPLAY_MAX => wanted.before = next,
            _ => break,
        }
    }
    events.truncate(BULK_REPLAY_MAX);
    events.sort_unstable();
    Ok(events)
}
