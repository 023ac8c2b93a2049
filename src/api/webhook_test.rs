//! Sends a test delivery and returns its attempt.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Api, ManagementRequest, body, reply};
use crate::handoff::TestAttempt;
use crate::http::{FieldError, Problem, Response};
use crate::json::{Pointer, exceeds_depth};
use crate::limits::JSON_DEPTH_MAX;
use crate::model::{HIDDEN, is_event_type};
use crate::outbound::SentRequest;
use crate::service::webhook::{TestRequest, WebhookTestResult};
use crate::service::{TestDeliveryResult, WebhookRef};

impl Api {
    pub(super) async fn test_webhook(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        self.service.read_webhook(&request.principal, of)?;
        let fields = body::sample(&request.parts.headers, &request.body, true)?;
        let event_type = match fields.get("event_type") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if is_event_type(text) => Some(text.as_str().into()),
            Some(_) => {
                let detail = "expected an event type: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ : -";
                return Err(Problem::invalid_body(vec![FieldError::new("/event_type", detail)]));
            }
        };
        let data = fields.get("data").map(|value| raw_data(&request.body, value));
        let is_too_deep =
            |data: &Bytes| std::str::from_utf8(data).is_ok_and(|text| exceeds_depth(text, JSON_DEPTH_MAX));
        if data.as_ref().is_some_and(is_too_deep) {
            let detail = format!("is nested deeper than {JSON_DEPTH_MAX}");
            return Err(Problem::invalid_body(vec![FieldError::new("/data", detail)]));
        }
        let test = TestRequest { event_type, data, correlation_id: request.request_id.clone() };
        let WebhookTestResult { result, event_type } = self.service.test_webhook(&request.principal, of, test).await?;
        reply::json(StatusCode::OK, &View::of(&result, &event_type))
    }
}

/// The raw text of the field `data`. If the field occurs twice, the last one.
fn raw_data(body: &[u8], read: &Value) -> Bytes {
    match Pointer::try_new("/data").ok().and_then(|data| data.find(body)) {
        Some(raw) => Bytes::copy_from_slice(raw.get().as_bytes()),
        None => read.to_string().into(),
    }
}

/// The attempt as JSON.
#[derive(Serialize)]
struct View<'a> {
    success: bool,
    status: Option<u16>,
    headers: HeadersView<'a>,
    body: String,
    truncated: bool,
    latency_ms: u64,
    error: Option<String>,
    request: Option<TestRequestView<'a>>,
    delivery_id: String,
    event_id: String,
    event_type: &'a str,
}

#[derive(Serialize)]
struct TestRequestView<'a> {
    headers: HeadersView<'a>,
    body: String,
}

impl<'a> View<'a> {
    fn of(result: &'a TestDeliveryResult, event_type: &'a str) -> Self {
        let TestAttempt { outcome, request, headers, body, is_cut } = &result.attempt;
        let shown = |request: &'a SentRequest| TestRequestView {
            headers: HeadersView(&request.headers),
            body: text(&request.body),
        };
        Self {
            success: outcome.result.is_ok(),
            status: outcome.http_status,
            headers: HeadersView(headers),
            body: text(body),
            truncated: *is_cut,
            latency_ms: u64::try_from(outcome.latency.as_millis()).unwrap_or(u64::MAX),
            error: outcome.result.as_ref().err().map(ToString::to_string),
            request: request.as_ref().map(shown),
            delivery_id: result.id.to_string(),
            event_id: result.id.event.to_string(),
            event_type,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Headers as a JSON object. Several values of a name are joined with commas, as in HTTP. Secrets are shown as `***`.
struct HeadersView<'a>(&'a HeaderMap);

impl Serialize for HeadersView<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.keys().map(|name| {
            let values = self.0.get_all(name).iter();
            let shown = values.map(|value| if value.is_sensitive() { HIDDEN.into() } else { text(value.as_bytes()) });
            (name.as_str(), shown.collect::<Vec<_>>().join(", "))
        }))
    }
}
