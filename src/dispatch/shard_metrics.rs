//! What a shard counts of its deliveries. The metrics are told once in a turn of its loop: each of them is one place in memory
//! that all shards write, which an addition for each delivery would carry to and fro between the processor's cores.

use std::sync::Arc;

use prometheus::local::{LocalHistogram, LocalIntCounter};

use crate::handoff::Outcome;
use crate::runtime::metrics::Recorder;
use crate::runtime::{Instant, Metrics};

/// See the module.
pub(super) struct ShardMetrics {
    metrics: Arc<Metrics>,
    attempts: LocalIntCounter,
    successes: LocalIntCounter,
    failures: LocalIntCounter,
    duration: LocalHistogram,
    first_attempt: LocalHistogram,
    recorder: Recorder,
    /// What the metrics know of the deliveries under way.
    in_flight: usize,
}

impl ShardMetrics {
    /// Nothing counted yet.
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

    /// Counts an attempt; `committed_at` of a first one whose event came straight from its commit.
    pub(super) fn count(&self, outcome: &Outcome, committed_at: Option<Instant>) {
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

    /// Tells the metrics; so many deliveries are under way.
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
