//! Delivery policies of a webhook: retries, rate limit and circuit breaker.

use std::sync::Arc;
use std::time::Duration;

/// When and how often a failed delivery is retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryPolicy {
    /// A list of delays. n delays allow n + 1 attempts.
    Schedule(Arc<[Duration]>),
    /// Exponential backoff: delays that grow by a factor.
    Backoff {
        /// The number of retries after the first attempt.
        max_retries: u16,
        /// The delay before the first retry.
        retry_delay: Duration,
        /// The factor, in thousandths, by which each delay is longer than the previous delay.
        backoff_permille: u32,
        /// The longest delay.
        max_delay: Duration,
    },
}

/// The set of failures that are retried (`retry_policy.retry_on`). A failure outside the set fails the delivery at
/// once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct RetryOn(u8);

impl RetryOn {
    /// Statuses 500..=599.
    pub const SERVER_ERROR: Self = Self(1);
    /// Statuses 400..=499 except 429 (and except 410, which disables the webhook).
    pub const CLIENT_ERROR: Self = Self(2);
    /// Status 429.
    pub const TOO_MANY_REQUESTS: Self = Self(4);
    /// No complete response arrived in time.
    pub const TIMEOUT: Self = Self(8);
    /// Name resolution, the connection, TLS or the exchange failed.
    pub const CONNECT: Self = Self(16);
    /// All failures, which is the default.
    pub const ALL: Self = Self(31);
    /// Each failure with its name in the settings.
    pub const WORDS: [(&str, Self); 5] = [
        ("5xx", Self::SERVER_ERROR),
        ("4xx", Self::CLIENT_ERROR),
        ("429", Self::TOO_MANY_REQUESTS),
        ("timeout", Self::TIMEOUT),
        ("connect", Self::CONNECT),
    ];

    /// The union of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this set contains all of `other`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A rate limit: the parameters of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// The number of tokens added per second.
    pub per_second: f64,
    /// The capacity of the bucket in tokens, at least 1.
    pub burst: u32,
}

/// The circuit breaker settings of one webhook. `None` means the value configured under `[delivery.breaker]`.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerSettings {
    /// The number of most recent attempts that the breaker counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u16>,
    /// The share of failures among these attempts that opens the breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    /// The minimum number of attempts before the breaker can open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_attempts: Option<u16>,
    /// The number of seconds that the breaker stays open at first. The time doubles with each failed probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_seconds: Option<f64>,
    /// The number of successes that close the breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_after: Option<u16>,
    /// The number of hours with only failures after which the webhook is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disable_after_hours: Option<f64>,
}

impl BreakerSettings {
    /// The time with only failures after which the webhook is disabled; `None` if the webhook does not set the time.
    pub fn disable_after(&self) -> Option<Duration> {
        self.disable_after_hours.and_then(|hours| Duration::try_from_secs_f64(hours * 3600.0).ok())
    }
}
