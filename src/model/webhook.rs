//! A webhook: where events go, which, how they are signed, and at what pace.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Secret, Timestamp, WebhookId, WebhookNo};
use crate::limits::EVENT_TYPE_BYTES_MAX;

/// A webhook as the registry's snapshot holds it. Immutable; a change makes a new one.
#[derive(Debug)]
pub struct Webhook {
    /// Its number, the key of everything stored per webhook.
    pub no: WebhookNo,
    /// Its public id.
    pub id: WebhookId,
    /// The tenant it belongs to.
    pub tenant: Arc<str>,
    /// Whether it is matched and sent to.
    pub status: WebhookStatus,
    /// Where events go.
    pub endpoint: Endpoint,
    /// Which events.
    pub events: Vec<EventPattern>,
    /// The secret and the keys made from it.
    pub keys: SigningKeys,
    /// When and how often to try again; `None`: the configured default.
    pub retry_policy: Option<RetryPolicy>,
    /// For one attempt, body included; `None`: the configured default.
    pub timeout: Option<Duration>,
    /// Deliveries at once; `None`: the configured default.
    pub max_in_flight: Option<u16>,
    /// Deliveries a second; `None`: no limit.
    pub rate_limit: Option<RateLimit>,
    /// Headers of the user's own, checked; values that hold secrets are marked by [`http::HeaderValue::is_sensitive`].
    ///
    /// [`http::HeaderValue::is_sensitive`]: hyper::http::HeaderValue::is_sensitive
    pub headers: Vec<(hyper::http::HeaderName, hyper::http::HeaderValue)>,
    /// A name for people.
    pub name: Option<Box<str>>,
    /// A description for people.
    pub description: Option<Box<str>>,
    /// The user who owns it.
    pub user_id: Option<Box<str>>,
    /// Raw JSON object of the user's own; `{}` without one.
    pub metadata: Box<str>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Rises by one with each change; the ETag.
    pub version: u64,
}

/// Where a webhook's events go: an absolute `http` or `https` URL, checked by the egress rules for literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// As the user wrote it.
    pub url: Box<str>,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host as it is resolved: a name in lower case, or an address without brackets.
    pub host: Box<str>,
    /// Port, the scheme's default where none was given.
    pub port: u16,
    /// The `Host` header.
    pub authority: hyper::http::HeaderValue,
    /// Path and query, as the request line has them.
    pub target: hyper::http::uri::PathAndQuery,
}

/// Status of a webhook, as API section 4 tables it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookStatus {
    /// New events are matched, what waits is sent.
    Active,
    /// New events are matched, what waits is held.
    Paused,
    /// New events are not matched, what waits is held.
    Inactive,
    /// New events are not matched, what waits is abandoned.
    Failed,
}

impl WebhookStatus {
    /// Whether new events are matched.
    pub fn is_matched(self) -> bool {
        matches!(self, Self::Active | Self::Paused)
    }
}

/// A secret with the keys that sign from it. The old secret signs beside the new one until its end.
#[derive(Clone)]
pub struct SigningKeys {
    /// Signs everything.
    pub current: Arc<SigningKey>,
    /// Signs beside it until the given time.
    pub previous: Option<(Arc<SigningKey>, Timestamp)>,
}

/// One secret and its prepared HMAC key.
pub struct SigningKey {
    /// As shown once to the user.
    pub secret: Secret,
    /// HMAC-SHA256 over what follows `whsec_`, decoded; the key schedule is done once, here.
    pub hmac: ring::hmac::Key,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// When and how often a failed delivery is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryPolicy {
    /// n delays make n + 1 attempts.
    Schedule(Arc<[Duration]>),
    /// Delays that grow by a factor.
    Backoff {
        /// Retries after the first attempt.
        max_retries: u16,
        /// Before the first retry.
        retry_delay: Duration,
        /// Each delay is the one before times this, in thousandths.
        backoff_permille: u32,
        /// No delay is longer.
        max_delay: Duration,
    },
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Tokens a second.
    pub per_second: f64,
    /// Tokens it holds at most, at least 1.
    pub burst: u32,
}

/// Which events a webhook wants: an exact type, a prefix of whole segments, or all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EventPattern {
    /// `order.created`.
    Exact(Box<str>),
    /// `order.*`: one or more segments after the prefix; the prefix is kept with its dot.
    Prefix(Box<str>),
    /// `*`: every type but `hooktide.*`.
    All,
}

/// Text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an event type such as \"order.created\", a prefix such as \"order.*\", or \"*\"")]
pub struct PatternError;

impl EventPattern {
    /// Parses a pattern.
    pub fn try_new(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self::All);
        }
        match text.strip_suffix(".*") {
            Some(prefix) if is_event_type(prefix) => Ok(Self::Prefix(text[..text.len() - 1].into())),
            None if is_event_type(text) => Ok(Self::Exact(text.into())),
            _ => Err(PatternError),
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::All => f.write_str("*"),
        }
    }
}

/// Whether `text` is an event type: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`.
pub fn is_event_type(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=EVENT_TYPE_BYTES_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (text, parsed) in [
            ("*", Some(EventPattern::All)),
            ("order.created", Some(EventPattern::Exact("order.created".into()))),
            ("order.*", Some(EventPattern::Prefix("order.".into()))),
            ("a.b.*", Some(EventPattern::Prefix("a.b.".into()))),
            ("order*", None),
            ("*.created", None),
            ("order.*.x", None),
            ("", None),
            (".*", None),
            ("bestellung.größe", None),
        ] {
            assert_eq!(EventPattern::try_new(text).ok(), parsed, "{text}");
            if let Some(pattern) = parsed {
                assert_eq!(pattern.to_string(), text);
            }
        }
    }

    #[test]
    fn a_type_has_at_most_128_bytes() {
        assert!(is_event_type(&"a".repeat(128)));
        assert!(!is_event_type(&"a".repeat(129)));
        assert!(!is_event_type("-a"));
    }
}
