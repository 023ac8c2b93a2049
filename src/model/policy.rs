//! The pace of a webhook's deliveries: when a failed one is tried again, how fast they go, when nothing is sent for a while.

use std::sync::Arc;
use std::time::Duration;

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

/// Which failures are tried again (`retry_policy.retry_on`), a set; what is left out fails at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RetryOn(u8);

impl RetryOn {
    /// 500..=599.
    pub const SERVER_ERROR: Self = Self(1);
    /// 400..=499 but 429 (and 410, which disables the webhook).
    pub const CLIENT_ERROR: Self = Self(2);
    /// 429.
    pub const TOO_MANY_REQUESTS: Self = Self(4);
    /// No complete answer in time.
    pub const TIMEOUT: Self = Self(8);
    /// Name resolution, connection, TLS, or the exchange broke off.
    pub const CONNECT: Self = Self(16);
    /// Everything; the default.
    pub const ALL: Self = Self(31);
    /// Each with the word that names it.
    pub const WORDS: [(&str, Self); 5] = [
        ("5xx", Self::SERVER_ERROR),
        ("4xx", Self::CLIENT_ERROR),
        ("429", Self::TOO_MANY_REQUESTS),
        ("timeout", Self::TIMEOUT),
        ("connect", Self::CONNECT),
    ];

    /// All that is in one or the other.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Tokens a second.
    pub per_second: f64,
    /// Tokens it holds at most, at least 1.
    pub burst: u32,
}

/// A webhook's own settings of its circuit breaker; `None`: as configured under `[delivery.breaker]`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// Attempts looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u16>,
    /// Share of failures among them that opens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    /// No fewer attempts open it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_attempts: Option<u16>,
    /// Seconds that it stays open at first, doubling with each failed probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_seconds: Option<f64>,
    /// Successes that close it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_after: Option<u16>,
    /// Hours of nothing but failure after which the webhook is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_after_hours: Option<f64>,
}

impl BreakerSettings {
    /// The time of nothing but failure after which the webhook is disabled, where it has one of its own.
    pub fn disable_after(&self) -> Option<Duration> {
        self.disable_after_hours.and_then(|hours| Duration::try_from_secs_f64(hours * 3600.0).ok())
    }
}
