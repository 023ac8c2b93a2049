//! The token bucket of [`super::Bucket`] for several threads at once: the instant at which it is full again, in one atomic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bucket::interval;
use crate::model::RateLimit;

/// A token bucket that threads share without a lock, full at first. Times are durations since a moment that the owner of
/// the bucket chooses; its limit is a parameter, so that a change of the limit takes effect at once.
#[derive(Debug, Default)]
pub struct SharedBucket {
    /// Nanoseconds; [`RETIRED`] if the bucket is not used any more.
    full_at: AtomicU64,
}

/// What became of a wish for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The token was taken.
    Token,
    /// There will be a token after this time.
    Wait(Duration),
    /// The bucket was retired: another one counts now.
    Retired,
}

/// No time comes near: it is 584 years after the moment that the owner chose.
const RETIRED: u64 = u64::MAX;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(RETIRED - 1).min(RETIRED - 1)
}

impl SharedBucket {
    /// Takes a token if there is one. Of several threads that want the last token one gets it.
    pub fn take(&self, limit: &RateLimit, now: Duration) -> Taken {
        let now = nanos(now);
        let interval = interval(limit);
        let spare = nanos(interval.saturating_mul(limit.burst.saturating_sub(1)));
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            if full_at == RETIRED {
                return Taken::Retired;
            }
            let ready_at = full_at.saturating_sub(spare);
            if ready_at > now {
                return Taken::Wait(Duration::from_nanos(ready_at - now));
            }
            let next = full_at.max(now).saturating_add(nanos(interval)).min(RETIRED - 1);
            match self.full_at.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Taken::Token,
                Err(changed) => full_at = changed,
            }
        }
    }

    /// Retires the bucket if it is full, which a new bucket is as well; whether it is retired.
    pub fn retire_if_full(&self, now: Duration) -> bool {
        let full_at = self.full_at.load(Ordering::Relaxed);
        full_at == RETIRED
            || full_at <= nanos(now)
                && self.full_at.compare_exchange(full_at, RETIRED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether it is retired.
    pub fn is_retired(&self) -> bool {
        self.full_at.load(Ordering::Relaxed) == RETIRED
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Timestamp;
    use crate::runtime::{Bucket, Clock};

    #[test]
    fn a_retired_bucket_gives_nothing() {
        let (limit, bucket) = (RateLimit { per_second: 1.0, burst: 1 }, SharedBucket::default());
        assert_eq!(bucket.take(&limit, Duration::ZERO), Taken::Token);
        assert!(!bucket.retire_if_full(Duration::from_millis(999)) && !bucket.is_retired());
        assert!(bucket.retire_if_full(Duration::from_secs(1)) && bucket.is_retired());
        assert_eq!(bucket.take(&limit, Duration::from_secs(9)), Taken::Retired);
    }

    proptest! {
        /// It gives what a bucket of one thread gives, with the same waits.
        #[test]
        fn it_is_the_same_bucket(
            per_second in prop_oneof![0.0..1_000.0f64, Just(f64::MIN_POSITIVE), Just(1e12)],
            burst in prop_oneof![0u32..20, Just(u32::MAX)],
            waits in prop::collection::vec(0u64..3_000, 1..200),
        ) {
            let limit = RateLimit { per_second, burst };
            let start = Clock::test(Timestamp::from_millis(0)).instant();
            let (mut now, mut one, shared) = (Duration::ZERO, Bucket::default(), SharedBucket::default());
            for wait in waits {
                now += Duration::from_millis(wait);
                let at = start + now;
                let ready_at = one.ready_at(&limit, at);
                let expected = if ready_at > at { Taken::Wait(ready_at - at) } else { Taken::Token };
                if expected == Taken::Token {
                    one.take(&limit, at);
                }
                prop_assert_eq!(shared.take(&limit, now), expected);
            }
        }
    }
}
