//! Limits how fast deliveries of one webhook begin.
//!
//! The checks are made in this order: pause, circuit breaker, ramp and concurrency, token bucket.

use super::breaker::{BreakerAdmission, CircuitBreaker};
use crate::config;
use crate::model::{EndpointPause, EndpointState, PauseReason, RateLimit};
use crate::runtime::{Clock, Instant, TokenBucket};

/// Whether a delivery may begin now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// A delivery may begin now.
    Open,
    /// No delivery may begin before this time.
    Until(Instant),
    /// No delivery may begin before another input: a delivery ends, a body is loaded, the webhook is resumed.
    Shut,
}

/// The limits of a webhook's settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct SendLimits<'a> {
    /// The maximum number of deliveries in flight.
    pub(super) in_flight_max: u16,
    /// The maximum number of deliveries per second.
    pub(super) rate: Option<&'a RateLimit>,
}

/// The rate control state of one webhook.
#[derive(Debug, Default)]
pub(super) struct RateControl {
    /// The webhook's circuit breaker.
    pub(super) breaker: CircuitBreaker,
    bucket: TokenBucket,
    paused_until: Option<Instant>,
    /// The reason of the pause, if a response caused it.
    pause_reason: Option<PauseReason>,
    ramp: Option<Ramp>,
    /// Whether the last attempt failed.
    is_failing: bool,
}

/// Limits the concurrency after the circuit breaker closed or a pause ended. The width doubles (1, 2, 4, 8, …) after as
/// many successes as the current width.
#[derive(Debug)]
struct Ramp {
    width: u16,
    successes: u16,
}

impl RateControl {
    /// Whether another delivery may begin while `in_flight` deliveries are in flight.
    pub(super) fn gate(&mut self, in_flight: usize, allowed: SendLimits<'_>, now: Instant) -> Gate {
        if let Some(until) = self.paused_until {
            if now < until {
                return Gate::Until(until);
            }
            self.end_pause();
        }
        let width = match self.breaker.admits(now) {
            BreakerAdmission::All => {
                self.ramp.as_ref().map_or(u16::MAX, |ramp| ramp.width).min(allowed.in_flight_max.max(1))
            }
            // Deliveries from before the breaker opened may still be in flight. They do not delay the probe.
            BreakerAdmission::Probe => u16::MAX,
            BreakerAdmission::Nothing => return Gate::Shut,
            BreakerAdmission::NothingUntil(until) => return Gate::Until(until),
        };
        if in_flight >= usize::from(width) {
            return Gate::Shut;
        }
        match allowed.rate.map(|limit| self.bucket.ready_at(limit, now)) {
            Some(at) if now < at => Gate::Until(at),
            _ => Gate::Open,
        }
    }

    /// Records that a delivery begins. Returns whether it is the circuit breaker's probe.
    pub(super) fn begin(&mut self, rate: Option<&RateLimit>, now: Instant) -> bool {
        if let Some(limit) = rate {
            self.bucket.take(limit, now);
        }
        self.breaker.begin()
    }

    /// Records the result of an attempt. `probe` is the value that [`Self::begin`] returned for it.
    pub(super) fn end(&mut self, ok: bool, probe: bool, now: Instant, settings: &config::Breaker) {
        let was = self.breaker.state();
        self.breaker.end(ok, probe, now, settings);
        self.is_failing = !ok;
        if !ok {
            return;
        }
        if was != self.breaker.state() {
            self.start_ramp();
        } else if let Some(ramp) = &mut self.ramp {
            ramp.successes += 1;
            if ramp.successes >= ramp.width {
                *ramp = Ramp { width: ramp.width.saturating_mul(2), successes: 0 };
            }
            if ramp.width == u16::MAX {
                self.ramp = None;
            }
        }
    }

    /// Pauses the webhook: no delivery begins before `until`. A later end of an earlier pause remains.
    pub(super) fn pause(&mut self, until: Instant, reason: Option<PauseReason>) {
        if self.paused_until < Some(until) {
            self.paused_until = Some(until);
            self.pause_reason = reason;
        }
    }

    /// Forgets the pause and the circuit breaker, because the address is another one or its owner resumed it.
    pub(super) fn forget_endpoint(&mut self) {
        let bucket = std::mem::take(&mut self.bucket);
        *self = Self { bucket, ..Self::default() };
        self.start_ramp();
    }

    /// Restores the state that the endpoint had before a restart.
    pub(super) fn restored(state: &EndpointState, clock: &Clock) -> Self {
        let mut restored = Self::default();
        if let Some(EndpointPause { until, reason }) = state.pause {
            restored.pause(clock.instant_of(until), Some(reason));
        }
        if let Some(open) = &state.breaker {
            restored.breaker = CircuitBreaker::restored(open, clock);
            restored.is_failing = true;
        }
        restored
    }

    /// Returns the state of the endpoint, for the next start.
    pub(super) fn endpoint_state(&self, address_version: u64, clock: &Clock) -> EndpointState {
        let pause = self.pause_reason.zip(self.paused_until);
        EndpointState {
            address_version,
            pause: pause.map(|(reason, until)| EndpointPause { until: clock.steady_at(until), reason }),
            breaker: self.breaker.open_state(clock),
        }
    }

    /// Handles that the webhook was resumed. Also ends a pause that the receiver's responses caused.
    pub(super) fn resume(&mut self) {
        self.end_pause();
    }

    /// Whether this state can be evicted without a loss of information.
    pub(super) fn evictable(&mut self, now: Instant) -> Evictable {
        if self.is_failing {
            return Evictable::No;
        }
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        let is_open = matches!(self.breaker.admits(now), BreakerAdmission::NothingUntil(_));
        if is_paused || is_open || !self.bucket.is_full(now) { Evictable::Later } else { Evictable::Yes }
    }

    fn end_pause(&mut self) {
        self.paused_until = None;
        self.pause_reason = None;
        self.start_ramp();
    }

    fn start_ramp(&mut self) {
        self.ramp = Some(Ramp { width: 1, successes: 0 });
    }
}

/// Whether a [`RateControl`] may be evicted from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evictable {
    /// Yes: a new value would behave in the same way.
    Yes,
    /// Not yet, but after some time without a further input.
    Later,
    /// No: it holds failures, which only a successful delivery ends.
    No,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Timestamp;
    use crate::runtime::Clock;

    fn settings() -> config::Breaker {
        config::Breaker {
            window: 10,
            failure_ratio: 0.5,
            min_attempts: 1,
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(30),
            close_after: 1,
            disable_after: Duration::from_secs(3600),
        }
    }

    /// The number of deliveries that may be in flight.
    fn width(rate_control: &mut RateControl, now: Instant) -> usize {
        let allowed = SendLimits { in_flight_max: 8, rate: None };
        (0..100).take_while(|in_flight| rate_control.gate(*in_flight, allowed, now) == Gate::Open).count()
    }

    #[test]
    fn concurrency_ramps_up_after_a_pause_and_after_an_open_breaker() {
        let mut now = Clock::test(Timestamp::from_millis(0)).instant();
        let mut rate_control = RateControl::default();
        assert_eq!(width(&mut rate_control, now), 8);
        rate_control.pause(now + Duration::from_secs(1), None);
        assert_eq!(width(&mut rate_control, now), 0);
        now += Duration::from_secs(1);
        for expected in [1, 2, 4, 8, 8] {
            assert_eq!(width(&mut rate_control, now), expected);
            for _ in 0..expected {
                rate_control.end(true, false, now, &settings());
            }
        }
        (0..5).for_each(|_| rate_control.end(false, false, now, &settings()));
        assert_eq!(width(&mut rate_control, now), 0, "open");
        now += Duration::from_secs(30);
        assert_eq!(rate_control.gate(7, SendLimits { in_flight_max: 8, rate: None }, now), Gate::Open, "the probe");
        let probe = rate_control.begin(None, now);
        rate_control.end(true, probe, now, &settings());
        assert_eq!(width(&mut rate_control, now), 1, "closed again, slowly");
    }

    #[test]
    fn a_failing_webhook_is_not_evictable_before_the_next_success() {
        let now = Clock::test(Timestamp::from_millis(0)).instant();
        let mut rate_control = RateControl::default();
        rate_control.end(false, false, now, &settings());
        let later = now + Duration::from_secs(100);
        rate_control.end(false, false, later, &settings());
        assert_eq!(rate_control.evictable(later), Evictable::No);
        rate_control.end(true, false, later, &settings());
        assert_ne!(rate_control.evictable(later), Evictable::No);
    }
}
