//! How fast a webhook is sent to: what is under way, pauses, breaker, ramp and token bucket, asked in this order.

use super::breaker::{Admits, Breaker};
use crate::config;
use crate::model::RateLimit;
use crate::runtime::{Bucket, Instant};

/// Whether a delivery may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Now.
    Open,
    /// Not before this time.
    Until(Instant),
    /// Not before something else happens: a delivery ends, a body comes, somebody resumes the webhook.
    Shut,
}

/// What is allowed to a webhook by its settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed<'a> {
    /// Deliveries at once.
    pub(super) in_flight_max: u16,
    /// Deliveries a second.
    pub(super) rate: Option<&'a RateLimit>,
}

/// The pace of one webhook.
#[derive(Debug, Default)]
pub(super) struct RateControl {
    pub(super) breaker: Breaker,
    bucket: Bucket,
    paused_until: Option<Instant>,
    ramp: Option<Ramp>,
    /// Whether the last delivery failed.
    is_failing: bool,
}

/// The way back to full concurrency after a breaker closed or a pause ended: 1, 2, 4, 8, …, each step after as many
/// successes as it is wide.
#[derive(Debug)]
struct Ramp {
    width: u16,
    successes: u16,
}

impl RateControl {
    /// Whether one more delivery may begin beside those under way.
    pub(super) fn gate(&mut self, in_flight: usize, allowed: Allowed<'_>, now: Instant) -> Gate {
        if let Some(until) = self.paused_until {
            if now < until {
                return Gate::Until(until);
            }
            self.paused_until = None;
            self.start_ramp();
        }
        let width = match self.breaker.admits(now) {
            Admits::All => self.ramp.as_ref().map_or(u16::MAX, |ramp| ramp.width).min(allowed.in_flight_max.max(1)),
            // Deliveries from before the breaker opened may still be under way; they do not hold up the probe.
            Admits::Probe => u16::MAX,
            Admits::Nothing => return Gate::Shut,
            Admits::NothingUntil(until) => return Gate::Until(until),
        };
        if in_flight >= usize::from(width) {
            return Gate::Shut;
        }
        match allowed.rate.map(|limit| self.bucket.ready_at(limit, now)) {
            Some(at) if now < at => Gate::Until(at),
            _ => Gate::Open,
        }
    }

    /// A delivery begins; says whether it is the breaker's probe.
    pub(super) fn begin(&mut self, rate: Option<&RateLimit>, now: Instant) -> bool {
        if let Some(limit) = rate {
            self.bucket.take(limit, now);
        }
        self.breaker.begin()
    }

    /// A delivery ended.
    pub(super) fn end(&mut self, ok: bool, probe: bool, now: Instant, settings: &config::Breaker) {
        let was = self.breaker.stands();
        self.breaker.end(ok, probe, now, settings);
        self.is_failing = !ok;
        if !ok {
            return;
        }
        if was != self.breaker.stands() {
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

    /// Nothing begins before `until`.
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Somebody resumed the webhook: a pause that its answers asked for is over as well.
    pub(super) fn resume(&mut self) {
        self.paused_until = None;
        self.start_ramp();
    }

    /// Whether nothing is lost by forgetting it.
    pub(super) fn forgettable(&mut self, now: Instant) -> Forgettable {
        if self.is_failing {
            return Forgettable::No;
        }
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        let is_open = matches!(self.breaker.admits(now), Admits::NothingUntil(_));
        if is_paused || is_open || !self.bucket.is_full(now) { Forgettable::Later } else { Forgettable::Yes }
    }

    fn start_ramp(&mut self) {
        self.ramp = Some(Ramp { width: 1, successes: 0 });
    }
}

/// Whether a pace may be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgettable {
    /// A new one would do as well.
    Yes,
    /// Time will make it so.
    Later,
    /// It tells of failures that only a delivery can end.
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

    /// How many begin when as many begin as may.
    fn width(pace: &mut RateControl, now: Instant) -> usize {
        let allowed = Allowed { in_flight_max: 8, rate: None };
        (0..100).take_while(|in_flight| pace.gate(*in_flight, allowed, now) == Gate::Open).count()
    }

    #[test]
    fn what_comes_back_is_ramped() {
        let mut now = Clock::test(Timestamp::from_millis(0)).instant();
        let mut pace = RateControl::default();
        assert_eq!(width(&mut pace, now), 8);
        pace.pause(now + Duration::from_secs(1));
        assert_eq!(width(&mut pace, now), 0);
        now += Duration::from_secs(1);
        for expected in [1, 2, 4, 8, 8] {
            assert_eq!(width(&mut pace, now), expected);
            for _ in 0..expected {
                pace.end(true, false, now, &settings());
            }
        }
        (0..5).for_each(|_| pace.end(false, false, now, &settings()));
        assert_eq!(width(&mut pace, now), 0, "open");
        now += Duration::from_secs(30);
        assert_eq!(pace.gate(7, Allowed { in_flight_max: 8, rate: None }, now), Gate::Open, "the probe");
        let probe = pace.begin(None, now);
        pace.end(true, probe, now, &settings());
        assert_eq!(width(&mut pace, now), 1, "closed again, slowly");
    }

    #[test]
    fn failure_is_not_forgotten_before_the_next_success() {
        let now = Clock::test(Timestamp::from_millis(0)).instant();
        let mut pace = RateControl::default();
        pace.end(false, false, now, &settings());
        let later = now + Duration::from_secs(100);
        pace.end(false, false, later, &settings());
        assert_eq!(pace.forgettable(later), Forgettable::No);
        pace.end(true, false, later, &settings());
        assert_ne!(pace.forgettable(later), Forgettable::No);
    }
}
