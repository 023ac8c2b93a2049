//! Delivery attempts, the decision after an attempt, and delivery states.

use std::fmt;
use std::time::Duration;

use super::Timestamp;

/// One delivery attempt, as the history stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The number of the attempt, starting at 1.
    pub number: u16,
    /// When the attempt began.
    pub at: Timestamp,
    /// The time from the beginning to the end of the attempt.
    pub latency: Duration,
    /// The status of the response; `None` if there was no response.
    pub http_status: Option<u16>,
    /// Why the attempt failed; `None` on success.
    pub error: Option<AttemptError>,
    /// The first [`crate::limits::RESPONSE_BYTES_KEPT`] bytes of the response body, as text.
    pub response: Box<str>,
}

/// Why an attempt failed.
///
/// Each failure that the retry policy and the circuit breaker treat differently has a variant. The texts inside the
/// variants are only for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptError {
    /// The response has a status outside 200..=299.
    Status(u16),
    /// No complete response arrived within the timeout of the webhook.
    Timeout,
    /// Name resolution, connection, TLS or the exchange itself failed.
    Connect(Box<str>),
    /// The egress guard forbids the address. The retry policy never retries this failure sooner than its schedule says.
    Egress(Box<str>),
    /// The delivery cannot be signed as the profile of the webhook requires. Nothing was sent.
    Unsigned(Box<str>),
    /// This delivery can never be sent to the endpoint, such as a message over the limit of a broker. Nothing was sent,
    /// and the delivery is not attempted again.
    Undeliverable(Box<str>),
    /// The attempt was dropped before it finished, because of a fault in Hooktide.
    Dropped,
    /// The payload is no longer in the log.
    PayloadGone,
}

/// What happens to a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The response had a status in 200..=299.
    Delivered,
    /// The delivery is attempted again, at this time of the scheduling clock.
    Retry {
        /// When the next attempt is due.
        at: Timestamp,
    },
    /// The delivery is not attempted again and becomes a dead letter.
    Dead(DeadReason),
}

/// Why a delivery became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeadReason {
    /// All attempts of the retry policy are used up.
    Exhausted = 1,
    /// The retry policy does not retry this failure.
    NotRetryable = 2,
    /// The receiver answered 410 Gone, which disables the webhook.
    Gone = 3,
    /// The webhook was disabled while the delivery waited.
    Disabled = 4,
    /// The webhook was deleted while the delivery waited.
    Removed = 5,
    /// The retention limits of the log removed the payload while the delivery waited.
    Expired = 6,
    /// The filters of the webhook needed more work on the event than is allowed, so they were not evaluated.
    FilterTooCostly = 7,
}

impl DeadReason {
    /// The reason with this stored number; `None` for an unknown number.
    pub fn from_u8(n: u8) -> Option<Self> {
        use DeadReason as R;
        [R::Exhausted, R::NotRetryable, R::Gone, R::Disabled, R::Removed, R::Expired, R::FilterTooCostly]
            .into_iter()
            .find(|reason| *reason as u8 == n)
    }

    /// The name of the reason in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::NotRetryable => "not_retryable",
            Self::Gone => "gone",
            Self::Disabled => "disabled",
            Self::Removed => "removed",
            Self::Expired => "expired",
            Self::FilterTooCostly => "filter_too_costly",
        }
    }

    /// The final status of the delivery: `failed` if an attempt ended the delivery, `abandoned` if something else did.
    pub fn status(self) -> DeliveryStatus {
        match self {
            Self::Exhausted | Self::NotRetryable | Self::Gone => DeliveryStatus::Failed,
            Self::Disabled | Self::Removed | Self::Expired | Self::FilterTooCostly => DeliveryStatus::Abandoned,
        }
    }
}

/// The status of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// The delivery has not been attempted, or the first attempt is in progress.
    Pending,
    /// The delivery was attempted and waits for the next attempt.
    Retrying,
    /// The endpoint accepted the delivery.
    Delivered,
    /// The delivery is a dead letter because its last attempt failed.
    Failed,
    /// The delivery is a dead letter for a reason other than a failed attempt.
    Abandoned,
}

impl DeliveryStatus {
    /// The name of the status in the API.
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
            Self::Unsigned(why) | Self::Undeliverable(why) => write!(f, "not sent: {why}"),
            Self::Dropped => f.write_str("the attempt ended early; see the log"),
            Self::PayloadGone => f.write_str("the payload is no longer in the log"),
        }
    }
}
