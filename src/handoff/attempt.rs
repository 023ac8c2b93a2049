//! An attempt at a delivery goes out through a [`Transport`], and its outcome comes back.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::model::{AttemptError, Decision, Timestamp};
use crate::outbound::{Event, SentRequest, Webhook};
use crate::runtime::{Instant, Moment};

/// What is sent: an event for a webhook, the how-manieth time.
#[derive(Debug, Clone, Copy)]
pub struct AttemptRequest<'a> {
    /// To whom.
    pub webhook: &'a Arc<Webhook>,
    /// What.
    pub event: &'a Arc<Event>,
    /// 1 for the first attempt.
    pub attempt: u16,
    /// For the whole attempt.
    pub timeout: Duration,
    /// When the attempt begins; the wall clock goes into its signature.
    pub began: Moment,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `Ok` for 200..=299.
    pub result: Result<(), AttemptError>,
    /// The answer's status, if there was one.
    pub http_status: Option<u16>,
    /// `Retry-After` of a 429 or 503, bounded by [`crate::limits::RETRY_DELAY_MAX`].
    pub retry_after: Option<Duration>,
    /// The first bytes of the answer's body, at most [`crate::limits::RESPONSE_BYTES_KEPT`], as text.
    pub response: Box<str>,
    /// From begin to end.
    pub latency: Duration,
    /// When the request's bytes had been handed to the socket.
    pub sent_at: Option<Instant>,
}

/// What carries parcels: the HTTP client of a shard, or a test's own. Not `Send`: a shard is one thread.
#[expect(async_fn_in_trait, reason = "used by one thread, which needs no Send bound")]
pub trait Transport: 'static {
    /// One attempt; returns within the parcel's timeout.
    async fn carry(&self, parcel: AttemptRequest<'_>) -> Outcome;

    /// The same, with all there is to see of it.
    async fn probe(&self, parcel: AttemptRequest<'_>) -> Probed {
        self.carry(parcel).await.into()
    }
}

/// An attempt, whole.
#[derive(Debug)]
pub struct Probed {
    /// How it ended.
    pub outcome: Outcome,
    /// What was sent; `None`: nothing could be.
    pub request: Option<SentRequest>,
    /// The answer's headers.
    pub headers: HeaderMap,
    /// The answer's body, at most [`crate::limits::RESPONSE_BYTES_MAX`].
    pub body: Vec<u8>,
    /// Whether there was more of it.
    pub is_cut: bool,
}

impl From<Outcome> for Probed {
    /// Of a carrier that knows no more.
    fn from(outcome: Outcome) -> Self {
        let body = outcome.response.as_bytes().to_vec();
        Self { outcome, request: None, headers: HeaderMap::new(), body, is_cut: false }
    }
}

/// The decision, and what it means for the rest of the webhook's deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of this delivery.
    pub decision: Decision,
    /// Nothing goes to the webhook before this time of the scheduling clock (429, 502, 503, 504).
    pub pause_webhook_until: Option<Timestamp>,
    /// The webhook is to be disabled (410).
    pub disable: bool,
}
