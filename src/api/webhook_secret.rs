//! Regenerates the secret of a webhook.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::Serialize;

use super::condition::expected_version;
use super::webhook::etag;
use super::{Api, IdempotentResponse, ManagementRequest, body, reply};
use crate::http::{Problem, Response};
use crate::service::WebhookRef;
use crate::service::webhook::document::WebhookDocument;

/// The response: the webhook, and its new secret, which is shown only once.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    webhook: WebhookDocument<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

impl Api {
    /// Body: `{"overlap_seconds"?, "secret"?, "key_type"?}`.
    pub(super) async fn regenerate_secret(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.read_webhook(&request.principal, of)?;
        let document = body::object(&request.parts.headers, &request.body, true)?;
        let expected = expected_version(&request.parts.headers);
        let draft = self.service.draft_secret(&request.principal, of, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let work = async move {
            let webhook = service.regenerate_secret(draft).await?;
            let answer = |secret| {
                let view = View { webhook: WebhookDocument::of(&webhook, service.default_retry()), secret };
                let mut response = reply::json(StatusCode::OK, &view)?;
                reply::set_header(&mut response, ETAG, &etag(&webhook));
                Ok::<_, Problem>(response)
            };
            Ok(IdempotentResponse {
                response: answer(Some(webhook.keys.current.secret.reveal()))?,
                stored: Some(answer(None)?),
            })
        };
        self.run_idempotent(request, work).await
    }
}
