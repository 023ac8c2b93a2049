//! Clocks, passed as parameters so that tests can control the time.

use std::time::{SystemTime, UNIX_EPOCH};

pub use tokio::time::Instant;

use crate::model::Timestamp;

/// One point in time on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The monotonic clock, for latencies and timers.
    pub instant: Instant,
    /// The wall clock, for signatures and for times shown to users.
    pub wall: Timestamp,
}

/// The wall clock and the scheduling clock.
///
/// - Receivers compare signed times with the wall clock. It may jump.
/// - The scheduling clock starts at the time of the wall clock, or where the last run with this data folder ended if that
///   is later. From there it runs forward with the monotonic clock. A jump of the wall clock therefore neither hurries
///   nor delays a retry.
///
/// Both clocks stop while tokio's clock is paused, if the clock was created by [`Self::test`].
#[derive(Debug, Clone)]
pub struct Clock {
    wall: Timestamp,
    steady: Timestamp,
    started: Instant,
    follow_system: bool,
    /// The sum of the simulated jumps of the wall clock in milliseconds.
    #[cfg(test)]
    jumps: std::sync::Arc<std::sync::atomic::AtomicI64>,
}

impl Clock {
    /// Creates the clocks of the process. The scheduling clock starts at `high_water` if the wall clock is behind it.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn system(high_water: Timestamp) -> Self {
        let wall = system_now();
        Self {
            wall,
            steady: wall.max(high_water),
            started: Instant::now(),
            follow_system: true,
            #[cfg(test)]
            jumps: <_>::default(),
        }
    }

    /// Creates clocks for tests. Both start at `at` and follow tokio's clock, which a test can pause and advance.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn test(at: Timestamp) -> Self {
        Self {
            wall: at,
            steady: at,
            started: Instant::now(),
            follow_system: false,
            #[cfg(test)]
            jumps: <_>::default(),
        }
    }

    /// Creates clocks for tests that start as those of a process do: the scheduling clock is never before `high_water`.
    #[cfg(test)]
    pub(crate) fn simulated(wall: Timestamp, high_water: Timestamp) -> Self {
        Self { steady: wall.max(high_water), ..Self::test(wall) }
    }

    /// Lets the wall clock of a test jump by this many milliseconds.
    #[cfg(test)]
    pub(crate) fn jump_wall(&self, ms: i64) {
        self.jumps.fetch_add(ms, std::sync::atomic::Ordering::Relaxed);
    }

    /// The wall clock of a test, with its jumps.
    fn test_now(&self) -> Timestamp {
        let now = self.wall.plus(self.instant().duration_since(self.started));
        #[cfg(test)]
        let now = Timestamp::from_millis(now.as_millis() + self.jumps.load(std::sync::atomic::Ordering::Relaxed));
        now
    }

    /// Returns the time of the wall clock, for signatures and for times shown to users.
    pub fn now(&self) -> Timestamp {
        if self.follow_system { system_now() } else { self.test_now() }
    }

    /// Combines a time of the monotonic clock with the current time of the wall clock.
    pub fn moment(&self, instant: Instant) -> Moment {
        Moment { instant, wall: self.now() }
    }

    /// Returns the time of the scheduling clock, for retries, due times and windows.
    pub fn steady(&self) -> Timestamp {
        self.steady_at(self.instant())
    }

    /// Converts a time of the monotonic clock to the scheduling clock.
    pub fn steady_at(&self, at: Instant) -> Timestamp {
        self.steady.plus(at.saturating_duration_since(self.started))
    }

    /// Converts a time of the scheduling clock to the monotonic clock. A time before the clock's start becomes the start.
    pub fn instant_of(&self, at: Timestamp) -> Instant {
        self.started + at.since(self.steady)
    }

    /// Returns the time of the monotonic clock, for latencies and timers.
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
    fn the_scheduling_clock_never_runs_back_across_a_restart() {
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
