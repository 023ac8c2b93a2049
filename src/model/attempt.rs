//! An attempt at a delivery, and what is decided after it.

use std::fmt;
use std::time::Duration;

use super::Timestamp;

/// One attempt, as history keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u16,
    /// When it began.
    pub at: Timestamp,
    /// From its beginning to its end.
    pub latency: Duration,
    /// The answer's status, if there was an answer.
    pub http_status: Option<u16>,
    /// Why it failed; absent on success.
    pub error: Option<AttemptError>,
    /// The first [`crate::limits::RESPONSE_BYTES_KEPT`] bytes of the answer's body, as text.
    pub response: Box<str>,
}

/// Why an attempt failed. What the retry policy and the breaker must tell apart is a variant; the words are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptError {
    /// An answer outside 200..=299.
    Status(u16),
    /// No complete answer within the webhook's timeout.
    Timeout,
    /// Name resolution, connection, TLS or the exchange itself failed.
    Connect(Box<str>),
    /// The egress guard forbids the address. Never retried sooner than the schedule says.
    Egress(Box<str>),
    /// It cannot be signed as the webhook's profile says; nothing was sent.
    Unsigned(Box<str>),
    /// The attempt was dropped unfinished: a fault of ours.
    Dropped,
    /// The payload is no longer in the log.
    PayloadGone,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 200..=299.
    Delivered,
    /// Again, at this time of the scheduling clock.
    Retry {
        /// When.
        at: Timestamp,
    },
    /// Never again; a dead letter.
    Dead(DeadReason),
}

/// Why a delivery became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeadReason {
    /// Its attempts are used up.
    Exhausted = 1,
    /// The retry policy does not retry this failure.
    NotRetryable = 2,
    /// The receiver answered 410 Gone, which disables the webhook.
    Gone = 3,
    /// Its webhook was disabled while it waited.
    Disabled = 4,
    /// Its webhook was removed while it waited.
    Removed = 5,
    /// The log's limits took its payload while it waited.
    Expired = 6,
}

impl DeadReason {
    /// The reason with this number, as stored.
    pub fn from_u8(n: u8) -> Option<Self> {
        [Self::Exhausted, Self::NotRetryable, Self::Gone, Self::Disabled, Self::Removed, Self::Expired]
            .into_iter()
            .find(|reason| *reason as u8 == n)
    }

    /// The word that the interface shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::NotRetryable => "not_retryable",
            Self::Gone => "gone",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
            Self::Expired => "expired",
        }
    }

    /// The delivery's final state: `failed` when an attempt ended it, `abandoned` when something else did.
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Exhausted | Self::NotRetryable | Self::Gone => DeliveryStatus::Failed,
            Self::Disabled | Self::Removed | Self::Expired => DeliveryStatus::Abandoned,
        }
    }
}

/// A delivery's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// Not yet attempted, or being attempted for the first time.
    Pending,
    /// Attempted, waiting for the next attempt.
    Retrying,
    /// Done.
    Delivered,
    /// A dead letter after its last attempt.
    Failed,
    /// A dead letter without a last attempt.
    Abandoned,
}

impl DeliveryStatus {
    /// The word that the interface shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the endpoint answered {status}"),
            Self::Timeout => f.write_str("no complete answer in time"),
            Self::Connect(why) => write!(f, "connection failed: {why}"),
            Self::Egress(why) => write!(f, "refused by the egress guard: {why}"),
            Self::Unsigned(why) => write!(f, "not sent: {why}"),
            Self::Dropped => f.write_str("the attempt ended early; see the log"),
            Self::PayloadGone => f.write_str("the payload is no longer in the log"),
        }
    }
}
