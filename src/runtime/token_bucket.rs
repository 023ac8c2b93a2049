//! The token bucket of a webhook or a source, as the generic cell rate algorithm (ITU-T I.371).
//!
//! The state is one instant instead of a token count and the time of its last change. The bucket therefore needs no
//! refilling.

use std::time::Duration;

use super::Instant;
use crate::model::RateLimit;

/// A token bucket. It is full at first. The limit is a parameter, so a change of the limit takes effect immediately.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenBucket {
    full_at: Option<Instant>,
}

/// The longest interval between two tokens. Limits slower than one token per day count as one token per day, and limits
/// faster than one token per nanosecond as one per nanosecond.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the interval between two tokens of a limit.
pub(super) fn interval(limit: &RateLimit) -> Duration {
    let seconds = 1.0 / limit.per_second;
    if seconds > 0.0 {
        Duration::try_from_secs_f64(seconds).unwrap_or(INTERVAL_MAX).min(INTERVAL_MAX)
    } else {
        INTERVAL_MAX
    }
}

impl TokenBucket {
    /// Returns when a token is available. A time in the past means that one is available now.
    pub fn ready_at(&self, limit: &RateLimit, now: Instant) -> Instant {
        let Some(full_at) = self.full_at else { return now };
        let spare = interval(limit).saturating_mul(limit.burst.saturating_sub(1));
        full_at.checked_sub(spare).unwrap_or(now)
    }

    /// Takes a token. The caller must have checked [`Self::ready_at`].
    pub fn take(&mut self, limit: &RateLimit, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + interval(limit));
    }

    /// Whether the bucket is full, like a new one.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Timestamp;
    use crate::runtime::Clock;

    fn start() -> Instant {
        Clock::test(Timestamp::from_millis(0)).instant()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let (limit, now) = (RateLimit { per_second: 10.0, burst: 3 }, start());
        let mut bucket = TokenBucket::default();
        for _ in 0..3 {
            assert!(bucket.ready_at(&limit, now) <= now);
            bucket.take(&limit, now);
        }
        assert_eq!(bucket.ready_at(&limit, now) - now, Duration::from_millis(100));
        assert!(!bucket.is_full(now) && bucket.is_full(now + Duration::from_millis(300)));
    }

    #[test]
    fn an_invalid_rate_is_one_token_per_day() {
        let now = start();
        for per_second in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE] {
            let (limit, mut bucket) = (RateLimit { per_second, burst: u32::MAX }, TokenBucket::default());
            bucket.take(&limit, now);
            assert!(bucket.is_full(now + INTERVAL_MAX), "{per_second}");
        }
    }

    proptest! {
        /// In any second at most rate + burst tokens are taken.
        #[test]
        fn the_rate_holds_in_any_second(rate in 1u32..200, burst in 1u32..20, waits in prop::collection::vec(0u64..50, 1..400)) {
            let limit = RateLimit { per_second: f64::from(rate), burst };
            let (mut now, mut bucket, mut taken) = (start(), TokenBucket::default(), Vec::new());
            for wait in waits {
                now += Duration::from_millis(wait);
                while bucket.ready_at(&limit, now) <= now {
                    bucket.take(&limit, now);
                    taken.push(now);
                }
            }
            for (i, from) in taken.iter().enumerate() {
                let within = taken[i..].iter().take_while(|at| **at - *from < Duration::from_secs(1)).count();
                prop_assert!(within <= (rate + burst) as usize, "{within}");
            }
        }
    }
}
