//! Percentiles of a latency, recorded by many threads without a lock.
//!
//! Each thread counts in a histogram of its own, whose counters are atomics. A reader adds the histograms up. It may miss
//! latencies that are being recorded at that moment, and sees each of them the next time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram as Hdr;

use crate::limits::LATENCY_MAX;

/// Percentiles of a latency, recorded by several threads, each into a histogram of its own.
#[derive(Debug, Default)]
pub struct Percentiles {
    /// Locked when a thread asks for its part and when somebody reads, never to record.
    parts: Mutex<Vec<Arc<Part>>>,
}

/// One thread's part of the percentiles.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Part>);

/// Microseconds at some percentiles, for people.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// How many were recorded.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 95th percentile.
    pub p95_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// The largest.
    pub max_us: u64,
}

/// How often each latency occurred. Latencies of one place differ by less than a 128th, as in an [`Hdr`] of two significant
/// digits: the first 256 microseconds have a place each, and each power of two above has 128 places.
#[derive(Debug)]
struct Part(Box<[AtomicU64]>);

const SIGNIFICANT_DIGITS: u8 = 2;
const LONGEST_US: u64 = LATENCY_MAX.as_micros() as u64;
/// Bits of a latency that tell its place apart within its power of two.
const PLACE_BITS: u32 = 7;
const PLACES: usize = place_of(LONGEST_US) + 1;

const fn place_of(us: u64) -> usize {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(PLACE_BITS + 1);
    ((shift as usize) << PLACE_BITS) + (us >> shift) as usize
}

/// The smallest latency of a place.
const fn latency_of(place: usize) -> u64 {
    let shift = (place >> PLACE_BITS).saturating_sub(1);
    ((place - (shift << PLACE_BITS)) as u64) << shift
}

impl Percentiles {
    /// A part for the calling thread.
    pub fn recorder(&self) -> Recorder {
        let part = Arc::new(Part(std::iter::repeat_with(AtomicU64::default).take(PLACES).collect()));
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&part));
        Recorder(part)
    }

    /// All parts together.
    #[expect(clippy::expect_used, reason = "the bounds are constants that hdrhistogram takes")]
    pub fn summary(&self) -> Summary {
        let mut all = Hdr::<u64>::new_with_max(LONGEST_US, SIGNIFICANT_DIGITS).expect("valid bounds");
        for part in self.parts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (place, count) in part.0.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    all.saturating_record_n(latency_of(place), count);
                }
            }
        }
        if all.is_empty() {
            return Summary::default();
        }
        Summary {
            count: all.len(),
            p50_us: all.value_at_quantile(0.5),
            p95_us: all.value_at_quantile(0.95),
            p99_us: all.value_at_quantile(0.99),
            p999_us: all.value_at_quantile(0.999),
            max_us: all.max(),
        }
    }
}

impl Recorder {
    /// Records one latency; one above [`LATENCY_MAX`] counts as that.
    pub fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).map_or(LONGEST_US, |us| us.min(LONGEST_US));
        self.0.0[place_of(us)].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_of_all_threads() {
        let percentiles = Percentiles::default();
        let (one, two) = (percentiles.recorder(), percentiles.recorder());
        one.record(Duration::from_micros(100));
        two.record(Duration::from_millis(10));
        let summary = percentiles.summary();
        assert_eq!(summary.count, 2);
        assert!((99..=101).contains(&summary.p50_us) && summary.max_us >= 9_900, "{summary:?}");
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let percentiles = Percentiles::default();
        percentiles.recorder().record(Duration::MAX);
        let summary = percentiles.summary();
        assert!(summary.count == 1 && summary.max_us >= LONGEST_US, "{summary:?}");
    }

    proptest! {
        /// The places are those of an `Hdr`, so that its quantiles are those of the latencies themselves.
        #[test]
        fn a_summary_is_that_of_a_histogram(latencies in prop::collection::vec(0..=LONGEST_US, 1..200)) {
            let percentiles = Percentiles::default();
            let recorder = percentiles.recorder();
            let mut hdr = Hdr::<u64>::new_with_max(LONGEST_US, SIGNIFICANT_DIGITS).unwrap();
            for us in latencies {
                recorder.record(Duration::from_micros(us));
                hdr.record(us).unwrap();
                prop_assert!(hdr.equivalent(us, latency_of(place_of(us))));
            }
            let summary = percentiles.summary();
            prop_assert_eq!(summary.count, hdr.len());
            for (quantile, us) in [(0.5, summary.p50_us), (0.95, summary.p95_us), (0.999, summary.p999_us)] {
                prop_assert_eq!(us, hdr.value_at_quantile(quantile));
            }
            prop_assert_eq!(summary.max_us, hdr.max());
        }
    }
}
