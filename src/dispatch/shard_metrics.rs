//! Counters of one shard, flushed to the shared metrics once in each iteration of the shard's loop.
//!
//! All shards write the same metric counters. An addition for each delivery would move these cache lines between the
//! processor's cores.

use std::sync::Arc;

use prometheus::local::{LocalHistogram, LocalIntCounter};

use crate::handoff::AttemptOutcome;
use crate::runtime::metrics::LatencyRecorder;
use crate::runtime::{Instant, Metrics};

/// The local counters of one shard.
pub(super) struct ShardMetrics {
    metrics: Arc<Metrics>,
    attempts: LocalIntCounter,
    successes: LocalIntCounter,
    failures: LocalIntCounter,
    duration: LocalHistogram,
    first_attempt: LocalHistogram,
    recorder: LatencyRecorder,
    /// The number of this shard's deliveries in flight at the last flush.
    in_flight: usize,
}

impl ShardMetrics {
    /// Creates counters at zero.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            attempts: metrics.attempts.local(),
            successes: metrics.successes.local(),
            failures: metrics.failures.local(),
            duration: metrics.duration.local(),
            first_attempt: metrics.first_attempt_seconds.local(),
            recorder: metrics.first_attempt_latency.recorder(),
            in_flight: 0,
            metrics: Arc::clone(metrics),
        }
    }

    /// Counts an attempt. `committed_at` is set for the first attempt of an event that came directly from its commit, and
    /// adds the time since the commit to the first-attempt latency.
    pub(super) fn count(&self, outcome: &AttemptOutcome, committed_at: Option<Instant>) {
        self.attempts.inc();
        let ended = if outcome.result.is_ok() { &self.successes } else { &self.failures };
        ended.inc();
        self.duration.observe(outcome.latency.as_secs_f64());
        if let (Some(committed_at), Some(sent_at)) = (committed_at, outcome.sent_at) {
            let waited = sent_at.saturating_duration_since(committed_at);
            self.first_attempt.observe(waited.as_secs_f64());
            self.recorder.record(waited);
        }
    }

    /// Adds the counts since the last flush to the shared metrics. `in_flight` is the number of deliveries in flight.
    pub(super) fn flush(&mut self, in_flight: usize) {
        for counter in [&self.attempts, &self.successes, &self.failures] {
            counter.flush();
        }
        self.duration.flush();
        self.first_attempt.flush();
        if in_flight != self.in_flight {
            self.metrics.in_flight.add(in_flight as i64 - self.in_flight as i64);
            self.in_flight = in_flight;
        }
    }
}
