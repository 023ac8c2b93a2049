//! Time as a parameter.

use std::time::{SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

use crate::model::Timestamp;

/// A point in time on both clocks, for what needs both and is read once.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// For latencies and timers.
    pub instant: Instant,
    /// For signatures, and for what people read.
    pub wall: Timestamp,
}

/// Two clocks. The wall clock is what receivers compare with; it may jump. The scheduling clock starts at the wall's time
/// (or where the last run of this data folder left off, if that is later) and from there on only runs forward at the pace
/// of a monotonic clock, so that a jump neither hurries nor delays a retry. On tokio's paused clock both stand still.
#[derive(Debug, Clone)]
pub struct Clock {
    wall: Timestamp,
    steady: Timestamp,
    started: Instant,
    follow_system: bool,
}

impl Clock {
    /// The system's clock; scheduling goes on at `high_water` if the wall has fallen behind it.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn system(high_water: Timestamp) -> Self {
        let wall = system_now();
        Self { wall, steady: wall.max(high_water), started: Instant::now(), follow_system: true }
    }

    /// A clock for tests: both clocks start at `at` and follow tokio's clock, which a test can pause and advance.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn test(at: Timestamp) -> Self {
        Self { wall: at, steady: at, started: Instant::now(), follow_system: false }
    }

    /// The wall clock: for signatures, and for what people read.
    pub fn now(&self) -> Timestamp {
        if self.follow_system { system_now() } else { self.wall.plus(self.instant().duration_since(self.started)) }
    }

    /// A point of the monotonic clock, with what the wall clock shows now.
    pub fn moment(&self, instant: Instant) -> Moment {
        Moment { instant, wall: self.now() }
    }

    /// The scheduling clock: for retries, due times, windows.
    pub fn steady(&self) -> Timestamp {
        self.steady_at(self.instant())
    }

    /// What the scheduling clock shows at a point of the monotonic one.
    pub fn steady_at(&self, at: Instant) -> Timestamp {
        self.steady.plus(at.saturating_duration_since(self.started))
    }

    /// When the scheduling clock will show `at`; now, if it has.
    pub fn instant_of(&self, at: Timestamp) -> Instant {
        self.started + at.since(self.steady)
    }

    /// A point of the monotonic clock, for latencies and timers.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn instant(&self) -> Instant {
        Instant::now()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
fn system_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn scheduling_never_runs_back_over_a_restart() {
        let far = Timestamp::from_millis(99_000_000_000_000);
        let clock = Clock::system(far);
        assert!(clock.steady() >= far);
        assert!(clock.now() < far);
    }

    #[tokio::test(start_paused = true)]
    async fn a_test_clock_follows_tokio() {
        let clock = Clock::test(Timestamp::from_millis(1_000));
        tokio::time::advance(Duration::from_millis(250)).await;
        assert_eq!(clock.steady(), Timestamp::from_millis(1_250));
        assert_eq!(clock.now(), Timestamp::from_millis(1_250));
        assert_eq!(clock.instant_of(Timestamp::from_millis(1_300)) - clock.instant(), Duration::from_millis(50));
    }
}
