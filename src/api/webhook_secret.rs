//! Regenerates the secret of a webhook.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::Serialize;

use super::condition::expected_version;
use super::idempotency::encode;
use super::webhook::etag;
use super::{Api, ClaimResult, ManagementRequest, body, reply};
use crate::http::{Problem, Response};
use crate::outbound::Webhook;
use crate::service::webhook::document::WebhookDocument;
use crate::service::{ResponseRecorder, ResponseStore, Service, WebhookRef};

/// The response: the webhook, and its new secret, which is shown only once.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    webhook: WebhookDocument<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

fn view(service: &Service, webhook: &Webhook, secret: Option<&str>) -> Result<Response, Problem> {
    let view = View {
        webhook: WebhookDocument::of(webhook, service.default_retry()).with_pause(service.pause_of(webhook)),
        secret,
    };
    let mut response = reply::json(StatusCode::OK, &view)?;
    reply::set_header(&mut response, ETAG, &etag(webhook));
    Ok(response)
}

impl Api {
    /// Body: `{"overlap_seconds"?, "secret"?, "key_type"?}`.
    pub(super) async fn regenerate_secret(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.read_webhook(&request.principal, of)?;
        let claim = match self.claim(request, ResponseStore::Registry).await? {
            ClaimResult::First(claim) => claim,
            ClaimResult::Replay(response) => return Ok(response),
        };
        let document = body::object(&request.parts.headers, &request.body, true)?;
        let expected = expected_version(&request.parts.headers);
        let draft = self.service.draft_secret(&request.principal, of, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let keeping = Arc::clone(&service);
        let record =
            ResponseRecorder::new(claim.key(), move |webhook: &Arc<Webhook>| encode(view(&keeping, webhook, None)));
        let work = async move {
            let webhook = service.regenerate_secret(draft, record).await?;
            view(&service, &webhook, Some(webhook.keys.current.secret.reveal()))
        };
        self.complete(claim, work).await
    }
}
