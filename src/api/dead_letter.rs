//! Dead letters: list, read, replay, discard. They stay readable after the webhook is deleted.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::delivery::raw;
use super::idempotency::{KeyClaim, encode};
use super::listing::{Listing, listing};
use super::page::Query;
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Problem, Response};
use crate::model::{DeliveryId, Timestamp};
use crate::service::dead_letter::{DeadLetterDetails, DeadLetterReplayDraft, ListedDeadLetter};
use crate::service::search::ListRow;
use crate::service::{DeadLetter, ResponseRecorder, ResponseStore, WebhookRef};

/// A dead letter as JSON.
#[derive(Serialize)]
struct View {
    id: String,
    webhook_id: String,
    event_id: String,
    event_type: Option<Box<str>>,
    failure_reason: &'static str,
    error_message: Option<Box<str>>,
    attempt_count: u16,
    /// Always `false`: a replayed dead letter is deleted.
    is_processed: bool,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Box<RawValue>>,
    /// Only if `true`: the payloads of the page are large, and this one is left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    payload_omitted: bool,
}

/// The response to a replay of dead letters.
#[derive(Serialize)]
struct Replayed {
    replayed: u64,
}

impl View {
    fn of(ListRow { row: dead_letter, webhook, event }: &ListRow<DeadLetter>) -> Self {
        Self {
            id: dead_letter.id.to_string(),
            webhook_id: webhook.to_string(),
            event_id: dead_letter.id.event.to_string(),
            event_type: event.as_ref().map(|event| event.event_type.clone()),
            failure_reason: dead_letter.reason.as_str(),
            error_message: dead_letter.error.clone(),
            attempt_count: dead_letter.attempts,
            is_processed: false,
            created_at: dead_letter.at,
            payload: None,
            payload_omitted: false,
        }
    }
}

impl Api {
    /// Lists dead letters of one webhook or of all. Filters: `event_type` or `type`, `event_id`, `since`, `until`,
    /// `failure_reason`, `q`. A list of all webhooks also has `webhook_id`, `tenant`.
    pub(super) async fn list_dead_letters(
        &self,
        request: &ManagementRequest,
        of: Option<WebhookRef<'_>>,
    ) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let Listing { scope, filter, page, before } = listing(&query, of)?;
        let found = self.service.list_dead_letters(&request.principal, scope, filter, page, before).await?;
        query.rows(&found, |ListedDeadLetter { dead_letter, payload, is_payload_omitted }| View {
            payload: payload.as_deref().map(raw),
            payload_omitted: *is_payload_omitted,
            ..View::of(dead_letter)
        })
    }

    pub(super) async fn discard_dead_letter(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
        dead_letter: DeliveryId,
    ) -> Result<Response, Problem> {
        self.service.discard_dead_letter(&request.principal, of, dead_letter).await?;
        Ok(reply::no_content())
    }

    pub(super) async fn read_dead_letter(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
        dead_letter: DeliveryId,
    ) -> Result<Response, Problem> {
        let DeadLetterDetails { dead_letter, payload, memory } =
            self.service.read_dead_letter(&request.principal, of, dead_letter).await?;
        let view = View { payload: payload.map(|payload| raw(&payload)), ..View::of(&dead_letter) };
        Ok(reply::json_with_etag(&request.parts.headers, &view)?.map(|body| body.counted(memory)))
    }

    pub(super) async fn replay_dead_letter(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
        dead_letter: DeliveryId,
    ) -> Result<Response, Problem> {
        let claim = match self.claim(request, ResponseStore::Deliveries).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let replay = self.service.draft_dead_letter_replay(&request.principal, of, dead_letter).await?;
        body::nothing(request)?;
        self.replay_dead(claim, replay).await
    }

    /// Replays several dead letters. Body: `{"ids":[…]}`, `{"filter":{"since","until","types","failure_reason"}}`, or empty
    /// for all.
    pub(super) async fn bulk_replay(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.may_replay_dead_letters(&request.principal, of)?;
        let claim = match self.claim(request, ResponseStore::Deliveries).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = body::object(&request.parts.headers, &request.body, true)?;
        let replay = self.service.draft_bulk_replay(&request.principal, of, document).await?;
        self.replay_dead(claim, replay).await
    }

    async fn replay_dead(&self, claim: KeyClaim, replay: DeadLetterReplayDraft) -> Result<Response, Problem> {
        let service = Arc::clone(&self.service);
        let answer = |replayed| reply::json(StatusCode::ACCEPTED, &Replayed { replayed });
        let record = ResponseRecorder::new(claim.key(), move |replayed| encode(answer(*replayed)));
        let work = async move { answer(service.replay_dead_letters(replay, record).await?) };
        self.complete(claim, work).await
    }
}
