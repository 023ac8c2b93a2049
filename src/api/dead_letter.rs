//! Dead letters: list, read, deliver again, discard. They stay readable when the webhook is gone.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::body::{object, unknown};
use super::delivery::raw;
use super::listing::Listing;
use super::recover::nothing_asked;
use super::search::{About, Heads, REASONS_ALLOWED, Search, reason_of};
use super::{Api, Call, Made, reply};
use crate::http::{Problem, Response};
use crate::limits::{BULK_REPLAY_MAX, PAGE_ROWS_MAX};
use crate::model::{DeadReason, DeliveryId, EventId, EventPattern, Timestamp, WebhookId, WebhookNo, data_of};
use crate::service::fields::Fields;
use crate::service::{DeadLetter, DeliveryStore, WebhookRef};
use crate::settle::Wanted;
use crate::storage::ReadLog;

/// A dead letter as the interface shows it.
#[derive(Serialize)]
struct View {
    id: String,
    webhook_id: String,
    event_id: String,
    event_type: Option<Box<str>>,
    failure_reason: &'static str,
    error_message: Option<Box<str>>,
    attempt_count: u16,
    /// One that is delivered again is no dead letter any more.
    is_processed: bool,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
}

/// The answer to a replay of dead letters.
#[derive(Serialize)]
struct Replayed {
    replayed: u64,
}

impl View {
    fn of(letter: DeadLetter, webhook: WebhookId, about: Option<About>, payload: Option<Box<RawValue>>) -> Self {
        Self {
            id: letter.id.to_string(),
            webhook_id: webhook.to_string(),
            event_id: letter.id.event.to_string(),
            event_type: about.map(|about| about.event_type),
            failure_reason: letter.reason.as_str(),
            error_message: letter.error,
            attempt_count: letter.attempts,
            is_processed: false,
            created_at: letter.at,
            payload,
        }
    }
}

impl Api {
    /// Of one webhook or of all. Filters: `event_type` or `type`, `event_id`, `since`, `until`, `failure_reason`, `q`; of all
    /// also `webhook_id`, `tenant`.
    pub(super) async fn list_dead_letters(&self, call: &Call, of: Option<WebhookRef<'_>>) -> Result<Response, Problem> {
        let Listing { part, webhook, wanted, filters } = self.listing(call, of)?;
        let rows = part.rows();
        self.service.deliveries.sync(webhook, None, 1).await?;
        let found = self.read(move |store, log| Search { store, log, filters: &filters, rows }.letters(wanted)).await?;
        let view = |letter, webhook, about| View::of(letter, webhook, about, None);
        self.listed(part, found, |letter| letter.id, view).await
    }

    /// Forgets it: it is not delivered again. Its delivery stays in history, as failed.
    pub(super) async fn discard_dead_letter(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        letter: DeliveryId,
    ) -> Result<Response, Problem> {
        self.dead_letter(call, of, letter).await?;
        match self.service.deliveries.discard(letter.webhook, vec![letter.event]).await? {
            0 => Err(Problem::not_found("dead letter")),
            _ => Ok(reply::no_content()),
        }
    }

    pub(super) async fn read_dead_letter(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        letter: DeliveryId,
    ) -> Result<Response, Problem> {
        let id = self.service.known(&call.principal, of)?.id();
        let found = self.dead_letter(call, of, letter).await?;
        let view = self
            .read(move |_, log| {
                let stored = log.read(&[letter.event])?.pop().flatten();
                let about = stored.as_ref().and_then(|(head, _)| About::of(head));
                Ok(View::of(found, id, about, stored.map(|(head, body)| raw(&data_of(&head, &body)))))
            })
            .await?;
        reply::read(&call.parts.headers, &view)
    }

    pub(super) async fn replay_dead_letter(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        letter: DeliveryId,
    ) -> Result<Response, Problem> {
        self.dead_letter(call, of, letter).await?;
        let webhook = self.deliverable(&call.principal, of)?.no;
        nothing_asked(call)?;
        self.replay_dead(call, webhook, Some(vec![letter.event])).await
    }

    /// `{"ids":[…]}`, `{"filter":{"since","until","types","failure_reason"}}`, or nothing for all.
    pub(super) async fn bulk_replay(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.deliverable(&call.principal, of)?.no;
        let chosen = choice(object(&call.parts.headers, &call.body, true)?, webhook)?;
        let events = match chosen {
            Choice::All => None,
            Choice::These(events) => Some(events),
            Choice::Filter(filter) => {
                self.service.deliveries.sync(Some(webhook), None, 1).await?;
                Some(self.read(move |store, log| matching(store, log, webhook, &filter)).await?)
            }
        };
        self.replay_dead(call, webhook, events).await
    }

    async fn replay_dead(
        &self,
        call: &Call,
        webhook: WebhookNo,
        events: Option<Vec<EventId>>,
    ) -> Result<Response, Problem> {
        let store = Arc::clone(&self.service.deliveries);
        let make = async move {
            let replayed = store.replay_dead(webhook, events).await?;
            reply::json(StatusCode::ACCEPTED, &Replayed { replayed }).map(Made::from)
        };
        self.make(call, make).await
    }

    async fn dead_letter(&self, call: &Call, of: WebhookRef<'_>, letter: DeliveryId) -> Result<DeadLetter, Problem> {
        let webhook = self.service.known(&call.principal, of)?.no();
        if letter.webhook != webhook {
            return Err(Problem::not_found("dead letter"));
        }
        self.service.deliveries.sync(Some(webhook), Some(letter.event), 1).await?;
        let found = self.read(move |store, _| Ok(store.dead_letter(letter)?)).await?;
        found.ok_or_else(|| Problem::not_found("dead letter"))
    }
}

enum Choice {
    All,
    These(Vec<EventId>),
    Filter(Filter),
}

struct Filter {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    types: Vec<EventPattern>,
    reason: Option<DeadReason>,
}

fn choice(body: Map<String, Value>, webhook: WebhookNo) -> Result<Choice, Problem> {
    let mut fields = Fields::new(body);
    let ids = fields.take("ids", |value| {
        let id = |value: &Value| value.as_str()?.parse::<DeliveryId>().ok().filter(|id| id.webhook == webhook);
        let ids = value.as_array().filter(|ids| ids.len() <= BULK_REPLAY_MAX);
        let mut events: Vec<_> = ids
            .and_then(|ids| ids.iter().map(id).collect::<Option<Vec<_>>>())
            .ok_or_else(|| format!("expected at most {BULK_REPLAY_MAX} ids of this webhook's dead letters"))?
            .into_iter()
            .map(|id| id.event)
            .collect();
        events.sort_unstable();
        events.dedup();
        Ok(events)
    });
    let filter = fields
        .take("filter", |value| match value {
            Value::Object(filter) => Ok(filter),
            _ => Err("expected an object".to_owned()),
        })
        .value();
    let ids = ids.value();
    if ids.is_some() && filter.is_some() {
        fields.wrong("/filter", "contradicts ids");
    }
    let filter = filter.map(|filter| {
        let mut inner = Fields::new(filter);
        let read = Filter {
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

fn read_reason(value: &Value) -> Result<DeadReason, String> {
    value.as_str().and_then(reason_of).ok_or_else(|| REASONS_ALLOWED.to_owned())
}

/// The dead letters that a filter takes, newest first, at most [`BULK_REPLAY_MAX`]; asked again, it takes the rest.
fn matching(
    store: &dyn DeliveryStore,
    log: &dyn ReadLog,
    webhook: WebhookNo,
    filter: &Filter,
) -> Result<Vec<EventId>, Problem> {
    let (mut events, mut wanted, mut heads) = (Vec::new(), Wanted::all([webhook]), Heads::new(log));
    loop {
        let part = store.dead_letters(&wanted, PAGE_ROWS_MAX)?;
        for letter in part.rows {
            let taken = filter.since.is_none_or(|since| letter.at >= since)
                && filter.until.is_none_or(|until| letter.at < until)
                && filter.reason.is_none_or(|reason| reason == letter.reason);
            let mut of_type = || -> Result<bool, Problem> {
                let about = heads.about(letter.id.event)?;
                Ok(about.is_some_and(|about| filter.types.iter().any(|pattern| pattern.matches(&about.event_type))))
            };
            if taken && (filter.types.is_empty() || of_type()?) {
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
