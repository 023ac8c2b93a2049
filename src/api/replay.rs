//! Replays: deliver again what the log holds, as a job with progress; or everything of a webhook that failed since a time.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::body::object;
use super::page::Query;
use super::{Api, Call, Made, reply};
use crate::handoff::ReplayFilter;
use crate::http::{Problem, Response};
use crate::model::path::REPLAYS;
use crate::model::{EventId, Timestamp};
use crate::service::replay::{OwnedReplay, ReplayDraft};
use crate::service::{Rows, WebhookRef, Work};
use crate::settle::JobState;

/// A replay as the interface shows it.
#[derive(Serialize)]
struct View {
    id: String,
    /// `events` of the log, or `dead_letters` of a webhook.
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
    /// Events looked at so far.
    events: u64,
    /// Deliveries made so far.
    deliveries: u64,
    /// Deliveries to make, where that is known.
    total: Option<u64>,
    created_at: Timestamp,
    ended_at: Option<Timestamp>,
}

/// The answer to the start of a replay.
#[derive(Serialize)]
struct Started {
    id: String,
    status: &'static str,
}

impl Started {
    fn new(no: u64) -> Self {
        Self { id: id(no), status: status_of(JobState::Running) }
    }
}

fn id(no: u64) -> String {
    format!("rpl_{no}")
}

/// Where a replay is found.
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

impl View {
    fn of(OwnedReplay { replay, tenant, webhook }: &OwnedReplay) -> Self {
        let (kind, filter) = match &replay.work {
            Work::Events(filter) => ("events", filter.clone()),
            Work::DeadLetters { since, .. } => {
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
    /// `{"webhook_id"?,"include_unmatched"?,"include_paused"?}`: to that webhook whether it matched or not, or to each that
    /// matched when the event was accepted.
    pub(super) async fn replay_event(&self, call: &Call, event: EventId) -> Result<Response, Problem> {
        self.service.may_replay_event(&call.principal, event).await?;
        let document = object(&call.parts.headers, &call.body, true)?;
        let draft = self.service.draft_event_replay(&call.principal, event, document).await?;
        self.start(call, draft).await
    }

    /// `{"since"?,"until"?,"types"?,"webhook_id"?,"include_unmatched"?,"include_paused"?}`, and `tenant` with a key of
    /// tenant `*`.
    pub(super) async fn start_replay(&self, call: &Call) -> Result<Response, Problem> {
        let document = object(&call.parts.headers, &call.body, false)?;
        let draft = self.service.draft_replay(&call.principal, document)?;
        self.start(call, draft).await
    }

    /// `{"since"}`: dead letters since then begin anew, and what waits for its next attempt is due now.
    pub(super) async fn recover(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.may_recover(&call.principal, of)?;
        let document = object(&call.parts.headers, &call.body, false)?;
        let recovery = self.service.draft_recovery(&call.principal, of, document)?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let no = service.recover(recovery).await?;
            reply::made(StatusCode::ACCEPTED, &place_of(no), &Started::new(no)).map(Made::from)
        };
        self.make(call, make).await
    }

    pub(super) async fn list_replays(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let before = query.cursor::<Cursor>()?.map(|Cursor(no)| no);
        let Rows { rows, next } = self.service.list_replays(&call.principal, query.tenant(), page, before).await?;
        query.rows(&Rows { rows, next: next.map(id) }, View::of)
    }

    /// What it has made by then stays made.
    pub(super) async fn cancel_replay(&self, call: &Call, no: u64) -> Result<Response, Problem> {
        self.service.cancel_replay(&call.principal, no).await?;
        Ok(reply::no_content())
    }

    pub(super) async fn read_replay(&self, call: &Call, no: u64) -> Result<Response, Problem> {
        let replay = self.service.read_replay(&call.principal, no).await?;
        reply::read(&call.parts.headers, &View::of(&replay))
    }

    async fn start(&self, call: &Call, draft: ReplayDraft) -> Result<Response, Problem> {
        let service = Arc::clone(&self.service);
        let make = async move {
            let no = service.start_replay(draft).await?;
            reply::made(StatusCode::ACCEPTED, &place_of(no), &Started::new(no)).map(Made::from)
        };
        self.make(call, make).await
    }
}

/// A replay's id.
struct Cursor(u64);

impl std::str::FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.strip_prefix("rpl_").and_then(|no| no.parse().ok()).map(Self).ok_or(())
    }
}
