//! Delivery statistics of a webhook: since its creation, of the last 24 hours, by hour and by event type.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::{Api, ManagementRequest, reply};
use crate::http::{Problem, Response};
use crate::model::{PauseReason, Timestamp, WebhookStatus};
use crate::service::statistics::{WebhookHealth, WebhookStatistics};
use crate::service::{BreakerState, WebhookRef};
use crate::settle::{DeliveryStats, Hour, HourlyStatsRow, WebhookStats};

#[derive(Serialize)]
struct View<'a> {
    webhook_id: String,
    status: WebhookStatus,
    health: WebhookHealth,
    breaker: BreakerState,
    paused_until: Option<Timestamp>,
    pause_reason: Option<PauseReason>,
    queue_depth: usize,
    /// Whether the queue may be longer than `queue_depth`.
    queue_depth_is_minimum: bool,
    totals: Totals,
    last_24h: DayView,
    last_success_at: Option<Timestamp>,
    last_failure_at: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    hourly: Vec<HourView>,
    event_types: Vec<TypeView<'a>>,
}

impl<'a> View<'a> {
    fn of(stats: &'a WebhookStatistics) -> Self {
        Self {
            webhook_id: stats.webhook.id.to_string(),
            status: stats.webhook.status,
            health: stats.health,
            breaker: stats.breaker,
            paused_until: stats.pause.map(|pause| pause.until),
            pause_reason: stats.pause.map(|pause| pause.reason),
            queue_depth: stats.queue_depth,
            queue_depth_is_minimum: stats.queue_depth_is_minimum,
            totals: Totals::of(&stats.totals),
            last_24h: DayView::of(&stats.types.sum()),
            last_success_at: stats.totals.last_success,
            last_failure_at: stats.totals.last_failure,
            failing_since: stats.failing_since,
            hourly: stats.hours.iter().map(|(hour, stats)| HourView::of(*hour, stats)).collect(),
            event_types: TypeView::all(&stats.types),
        }
    }
}

/// Totals of a day, or since the creation of the webhook.
#[derive(Serialize)]
struct Totals {
    deliveries: u64,
    successful: u64,
    failed: u64,
    attempts: u64,
    failed_attempts: u64,
    success_rate: Option<f64>,
}

#[derive(Serialize)]
struct DayView {
    #[serde(flatten)]
    totals: Totals,
    average_attempts: Option<f64>,
    attempts_histogram: Vec<AttemptCount>,
    latency_ms: Option<LatencyView>,
}

#[derive(Serialize)]
struct AttemptCount {
    attempts: u8,
    deliveries: u32,
}

#[derive(Serialize)]
struct HourView {
    hour: Timestamp,
    deliveries: u64,
    successful: u64,
    failed: u64,
    attempts: u64,
    failed_attempts: u64,
    latency_ms: Option<LatencyView>,
}

/// The statistics of an event type, for this endpoint and for `/api/v1/stats`.
#[derive(Serialize)]
pub(super) struct TypeView<'a> {
    event_type: &'a str,
    total: u64,
    successful: u64,
    failed: u64,
    attempts: u64,
    success_rate: Option<f64>,
    average_attempts: Option<f64>,
    latency_ms: Option<LatencyView>,
}

/// Percentiles of the latency of attempts, in milliseconds.
#[derive(Serialize)]
struct LatencyView {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl LatencyView {
    fn of(stats: &DeliveryStats) -> Option<Self> {
        let ms = |share| stats.percentile(share).map(|latency: Duration| latency.as_micros() as f64 / 1_000.0);
        Some(Self { p50: ms(0.5)?, p95: ms(0.95)?, p99: ms(0.99)? })
    }
}

impl Totals {
    fn of(stats: &WebhookStats) -> Self {
        let deliveries = stats.delivered + stats.dead;
        Self {
            deliveries,
            successful: stats.delivered,
            failed: stats.dead,
            attempts: stats.delivered + stats.failed_attempts,
            failed_attempts: stats.failed_attempts,
            success_rate: (deliveries > 0).then(|| rounded(stats.delivered as f64 / deliveries as f64)),
        }
    }
}

impl DayView {
    fn of(stats: &DeliveryStats) -> Self {
        let totals = Totals {
            deliveries: stats.deliveries(),
            successful: stats.delivered.into(),
            failed: stats.failed.into(),
            attempts: stats.attempts(),
            failed_attempts: stats.failed_attempts(),
            success_rate: stats.success_rate().map(rounded),
        };
        Self {
            totals,
            average_attempts: stats.average_attempts().map(rounded),
            attempts_histogram: stats
                .attempts_needed()
                .map(|(attempts, deliveries)| AttemptCount { attempts, deliveries })
                .collect(),
            latency_ms: LatencyView::of(stats),
        }
    }
}

impl HourView {
    fn of(hour: Hour, stats: &DeliveryStats) -> Self {
        Self {
            hour: hour.start(),
            deliveries: stats.deliveries(),
            successful: stats.delivered.into(),
            failed: stats.failed.into(),
            attempts: stats.attempts(),
            failed_attempts: stats.failed_attempts(),
            latency_ms: LatencyView::of(stats),
        }
    }
}

impl<'a> TypeView<'a> {
    fn of((event_type, stats): (&'a str, &DeliveryStats)) -> Self {
        Self {
            event_type,
            total: stats.deliveries(),
            successful: stats.delivered.into(),
            failed: stats.failed.into(),
            attempts: stats.attempts(),
            success_rate: stats.success_rate().map(rounded),
            average_attempts: stats.average_attempts().map(rounded),
            latency_ms: LatencyView::of(stats),
        }
    }

    /// The event types of a row, those with the most deliveries first.
    pub(super) fn all(row: &'a HourlyStatsRow) -> Vec<Self> {
        let mut all: Vec<_> = row.types().map(Self::of).collect();
        all.sort_by(|one, other| other.total.cmp(&one.total).then_with(|| one.event_type.cmp(other.event_type)));
        all
    }
}

/// Rounds to four decimals. The statistics are not more precise.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

impl Api {
    /// Returns the statistics. The queue depth is current, the other values include the attempts that have ended.
    pub(super) async fn webhook_metrics(
        &self,
        request: &ManagementRequest,
        of: WebhookRef<'_>,
    ) -> Result<Response, Problem> {
        let stats = self.service.webhook_statistics(&request.principal, of).await?;
        reply::json(StatusCode::OK, &View::of(&stats))
    }
}
