//! Webhooks: make, list, read, change, remove, pause, resume.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{ETAG, IF_MATCH};

use super::page::Query;
use super::route::WebhookRef;
use super::webhook_body::{Purpose, Rules, read};
use super::webhook_view::{Created, View, etag};
use super::{Api, Call, Made, Problem, ProblemCode, Response, body, may_see_live, reply, sees};
use crate::limits::{PAGE_SCAN_MAX, RETRY_SOON};
use crate::model::{Webhook, WebhookId, WebhookNo, WebhookSettings, WebhookStatus, is_event_type};
use crate::registry::{ChangeError, Known, Principal};

/// How often a change is made anew because another came between, before the caller is told.
const TRIES: usize = 8;

impl Api {
    pub(super) async fn create_webhook(&self, call: &Call) -> Result<Response, Problem> {
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let draft = read(fields, Purpose::Create, &self.rules(&call.principal))?;
        let (writer, default_retry) = (self.writer.by(&call.principal), self.default_retry.clone());
        let make = async move {
            let webhook = writer.create(draft).await?;
            let answer = |secret| {
                let none = webhook.events.is_empty();
                let warnings = if none { vec!["no events: nothing will match"] } else { Vec::new() };
                let created = Created { webhook: View::of(&webhook, &default_retry), secret, warnings };
                let place = format!("/api/v1/webhooks/{}", webhook.id);
                let mut response = reply::made(StatusCode::CREATED, &place, &created)?;
                reply::set(&mut response, ETAG, &etag(&webhook));
                Ok::<_, Problem>(response)
            };
            Ok(Made { answer: answer(Some(webhook.keys.current.secret.reveal()))?, remembered: answer(None)? })
        };
        self.make(call, make).await
    }

    /// Filters: `status`, `event_type` or `type` (webhooks that would match it), `q` (in name, description and URL).
    pub(super) fn list_webhooks(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let tenant = tenant_of(&call.principal, &query)?;
        let wanted = filter(&query)?;
        let registry = self.registry.load();
        let before = match query.cursor::<WebhookId>()? {
            None => WebhookNo(u32::MAX),
            Some(id) => registry.known_by_id(id).map_or(WebhookNo(0), Known::no),
        };
        let mut found: Vec<&Arc<Webhook>> = Vec::new();
        let (mut looked_at, mut last) = (0, None);
        for webhook in registry.newest(tenant, before).take(PAGE_SCAN_MAX) {
            looked_at += 1;
            last = Some(webhook);
            if may_see_live(&call.principal, webhook) && wanted(webhook) {
                found.push(webhook);
                if found.len() == page.wanted() {
                    break;
                }
            }
        }
        let (rows, more) = page.cut(found);
        let cursor = if more { rows.last().copied() } else { last.filter(|_| looked_at == PAGE_SCAN_MAX) };
        let next = cursor.map(|webhook| query.next(&webhook.id));
        let rows: Vec<_> = rows.into_iter().map(|webhook| View::of(webhook, &self.default_retry)).collect();
        reply::list(&rows, next.as_ref())
    }

    pub(super) fn read_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        let response = self.shown(&webhook)?;
        Ok(reply::tagged(&call.parts.headers, &etag(&webhook), response))
    }

    pub(super) async fn put_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.live(&call.principal, of)?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let rules = self.rules(&call.principal);
        self.change(call, of, |webhook| read(fields.clone(), Purpose::Replace(webhook), &rules).map(Some)).await
    }

    pub(super) async fn patch_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.live(&call.principal, of)?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let rules = self.rules(&call.principal);
        self.change(call, of, |webhook| read(fields.clone(), Purpose::Patch(webhook), &rules).map(Some)).await
    }

    pub(super) async fn delete_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        reply::matches(&call.parts.headers, &etag(&webhook))?;
        let version = call.parts.headers.contains_key(IF_MATCH).then_some(webhook.version);
        let changed = || Problem::new(ProblemCode::PreconditionFailed, "it was changed meanwhile");
        match self.writer.by(&call.principal).remove(webhook.no, version).await {
            Err(ChangeError::Changed) => return Err(changed()),
            removed => removed?,
        }
        Ok(reply::no_content())
    }

    /// Holds deliveries; one that is paused already stays so.
    pub(super) async fn pause_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let pause = |webhook: &Webhook| match webhook.status {
            WebhookStatus::Active => {
                Ok(Some(WebhookSettings { status: WebhookStatus::Paused, ..webhook.settings.clone() }))
            }
            WebhookStatus::Paused => Ok(None),
            WebhookStatus::Inactive | WebhookStatus::Failed => {
                Err(Problem::new(ProblemCode::Conflict, "only an active webhook can be paused; resume it first"))
            }
        };
        self.change(call, of, pause).await
    }

    /// Makes a webhook active, whatever it was.
    pub(super) async fn resume_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let resume = |webhook: &Webhook| {
            let stays = webhook.status == WebhookStatus::Active;
            Ok((!stays).then(|| WebhookSettings { status: WebhookStatus::Active, ..webhook.settings.clone() }))
        };
        self.change(call, of, resume).await
    }

    /// Changes a webhook as `change` says of its present state (`None`: not at all), anew if another change came between
    /// and the caller did not name a state by `If-Match`.
    async fn change(
        &self,
        call: &Call,
        of: WebhookRef<'_>,
        change: impl Fn(&Webhook) -> Result<Option<WebhookSettings>, Problem>,
    ) -> Result<Response, Problem> {
        for _ in 0..TRIES {
            let webhook = self.live(&call.principal, of)?;
            reply::matches(&call.parts.headers, &etag(&webhook))?;
            let changed = match change(&webhook)? {
                None => Ok(webhook),
                Some(draft) => self.writer.by(&call.principal).replace(webhook.no, webhook.version, draft).await,
            };
            match changed {
                Err(ChangeError::Changed) => {}
                changed => {
                    let webhook = changed?;
                    let mut response = self.shown(&webhook)?;
                    reply::set(&mut response, ETAG, &etag(&webhook));
                    return Ok(response);
                }
            }
        }
        Err(ChangeError::Changed.into())
    }

    fn shown(&self, webhook: &Webhook) -> Result<Response, Problem> {
        reply::json(StatusCode::OK, &View::of(webhook, &self.default_retry))
    }

    fn rules<'a>(&'a self, principal: &'a Principal) -> Rules<'a> {
        Rules { check_url: &self.check_url, default_retry: &self.default_retry, principal }
    }

    /// The webhook, if it is there for the caller.
    pub(super) fn live(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Arc<Webhook>, Problem> {
        match self.known(principal, of)? {
            Known::Live(webhook) => Ok(webhook),
            Known::Removed(_) => Err(Problem::not_found("webhook")),
        }
    }
}

/// The tenant whose things are listed; `None`: everybody's, for a key of tenant `*`.
pub(super) fn tenant_of<'a>(principal: &'a Principal, query: &'a Query) -> Result<Option<&'a str>, Problem> {
    match query.get("tenant").or_else(|| query.get("org_id")) {
        Some(named) if sees(principal, named) => Ok(Some(named)),
        Some(_) => Err(Problem::not_found("tenant")),
        None => Ok(principal.tenant.as_deref()),
    }
}

fn filter(query: &Query) -> Result<impl Fn(&Webhook) -> bool, Problem> {
    let bad = |detail| Problem::new(ProblemCode::InvalidRequest, detail);
    let status = match query.get("status") {
        None => None,
        Some("active") => Some(WebhookStatus::Active),
        Some("paused") => Some(WebhookStatus::Paused),
        Some("inactive") => Some(WebhookStatus::Inactive),
        Some("failed") => Some(WebhookStatus::Failed),
        Some(_) => return Err(bad("query parameter status: expected active, paused, inactive or failed")),
    };
    let event_type = query.get("event_type").or_else(|| query.get("type")).map(str::to_owned);
    if event_type.as_deref().is_some_and(|text| !is_event_type(text)) {
        return Err(bad("query parameter event_type: expected an event type such as order.created"));
    }
    let needle = query.get("q").map(str::to_lowercase);
    Ok(move |webhook: &Webhook| {
        let texts = [webhook.name.as_deref(), webhook.description.as_deref(), Some(&*webhook.endpoint.url)];
        status.is_none_or(|status| status == webhook.status)
            && event_type.as_deref().is_none_or(|text| webhook.events.iter().any(|pattern| pattern.matches(text)))
            && needle
                .as_deref()
                .is_none_or(|needle| texts.iter().flatten().any(|text| text.to_lowercase().contains(needle)))
    })
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let code = match error {
            ChangeError::NotFound => return Self::not_found("webhook"),
            ChangeError::Changed => ProblemCode::Conflict,
            ChangeError::Overloaded => ProblemCode::Overloaded,
            ChangeError::DiskFull => ProblemCode::DiskFull,
            ChangeError::Stopped => ProblemCode::Draining,
        };
        let problem = Self::new(code, error.to_string());
        if code == ProblemCode::Conflict { problem } else { problem.retry_after(RETRY_SOON) }
    }
}
