//! The bench's clock and the phase that all its threads are in.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::limits::LATENCY_MAX;
use crate::model::Timestamp;
use crate::runtime::{Clock, Instant};

/// Where a measurement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Load that is not measured.
    WarmUp,
    /// Load that is.
    Measured,
    /// No new requests.
    Over,
}

/// Clock and phase, shared by the threads of one measurement.
#[derive(Debug)]
pub(super) struct Stage {
    clock: Clock,
    start: Instant,
    phase: AtomicU8,
}

impl Stage {
    pub(super) fn new() -> Self {
        let clock = Clock::system(Timestamp::from_millis(0));
        Self { start: clock.instant(), clock, phase: AtomicU8::new(Phase::WarmUp as u8) }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measured,
            _ => Phase::Over,
        }
    }

    /// Since the measurement's start.
    pub(super) fn now(&self) -> Duration {
        self.clock.instant().duration_since(self.start)
    }

    /// Since an earlier [`Self::now`].
    pub(super) fn since(&self, earlier: Duration) -> Duration {
        self.now().saturating_sub(earlier)
    }

    /// Microseconds since the measurement's start.
    pub(super) fn now_us(&self) -> u64 {
        self.now().as_micros() as u64
    }
}

/// An empty histogram of microseconds, to three digits.
#[expect(clippy::expect_used, reason = "the bounds are constants that hdrhistogram takes")]
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 3).expect("valid bounds")
}
