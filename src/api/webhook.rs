//! Webhooks: create, read, replace, patch, delete, pause, resume.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::Serialize;

use super::condition::expected_version;
use super::idempotency::encode;
use super::page::Query;
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Problem, Response};
use crate::model::path::WEBHOOKS;
use crate::outbound::Webhook;
use crate::service::webhook::document::WebhookDocument;
use crate::service::webhook::{SavedWebhook, WebhookPreview};
use crate::service::{ResponseRecorder, ResponseStore, Service, WebhookRef};
use crate::storage::IdempotencyKey;

/// The response to the creation or a change of a webhook.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    webhook: WebhookDocument<'a>,
    /// Shown only in the response to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    warnings: &'a [String],
}

impl Api {
    pub(super) async fn create_webhook(&self, request: &ManagementRequest) -> Result<Response, Problem> {
        let document = || body::object(&request.parts.headers, &request.body, false);
        if is_dry_run(request)? {
            let draft = self.service.draft_webhook(&request.principal, document()?)?;
            return preview(self.service.preview_new(draft)?);
        }
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let draft = self.service.draft_webhook(&request.principal, document()?)?;
        let service = Arc::clone(&self.service);
        let keeping = Arc::clone(&service);
        let record =
            ResponseRecorder::new(claim.key(), move |made: &SavedWebhook| encode(created(&keeping, made, None)));
        let work = async move {
            let made = service.create_webhook(draft, record).await?;
            created(&service, &made, Some(made.webhook.keys.current.secret.reveal()))
        };
        self.complete(claim, work).await
    }

    pub(super) fn read_webhook(&self, request: &ManagementRequest, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.service.read_webhook(&request.principal, of)?;
        let pause = self.service.pause_of(&webhook);
        let document = WebhookDocument::of(&webhook, self.service.default_retry()).with_pause(pause);
        let response = reply::json(StatusCode::OK, &document)?;
        let etag = match pause {
            // A pause is part of what is shown, and no change of the webhook.
            Some(pause) => format!("\"{}-{}\"", webhook.version, pause.until.as_millis()),
            None => etag(&webhook),
        };
        Ok(reply::with_etag(&request.parts.headers, &etag, response))
    }

    pub(super) async fn put_webhook(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.read_webhook(&request.principal, of)?;
        let document = body::object(&request.parts.headers, &request.body, false)?;
        if is_dry_run(request)? {
            return preview(self.service.preview_replacement(&request.principal, of, document)?);
        }
        let expected = expected_version(&request.parts.headers);
        let changed = self.service.replace_webhook(&request.principal, of, document, expected.as_ref()).await?;
        self.changed(&changed)
    }

    pub(super) async fn patch_webhook(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.read_webhook(&request.principal, of)?;
        let document = body::object(&request.parts.headers, &request.body, false)?;
        let expected = expected_version(&request.parts.headers);
        let changed = self.service.patch_webhook(&request.principal, of, document, expected.as_ref()).await?;
        self.changed(&changed)
    }

    pub(super) async fn delete_webhook(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        let expected = expected_version(&request.parts.headers);
        self.service.delete_webhook(&request.principal, of, expected.as_ref()).await?;
        Ok(reply::no_content())
    }

    pub(super) async fn pause_webhook(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.may_change_webhook(&request.principal, of)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let expected = expected_version(&request.parts.headers);
        let record = self.record_change(claim.key());
        self.changed(&self.service.pause_webhook(&request.principal, of, expected.as_ref(), record).await?)
    }

    pub(super) async fn resume_webhook(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.may_change_webhook(&request.principal, of)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let expected = expected_version(&request.parts.headers);
        let record = self.record_change(claim.key());
        self.changed(&self.service.resume_webhook(&request.principal, of, expected.as_ref(), record).await?)
    }

    fn changed(&self, saved: &SavedWebhook) -> Result<Response, Problem> {
        changed(&self.service, saved)
    }

    /// Stores the response to a change under the key of its request.
    fn record_change(&self, key: Option<IdempotencyKey>) -> Option<ResponseRecorder<SavedWebhook>> {
        let service = Arc::clone(&self.service);
        ResponseRecorder::new(key, move |saved: &SavedWebhook| encode(changed(&service, saved)))
    }
}

/// The response to a change of a webhook.
fn changed(service: &Service, saved: &SavedWebhook) -> Result<Response, Problem> {
    let mut response = reply::json(StatusCode::OK, &view(service, saved, None))?;
    reply::set_header(&mut response, ETAG, &etag(&saved.webhook));
    Ok(response)
}

/// The `ETag` of a webhook: its version.
pub(super) fn etag(webhook: &Webhook) -> String {
    format!("\"{}\"", webhook.version)
}

/// Whether the parameter `dry_run` is `true`: the request is validated and its result shown, but nothing changes.
///
/// # Errors
/// 400 for another value than `true` or `false`.
pub(super) fn is_dry_run(request: &ManagementRequest) -> Result<bool, Problem> {
    Query::of(&request.parts.uri).parse("dry_run", "expected true or false").map(Option::unwrap_or_default)
}

/// The response to the creation of a webhook.
fn created(service: &Service, made: &SavedWebhook, secret: Option<&str>) -> Result<Response, Problem> {
    let location = format!("{WEBHOOKS}/{}", made.webhook.id);
    let mut response = reply::created(StatusCode::CREATED, &location, &view(service, made, secret))?;
    reply::set_header(&mut response, ETAG, &etag(&made.webhook));
    Ok(response)
}

fn view<'a>(service: &'a Service, written: &'a SavedWebhook, secret: Option<&'a str>) -> View<'a> {
    let webhook = WebhookDocument::of(&written.webhook, service.default_retry());
    let webhook = webhook.with_pause(service.pause_of(&written.webhook));
    View { webhook, secret, warnings: &written.warnings }
}

fn preview(preview: WebhookPreview) -> Result<Response, Problem> {
    let WebhookPreview { mut document, changed } = preview;
    document.insert("changed".to_owned(), changed.into());
    reply::json(StatusCode::OK, &document)
}
