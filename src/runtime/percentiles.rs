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
    /// The histograms of all threads. The lock is held to add a histogram and to read, never to record.
    histograms: Mutex<Vec<Arc<ThreadHistogram>>>,
}

/// Records latencies into one thread's histogram.
#[derive(Debug, Clone)]
pub struct LatencyRecorder(Arc<ThreadHistogram>);

/// Percentiles in microseconds, for users.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct LatencySummary {
    /// The number of recorded latencies.
    pub count: u64,
    /// The median.
    pub p50_us: u64,
    /// The 95th percentile.
    pub p95_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
    /// The 99.9th percentile.
    pub p999_us: u64,
    /// The largest latency.
    pub max_us: u64,
}

/// Counts how often each latency occurred.
///
/// The latencies of one bucket differ by less than a 128th, as in an [`Hdr`] with two significant digits. Each of the
/// first 256 microseconds has its own bucket, and each power of two above has 128 buckets.
#[derive(Debug)]
struct ThreadHistogram(Box<[AtomicU64]>);

const SIGNIFICANT_DIGITS: u8 = 2;
const LONGEST_US: u64 = LATENCY_MAX.as_micros() as u64;
/// Bits of a latency that select its bucket within its power of two.
const BUCKET_BITS: u32 = 7;
const BUCKETS: usize = bucket_of(LONGEST_US) + 1;

const fn bucket_of(us: u64) -> usize {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(BUCKET_BITS + 1);
    ((shift as usize) << BUCKET_BITS) + (us >> shift) as usize
}

/// Returns the smallest latency of a bucket.
const fn latency_of(bucket: usize) -> u64 {
    let shift = (bucket >> BUCKET_BITS).saturating_sub(1);
    ((bucket - (shift << BUCKET_BITS)) as u64) << shift
}

impl Percentiles {
    /// Creates a recorder for the calling thread.
    pub fn recorder(&self) -> LatencyRecorder {
        let histogram = Arc::new(ThreadHistogram(std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect()));
        self.histograms.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&histogram));
        LatencyRecorder(histogram)
    }

    /// Returns the percentiles over all threads.
    #[expect(clippy::expect_used, reason = "the bounds are constants that hdrhistogram takes")]
    pub fn summary(&self) -> LatencySummary {
        let mut all = Hdr::<u64>::new_with_max(LONGEST_US, SIGNIFICANT_DIGITS).expect("valid bounds");
        for histogram in self.histograms.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (bucket, count) in histogram.0.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    all.saturating_record_n(latency_of(bucket), count);
                }
            }
        }
        if all.is_empty() {
            return LatencySummary::default();
        }
        LatencySummary {
            count: all.len(),
            p50_us: all.value_at_quantile(0.5),
            p95_us: all.value_at_quantile(0.95),
            p99_us: all.value_at_quantile(0.99),
            p999_us: all.value_at_quantile(0.999),
            max_us: all.max(),
        }
    }
}

impl LatencyRecorder {
    /// Records one latency. A latency above [`LATENCY_MAX`] counts as [`LATENCY_MAX`].
    pub fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).map_or(LONGEST_US, |us| us.min(LONGEST_US));
        self.0.0[bucket_of(us)].fetch_add(1, Ordering::Relaxed);
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
    fn a_latency_above_the_maximum_counts_as_the_maximum() {
        let percentiles = Percentiles::default();
        percentiles.recorder().record(Duration::MAX);
        let summary = percentiles.summary();
        assert!(summary.count == 1 && summary.max_us >= LONGEST_US, "{summary:?}");
    }

    proptest! {
        /// The buckets are those of an `Hdr`, so the quantiles are the same as with a histogram of the latencies.
        #[test]
        fn a_summary_equals_that_of_a_histogram(latencies in prop::collection::vec(0..=LONGEST_US, 1..200)) {
            let percentiles = Percentiles::default();
            let recorder = percentiles.recorder();
            let mut hdr = Hdr::<u64>::new_with_max(LONGEST_US, SIGNIFICANT_DIGITS).unwrap();
            for us in latencies {
                recorder.record(Duration::from_micros(us));
                hdr.record(us).unwrap();
                prop_assert!(hdr.equivalent(us, latency_of(bucket_of(us))));
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
