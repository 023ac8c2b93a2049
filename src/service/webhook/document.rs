//! A webhook as a JSON document, for every front end. `settings` parses the same document.
//!
//! A new field of a webhook must be added here. [`WebhookDocument::of`] destructures [`WebhookSettings`] completely, so
//! a missing field is a compile error.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Number;
use serde_json::value::RawValue;

use super::{auth, tls};
use crate::filter::{EventField, Filter};
use crate::model::{
    BreakerSettings, EndpointPause, HIDDEN, PauseReason, RetryOn, RetryPolicy, Secret, Timestamp, WebhookStatus,
};
use crate::outbound::{Webhook, WebhookSettings};
use crate::signature::standard::{PRIVATE_PREFIX, SECRET_PREFIX};

/// A webhook without its secrets.
#[derive(Serialize)]
pub struct WebhookDocument<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    tenant: &'a str,
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    status: WebhookStatus,
    /// The endpoint's responses or the circuit breaker hold deliveries back until this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_reason: Option<PauseReason>,
    active: bool,
    is_active: bool,
    events: Vec<String>,
    subscription_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<&'a RawValue>,
    profile: &'a str,
    retry_policy: RetryPolicyDocument<'a>,
    max_retries: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_rps: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerDocument<'a>>,
    ordered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordered_by: Option<&'a str>,
    headers: HeadersDocument<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<auth::AuthDocument<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<tls::TlsDocument<'a>>,
    metadata: Box<RawValue>,
    created_at: Timestamp,
    updated_at: Timestamp,
    secret_hint: String,
    /// The key that receivers verify signatures with, if it is not the secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<Cow<'a, str>>,
    /// Until this time a previous secret signs too.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_secret_ends_at: Option<Timestamp>,
}

impl<'a> WebhookDocument<'a> {
    /// Creates the document of a webhook. `default_retry` is the policy of webhooks without a retry policy of their
    /// own. The document says nothing about a pause of the endpoint, see [`Self::with_pause`].
    pub fn of(webhook: &'a Webhook, default_retry: &'a RetryPolicy) -> Self {
        let WebhookSettings {
            tenant,
            uid,
            status,
            endpoint,
            events,
            subscriptions,
            filters,
            workspace_id,
            profile,
            keys,
            retry_policy,
            retry_on,
            timeout,
            max_in_flight,
            rate_limit,
            breaker,
            order,
            headers,
            auth,
            tls,
            name,
            description,
            user_id,
            metadata,
        } = &webhook.settings;
        let policy = retry_policy.as_ref().unwrap_or(default_retry);
        let active = status.is_matched();
        Self {
            id: webhook.id.to_string(),
            uid: uid.as_deref(),
            tenant,
            user_id: user_id.as_deref(),
            workspace_id: workspace_id.as_deref(),
            name: name.as_deref(),
            url: &endpoint.url,
            description: description.as_deref(),
            status: *status,
            paused_until: None,
            pause_reason: None,
            active,
            is_active: active,
            events: events.iter().map(ToString::to_string).collect(),
            subscription_count: subscriptions.len(),
            filters: filters.as_deref().map(Filter::as_json),
            profile: profile.name(),
            retry_policy: RetryPolicyDocument(policy, *retry_on),
            max_retries: retries_of(policy),
            timeout_seconds: timeout.map(shown_seconds),
            rate_limit_rps: rate_limit.and_then(|limit| shown_number(limit.per_second)),
            burst: rate_limit.map(|limit| limit.burst),
            max_in_flight: *max_in_flight,
            breaker: (*breaker != BreakerSettings::default()).then_some(BreakerDocument(breaker)),
            ordered: webhook.is_ordered(),
            ordered_by: order.field().map(EventField::as_str),
            headers: HeadersDocument(headers),
            auth: auth.as_deref().map(auth::AuthDocument),
            tls: tls.as_deref().map(tls::TlsDocument::of),
            // The metadata was validated when it was stored.
            metadata: RawValue::from_string(metadata.to_string()).unwrap_or_default(),
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
            secret_hint: hint(&keys.current.secret),
            public_key: keys.current.public_key(),
            previous_secret_ends_at: keys.previous.iter().map(|(_, until)| *until).max(),
        }
    }

    /// Adds the pause of the endpoint, whose end is a time of the wall clock.
    #[must_use]
    pub fn with_pause(self, pause: Option<EndpointPause>) -> Self {
        let (paused_until, pause_reason) = pause.map(|pause| (pause.until, pause.reason)).unzip();
        Self { paused_until, pause_reason, ..self }
    }
}

/// The type prefix of a secret, and its last characters.
fn hint(secret: &Secret) -> String {
    let prefix = [SECRET_PREFIX, PRIVATE_PREFIX].into_iter().find(|prefix| secret.reveal().starts_with(prefix));
    format!("{}{}", prefix.unwrap_or_default(), secret.hint())
}

/// Renders a number without a fraction as an integer.
fn shown_number(n: f64) -> Option<Number> {
    if n.fract() == 0.0 { Some(Number::from(n as u64)) } else { Number::from_f64(n) }
}

/// Renders the breaker settings that the webhook overrides.
struct BreakerDocument<'a>(&'a BreakerSettings);

impl Serialize for BreakerDocument<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let BreakerSettings { window, failure_ratio, min_attempts, open_seconds, close_after, disable_after_hours } =
            self.0;
        let whole = |n: &Option<u16>| n.map(Number::from);
        let number = |n: &Option<f64>| n.and_then(shown_number);
        let parts = [
            ("window", whole(window)),
            ("failure_ratio", number(failure_ratio)),
            ("min_attempts", whole(min_attempts)),
            ("open_seconds", number(open_seconds)),
            ("close_after", whole(close_after)),
            ("disable_after_hours", number(disable_after_hours)),
        ];
        to.collect_map(parts.into_iter().filter_map(|(name, n)| Some((name, n?))))
    }
}

/// Renders a retry policy and the failures that are retried.
pub(crate) struct RetryPolicyDocument<'a>(pub(crate) &'a RetryPolicy, pub(crate) RetryOn);

impl Serialize for RetryPolicyDocument<'_> {
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
        // Retrying every failure is the default and is omitted.
        if self.1 != RetryOn::ALL {
            let words = RetryOn::WORDS.iter().filter(|(_, one)| self.1.contains(*one)).map(|(word, _)| *word);
            map.serialize_entry("retry_on", &words.collect::<Vec<_>>())?;
        }
        map.end()
    }
}

/// Renders headers. A value that is secret because of its header's name is `***`.
struct HeadersDocument<'a>(&'a [(HeaderName, HeaderValue)]);

impl Serialize for HeadersDocument<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            let shown = if value.is_sensitive() { HIDDEN } else { value.to_str().unwrap_or(HIDDEN) };
            map.serialize_entry(name.as_str(), shown)?;
        }
        map.end()
    }
}

/// The number of retries of a policy.
fn retries_of(policy: &RetryPolicy) -> usize {
    match policy {
        RetryPolicy::Schedule(delays) => delays.len(),
        RetryPolicy::Backoff { max_retries, .. } => usize::from(*max_retries),
    }
}

/// Renders a duration in seconds, as an integer if it has no fraction.
pub(super) fn shown_seconds(duration: Duration) -> Number {
    if duration.subsec_nanos() == 0 {
        return duration.as_secs().into();
    }
    // A duration is never infinite.
    Number::from_f64(duration.as_millis() as f64 / 1000.0).unwrap_or_else(|| 0.into())
}
