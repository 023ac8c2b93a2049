//! The metrics: Prometheus counters and histograms, and percentiles for `/health` and `hooktide bench`.
//!
//! They are updated with relaxed atomics where the measured operations happen, and read by `/metrics`. No label has a
//! value that an unauthenticated sender can choose.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::Watchdog;
use super::percentiles::Percentiles;
pub use super::percentiles::{LatencyRecorder, LatencySummary};
use crate::limits::CACHED_COUNTERS_MAX;
use crate::model::{EndpointState, WebhookNo};

macro_rules! metrics {
    ($(#[doc = $doc:literal] $field:ident: $kind:ident($name:literal $(, $arg:expr)?),)*) => {
        /// All metrics of the process. Every stage shares one instance.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $doc] pub $field: $kind,)*
            /// Latency from the request's last byte to the response, measured by admit.
            pub ack_latency: Percentiles,
            /// Latency from the commit to the moment when the bytes of the first attempt were sent.
            pub first_attempt_latency: Percentiles,
            /// The states of the circuit breakers that are not closed.
            pub breakers: BreakerStates,
            /// The states of the endpoints that are paused or failing.
            pub endpoint_states: EndpointStateTable,
            /// The heartbeats of the stages.
            pub watchdog: Watchdog,
        }

        #[cfg(test)]
        const NAMES: &[&str] = &[$($name,)*];

        impl Metrics {
            /// Creates all metrics at zero.
            ///
            /// # Errors
            /// If two metrics have the same name, which is a bug in the table of this file.
            pub fn new() -> Result<Arc<Self>, prometheus::Error> {
                let registry = Registry::new();
                $(let $field = metrics!(@make $kind, $name, $doc $(, $arg)?)?;
                registry.register(Box::new($field.clone()))?;)*
                Ok(Arc::new(Self {
                    registry, $($field,)*
                    ack_latency: Percentiles::default(),
                    first_attempt_latency: Percentiles::default(),
                    breakers: BreakerStates::default(),
                    endpoint_states: EndpointStateTable::default(),
                    watchdog: Watchdog::default(),
                }))
            }
        }
    };
    (@make IntCounter, $name:literal, $help:expr) => { IntCounter::new($name, $help.trim()) };
    (@make IntGauge, $name:literal, $help:expr) => { IntGauge::new($name, $help.trim()) };
    (@make IntCounterVec, $name:literal, $help:expr, $labels:expr) => { IntCounterVec::new(Opts::new($name, $help.trim()), &$labels) };
    (@make IntGaugeVec, $name:literal, $help:expr, $labels:expr) => { IntGaugeVec::new(Opts::new($name, $help.trim()), &$labels) };
    (@make Histogram, $name:literal, $help:expr, $buckets:expr) => {
        Histogram::with_opts(HistogramOpts::new($name, $help.trim()).buckets($buckets.to_vec()))
    };
}

const SECONDS: [f64; 14] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
const SIZES: [f64; 10] = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

metrics! {
    /// Attempts at a delivery.
    attempts: IntCounter("webhook_delivery_attempts_total"),
    /// Attempts answered 200..=299.
    successes: IntCounter("webhook_delivery_successes_total"),
    /// Attempts that failed.
    failures: IntCounter("webhook_delivery_failures_total"),
    /// Duration of an attempt.
    duration: Histogram("webhook_delivery_duration_seconds", SECONDS),
    /// Webhooks whose status is active.
    webhooks_active: IntGauge("webhook_active_total"),
    /// Dead letters that wait to be retried or discarded.
    dead_letters: IntGauge("webhook_dead_letters_total"),
    /// Circuit breakers that are not closed: 1 half-open, 2 open; a webhook without a series is closed (0).
    breaker_state: IntGaugeVec("webhook_circuit_breaker_state", ["webhook_id"]),
    /// Requests answered, by class of status.
    requests: IntCounterVec("hooktide_requests_total", ["class"]),
    /// Events accepted.
    accepted: IntCounter("hooktide_events_accepted_total"),
    /// Events that were there already.
    duplicates: IntCounter("hooktide_events_duplicate_total"),
    /// Events refused for what they are (422) or for want of room (503).
    refused: IntCounterVec("hooktide_events_refused_total", ["code"]),
    /// Requests of sources, by source and by what became of them: accepted, duplicate, handshake, bad_signature, invalid, limited, error.
    inbound: IntCounterVec("hooktide_inbound_total", ["source", "result"]),
    /// Events that their source's event map could not be applied to, which stay as they came.
    map_failures: IntCounterVec("hooktide_event_map_failures_total", ["source"]),
    /// Refused requests that were not kept for the person who sets a source up, because another one was just being kept.
    rejections_dropped: IntCounter("hooktide_rejections_dropped_total"),
    /// Connections that waited for their clients and were closed to make room for new ones.
    connections_gave_way: IntCounter("hooktide_connections_gave_way_total"),
    /// Bytes of request bodies that are being read or wait for their commit, by share: all, unauthenticated.
    receiving_bytes: IntGaugeVec("hooktide_receiving_bytes", ["share"]),
    /// Bodies refused for want of room, by reason: no_room, gave_way (a slow body made room for others).
    bodies_refused: IntCounterVec("hooktide_bodies_refused_total", ["reason"]),
    /// From the request's last byte to the answer.
    ack_seconds: Histogram("hooktide_ack_seconds", SECONDS),
    /// Events in a commit.
    commit_events: Histogram("hooktide_commit_batch_events", SIZES),
    /// A commit of the log, fsync included.
    commit_seconds: Histogram("hooktide_commit_seconds", SECONDS),
    /// Segments of the log.
    log_segments: IntGauge("hooktide_log_segments"),
    /// Bytes of the log on the disk, bodies that outlive their segment included.
    log_bytes: IntGauge("hooktide_log_bytes"),
    /// Keys in the dedup table.
    dedup_keys: IntGauge("hooktide_dedup_keys"),
    /// The dedup window in force: the smallest of TTL, max_keys and retained log.
    dedup_window_seconds: IntGauge("hooktide_dedup_window_seconds"),
    /// From the commit to the first attempt's bytes being sent.
    first_attempt_seconds: Histogram("hooktide_first_attempt_seconds", SECONDS),
    /// Lookups of host names that ended, by result: found, not_found, failed, abandoned.
    dns_lookups: IntCounterVec("hooktide_dns_lookups_total", ["result"]),
    /// Connections to addresses that had expired, because the lookup of the name was slow or failed.
    dns_stale: IntCounter("hooktide_dns_stale_total"),
    /// Host names that wait for a lookup.
    dns_waiting: IntGauge("hooktide_dns_waiting"),
    /// Deliveries in flight.
    in_flight: IntGauge("hooktide_deliveries_in_flight"),
    /// Deliveries accepted and not settled: in memory and on disk.
    queue_depth: IntGauge("hooktide_queue_depth"),
    /// Age of the oldest delivery that is not settled.
    oldest_pending_seconds: IntGauge("hooktide_oldest_pending_seconds"),
    /// Webhooks whose backlog is on disk.
    spilled_webhooks: IntGauge("hooktide_lagging_webhooks"),
    /// Deliveries whose outcome is not yet durable.
    ingest_permits_in_use: IntGauge("hooktide_door_deliveries"),
    /// Bytes of bodies in memory.
    body_bytes: IntGauge("hooktide_body_bytes"),
    /// A flush of history and state, both fsyncs included.
    flush_seconds: Histogram("hooktide_flush_seconds", SECONDS),
    /// Items in a flush.
    flush_items: Histogram("hooktide_flush_items", SIZES),
    /// Deliveries that became dead letters because the filters of their webhook were too costly to evaluate.
    filters_too_costly: IntCounter("hooktide_filters_too_costly_total"),
    /// Operational events by type, with or without a subscriber.
    operational: IntCounterVec("hooktide_operational_events_total", ["type"]),
    /// Operational events with a subscriber that were dropped because too many waited for the log.
    operational_dropped: IntCounter("hooktide_operational_events_dropped_total"),
    /// Operational events that wait for the log.
    outbox_waiting: IntGauge("hooktide_outbox_waiting"),
    /// Panics of any thread. A panic in a request costs this request only.
    panics: IntCounter("hooktide_panics_total"),
    /// Whether the log takes events (1) or is poisoned or full (0).
    writable: IntGauge("hooktide_log_writable"),
    /// Whether new events are refused because settle or a shard takes none (1).
    handover_full: IntGauge("hooktide_handover_full"),
    /// Stages that have work and have made no progress for 10 s (1), by stage.
    stage_stalled: IntGaugeVec("hooktide_stage_stalled", ["stage"]),
}

impl Metrics {
    /// Returns all metrics in the Prometheus text format.
    pub fn render(&self) -> Vec<u8> {
        self.families().flatten().collect()
    }

    /// Returns the same text in parts, one for each metric. The values are those at the time of the call.
    pub fn families(&self) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        self.registry.gather().into_iter().map(|family| {
            let mut out = Vec::with_capacity(1024);
            // The encoder fails only on a metric without a name.
            let _ = TextEncoder::new().encode(&[family], &mut out);
            out
        })
    }
}

/// The states of the circuit breakers, by webhook number. The values are those of the metric. A closed breaker uses no
/// memory.
#[derive(Debug, Default)]
pub struct BreakerStates(Mutex<HashMap<u32, u8>>);

impl BreakerStates {
    /// Records a change of state, which is rare.
    pub fn set(&self, webhook: u32, state: u8) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state == 0 {
            states.remove(&webhook);
        } else {
            states.insert(webhook, state);
        }
    }

    /// Returns the state of a webhook's breaker: 0 closed, 1 half-open, 2 open.
    pub fn get(&self, webhook: u32) -> u8 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&webhook).copied().unwrap_or_default()
    }
}

/// The states of the endpoints that are paused or failing, by webhook. All other endpoints use no memory.
#[derive(Debug, Default)]
pub struct EndpointStateTable(Mutex<HashMap<WebhookNo, EndpointState>>);

impl EndpointStateTable {
    /// Records a change of state, which is rare.
    pub fn set(&self, webhook: WebhookNo, state: &EndpointState) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_clear() {
            states.remove(&webhook);
        } else {
            states.insert(webhook, *state);
        }
    }

    /// Returns the state of a webhook's endpoint. `None`: neither paused nor failing.
    pub fn get(&self, webhook: WebhookNo) -> Option<EndpointState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&webhook).copied()
    }
}

/// A thread's cache of counters of a vector with two labels. The thread looks each counter up once, because a lookup takes
/// the vector's lock.
#[derive(Debug)]
pub struct CounterCache {
    vector: IntCounterVec,
    used: RefCell<HashMap<Box<str>, Labeled>>,
}

/// The counters of one first label, by second label.
type Labeled = Vec<(&'static str, IntCounter)>;

impl CounterCache {
    /// Creates an empty cache.
    pub fn new(vector: &IntCounterVec) -> Self {
        Self { vector: vector.clone(), used: RefCell::default() }
    }

    /// Increments the counter with these labels by one.
    pub fn inc(&self, first: &str, second: &'static str) {
        let mut used = self.used.borrow_mut();
        let known = used.get(first).and_then(|counters| counters.iter().find(|(label, _)| *label == second));
        if let Some((_, counter)) = known {
            counter.inc();
            return;
        }
        let counter = self.vector.with_label_values(&[first, second]);
        counter.inc();
        if used.len() >= CACHED_COUNTERS_MAX && !used.contains_key(first) {
            used.clear();
        }
        used.entry(first.into()).or_default().push((second, counter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_unique_name_and_is_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.attempts.inc();
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains("# HELP webhook_delivery_attempts_total Attempts at a delivery."), "{text}");
        assert!(text.contains("webhook_delivery_attempts_total 1"), "{text}");
    }

    #[test]
    fn cached_counters_are_those_of_the_vector() {
        let metrics = Metrics::new().unwrap();
        let (one, two) = (CounterCache::new(&metrics.inbound), CounterCache::new(&metrics.inbound));
        for n in 0..2 * CACHED_COUNTERS_MAX {
            one.inc(&format!("source{n}"), "accepted");
        }
        for used in [&one, &one, &two] {
            used.inc("shop", "accepted");
            used.inc("shop", "limited");
        }
        let count = |source: &str, result| metrics.inbound.with_label_values(&[source, result]).get();
        assert_eq!((count("shop", "accepted"), count("shop", "limited"), count("source1", "accepted")), (3, 3, 1));
        assert!(one.used.borrow().len() <= CACHED_COUNTERS_MAX);
    }

    #[test]
    fn every_metric_is_in_the_handbook() {
        let handbook = include_str!("../../docs/OPERATIONS.md");
        for name in NAMES {
            assert!(handbook.contains(&format!("`{name}`")), "docs/OPERATIONS.md does not say what {name} is");
        }
    }
}
