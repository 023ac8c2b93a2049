//! The circuit breaker of a webhook.
//!
//! ```text
//!            ratio of failures in the window reached
//!   closed ─────────────────────────────────────────► open ◄──────────────┐
//!     ▲                                                │ time is over     │ probe failed:
//!     │ close_after probes in a row succeeded          ▼                  │ twice as long
//!     └──────────────────────────────────────────── half-open ────────────┘
//! ```
//! - Open: no attempt is made, so the waiting deliveries use up no attempts.
//! - Half-open: one attempt at a time is made, the probe.
//! - The result of an attempt that began before the breaker opened is ignored, because it says nothing about the
//!   receiver's current state.

use std::time::Duration;

use crate::config;
use crate::model::{OpenBreaker, Timestamp};
use crate::runtime::{Clock, Instant};

/// A circuit breaker. It is closed at first. The settings are a parameter of [`Self::end`], so a change takes effect
/// immediately.
#[derive(Debug, Default)]
pub struct CircuitBreaker {
    state: BreakerPhase,
}

#[derive(Debug)]
enum BreakerPhase {
    Closed(OutcomeWindow),
    Open { until: Instant, lasts: Duration },
    HalfOpen { lasted: Duration, successes: u16, probing: bool },
}

/// Which attempts a circuit breaker admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerAdmission {
    /// All attempts.
    All,
    /// One attempt, which is the probe.
    Probe,
    /// No attempt before this time.
    NothingUntil(Instant),
    /// No attempt until the probe in flight has ended.
    Nothing,
}

/// The state of a circuit breaker. The numbers are the values of the metric `webhook_circuit_breaker_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CircuitState {
    /// All attempts are admitted.
    Closed = 0,
    /// Only probes are admitted.
    HalfOpen = 1,
    /// No attempt is admitted.
    Open = 2,
}

impl Default for BreakerPhase {
    fn default() -> Self {
        Self::Closed(OutcomeWindow::default())
    }
}

impl CircuitBreaker {
    /// Returns which attempts are admitted now. An open breaker whose open time is over becomes half-open by this call.
    pub fn admits(&mut self, now: Instant) -> BreakerAdmission {
        match self.state {
            BreakerPhase::Closed(_) => BreakerAdmission::All,
            BreakerPhase::Open { until, .. } if now < until => BreakerAdmission::NothingUntil(until),
            BreakerPhase::Open { lasts, .. } => {
                self.state = BreakerPhase::HalfOpen { lasted: lasts, successes: 0, probing: false };
                BreakerAdmission::Probe
            }
            BreakerPhase::HalfOpen { probing: false, .. } => BreakerAdmission::Probe,
            BreakerPhase::HalfOpen { probing: true, .. } => BreakerAdmission::Nothing,
        }
    }

    /// Records that an attempt begins, which [`Self::admits`] must have admitted. Returns whether the attempt is a probe.
    pub fn begin(&mut self) -> bool {
        match &mut self.state {
            BreakerPhase::HalfOpen { probing, .. } => {
                *probing = true;
                true
            }
            BreakerPhase::Closed(_) | BreakerPhase::Open { .. } => false,
        }
    }

    /// Records the result of an attempt. `probe` is the value that [`Self::begin`] returned for it.
    pub fn end(&mut self, ok: bool, probe: bool, now: Instant, settings: &config::Breaker) {
        match &mut self.state {
            BreakerPhase::Closed(window) => {
                window.push(ok, settings.window.max(1));
                if !ok && window.has_reached(settings) {
                    self.open_circuit(settings.open, now);
                }
            }
            BreakerPhase::HalfOpen { successes, probing, lasted } if probe => {
                *probing = false;
                if !ok {
                    let lasts = lasted.saturating_mul(2).min(settings.open_max);
                    self.open_circuit(lasts, now);
                } else if *successes + 1 >= settings.close_after {
                    self.state = BreakerPhase::default();
                } else {
                    *successes += 1;
                }
            }
            BreakerPhase::HalfOpen { .. } | BreakerPhase::Open { .. } => {}
        }
    }

    /// Records that the probe in flight ended without a result from the receiver. Another probe is admitted.
    pub fn cancel_probe(&mut self) {
        if let BreakerPhase::HalfOpen { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    /// Returns a breaker that opened before a restart.
    pub(super) fn restored(open: &OpenBreaker, clock: &Clock) -> Self {
        Self { state: BreakerPhase::Open { until: clock.instant_of(open.until), lasts: open.lasts } }
    }

    /// Returns what a restart must know of a breaker that is not closed.
    pub(super) fn open_state(&self, clock: &Clock) -> Option<OpenBreaker> {
        match self.state {
            BreakerPhase::Closed(_) => None,
            BreakerPhase::Open { until, lasts } => Some(OpenBreaker { until: clock.steady_at(until), lasts }),
            BreakerPhase::HalfOpen { lasted, .. } => Some(OpenBreaker { until: Timestamp::default(), lasts: lasted }),
        }
    }

    /// Returns the current state.
    pub fn state(&self) -> CircuitState {
        match self.state {
            BreakerPhase::Closed(_) => CircuitState::Closed,
            BreakerPhase::HalfOpen { .. } => CircuitState::HalfOpen,
            BreakerPhase::Open { .. } => CircuitState::Open,
        }
    }

    fn open_circuit(&mut self, lasts: Duration, now: Instant) {
        self.state = BreakerPhase::Open { until: now + lasts, lasts };
    }
}

/// The results of the last attempts.
///
/// While all of them are successes, they are only counted. The ring of bits exists while it contains a failure. The window
/// restarts empty when its size changes.
#[derive(Debug, Default)]
struct OutcomeWindow {
    size: u16,
    seen: u16,
    failures: u16,
    next: u16,
    failed: Option<Box<[u64]>>,
}

impl OutcomeWindow {
    fn push(&mut self, ok: bool, size: u16) {
        if self.size != size {
            *self = Self { size, ..Self::default() };
        }
        if ok && self.failed.is_none() {
            self.seen = (self.seen + 1).min(size);
            return;
        }
        let bits = self.failed.get_or_insert_with(|| vec![0; usize::from(size).div_ceil(64)].into_boxed_slice());
        let (word, bit) = (usize::from(self.next / 64), 1u64 << (self.next % 64));
        if self.seen == size && bits[word] & bit != 0 {
            self.failures -= 1;
        }
        if ok {
            bits[word] &= !bit;
        } else {
            bits[word] |= bit;
            self.failures += 1;
        }
        self.next = (self.next + 1) % size;
        self.seen = (self.seen + 1).min(size);
        if self.failures == 0 {
            self.failed = None;
            self.next = 0;
        }
    }

    fn has_reached(&self, settings: &config::Breaker) -> bool {
        self.seen >= settings.min_attempts
            && f64::from(self.failures) >= settings.failure_ratio * f64::from(self.seen.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> config::Breaker {
        config::Breaker {
            window: 10,
            failure_ratio: 0.5,
            min_attempts: 4,
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(100),
            close_after: 2,
            disable_after: Duration::from_secs(3600),
        }
    }

    fn start() -> Instant {
        Clock::test(Timestamp::from_millis(0)).instant()
    }

    /// Applies outcomes (`.` success, `x` failure). Returns the state after each one (`C` closed, `H` half-open, `O`
    /// open).
    fn closed(outcomes: &str) -> String {
        let (mut breaker, now) = (CircuitBreaker::default(), start());
        outcomes
            .chars()
            .map(|outcome| {
                let probe = breaker.begin();
                breaker.end(outcome == '.', probe, now, &settings());
                match breaker.state() {
                    CircuitState::Closed => 'C',
                    CircuitState::HalfOpen => 'H',
                    CircuitState::Open => 'O',
                }
            })
            .collect()
    }

    #[test]
    fn it_opens_at_the_failure_ratio_but_not_before_the_minimum_number_of_attempts() {
        for (outcomes, states) in [
            ("xxxx", "CCCO"),
            (".x.x", "CCCO"),
            ("...x", "CCCC"),
            // Five of the last ten attempts are failures. Older ones have left the window.
            ("..........xxxxx", "CCCCCCCCCCCCCCO"),
            ("xxx.......xxxxx", "CCCCCCCCCCCCCCO"),
            // Only a failure opens the breaker, not a success that reaches the minimum number of attempts.
            ("xxx.", "CCCC"),
            (".....................", "CCCCCCCCCCCCCCCCCCCCC"),
        ] {
            assert_eq!(closed(outcomes), states, "{outcomes}");
        }
    }

    #[test]
    fn it_sends_one_probe_at_a_time_and_a_failed_probe_doubles_the_open_time() {
        let (mut breaker, mut now, settings) = (CircuitBreaker::default(), start(), settings());
        for _ in 0..4 {
            breaker.end(false, false, now, &settings);
        }
        for lasts in [30, 60, 100, 100] {
            let until = now + Duration::from_secs(lasts);
            assert_eq!(breaker.admits(now), BreakerAdmission::NothingUntil(until));
            now = until;
            assert_eq!(breaker.admits(now), BreakerAdmission::Probe);
            assert!(breaker.begin());
            assert_eq!(breaker.admits(now), BreakerAdmission::Nothing);
            breaker.end(true, false, now, &settings);
            assert_eq!(breaker.admits(now), BreakerAdmission::Nothing, "an attempt from before says nothing");
            breaker.end(false, true, now, &settings);
        }
        now += Duration::from_secs(100);
        for state in [CircuitState::HalfOpen, CircuitState::Closed] {
            assert_eq!(breaker.admits(now), BreakerAdmission::Probe);
            let probe = breaker.begin();
            breaker.end(true, probe, now, &settings);
            assert_eq!(breaker.state(), state);
        }
        assert_eq!(breaker.admits(now), BreakerAdmission::All);
        breaker.end(false, false, now, &settings);
        assert_eq!(breaker.state(), CircuitState::Closed, "the window starts anew");
    }

    #[test]
    fn a_window_restarts_when_its_size_changes() {
        let (mut breaker, now) = (CircuitBreaker::default(), start());
        for window in [4, 200, 10, 70] {
            let settings = config::Breaker { window, min_attempts: 4, failure_ratio: 1.0, ..settings() };
            for _ in 0..3 {
                breaker.end(false, false, now, &settings);
            }
            assert_eq!(breaker.state(), CircuitState::Closed, "{window}");
        }
        breaker.end(
            false,
            false,
            now,
            &config::Breaker { window: 70, min_attempts: 4, failure_ratio: 1.0, ..settings() },
        );
        assert_eq!(breaker.state(), CircuitState::Open);
    }

    #[test]
    fn a_cancelled_probe_is_sent_again() {
        let (mut breaker, now, settings) = (CircuitBreaker::default(), start(), settings());
        for _ in 0..4 {
            breaker.end(false, false, now, &settings);
        }
        let later = now + settings.open;
        assert_eq!(breaker.admits(later), BreakerAdmission::Probe);
        breaker.begin();
        breaker.cancel_probe();
        assert_eq!(breaker.admits(later), BreakerAdmission::Probe);
    }
}
