//! The state of an endpoint: the pause that its responses caused, and its circuit breaker.
//!
//! The state belongs to an address. A webhook that gets another URL, or that is resumed, begins without it.

use std::time::Duration;

use serde::Serialize;

use super::Timestamp;

/// The state of the endpoint of one webhook. The default value is that of an endpoint that is neither paused nor failing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointState {
    /// The version of the webhook at which the address was set or resumed. The state of another address does not count.
    pub address_version: u64,
    /// The pause that a response caused.
    pub pause: Option<EndpointPause>,
    /// The circuit breaker, if it is not closed.
    pub breaker: Option<OpenBreaker>,
}

/// A pause: no attempt begins before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointPause {
    /// The end, by the scheduling clock.
    pub until: Timestamp,
    /// The reason.
    pub reason: PauseReason,
}

/// A circuit breaker that is open or half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenBreaker {
    /// The end of the open time, by the scheduling clock. A half-open breaker has an end in the past.
    pub until: Timestamp,
    /// The length of the open time.
    pub lasts: Duration,
}

/// Why no attempt begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum PauseReason {
    /// The endpoint responded with 429 Too Many Requests.
    #[serde(rename = "http_429")]
    TooManyRequests,
    /// The endpoint responded with 502 Bad Gateway.
    #[serde(rename = "http_502")]
    BadGateway,
    /// The endpoint responded with 503 Service Unavailable.
    #[serde(rename = "http_503")]
    ServiceUnavailable,
    /// The endpoint responded with 504 Gateway Timeout.
    #[serde(rename = "http_504")]
    GatewayTimeout,
    /// The circuit breaker is open.
    #[serde(rename = "breaker_open")]
    BreakerOpen,
}

impl EndpointState {
    /// Whether the endpoint is neither paused nor failing.
    pub fn is_clear(&self) -> bool {
        self.pause.is_none() && self.breaker.is_none()
    }

    /// The pause or the open time that ends last, if one has not ended at `now` (scheduling clock).
    pub fn pause_at(&self, now: Timestamp) -> Option<EndpointPause> {
        let open = self.breaker.map(|open| EndpointPause { until: open.until, reason: PauseReason::BreakerOpen });
        let pauses = [self.pause, open].into_iter().flatten().filter(|pause| pause.until > now);
        pauses.max_by_key(|pause| pause.until)
    }
}

impl PauseReason {
    /// The reason of a pause that a response with this status causes. `None` for a status that causes none.
    pub fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            429 => Self::TooManyRequests,
            502 => Self::BadGateway,
            503 => Self::ServiceUnavailable,
            504 => Self::GatewayTimeout,
            _ => return None,
        })
    }

    /// The status of the response. `None` for an open circuit breaker.
    pub fn status(self) -> Option<u16> {
        Some(match self {
            Self::TooManyRequests => 429,
            Self::BadGateway => 502,
            Self::ServiceUnavailable => 503,
            Self::GatewayTimeout => 504,
            Self::BreakerOpen => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_that_ends_last_counts() {
        let at = Timestamp::from_millis;
        let pause = |until| EndpointPause { until: at(until), reason: PauseReason::TooManyRequests };
        let state = EndpointState {
            address_version: 1,
            pause: Some(pause(50)),
            breaker: Some(OpenBreaker { until: at(80), lasts: Duration::from_secs(30) }),
        };
        assert_eq!(state.pause_at(at(10)).map(|pause| pause.reason), Some(PauseReason::BreakerOpen));
        assert_eq!(EndpointState { breaker: None, ..state }.pause_at(at(49)), Some(pause(50)));
        assert_eq!(state.pause_at(at(80)), None);
    }

    #[test]
    fn each_reason_has_its_status() {
        for status in [429, 502, 503, 504] {
            assert_eq!(PauseReason::of_status(status).and_then(PauseReason::status), Some(status));
        }
        assert_eq!((PauseReason::of_status(500), PauseReason::BreakerOpen.status()), (None, None));
    }
}
