//! The token bucket of [`super::TokenBucket`] for several threads at once: the instant at which it is full again, in one
//! atomic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::token_bucket::interval;
use crate::model::RateLimit;

/// A token bucket that threads share without a lock. It is full at first.
///
/// Times are durations since a point in time that the owner of the bucket chooses. The limit is a parameter, so a change
/// of the limit takes effect immediately.
#[derive(Debug, Default)]
pub struct SharedTokenBucket {
    /// When the bucket is full again, in nanoseconds. [`RETIRED`] if the bucket is not used any more.
    full_at: AtomicU64,
}

/// The result of [`SharedTokenBucket::take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeResult {
    /// A token was taken.
    Token,
    /// No token was available. The next one is available after this time.
    Wait(Duration),
    /// The bucket was retired. The caller must use the bucket that replaced it.
    Retired,
}

/// The value of a retired bucket. No time is as large: it is 584 years after the owner's point in time.
const RETIRED: u64 = u64::MAX;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(RETIRED - 1).min(RETIRED - 1)
}

impl SharedTokenBucket {
    /// Takes a token if one is available. If several threads request the last token, one thread gets it.
    pub fn take(&self, limit: &RateLimit, now: Duration) -> TakeResult {
        let now = nanos(now);
        let interval = interval(limit);
        let spare = nanos(interval.saturating_mul(limit.burst.saturating_sub(1)));
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            if full_at == RETIRED {
                return TakeResult::Retired;
            }
            let ready_at = full_at.saturating_sub(spare);
            if ready_at > now {
                return TakeResult::Wait(Duration::from_nanos(ready_at - now));
            }
            let next = full_at.max(now).saturating_add(nanos(interval)).min(RETIRED - 1);
            match self.full_at.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return TakeResult::Token,
                Err(changed) => full_at = changed,
            }
        }
    }

    /// Retires the bucket if it is full, because a new bucket is also full. Returns whether the bucket is retired.
    pub fn retire_if_full(&self, now: Duration) -> bool {
        let full_at = self.full_at.load(Ordering::Relaxed);
        full_at == RETIRED
            || full_at <= nanos(now)
                && self.full_at.compare_exchange(full_at, RETIRED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether the bucket is retired.
    pub fn is_retired(&self) -> bool {
        self.full_at.load(Ordering::Relaxed) == RETIRED
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Timestamp;
    use crate::runtime::{Clock, TokenBucket};

    #[test]
    fn a_retired_bucket_gives_no_tokens() {
        let (limit, bucket) = (RateLimit { per_second: 1.0, burst: 1 }, SharedTokenBucket::default());
        assert_eq!(bucket.take(&limit, Duration::ZERO), TakeResult::Token);
        assert!(!bucket.retire_if_full(Duration::from_millis(999)) && !bucket.is_retired());
        assert!(bucket.retire_if_full(Duration::from_secs(1)) && bucket.is_retired());
        assert_eq!(bucket.take(&limit, Duration::from_secs(9)), TakeResult::Retired);
    }

    proptest! {
        /// A shared bucket gives the same tokens and waits as a bucket of one thread.
        #[test]
        fn a_shared_bucket_behaves_like_a_token_bucket(
            per_second in prop_oneof![0.0..1_000.0f64, Just(f64::MIN_POSITIVE), Just(1e12)],
            burst in prop_oneof![0u32..20, Just(u32::MAX)],
            waits in prop::collection::vec(0u64..3_000, 1..200),
        ) {
            let limit = RateLimit { per_second, burst };
            let start = Clock::test(Timestamp::from_millis(0)).instant();
            let (mut now, mut one, shared) = (Duration::ZERO, TokenBucket::default(), SharedTokenBucket::default());
            for wait in waits {
                now += Duration::from_millis(wait);
                let at = start + now;
                let ready_at = one.ready_at(&limit, at);
                let expected = if ready_at > at { TakeResult::Wait(ready_at - at) } else { TakeResult::Token };
                if expected == TakeResult::Token {
                    one.take(&limit, at);
                }
                prop_assert_eq!(shared.take(&limit, now), expected);
            }
        }
    }
}
