//! Dead letters: list, read, deliver again, discard. They stay readable when the webhook is gone.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::delivery::raw;
use super::listing::{Listing, listing};
use super::page::Query;
use super::{Api, Call, Made, body, reply};
use crate::http::{Problem, Response};
use crate::model::{DeliveryId, Timestamp};
use crate::service::dead_letter::{DeadLetterDetails, DeadLetterReplayDraft};
use crate::service::search::Listed;
use crate::service::{DeadLetter, WebhookRef};

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
    fn of(Listed { row: letter, webhook, event }: &Listed<DeadLetter>) -> Self {
        Self {
            id: letter.id.to_string(),
            webhook_id: webhook.to_string(),
            event_id: letter.id.event.to_string(),
            event_type: event.as_ref().map(|event| event.event_type.clone()),
            failure_reason: letter.reason.as_str(),
            error_message: letter.error.clone(),
            attempt_count: letter.attempts,
            is_processed: false,
            created_at: letter.at,
            payload: None,
        }
    }
}

impl Api {
    /// Of one webhook or of all. Filters: `event_type` or `type`, `event_id`, `since`, `until`, `failure_reason`, `q`; of all
    /// also `webhook_id`, `tenant`.
    pub(super) async fn list_dead_letters(&self, call: &Call, of: Option<WebhookRef<'_>>) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let Listing { scope, filter, page, before } = listing(&query, of)?;
        let found = self.service.list_dead_letters(&call.principal, scope, filter, page, before).await?;
        query.rows(&found, View::of)
    }

    pub(super) async fn discard_dead_letter(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        letter: DeliveryId,
    ) -> Result<Response, Problem> {
        self.service.discard_dead_letter(&call.principal, of, letter).await?;
        Ok(reply::no_content())
    }

    pub(super) async fn read_dead_letter(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        letter: DeliveryId,
    ) -> Result<Response, Problem> {
        let DeadLetterDetails { letter, payload } = self.service.read_dead_letter(&call.principal, of, letter).await?;
        let view = View { payload: payload.map(|payload| raw(&payload)), ..View::of(&letter) };
        reply::read(&call.parts.headers, &view)
    }

    pub(super) async fn replay_dead_letter(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        letter: DeliveryId,
    ) -> Result<Response, Problem> {
        let replay = self.service.draft_dead_letter_replay(&call.principal, of, letter).await?;
        body::nothing(call)?;
        self.replay_dead(call, replay).await
    }

    /// `{"ids":[…]}`, `{"filter":{"since","until","types","failure_reason"}}`, or nothing for all.
    pub(super) async fn bulk_replay(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.may_replay_dead_letters(&call.principal, of)?;
        let document = body::object(&call.parts.headers, &call.body, true)?;
        let replay = self.service.draft_bulk_replay(&call.principal, of, document).await?;
        self.replay_dead(call, replay).await
    }

    async fn replay_dead(&self, call: &Call, replay: DeadLetterReplayDraft) -> Result<Response, Problem> {
        let service = Arc::clone(&self.service);
        let make = async move {
            let replayed = service.replay_dead_letters(replay).await?;
            reply::json(StatusCode::ACCEPTED, &Replayed { replayed }).map(Made::from)
        };
        self.make(call, make).await
    }
}
