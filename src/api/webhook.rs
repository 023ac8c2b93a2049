//! Webhooks: create, read, replace, patch, delete, pause, resume.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::Serialize;

use super::condition::expected_version;
use super::page::Query;
use super::{Api, Call, Made, body, reply};
use crate::http::{Problem, Response};
use crate::model::path::WEBHOOKS;
use crate::outbound::Webhook;
use crate::service::webhook::document::Document;
use crate::service::webhook::{Preview, Written};
use crate::service::{Service, WebhookRef};

/// The answer to the creation or a change of a webhook.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    webhook: Document<'a>,
    /// Only in the answer to the creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
    warnings: &'a [String],
}

impl Api {
    pub(super) async fn create_webhook(&self, call: &Call) -> Result<Response, Problem> {
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let draft = self.service.draft_webhook(&call.principal, document)?;
        if is_dry_run(call)? {
            return preview(self.service.preview_new(draft)?);
        }
        let service = Arc::clone(&self.service);
        let make = async move {
            let made = service.create_webhook(draft).await?;
            let place = format!("{WEBHOOKS}/{}", made.webhook.id);
            let answer = |secret| {
                let mut response = reply::made(StatusCode::CREATED, &place, &view(&service, &made, secret))?;
                reply::set(&mut response, ETAG, &etag(&made.webhook));
                Ok::<_, Problem>(response)
            };
            Ok(Made {
                answer: answer(Some(made.webhook.keys.current.secret.reveal()))?,
                remembered: Some(answer(None)?),
            })
        };
        self.make(call, make).await
    }

    pub(super) fn read_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.service.read_webhook(&call.principal, of)?;
        let response = reply::json(StatusCode::OK, &Document::of(&webhook, self.service.default_retry()))?;
        Ok(reply::tagged(&call.parts.headers, &etag(&webhook), response))
    }

    pub(super) async fn put_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.read_webhook(&call.principal, of)?;
        let document = body::object(&call.parts.headers, &call.body, false)?;
        if is_dry_run(call)? {
            return preview(self.service.preview_replacement(&call.principal, of, document)?);
        }
        let expected = expected_version(&call.parts.headers);
        let changed = self.service.replace_webhook(&call.principal, of, document, expected.as_ref()).await?;
        self.changed(&changed)
    }

    pub(super) async fn patch_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.read_webhook(&call.principal, of)?;
        let document = body::object(&call.parts.headers, &call.body, false)?;
        let expected = expected_version(&call.parts.headers);
        let changed = self.service.patch_webhook(&call.principal, of, document, expected.as_ref()).await?;
        self.changed(&changed)
    }

    pub(super) async fn delete_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let expected = expected_version(&call.parts.headers);
        self.service.delete_webhook(&call.principal, of, expected.as_ref()).await?;
        Ok(reply::no_content())
    }

    pub(super) async fn pause_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let expected = expected_version(&call.parts.headers);
        self.changed(&self.service.pause_webhook(&call.principal, of, expected.as_ref()).await?)
    }

    pub(super) async fn resume_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let expected = expected_version(&call.parts.headers);
        self.changed(&self.service.resume_webhook(&call.principal, of, expected.as_ref()).await?)
    }

    fn changed(&self, changed: &Written) -> Result<Response, Problem> {
        let mut response = reply::json(StatusCode::OK, &view(&self.service, changed, None))?;
        reply::set(&mut response, ETAG, &etag(&changed.webhook));
        Ok(response)
    }
}

/// The tag of a webhook's state.
pub(super) fn etag(webhook: &Webhook) -> String {
    format!("\"{}\"", webhook.version)
}

/// Whether the caller wants to see what would come of it, and no more.
pub(super) fn is_dry_run(call: &Call) -> Result<bool, Problem> {
    Query::of(&call.parts.uri).parse("dry_run", "expected true or false").map(Option::unwrap_or_default)
}

fn view<'a>(service: &'a Service, written: &'a Written, secret: Option<&'a str>) -> View<'a> {
    let webhook = Document::of(&written.webhook, service.default_retry());
    View { webhook, secret, warnings: &written.warnings }
}

fn preview(preview: Preview) -> Result<Response, Problem> {
    let Preview { mut document, changed } = preview;
    document.insert("changed".to_owned(), changed.into());
    reply::json(StatusCode::OK, &document)
}
