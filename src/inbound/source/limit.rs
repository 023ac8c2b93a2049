//! How fast a source's requests may come.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::limits::LIMITER_BUCKETS;
use crate::model::{RateLimit, SourceId};
use crate::runtime::{Instant, SharedBucket, Taken};

/// Parts of the table, so that a new source copies little.
const PARTS: usize = 16;

type Buckets = HashMap<SourceId, Arc<SharedBucket>>;

/// A token bucket for each source that has a rate, shared by all workers. Sources without one never come here.
///
/// A request takes no lock: it finds its source's bucket in a table that never changes and takes its token with one atomic
/// exchange. The first request of a source puts a new table in place.
#[derive(Debug, Default)]
pub struct Limiter {
    parts: [ArcSwap<Buckets>; PARTS],
    /// What the buckets count from: the first request.
    started: OnceLock<Instant>,
}

impl Limiter {
    /// Takes a token, or says after how long there will be one. The rate is that of now, so a change takes effect at once.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&self, source: SourceId, rate: RateLimit, now: Instant) -> Result<(), Duration> {
        let part = &self.parts[(source.as_u128() % PARTS as u128) as usize];
        let now = now.saturating_duration_since(*self.started.get_or_init(|| now));
        loop {
            // A bucket is retired only while it is full, and a new one takes its place: no token is given twice.
            let taken = part.load().get(&source).map_or(Taken::Retired, |bucket| bucket.take(&rate, now));
            match taken {
                Taken::Token => return Ok(()),
                Taken::Wait(wait) => return Err(wait),
                Taken::Retired => add(part, source, now),
            }
        }
    }
}

/// Gives a source a bucket, unless another thread did. Where there are many, those of sources that are gone or quiet go.
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
        assert!(limiter.parts[0].load().len() <= LIMITER_BUCKETS);
    }

    /// All threads see the same times, which no clock gives. Meanwhile other sources fill the table, so that full buckets are
    /// retired while somebody wants them.
    #[test]
    fn threads_together_get_what_the_limit_allows_and_no_more() {
        const THREADS: usize = 8;
        const SOURCES: usize = 4;
        let (limiter, start) = (Limiter::default(), Clock::test(Timestamp::from_millis(0)).instant());
        let source = |n: usize| SourceId::from_u128((n * PARTS) as u128);
        for round in 0..20 {
            // Full again, and the table full of buckets that can go.
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
