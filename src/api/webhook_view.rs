//! A webhook as the interface shows it.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Number;
use serde_json::value::RawValue;

use super::webhook_body::retries_of;
use super::webhook_fields::shown_seconds;
use super::webhook_headers::HIDDEN;
use crate::model::{RetryPolicy, Timestamp, Webhook, WebhookStatus};

/// A webhook without its secrets.
#[derive(Serialize)]
pub(super) struct View<'a> {
    id: String,
    tenant: &'a str,
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    status: WebhookStatus,
    active: bool,
    is_active: bool,
    events: Vec<String>,
    profile: &'static str,
    retry_policy: Policy<'a>,
    max_retries: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_rps: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u16>,
    headers: Headers<'a>,
    metadata: Box<RawValue>,
    created_at: Timestamp,
    updated_at: Timestamp,
    secret_hint: String,
}

/// The answer to the creation of a webhook.
#[derive(Serialize)]
pub(super) struct Created<'a> {
    #[serde(flatten)]
    pub(super) webhook: View<'a>,
    /// Shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<&'a str>,
    pub(super) warnings: Vec<&'static str>,
}

impl<'a> View<'a> {
    /// `default_retry` is what holds for a webhook without a policy of its own.
    pub(super) fn of(webhook: &'a Webhook, default_retry: &'a RetryPolicy) -> Self {
        let policy = webhook.retry_policy.as_ref().unwrap_or(default_retry);
        let active = webhook.status.is_matched();
        Self {
            id: webhook.id.to_string(),
            tenant: &webhook.tenant,
            user_id: webhook.user_id.as_deref(),
            name: webhook.name.as_deref(),
            url: &webhook.endpoint.url,
            description: webhook.description.as_deref(),
            status: webhook.status,
            active,
            is_active: active,
            events: webhook.events.iter().map(ToString::to_string).collect(),
            profile: "standard",
            retry_policy: Policy(policy),
            max_retries: retries_of(policy),
            timeout_seconds: webhook.timeout.map(shown_seconds),
            rate_limit_rps: webhook.rate_limit.and_then(|limit| shown_number(limit.per_second)),
            burst: webhook.rate_limit.map(|limit| limit.burst),
            max_in_flight: webhook.max_in_flight,
            headers: Headers(webhook),
            // It was checked when it came in.
            metadata: RawValue::from_string(webhook.metadata.to_string()).unwrap_or_default(),
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
            secret_hint: format!("whsec_{}", webhook.keys.current.secret.hint()),
        }
    }
}

/// The tag of a webhook's state.
pub(super) fn etag(webhook: &Webhook) -> String {
    format!("\"{}\"", webhook.version)
}

/// Whole where it is whole.
fn shown_number(n: f64) -> Option<Number> {
    if n.fract() == 0.0 { Some(Number::from(n as u64)) } else { Number::from_f64(n) }
}

/// A retry policy.
pub(super) struct Policy<'a>(pub(super) &'a RetryPolicy);

impl Serialize for Policy<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        match self.0 {
            RetryPolicy::Schedule(delays) => {
                let delays: Vec<_> = delays.iter().copied().map(shown_seconds).collect();
                map.serialize_entry("schedule", &delays)?;
            }
            RetryPolicy::Backoff { max_retries, retry_delay, backoff_permille, max_delay } => {
                map.serialize_entry("max_retries", max_retries)?;
                map.serialize_entry("retry_delay", &shown_seconds(*retry_delay))?;
                map.serialize_entry("backoff", &(f64::from(*backoff_permille) / 1000.0))?;
                map.serialize_entry("max_delay", &shown_seconds(*max_delay))?;
            }
        }
        map.end()
    }
}

/// Values that are secrets by their header's name read `***`.
struct Headers<'a>(&'a Webhook);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.headers.len()))?;
        for (name, value) in &self.0.headers {
            let shown = if value.is_sensitive() { HIDDEN } else { value.to_str().unwrap_or(HIDDEN) };
            map.serialize_entry(name.as_str(), shown)?;
        }
        map.end()
    }
}
