//! Replays: deliver again what the log holds, as a job with progress.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::body::object;
use super::page::Query;
use super::webhook::tenant_of;
use super::{Api, Call, Made, reply};
use crate::handoff::ReplayFilter;
use crate::http::{Problem, ProblemCode, Response};
use crate::limits::PAGE_SCAN_MAX;
use crate::model::path::REPLAYS;
use crate::model::{DEFAULT_TENANT, EventHead, EventId, Principal, Timestamp, WebhookNo};
use crate::registry::{Known, Registry};
use crate::service::access::{may_see, sees};
use crate::service::fields::Fields;
use crate::service::{Replay, WebhookRef, Work};
use crate::settle::JobState;

/// Replays read at once while a list looks for the caller's.
const REPLAYS_AT_ONCE: usize = 256;

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
pub(super) struct Started {
    id: String,
    status: &'static str,
}

impl Started {
    pub(super) fn new(no: u64) -> Self {
        Self { id: id(no), status: status_of(JobState::Running) }
    }
}

fn id(no: u64) -> String {
    format!("rpl_{no}")
}

/// Where a replay is found.
pub(super) fn place_of(no: u64) -> String {
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

impl Api {
    /// `{"webhook_id"?,"include_unmatched"?,"include_paused"?}`: to that webhook whether it matched or not, or to each that
    /// matched when the event was accepted.
    pub(super) async fn replay_event(&self, call: &Call, event: EventId) -> Result<Response, Problem> {
        let (head, _) = self.stored(call, event).await?;
        let head = EventHead::parse(&head).map_err(|_| crate::storage::ReadError::Damaged(event))?;
        let mut fields = Fields::new(object(&call.parts.headers, &call.body, true)?);
        let to = self.receivers(&mut fields, &call.principal, head.event.tenant)?;
        fields.finish("webhook_id, include_unmatched, include_paused")?;
        let event = Some(event.to_string().into());
        self.start(call, ReplayFilter { tenant: head.event.tenant.into(), event, ..to }).await
    }

    /// `{"since"?,"until"?,"types"?,"webhook_id"?,"include_unmatched"?,"include_paused"?}`, and `tenant` with a key of
    /// tenant `*`.
    pub(super) async fn start_replay(&self, call: &Call) -> Result<Response, Problem> {
        let mut fields = Fields::new(object(&call.parts.headers, &call.body, false)?);
        let named = fields.id("tenant").value();
        let tenant = named.as_deref().or(call.principal.tenant.as_deref()).unwrap_or(DEFAULT_TENANT).to_owned();
        if !sees(&call.principal, &tenant) {
            fields.wrong("/tenant", "only a key of tenant * may name another tenant");
        }
        let (since, until) = (fields.time("since"), fields.time("until"));
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            fields.wrong("/until", "expected a time after since");
        }
        let types = fields.types("types").iter().map(|pattern| pattern.to_string().into()).collect();
        let to = self.receivers(&mut fields, &call.principal, &tenant)?;
        fields.finish("since, until, types, webhook_id, include_unmatched, include_paused, tenant")?;
        self.start(call, ReplayFilter { tenant: tenant.into(), since, until, types, ..to }).await
    }

    pub(super) async fn list_replays(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let tenant = tenant_of(&call.principal, &query)?.map(str::to_owned);
        let cursor = query.cursor::<Cursor>()?.map(|Cursor(no)| no);
        let (rows, registry, principal) = (page.wanted(), self.service.registry.load_full(), call.principal.clone());
        let wanted = move |replay: &Replay| match tenant_in(&registry, &replay.work) {
            Some(of) => sees(&principal, of) && tenant.as_deref().is_none_or(|tenant| tenant == of),
            None => false,
        };
        let (found, end) = self
            .read(move |store, _| {
                let (mut found, mut looked_at, mut before) = (Vec::new(), 0, cursor);
                while looked_at < PAGE_SCAN_MAX {
                    let replays = store.replays(before, REPLAYS_AT_ONCE)?;
                    let full = replays.len() == REPLAYS_AT_ONCE;
                    for replay in replays {
                        (looked_at, before) = (looked_at + 1, Some(replay.no));
                        if wanted(&replay) {
                            found.push(replay);
                        }
                        if found.len() == rows {
                            return Ok((found, None));
                        }
                    }
                    if !full {
                        return Ok((found, None));
                    }
                }
                Ok((found, before))
            })
            .await?;
        let (rows, more) = page.cut(found);
        let cursor = if more { rows.last().map(|row| row.no) } else { end };
        let rows: Vec<_> = rows.into_iter().map(|replay| self.view(replay)).collect();
        reply::list(&rows, cursor.map(|no| query.next(&id(no))).as_ref())
    }

    /// What it has made by then stays made.
    pub(super) async fn cancel_replay(&self, call: &Call, no: u64) -> Result<Response, Problem> {
        self.replay(call, no).await?;
        if self.service.deliveries.cancel_replay(no).await? {
            Ok(reply::no_content())
        } else {
            Err(Problem::new(ProblemCode::Conflict, "the replay has ended already"))
        }
    }

    pub(super) async fn read_replay(&self, call: &Call, no: u64) -> Result<Response, Problem> {
        let replay = self.replay(call, no).await?;
        reply::read(&call.parts.headers, &self.view(replay))
    }

    async fn replay(&self, call: &Call, no: u64) -> Result<Replay, Problem> {
        let found = self.read(move |store, _| Ok(store.replay_job(no)?)).await?;
        let registry = self.service.registry.load();
        let is_seen = |replay: &Replay| tenant_in(&registry, &replay.work).is_some_and(|of| sees(&call.principal, of));
        found.filter(is_seen).ok_or_else(|| Problem::not_found("replay"))
    }

    async fn start(&self, call: &Call, filter: ReplayFilter) -> Result<Response, Problem> {
        let store = Arc::clone(&self.service.deliveries);
        let make = async move {
            let no = store.replay(filter).await?;
            reply::made(StatusCode::ACCEPTED, &place_of(no), &Started::new(no)).map(Made::from)
        };
        self.make(call, make).await
    }

    /// To whom a replay goes. A webhook that is named is meant even while it is paused, unless the caller says otherwise.
    fn receivers(&self, fields: &mut Fields, principal: &Principal, tenant: &str) -> Result<ReplayFilter, Problem> {
        let webhook = self.webhook_field(fields, principal, tenant);
        let include_unmatched = fields.flag("include_unmatched").value().unwrap_or(false);
        let include_paused = fields.flag("include_paused").value().unwrap_or(webhook.is_some());
        let registry = self.service.registry.load();
        let mut of_tenant = registry.all().filter(|known| **known.tenant() == *tenant);
        if webhook.is_none() && !of_tenant.all(|known| may_see(principal, known)) {
            let detail = "webhook_id is needed: not every webhook of the tenant is yours to deliver to";
            return Err(Problem::new(ProblemCode::Forbidden, detail));
        }
        let webhook = webhook.map(|no| no.0);
        Ok(ReplayFilter { webhook, include_unmatched, include_paused, ..ReplayFilter::default() })
    }

    /// `webhook_id`: a webhook of the tenant that is there.
    fn webhook_field(&self, fields: &mut Fields, principal: &Principal, tenant: &str) -> Option<WebhookNo> {
        let read = |value: serde_json::Value| {
            let of = value.as_str().and_then(WebhookRef::parse);
            let webhook =
                of.and_then(|of| self.service.live(principal, of).ok()).filter(|webhook| *webhook.tenant == *tenant);
            webhook.map(|webhook| webhook.no).ok_or_else(|| "expected the id of a webhook of this tenant".to_owned())
        };
        fields.take("webhook_id", read).value()
    }

    fn view(&self, replay: Replay) -> View {
        let registry = self.service.registry.load();
        let tenant = tenant_in(&registry, &replay.work).unwrap_or_default().into();
        let (kind, filter) = match replay.work {
            Work::Events(filter) => ("events", filter),
            Work::DeadLetters { webhook, since } => {
                let (webhook, include_paused) = (Some(webhook.0), true);
                ("dead_letters", ReplayFilter { since, webhook, include_paused, ..ReplayFilter::default() })
            }
        };
        let webhook = filter.webhook.and_then(|no| registry.known(WebhookNo(no)).map(Known::id));
        View {
            id: id(replay.no),
            kind,
            status: status_of(replay.state),
            tenant,
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

/// Whose a replay is.
fn tenant_in<'a>(registry: &'a Registry, work: &'a Work) -> Option<&'a str> {
    match work {
        Work::Events(filter) => Some(&filter.tenant),
        Work::DeadLetters { webhook, .. } => registry.known(*webhook).map(|known| &**known.tenant()),
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
