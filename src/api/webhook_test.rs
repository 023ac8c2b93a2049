//! A test delivery, with its attempt in the answer.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::route::WebhookRef;
use super::store::Later;
use super::{Api, Call, body, reply};
use crate::handoff::Probed;
use crate::http::{FieldError, Problem, ProblemCode, Response};
use crate::limits::RETRY_SOON;
use crate::model::{DeliveryId, EventPattern, HIDDEN, is_event_type};
use crate::outbound::{SentRequest, Webhook};

/// What is sent to see what an endpoint makes of it.
#[derive(Debug)]
pub struct TestDelivery {
    /// To whom, whatever its status is.
    pub webhook: Arc<Webhook>,
    /// The event's type.
    pub event_type: Box<str>,
    /// Its payload, JSON.
    pub data: Bytes,
    /// Of the call.
    pub correlation_id: Box<str>,
}

/// A test delivery that was made.
#[derive(Debug)]
pub struct Tested {
    /// As the endpoint was told; nothing is found by it.
    pub id: DeliveryId,
    /// The attempt.
    pub probed: Probed,
}

/// Why none was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestRefused {
    /// Others of this webhook are under way.
    WebhookBusy,
    /// Too many are, of all webhooks.
    Busy,
    /// The server stops.
    Stopping,
}

/// Makes test deliveries: at once, by the webhook's own profile and client, counted by nobody.
pub trait Tester: Send + Sync + 'static {
    /// One attempt, within the webhook's timeout.
    fn test(&self, delivery: TestDelivery) -> Later<'_, Result<Tested, TestRefused>>;
}

/// The type of a test delivery of a webhook that names none.
const TEST_TYPE: &str = "webhook.test";

impl Api {
    pub(super) async fn test_webhook(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.live(&call.principal, of)?;
        let fields = body::object(&call.parts.headers, &call.body, true)?;
        let event_type: Box<str> = match fields.get("event_type") {
            None | Some(Value::Null) => type_for(&webhook).into(),
            Some(Value::String(text)) if is_event_type(text) => text.as_str().into(),
            Some(_) => {
                let detail = "expected an event type: a letter or digit, then up to 127 of A-Z a-z 0-9 . _ : -";
                return Err(Problem::invalid_body(vec![FieldError::new("/event_type", detail)]));
            }
        };
        let data = match fields.get("data") {
            None => self.sample(&webhook, &event_type).to_string().into(),
            Some(value) => given(&call.body, value),
        };
        let correlation_id = call.request_id.clone();
        let test = TestDelivery { webhook, event_type: event_type.clone(), data, correlation_id };
        let tested = self.tester.test(test).await?;
        reply::json(StatusCode::OK, &View::of(&tested, &event_type))
    }

    /// A payload where the caller gives none: the catalogue's example of the type, if it has one.
    fn sample(&self, webhook: &Webhook, event_type: &str) -> Value {
        let registry = self.registry.load();
        let known = registry.event_type(&webhook.tenant, event_type);
        known.and_then(|known| known.definition.settings.example.clone()).unwrap_or_else(
            || json!({ "test": true, "message": "A test delivery of Hooktide", "webhook_id": webhook.id.to_string() }),
        )
    }
}

/// The first type that the webhook names, or one of the first family that it names.
fn type_for(webhook: &Webhook) -> String {
    let active = webhook.subscriptions.iter().filter(|subscription| subscription.is_active);
    let patterns = || webhook.events.iter().chain(active.clone().map(|subscription| &subscription.event_type));
    let named = patterns().find_map(|pattern| match pattern {
        EventPattern::Exact(name) => Some(name.to_string()),
        EventPattern::Prefix(_) | EventPattern::All => None,
    });
    let of_family = || {
        let family = patterns().find_map(|pattern| match pattern {
            EventPattern::Prefix(prefix) => Some(format!("{prefix}test")),
            EventPattern::Exact(_) | EventPattern::All => None,
        });
        family.filter(|name| is_event_type(name))
    };
    named.or_else(of_family).unwrap_or_else(|| TEST_TYPE.to_owned())
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

impl From<TestRefused> for Problem {
    fn from(refused: TestRefused) -> Self {
        let (code, detail) = match refused {
            TestRefused::WebhookBusy => (ProblemCode::RateLimited, "test deliveries of this webhook are under way"),
            TestRefused::Busy => (ProblemCode::Overloaded, "too many test deliveries are under way"),
            TestRefused::Stopping => (ProblemCode::Draining, "the server is stopping"),
        };
        Self::new(code, detail).retry_after(RETRY_SOON)
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
