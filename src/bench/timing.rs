//! The bench's clock, and the current phase of the measurement. All threads share both.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::limits::LATENCY_MAX;
use crate::model::Timestamp;
use crate::runtime::{Clock, Instant};

/// The phase of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Load without measurement.
    WarmUp,
    /// Load with measurement.
    Measured,
    /// No new requests are sent.
    Over,
}

/// Clock and phase, shared by the threads of one measurement.
#[derive(Debug)]
pub(super) struct PhaseClock {
    clock: Clock,
    start: Instant,
    phase: AtomicU8,
}

impl PhaseClock {
    pub(super) fn new() -> Self {
        let clock = Clock::system(Timestamp::from_millis(0));
        Self { start: clock.instant(), clock, phase: AtomicU8::new(Phase::WarmUp as u8) }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measured,
            _ => Phase::Over,
        }
    }

    /// Time since the start of the measurement.
    pub(super) fn now(&self) -> Duration {
        self.clock.instant().duration_since(self.start)
    }

    /// Time since an earlier value of [`Self::now`].
    pub(super) fn since(&self, earlier: Duration) -> Duration {
        self.now().saturating_sub(earlier)
    }

    /// Time since the start of the measurement, in microseconds.
    pub(super) fn now_us(&self) -> u64 {
        self.now().as_micros() as u64
    }
}

/// An empty histogram of microseconds with three significant digits.
#[expect(clippy::expect_used, reason = "the bounds are constants that hdrhistogram takes")]
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 3).expect("valid bounds")
}
