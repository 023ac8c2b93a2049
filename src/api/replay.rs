//! Replays: deliver again what the log holds, as a job with progress.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::body::object;
use super::page::Query;
use super::route::WebhookRef;
use super::store::Replay;
use super::webhook::tenant_of;
use super::webhook_fields::Fields;
use super::{Api, Call, Made, Problem, Response, reply, sees};
use crate::limits::PAGE_SCAN_MAX;
use crate::model::{EventHead, EventId, Timestamp, WebhookNo};
use crate::registry::{DEFAULT_TENANT, Known, Principal};
use crate::settle::ReplayFilter;

/// Replays read at once while a list looks for the caller's.
const REPLAYS_AT_ONCE: usize = 256;

/// A replay as the interface shows it.
#[derive(Serialize)]
struct View {
    id: String,
    status: &'static str,
    tenant: Box<str>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    types: Vec<Box<str>>,
    webhook_id: Option<String>,
    event_id: Option<Box<str>>,
    deliveries: u64,
    created_at: Timestamp,
}

/// The answer to the start of a replay.
#[derive(Serialize)]
struct Started {
    id: String,
    status: &'static str,
}

fn id(no: u64) -> String {
    format!("rpl_{no}")
}

impl Api {
    /// `{"webhook_id"?}`: to that webhook, or to each that matched when the event was accepted.
    pub(super) async fn replay_event(&self, call: &Call, event: EventId) -> Result<Response, Problem> {
        let (head, _) = self.stored(call, event).await?;
        let head = EventHead::parse(&head).map_err(|_| crate::commit::ReadError::Damaged(event))?;
        let mut fields = Fields::new(object(&call.parts.headers, &call.body, true)?);
        let webhook = self.webhook_field(&mut fields, &call.principal, head.event.tenant);
        fields.finish("webhook_id")?;
        let filter = ReplayFilter {
            tenant: head.event.tenant.into(),
            since: None,
            until: None,
            types: Vec::new(),
            webhook: webhook.map(|no| no.0),
            event: Some(event.to_string().into()),
        };
        self.start(call, filter).await
    }

    /// `{"since"?,"until"?,"types"?,"webhook_id"?}`, and `tenant` with a key of tenant `*`.
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
        let webhook = self.webhook_field(&mut fields, &call.principal, &tenant);
        fields.finish("since, until, types, webhook_id, tenant")?;
        let webhook = webhook.map(|no| no.0);
        self.start(call, ReplayFilter { tenant: tenant.into(), since, until, types, webhook, event: None }).await
    }

    pub(super) async fn list_replays(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let tenant = tenant_of(&call.principal, &query)?.map(str::to_owned);
        let cursor = query.cursor::<Cursor>()?.map(|Cursor(no)| no);
        let wanted = page.wanted();
        let (found, end) = self
            .read(move |store, _| {
                let (mut found, mut looked_at, mut before) = (Vec::new(), 0, cursor);
                while looked_at < PAGE_SCAN_MAX {
                    let replays = store.replays(before, REPLAYS_AT_ONCE)?;
                    let full = replays.len() == REPLAYS_AT_ONCE;
                    for replay in replays {
                        (looked_at, before) = (looked_at + 1, Some(replay.no));
                        if tenant.as_deref().is_none_or(|tenant| tenant == &*replay.filter.tenant) {
                            found.push(replay);
                        }
                        if found.len() == wanted {
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

    pub(super) async fn cancel_replay(&self, _call: &Call, _no: u64) -> Result<Response, Problem> {
        Err(Problem::not_found("path or id"))
    }

    pub(super) async fn read_replay(&self, call: &Call, no: u64) -> Result<Response, Problem> {
        let found = self.read(move |store, _| Ok(store.replay_job(no)?)).await?;
        let replay = found
            .filter(|replay| sees(&call.principal, &replay.filter.tenant))
            .ok_or_else(|| Problem::not_found("replay"))?;
        reply::read(&call.parts.headers, &self.view(replay))
    }

    async fn start(&self, call: &Call, filter: ReplayFilter) -> Result<Response, Problem> {
        let store = Arc::clone(&self.deliveries);
        let make = async move {
            let id = id(store.replay(filter).await?);
            let place = format!("/api/v1/replays/{id}");
            reply::made(StatusCode::ACCEPTED, &place, &Started { id, status: "running" }).map(Made::from)
        };
        self.make(call, make).await
    }

    /// `webhook_id`: a webhook of the tenant that is there.
    fn webhook_field(&self, fields: &mut Fields, principal: &Principal, tenant: &str) -> Option<WebhookNo> {
        let read = |value: serde_json::Value| {
            let of = value.as_str().and_then(WebhookRef::parse);
            let webhook = of.and_then(|of| self.live(principal, of).ok()).filter(|webhook| *webhook.tenant == *tenant);
            webhook.map(|webhook| webhook.no).ok_or_else(|| "expected the id of a webhook of this tenant".to_owned())
        };
        fields.take("webhook_id", read).value()
    }

    fn view(&self, replay: Replay) -> View {
        let registry = self.registry.load();
        let webhook = replay.filter.webhook.and_then(|no| registry.known(WebhookNo(no)).map(Known::id));
        View {
            id: id(replay.no),
            status: if replay.done { "done" } else { "running" },
            tenant: replay.filter.tenant,
            since: replay.filter.since,
            until: replay.filter.until,
            types: replay.filter.types,
            webhook_id: webhook.map(|id| id.to_string()),
            event_id: replay.filter.event,
            deliveries: replay.deliveries,
            created_at: replay.created_at,
        }
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
