//! Replays: jobs that deliver events of the log again, or all failed deliveries of a webhook since a time.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::body::object;
use super::idempotency::{KeyClaim, encode};
use super::page::Query;
use super::{Api, ClaimResult, ManagementRequest, reply};
use crate::handoff::ReplayFilter;
use crate::http::{Problem, Response};
use crate::model::path::REPLAYS;
use crate::model::{EventId, Timestamp};
use crate::service::replay::{OwnedReplay, ReplayDraft};
use crate::service::{ListPage, ReplayScope, ResponseRecorder, ResponseStore, WebhookRef};
use crate::settle::JobState;

/// A replay as JSON.
#[derive(Serialize)]
struct View {
    id: String,
    /// `events` for events of the log, `dead_letters` for dead letters of a webhook.
    kind: &'static str,
    status: &'static str,
    tenant: Box<str>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    types: Vec<Box<str>>,
    webhook_id: Option<String>,
    event_id: Option<Box<str>>,
    include_unmatched: bool,
    include_paused: bool,
    /// The number of events read so far.
    events: u64,
    /// The number of deliveries created so far.
    deliveries: u64,
    /// The number of deliveries to create. `null` if it is unknown.
    total: Option<u64>,
    created_at: Timestamp,
    ended_at: Option<Timestamp>,
}

/// The response to the start of a replay.
#[derive(Serialize)]
struct StartedReplay {
    id: String,
    status: &'static str,
}

impl StartedReplay {
    fn new(no: u64) -> Self {
        Self { id: id(no), status: status_of(JobState::Running) }
    }
}

fn id(no: u64) -> String {
    format!("rpl_{no}")
}

/// The path of a replay.
fn place_of(no: u64) -> String {
    format!("{REPLAYS}/{}", id(no))
}

fn status_of(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Cancelled => "cancelled",
        JobState::Failed => "failed",
    }
}

/// The response to the start of a replay.
fn started(no: u64) -> Result<Response, Problem> {
    reply::created(StatusCode::ACCEPTED, &place_of(no), &StartedReplay::new(no))
}

impl View {
    fn of(OwnedReplay { replay, tenant, webhook }: &OwnedReplay) -> Self {
        let (kind, filter) = match &replay.scope {
            ReplayScope::Events(filter) => ("events", filter.clone()),
            ReplayScope::DeadLetters { since, .. } => {
                let (since, include_paused) = (*since, true);
                ("dead_letters", ReplayFilter { since, include_paused, ..ReplayFilter::default() })
            }
        };
        Self {
            id: id(replay.no),
            kind,
            status: status_of(replay.state),
            tenant: tenant.clone(),
            since: filter.since,
            until: filter.until,
            types: filter.types,
            webhook_id: webhook.map(|id| id.to_string()),
            event_id: filter.event,
            include_unmatched: filter.include_unmatched,
            include_paused: filter.include_paused,
            events: replay.events,
            deliveries: replay.deliveries,
            total: replay.total,
            created_at: replay.created_at,
            ended_at: replay.ended_at,
        }
    }
}

impl Api {
    /// Replays one event. Body: `{"webhook_id"?,"include_unmatched"?,"include_paused"?}`. The event goes to that webhook,
    /// whether it matched or not, or to each webhook that matched when the event was accepted.
    pub(super) async fn replay_event(&self, request: &ManagementRequest, event: EventId) -> Result<Response, Problem> {
        self.service.may_replay_event(&request.principal, event).await?;
        let claim = match self.claim(request, ResponseStore::Deliveries).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = object(&request.parts.headers, &request.body, true)?;
        let draft = self.service.draft_event_replay(&request.principal, event, document).await?;
        self.start(claim, draft).await
    }

    /// Starts a replay. Body: `{"since"?,"until"?,"types"?,"webhook_id"?,"include_unmatched"?,"include_paused"?}`, and
    /// `tenant` with a key of tenant `*`.
    pub(super) async fn start_replay(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let claim = match self.claim(request, ResponseStore::Deliveries).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = object(&request.parts.headers, &request.body, false)?;
        let draft = self.service.draft_replay(&request.principal, document)?;
        self.start(claim, draft).await
    }

    /// Retries the failed deliveries of a webhook. Body: `{"since"}`. Dead letters since this time start a new schedule, and
    /// deliveries that wait for their next attempt become due now.
    pub(super) async fn recover(&self, request: &ManagementRequest, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.may_recover(&request.principal, of)?;
        let claim = match self.claim(request, ResponseStore::Deliveries).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = object(&request.parts.headers, &request.body, false)?;
        let recovery = self.service.draft_recovery(&request.principal, of, document)?;
        let service = Arc::clone(&self.service);
        let record = ResponseRecorder::new(claim.key(), |no| encode(started(*no)));
        let work = async move { started(service.recover(recovery, record).await?) };
        self.complete(claim, work).await
    }

    pub(super) async fn list_replays(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let query = Query::of(&request.parts.uri);
        let page = query.page()?;
        let before = query.cursor::<ReplayCursor>()?.map(|ReplayCursor(no)| no);
        let ListPage { rows, next } =
            self.service.list_replays(&request.principal, query.tenant(), page, before).await?;
        query.rows(&ListPage { rows, next: next.map(id) }, View::of)
    }

    /// Cancels a replay. Deliveries that it has created already remain.
    pub(super) async fn cancel_replay(&self, request: &ManagementRequest, no: u64) -> Result<Response, Problem> {
        self.service.cancel_replay(&request.principal, no).await?;
        Ok(reply::no_content())
    }

    pub(super) async fn read_replay(&self, request: &ManagementRequest, no: u64) -> Result<Response, Problem> {
        let replay = self.service.read_replay(&request.principal, no).await?;
        reply::json_with_etag(&request.parts.headers, &View::of(&replay))
    }

    async fn start(&self, claim: KeyClaim, draft: ReplayDraft) -> Result<Response, Problem> {
        let service = Arc::clone(&self.service);
        let record = ResponseRecorder::new(claim.key(), |no| encode(started(*no)));
        let work = async move { started(service.start_replay(draft, record).await?) };
        self.complete(claim, work).await
    }
}

/// The id of a replay, as a cursor.
struct ReplayCursor(u64);

impl std::str::FromStr for ReplayCursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.strip_prefix("rpl_").and_then(|no| no.parse().ok()).map(Self).ok_or(())
    }
}
