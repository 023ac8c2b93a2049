//! Attempts: a shard passes each attempt to a [`Transport`], which returns the outcome.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::model::{AttemptError, Decision, Timestamp};
use crate::outbound::{Event, SentRequest, Webhook};
use crate::runtime::{Instant, Moment};

/// One attempt to deliver an event to a webhook.
#[derive(Debug, Clone, Copy)]
pub struct AttemptRequest<'a> {
    /// The webhook.
    pub webhook: &'a Arc<Webhook>,
    /// The event.
    pub event: &'a Arc<Event>,
    /// The number of the attempt. The first attempt is 1.
    pub attempt: u16,
    /// The timeout of the whole attempt.
    pub timeout: Duration,
    /// When the attempt begins. The signature contains the time of the wall clock.
    pub began: Moment,
}

/// The outcome of an attempt.
#[derive(Debug, Clone)]
pub struct AttemptOutcome {
    /// `Ok` if the receiver responded with a status of 200 to 299.
    pub result: Result<(), AttemptError>,
    /// The status of the response, if there was a response.
    pub http_status: Option<u16>,
    /// The `Retry-After` of a 429 or 503 response, at most [`crate::limits::RETRY_DELAY_MAX`].
    pub retry_after: Option<Duration>,
    /// The first bytes of the response body as text, at most [`crate::limits::RESPONSE_BYTES_KEPT`].
    pub response: Box<str>,
    /// The duration of the attempt.
    pub latency: Duration,
    /// When the request's bytes were written to the socket. `None` if they were not.
    pub sent_at: Option<Instant>,
}

/// Makes attempts: the HTTP client of a shard, or a test's replacement. It need not be `Send`, because a shard is one
/// thread.
#[expect(async_fn_in_trait, reason = "used by one thread, which needs no Send bound")]
pub trait Transport: 'static {
    /// Makes one attempt. Returns within the attempt's timeout.
    async fn deliver(&self, attempt: AttemptRequest<'_>) -> AttemptOutcome;

    /// Makes the attempt of a test delivery, and returns its request and response as well.
    async fn deliver_test(&self, attempt: AttemptRequest<'_>) -> TestAttempt {
        self.deliver(attempt).await.into()
    }
}

/// The attempt of a test delivery, with its request and response.
#[derive(Debug)]
pub struct TestAttempt {
    /// The outcome.
    pub outcome: AttemptOutcome,
    /// The request that was sent, or `None` if no request could be made.
    pub request: Option<SentRequest>,
    /// The headers of the response.
    pub headers: HeaderMap,
    /// The body of the response, at most [`crate::limits::RESPONSE_BYTES_MAX`].
    pub body: Vec<u8>,
    /// Whether the response body was longer than `body`.
    pub is_cut: bool,
}

impl From<AttemptOutcome> for TestAttempt {
    /// Converts the outcome of a transport that knows neither the request nor the headers.
    fn from(outcome: AttemptOutcome) -> Self {
        let body = outcome.response.as_bytes().to_vec();
        Self { outcome, request: None, headers: HeaderMap::new(), body, is_cut: false }
    }
}

/// The decision after an attempt, and its consequences for the webhook's other deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDecision {
    /// Whether this delivery is delivered, retried or a dead letter.
    pub decision: Decision,
    /// The webhook is paused until this time of the scheduling clock (after a 429, 502, 503 or 504).
    pub pause_webhook_until: Option<Timestamp>,
    /// Whether the webhook must be disabled (after a 410).
    pub disable: bool,
}
