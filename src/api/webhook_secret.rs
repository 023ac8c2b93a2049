//! A webhook's secret, made anew.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::ETAG;
use serde::Serialize;

use super::condition::expected_version;
use super::webhook::etag;
use super::{Api, Call, Made, body, reply};
use crate::http::{Problem, Response};
use crate::service::WebhookRef;
use crate::service::webhook::document::Document;

/// The answer: the webhook, and its new secret, shown this once.
#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    webhook: Document<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

impl Api {
    /// `{"overlap_seconds"?, "secret"?, "key_type"?}`
    pub(super) async fn regenerate_secret(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.read_webhook(&call.principal, of)?;
        let document = body::object(&call.parts.headers, &call.body, true)?;
        let expected = expected_version(&call.parts.headers);
        let draft = self.service.draft_secret(&call.principal, of, document, expected.as_ref())?;
        let service = Arc::clone(&self.service);
        let make = async move {
            let webhook = service.regenerate_secret(draft).await?;
            let answer = |secret| {
                let view = View { webhook: Document::of(&webhook, service.default_retry()), secret };
                let mut response = reply::json(StatusCode::OK, &view)?;
                reply::set(&mut response, ETAG, &etag(&webhook));
                Ok::<_, Problem>(response)
            };
            Ok(Made { answer: answer(Some(webhook.keys.current.secret.reveal()))?, remembered: Some(answer(None)?) })
        };
        self.make(call, make).await
    }
}
