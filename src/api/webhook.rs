//! Webhooks: make, read, change, remove, pause, resume.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{ETAG, IF_MATCH};

use super::event_type::{type_warnings, unknown_types};
use super::route::WebhookRef;
use super::webhook_body::{Purpose, Rules, read};
pub(super) use super::webhook_list::tenant_of;
use super::webhook_preview::is_dry_run;
use super::webhook_view::{View, Written, etag, warnings};
use super::{Api, Call, Made, body, reply};
use crate::http::{FieldError, Problem, ProblemCode, Response};
use crate::limits::{CHANGE_TRIES, RETRY_SOON};
use crate::model::path::WEBHOOKS;
use crate::model::{Principal, WebhookStatus};
use crate::outbound::{Webhook, WebhookSettings};
use crate::registry::{ChangeError, Known};

impl Api {
    pub(super) async fn create_webhook(&self, call: &Call) -> Result<Response, Problem> {
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let draft = read(fields, Purpose::Create, &self.rules(&call.principal))?;
        unknown_types(&self.registry.load(), None, &draft)?;
        if is_dry_run(call)? {
            return self.preview(None, draft);
        }
        let of_types = type_warnings(&self.registry.load(), &draft);
        let (writer, default_retry) = (self.writer.by(&call.principal), self.default_retry.clone());
        let make = async move {
            let webhook = writer.create(draft).await?;
            let answer = |secret| {
                let view = View::of(&webhook, &default_retry);
                let warnings = warnings(&webhook).into_iter().chain(of_types.iter().cloned()).collect();
                let created = Written { webhook: view, secret, warnings };
                let place = format!("{WEBHOOKS}/{}", webhook.id);
                let mut response = reply::made(StatusCode::CREATED, &place, &created)?;
                reply::set(&mut response, ETAG, &etag(&webhook));
                Ok::<_, Problem>(response)
            };
            Ok(Made { answer: answer(Some(webhook.keys.current.secret.reveal()))?, remembered: answer(None)? })
        };
        self.make(call, make).await
    }

    pub(super) fn read_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        let response = reply::json(StatusCode::OK, &View::of(&webhook, &self.default_retry))?;
        Ok(reply::tagged(&call.parts.headers, &etag(&webhook), response))
    }

    pub(super) async fn put_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.live(&call.principal, of)?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let rules = self.rules(&call.principal);
        if is_dry_run(call)? {
            let webhook = self.live(&call.principal, of)?;
            let draft = self.known_types(&webhook, read(fields, Purpose::Replace(&webhook), &rules)?)?;
            return self.preview(Some(&webhook), draft);
        }
        let change = |webhook: &Webhook| {
            let draft = read(fields.clone(), Purpose::Replace(webhook), &rules)?;
            self.known_types(webhook, draft).map(Some)
        };
        self.change(call, of, change).await
    }

    pub(super) async fn patch_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.live(&call.principal, of)?;
        let fields = body::object(&call.parts.headers, &call.body, false)?;
        let rules = self.rules(&call.principal);
        let change = |webhook: &Webhook| {
            let draft = read(fields.clone(), Purpose::Patch(webhook), &rules)?;
            self.known_types(webhook, draft).map(Some)
        };
        self.change(call, of, change).await
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
        for _ in 0..CHANGE_TRIES {
            let webhook = self.live(&call.principal, of)?;
            // What could not be done in any case is told as such (RFC 9110, 13.2.1).
            let draft = change(&webhook)?;
            reply::matches(&call.parts.headers, &etag(&webhook))?;
            let changed = match draft {
                None => Ok(webhook),
                Some(draft) => self.writer.by(&call.principal).replace(webhook.no, webhook.version, draft).await,
            };
            match changed {
                Err(ChangeError::Changed) => {}
                changed => {
                    let webhook = changed?;
                    let view = View::of(&webhook, &self.default_retry);
                    let of_types = type_warnings(&self.registry.load(), &webhook);
                    let warnings = warnings(&webhook).into_iter().chain(of_types).collect();
                    let written = Written { webhook: view, secret: None, warnings };
                    let mut response = reply::json(StatusCode::OK, &written)?;
                    reply::set(&mut response, ETAG, &etag(&webhook));
                    return Ok(response);
                }
            }
        }
        Err(ChangeError::Changed.into())
    }

    /// The draft, if the catalogue takes the types that it newly names.
    fn known_types(&self, webhook: &Webhook, draft: WebhookSettings) -> Result<WebhookSettings, Problem> {
        unknown_types(&self.registry.load(), Some(&webhook.settings), &draft).map(|()| draft)
    }

    fn rules<'a>(&'a self, principal: &'a Principal) -> Rules<'a> {
        let registry = self.registry.load_full();
        Rules { check_url: &self.check_url, default_retry: &self.default_retry, principal, registry }
    }

    /// The webhook, if it is there for the caller.
    pub(super) fn live(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<Arc<Webhook>, Problem> {
        match self.known(principal, of)? {
            Known::Live(webhook) => Ok(webhook),
            Known::Removed(_) => Err(Problem::not_found("webhook")),
        }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let code = match error {
            ChangeError::NotFound => return Self::not_found("webhook"),
            ChangeError::SubscriptionNotFound => return Self::not_found("subscription"),
            ChangeError::UidTaken => {
                let mut problem = Self::new(ProblemCode::Conflict, error.to_string());
                problem.errors.push(FieldError::new("/uid", error.to_string()));
                return problem;
            }
            ChangeError::Changed | ChangeError::TooManySubscriptions => ProblemCode::Conflict,
            ChangeError::Overloaded => ProblemCode::Overloaded,
            ChangeError::DiskFull => ProblemCode::DiskFull,
            ChangeError::Stopped => ProblemCode::Draining,
        };
        let problem = Self::new(code, error.to_string());
        if code == ProblemCode::Conflict { problem } else { problem.retry_after(RETRY_SOON) }
    }
}
