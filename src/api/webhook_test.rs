//! A test delivery, with its attempt in the answer.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Api, Call, body, reply};
use crate::handoff::Probed;
use crate::http::{FieldError, Problem, Response};
use crate::model::{HIDDEN, is_event_type};
use crate::outbound::SentRequest;
use crate::service::webhook::{TestRequest, TestedWebhook};
use crate::service::{Tested, WebhookRef};

impl Api {
    pub(super) async fn test_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        self.service.read_webhook(&call.principal, of)?;
        let fields = body::object(&call.parts.headers, &call.body, true)?;
        let event_type = match fields.get("event_type") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if is_event_type(text) => Some(text.as_str().into()),
            Some(_) => {
                let detail = "expected an event type: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ : -";
                return Err(Problem::invalid_body(vec![FieldError::new("/event_type", detail)]));
            }
        };
        let data = fields.get("data").map(|value| given(&call.body, value));
        let request = TestRequest { event_type, data, correlation_id: call.request_id.clone() };
        let TestedWebhook { tested, event_type } = self.service.test_webhook(&call.principal, of, request).await?;
        reply::json(StatusCode::OK, &View::of(&tested, &event_type))
    }
}

/// `data` as it was written; as it was read, where it was written twice.
fn given(body: &[u8], read: &Value) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Written<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    match serde_json::from_slice::<Written<'_>>(body) {
        Ok(written) => Bytes::copy_from_slice(written.data.get().as_bytes()),
        Err(_) => read.to_string().into(),
    }
}

/// The attempt as the interface shows it.
#[derive(Serialize)]
struct View<'a> {
    success: bool,
    status: Option<u16>,
    headers: Headers<'a>,
    body: String,
    truncated: bool,
    latency_ms: u64,
    error: Option<String>,
    request: Option<Request<'a>>,
    delivery_id: String,
    event_id: String,
    event_type: &'a str,
}

#[derive(Serialize)]
struct Request<'a> {
    headers: Headers<'a>,
    body: String,
}

impl<'a> View<'a> {
    fn of(tested: &'a Tested, event_type: &'a str) -> Self {
        let Probed { outcome, request, headers, body, is_cut } = &tested.probed;
        let shown =
            |request: &'a SentRequest| Request { headers: Headers(&request.headers), body: text(&request.body) };
        Self {
            success: outcome.result.is_ok(),
            status: outcome.http_status,
            headers: Headers(headers),
            body: text(body),
            truncated: *is_cut,
            latency_ms: u64::try_from(outcome.latency.as_millis()).unwrap_or(u64::MAX),
            error: outcome.result.as_ref().err().map(ToString::to_string),
            request: request.as_ref().map(shown),
            delivery_id: tested.id.to_string(),
            event_id: tested.id.event.to_string(),
            event_type,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Each name once, its values joined as HTTP joins them; secrets read `***`.
struct Headers<'a>(&'a HeaderMap);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.keys().map(|name| {
            let values = self.0.get_all(name).iter();
            let shown = values.map(|value| if value.is_sensitive() { HIDDEN.into() } else { text(value.as_bytes()) });
            (name.as_str(), shown.collect::<Vec<_>>().join(", "))
        }))
    }
}
