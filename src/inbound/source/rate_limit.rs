//! Rate limits of sources.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::limits::LIMITER_BUCKETS;
use crate::model::{RateLimit, SourceId};
use crate::runtime::{Instant, SharedTokenBucket, TakeResult};

/// The number of shards of the bucket table. A new source copies only one shard.
const SHARDS: usize = 16;

type Buckets = HashMap<SourceId, Arc<SharedTokenBucket>>;

/// Token buckets of all sources with a rate limit, shared by all workers. Sources without a limit do not use it.
///
/// A request takes no lock: it finds the bucket of its source in an immutable table and takes a token with one atomic
/// exchange. The first request of a source replaces the table.
#[derive(Debug, Default)]
pub struct RateLimiter {
    parts: [ArcSwap<Buckets>; SHARDS],
    /// The time of the first request, from which the buckets measure time.
    started: OnceLock<Instant>,
}

impl RateLimiter {
    /// Takes a token. The caller passes the current rate, so a change takes effect at once.
    ///
    /// # Errors
    /// The time until a token is available, if there is none.
    pub fn take(&self, source: SourceId, rate: RateLimit, now: Instant) -> Result<(), Duration> {
        let part = &self.parts[(source.as_u128() % SHARDS as u128) as usize];
        let now = now.saturating_duration_since(*self.started.get_or_init(|| now));
        loop {
            // A bucket is retired only while it is full, and a new one replaces it, so no token is taken twice.
            let taken = part.load().get(&source).map_or(TakeResult::Retired, |bucket| bucket.take(&rate, now));
            match taken {
                TakeResult::Token => return Ok(()),
                TakeResult::Wait(wait) => return Err(wait),
                TakeResult::Retired => add(part, source, now),
            }
        }
    }
}

/// Adds a bucket for the source unless another thread did. If the shard has many buckets, the full ones are removed: their
/// sources are deleted or idle.
fn add(part: &ArcSwap<Buckets>, source: SourceId, now: Duration) {
    part.rcu(|buckets| {
        if buckets.get(&source).is_some_and(|bucket| !bucket.is_retired()) {
            return Arc::clone(buckets);
        }
        let mut buckets = Buckets::clone(buckets);
        if buckets.len() >= LIMITER_BUCKETS {
            buckets.retain(|_, bucket| !bucket.retire_if_full(now));
        }
        buckets.insert(source, Arc::default());
        Arc::new(buckets)
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::Timestamp;
    use crate::runtime::Clock;

    const RATE: RateLimit = RateLimit { per_second: 2.0, burst: 3 };

    #[test]
    fn each_source_has_its_own_bucket() {
        let (limiter, now) = (RateLimiter::default(), Clock::test(Timestamp::from_millis(0)).instant());
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
    fn full_buckets_are_removed() {
        let (limiter, start) = (RateLimiter::default(), Clock::test(Timestamp::from_millis(0)).instant());
        for n in 0..3 * LIMITER_BUCKETS as u128 {
            let now = start + Duration::from_secs(n as u64);
            limiter.take(SourceId::from_u128(n * SHARDS as u128), RATE, now).unwrap();
        }
        assert!(limiter.parts[0].load().len() <= LIMITER_BUCKETS);
    }

    /// All threads use the same fixed times. Other sources fill the table at the same time, so full buckets are retired
    /// while they are in use.
    #[test]
    fn all_threads_together_get_exactly_the_allowed_tokens() {
        const THREADS: usize = 8;
        const SOURCES: usize = 4;
        let (limiter, start) = (RateLimiter::default(), Clock::test(Timestamp::from_millis(0)).instant());
        let source = |n: usize| SourceId::from_u128((n * SHARDS) as u128);
        for round in 0..20 {
            // All buckets are full again, so they can be removed.
            let now = start + Duration::from_secs(10 * round as u64);
            let given: [AtomicUsize; SOURCES] = std::array::from_fn(|_| AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (limiter, given) = (&limiter, &given);
                    scope.spawn(move || {
                        for n in 0..200 {
                            for (no, given) in given.iter().enumerate() {
                                let is_ok = limiter.take(source(no), RATE, now).is_ok();
                                given.fetch_add(usize::from(is_ok), Ordering::Relaxed);
                            }
                            let other = SOURCES + (round * THREADS + thread) * 200 + n;
                            limiter.take(source(other), RATE, now).unwrap();
                        }
                    });
                }
            });
            for given in given {
                assert_eq!(given.into_inner(), RATE.burst as usize, "round {round}");
            }
        }
    }
}
