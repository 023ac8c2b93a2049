//! How fast a source's requests may come.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits::LIMITER_BUCKETS;
use crate::model::{RateLimit, SourceId};
use crate::runtime::{Bucket, Instant};

/// Parts with a lock each, so that sources rarely meet.
const PARTS: usize = 16;

/// A token bucket for each source that has a rate, shared by all workers. Sources without one never come here.
#[derive(Debug, Default)]
pub struct Limiter {
    parts: [Mutex<HashMap<SourceId, Bucket>>; PARTS],
}

impl Limiter {
    /// Takes a token, or says after how long there will be one. The rate is that of now, so a change takes effect at once.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&self, source: SourceId, rate: RateLimit, now: Instant) -> Result<(), Duration> {
        let part = &self.parts[(source.as_u128() % PARTS as u128) as usize];
        let mut buckets = part.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= LIMITER_BUCKETS && !buckets.contains_key(&source) {
            // Of sources that are gone or quiet.
            buckets.retain(|_, bucket| !bucket.is_full(now));
        }
        let bucket = buckets.entry(source).or_default();
        let ready_at = bucket.ready_at(&rate, now);
        if ready_at > now {
            return Err(ready_at - now);
        }
        bucket.take(&rate, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::runtime::Clock;

    const RATE: RateLimit = RateLimit { per_second: 2.0, burst: 3 };

    #[test]
    fn each_source_has_a_bucket_of_its_own() {
        let (limiter, now) = (Limiter::default(), Clock::test(Timestamp::from_millis(0)).instant());
        let [one, other] = [1, 17].map(SourceId::from_u128);
        for _ in 0..3 {
            assert_eq!(limiter.take(one, RATE, now), Ok(()));
        }
        assert_eq!(limiter.take(one, RATE, now), Err(Duration::from_millis(500)));
        assert_eq!(limiter.take(other, RATE, now), Ok(()));
        assert_eq!(limiter.take(one, RATE, now + Duration::from_millis(500)), Ok(()));
        assert_eq!(limiter.take(one, RateLimit { per_second: 2.0, burst: 9 }, now), Ok(()), "a change counts at once");
    }

    #[test]
    fn buckets_that_are_full_again_do_not_pile_up() {
        let (limiter, start) = (Limiter::default(), Clock::test(Timestamp::from_millis(0)).instant());
        for n in 0..3 * LIMITER_BUCKETS as u128 {
            let now = start + Duration::from_secs(n as u64);
            limiter.take(SourceId::from_u128(n * PARTS as u128), RATE, now).unwrap();
        }
        assert!(limiter.parts[0].lock().unwrap().len() <= LIMITER_BUCKETS);
    }
}
