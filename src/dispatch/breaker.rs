//! The circuit breaker of a webhook.
//!
//! ```text
//!            ratio of failures in the window reached
//!   closed ─────────────────────────────────────────► open ◄──────────────┐
//!     ▲                                                │ time is over     │ probe failed:
//!     │ close_after probes in a row succeeded          ▼                  │ twice as long
//!     └──────────────────────────────────────────── half-open ────────────┘
//! ```
//! While it is open nothing is attempted, and so nothing counts as an attempt: what waits, waits. Half-open lets one probe
//! through at a time. An attempt that began before the breaker opened says nothing about the receiver now and is not heard.

use std::time::Duration;

use crate::config;
use crate::runtime::Instant;

/// A breaker, closed at first. Its settings are a parameter.
#[derive(Debug, Default)]
pub struct Breaker {
    state: State,
}

#[derive(Debug)]
enum State {
    Closed(Window),
    Open { until: Instant, lasts: Duration },
    HalfOpen { lasted: Duration, successes: u16, probing: bool },
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admits {
    /// Everything.
    All,
    /// One attempt, the probe.
    Probe,
    /// Nothing before this time.
    NothingUntil(Instant),
    /// Nothing until the probe under way has ended.
    Nothing,
}

/// A breaker's state, as the metric numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stands {
    /// All goes through.
    Closed = 0,
    /// Probes go through.
    HalfOpen = 1,
    /// Nothing does.
    Open = 2,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed(Window::default())
    }
}

impl Breaker {
    /// What may be attempted now. An open breaker whose time is over becomes half-open by being asked.
    pub fn admits(&mut self, now: Instant) -> Admits {
        match self.state {
            State::Closed(_) => Admits::All,
            State::Open { until, .. } if now < until => Admits::NothingUntil(until),
            State::Open { lasts, .. } => {
                self.state = State::HalfOpen { lasted: lasts, successes: 0, probing: false };
                Admits::Probe
            }
            State::HalfOpen { probing: false, .. } => Admits::Probe,
            State::HalfOpen { probing: true, .. } => Admits::Nothing,
        }
    }

    /// An attempt begins, as [`Self::admits`] allowed; says whether it is a probe.
    pub fn begin(&mut self) -> bool {
        match &mut self.state {
            State::HalfOpen { probing, .. } => {
                *probing = true;
                true
            }
            State::Closed(_) | State::Open { .. } => false,
        }
    }

    /// An attempt ended; `probe` is what [`Self::begin`] said of it.
    pub fn end(&mut self, ok: bool, probe: bool, now: Instant, settings: &config::Breaker) {
        match &mut self.state {
            State::Closed(window) => {
                window.push(ok, settings.window.max(1));
                if !ok && window.has_reached(settings) {
                    self.open(settings.open, now);
                }
            }
            State::HalfOpen { successes, probing, lasted } if probe => {
                *probing = false;
                if !ok {
                    let lasts = lasted.saturating_mul(2).min(settings.open_max);
                    self.open(lasts, now);
                } else if *successes + 1 >= settings.close_after {
                    self.state = State::default();
                } else {
                    *successes += 1;
                }
            }
            State::HalfOpen { .. } | State::Open { .. } => {}
        }
    }

    /// A probe came to nothing, through no fault of the receiver: another may go.
    pub fn forget_probe(&mut self) {
        if let State::HalfOpen { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    /// Its state.
    pub fn stands(&self) -> Stands {
        match self.state {
            State::Closed(_) => Stands::Closed,
            State::HalfOpen { .. } => Stands::HalfOpen,
            State::Open { .. } => Stands::Open,
        }
    }

    fn open(&mut self, lasts: Duration, now: Instant) {
        self.state = State::Open { until: now + lasts, lasts };
    }
}

/// The last outcomes. As long as all are successes they are only counted; the ring exists while a failure is in it. One of
/// another size begins anew.
#[derive(Debug, Default)]
struct Window {
    size: u16,
    seen: u16,
    failures: u16,
    next: u16,
    failed: Option<Box<[u64]>>,
}

impl Window {
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
    use crate::model::Timestamp;
    use crate::runtime::Clock;

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

    /// `.` success, `x` failure; the state after each, `C`, `H`, `O`.
    fn closed(outcomes: &str) -> String {
        let (mut breaker, now) = (Breaker::default(), start());
        outcomes
            .chars()
            .map(|outcome| {
                let probe = breaker.begin();
                breaker.end(outcome == '.', probe, now, &settings());
                match breaker.stands() {
                    Stands::Closed => 'C',
                    Stands::HalfOpen => 'H',
                    Stands::Open => 'O',
                }
            })
            .collect()
    }

    #[test]
    fn it_opens_at_the_ratio_and_not_before_the_least_number() {
        for (outcomes, states) in [
            ("xxxx", "CCCO"),
            (".x.x", "CCCO"),
            ("...x", "CCCC"),
            // Of the last ten five are failures: what is older has left the window.
            ("..........xxxxx", "CCCCCCCCCCCCCCO"),
            ("xxx.......xxxxx", "CCCCCCCCCCCCCCO"),
            // What opens it is a failure, not a success that makes the number full.
            ("xxx.", "CCCC"),
            (".....................", "CCCCCCCCCCCCCCCCCCCCC"),
        ] {
            assert_eq!(closed(outcomes), states, "{outcomes}");
        }
    }

    #[test]
    fn it_probes_one_at_a_time_and_doubles_what_fails() {
        let (mut breaker, mut now, settings) = (Breaker::default(), start(), settings());
        for _ in 0..4 {
            breaker.end(false, false, now, &settings);
        }
        for lasts in [30, 60, 100, 100] {
            let until = now + Duration::from_secs(lasts);
            assert_eq!(breaker.admits(now), Admits::NothingUntil(until));
            now = until;
            assert_eq!(breaker.admits(now), Admits::Probe);
            assert!(breaker.begin());
            assert_eq!(breaker.admits(now), Admits::Nothing);
            breaker.end(true, false, now, &settings);
            assert_eq!(breaker.admits(now), Admits::Nothing, "an attempt from before says nothing");
            breaker.end(false, true, now, &settings);
        }
        now += Duration::from_secs(100);
        for stands in [Stands::HalfOpen, Stands::Closed] {
            assert_eq!(breaker.admits(now), Admits::Probe);
            let probe = breaker.begin();
            breaker.end(true, probe, now, &settings);
            assert_eq!(breaker.stands(), stands);
        }
        assert_eq!(breaker.admits(now), Admits::All);
        breaker.end(false, false, now, &settings);
        assert_eq!(breaker.stands(), Stands::Closed, "the window starts anew");
    }

    #[test]
    fn a_window_of_another_size_begins_anew() {
        let (mut breaker, now) = (Breaker::default(), start());
        for window in [4, 200, 10, 70] {
            let settings = config::Breaker { window, min_attempts: 4, failure_ratio: 1.0, ..settings() };
            for _ in 0..3 {
                breaker.end(false, false, now, &settings);
            }
            assert_eq!(breaker.stands(), Stands::Closed, "{window}");
        }
        breaker.end(
            false,
            false,
            now,
            &config::Breaker { window: 70, min_attempts: 4, failure_ratio: 1.0, ..settings() },
        );
        assert_eq!(breaker.stands(), Stands::Open);
    }

    #[test]
    fn a_probe_that_came_to_nothing_is_sent_again() {
        let (mut breaker, now, settings) = (Breaker::default(), start(), settings());
        for _ in 0..4 {
            breaker.end(false, false, now, &settings);
        }
        let later = now + settings.open;
        assert_eq!(breaker.admits(later), Admits::Probe);
        breaker.begin();
        breaker.forget_probe();
        assert_eq!(breaker.admits(later), Admits::Probe);
    }
}
