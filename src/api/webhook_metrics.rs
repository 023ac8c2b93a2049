//! Figures of a webhook: since it was made, over 24 hours, by hour and by event type.

use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::{Api, Call, reply};
use crate::http::{Problem, Response};
use crate::model::{Timestamp, WebhookStatus};
use crate::service::statistics::{Health, WebhookFigures};
use crate::service::{BreakerState, WebhookRef};
use crate::settle::{Figures, Hour, HourRow, WebhookStats};

#[derive(Serialize)]
struct View<'a> {
    webhook_id: String,
    status: WebhookStatus,
    health: Health,
    breaker: BreakerState,
    queue_depth: usize,
    /// Whether there may be more.
    queue_depth_is_minimum: bool,
    totals: Totals,
    last_24h: Day,
    last_success_at: Option<Timestamp>,
    last_failure_at: Option<Timestamp>,
    failing_since: Option<Timestamp>,
    hourly: Vec<HourView>,
    event_types: Vec<TypeView<'a>>,
}

impl<'a> View<'a> {
    fn of(figures: &'a WebhookFigures) -> Self {
        Self {
            webhook_id: figures.webhook.id.to_string(),
            status: figures.webhook.status,
            health: figures.health,
            breaker: figures.breaker,
            queue_depth: figures.queue_depth,
            queue_depth_is_minimum: figures.queue_depth_is_minimum,
            totals: Totals::of(&figures.totals),
            last_24h: Day::of(&figures.types.sum()),
            last_success_at: figures.totals.last_success,
            last_failure_at: figures.totals.last_failure,
            failing_since: figures.failing_since,
            hourly: figures.hours.iter().map(|(hour, figures)| HourView::of(*hour, figures)).collect(),
            event_types: TypeView::all(&figures.types),
        }
    }
}

/// Of a day, or since the webhook was made.
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
struct Day {
    #[serde(flatten)]
    totals: Totals,
    average_attempts: Option<f64>,
    attempts_histogram: Vec<Needed>,
    latency_ms: Option<Latency>,
}

#[derive(Serialize)]
struct Needed {
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
    latency_ms: Option<Latency>,
}

/// An event type's figures, here and in `/api/v1/stats`.
#[derive(Serialize)]
pub(super) struct TypeView<'a> {
    event_type: &'a str,
    total: u64,
    successful: u64,
    failed: u64,
    attempts: u64,
    success_rate: Option<f64>,
    average_attempts: Option<f64>,
    latency_ms: Option<Latency>,
}

/// Percentiles of attempts.
#[derive(Serialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl Latency {
    fn of(figures: &Figures) -> Option<Self> {
        let ms = |share| figures.percentile(share).map(|latency: Duration| latency.as_micros() as f64 / 1_000.0);
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

impl Day {
    fn of(figures: &Figures) -> Self {
        let totals = Totals {
            deliveries: figures.deliveries(),
            successful: figures.delivered.into(),
            failed: figures.failed.into(),
            attempts: figures.attempts(),
            failed_attempts: figures.failed_attempts(),
            success_rate: figures.success_rate().map(rounded),
        };
        Self {
            totals,
            average_attempts: figures.average_attempts().map(rounded),
            attempts_histogram: figures
                .attempts_needed()
                .map(|(attempts, deliveries)| Needed { attempts, deliveries })
                .collect(),
            latency_ms: Latency::of(figures),
        }
    }
}

impl HourView {
    fn of(hour: Hour, figures: &Figures) -> Self {
        Self {
            hour: hour.start(),
            deliveries: figures.deliveries(),
            successful: figures.delivered.into(),
            failed: figures.failed.into(),
            attempts: figures.attempts(),
            failed_attempts: figures.failed_attempts(),
            latency_ms: Latency::of(figures),
        }
    }
}

impl<'a> TypeView<'a> {
    fn of((event_type, figures): (&'a str, &Figures)) -> Self {
        Self {
            event_type,
            total: figures.deliveries(),
            successful: figures.delivered.into(),
            failed: figures.failed.into(),
            attempts: figures.attempts(),
            success_rate: figures.success_rate().map(rounded),
            average_attempts: figures.average_attempts().map(rounded),
            latency_ms: Latency::of(figures),
        }
    }

    /// All of a row, those with the most deliveries first.
    pub(super) fn all(row: &'a HourRow) -> Vec<Self> {
        let mut all: Vec<_> = row.types().map(Self::of).collect();
        all.sort_by(|one, other| other.total.cmp(&one.total).then_with(|| one.event_type.cmp(other.event_type)));
        all
    }
}

/// Four decimals: what is counted is no more exact.
fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

impl Api {
    /// What waits is as of this call, figures are as of the attempts that have ended.
    pub(super) async fn webhook_metrics(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let figures = self.service.webhook_figures(&call.principal, of).await?;
        reply::json(StatusCode::OK, &View::of(&figures))
    }
}
