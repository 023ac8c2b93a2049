//! Figures of a webhook: since it was made, over 24 hours, by hour and by event type, and what they say of its health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde::Serialize;

use super::{Api, Call, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::limits::{CHECKPOINT_LIST_MAX, FIGURES_HOURS, QUEUE_COUNTED_MAX};
use crate::model::{Timestamp, WebhookStatus};
use crate::outbound::Webhook;
use crate::service::{BreakerState, FigureStore, WebhookRef};
use crate::settle::{Figures, FiguresOf, Hour, HourRow, WebhookStats};

/// How a webhook does, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Health {
    /// Nothing speaks against it.
    Healthy,
    /// Some of its attempts fail.
    Degraded,
    /// It is failed, its breaker is open, or most of its attempts fail.
    Failing,
    /// It is paused or inactive.
    Paused,
}

/// Attempts of this hour and the one before below which their share of successes says nothing.
const HEALTH_ATTEMPTS_MIN: u64 = 5;
/// Share of successful attempts below which a webhook is failing …
const HEALTH_FAILING_BELOW: f64 = 0.5;
/// … and below which it is degraded.
const HEALTH_DEGRADED_BELOW: f64 = 0.95;

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

/// The last 24 hours, the one that runs included.
pub(super) fn day_until(now: Timestamp) -> (Hour, Hour) {
    let last = Hour::of(now);
    (last.before(FIGURES_HOURS - 1), last)
}

fn health(status: WebhookStatus, breaker: BreakerState, recent: &Figures, fails_now: bool) -> Health {
    let share = Some(recent.attempts()).filter(|attempts| *attempts >= HEALTH_ATTEMPTS_MIN);
    let share = share.map(|attempts| f64::from(recent.delivered) / attempts as f64);
    match (status, breaker, share) {
        (WebhookStatus::Paused | WebhookStatus::Inactive, ..) => Health::Paused,
        (WebhookStatus::Failed, ..) | (_, BreakerState::Open, _) => Health::Failing,
        (.., Some(share)) if share < HEALTH_FAILING_BELOW => Health::Failing,
        (_, BreakerState::HalfOpen, _) => Health::Degraded,
        (.., Some(share)) if share < HEALTH_DEGRADED_BELOW => Health::Degraded,
        _ if fails_now => Health::Degraded,
        _ => Health::Healthy,
    }
}

impl Api {
    /// What waits is as of this call, figures are as of the attempts that have ended.
    pub(super) async fn webhook_metrics(&self, call: &Call, of: WebhookRef<'_>) -> Result<Response, Problem> {
        let webhook = self.service.live(&call.principal, of)?;
        let outstanding = self.service.deliveries.sync(Some(webhook.no), None, CHECKPOINT_LIST_MAX).await?.len();
        let (now, steady) = (self.service.clock.now(), self.service.clock.steady());
        let (first, last) = day_until(now);
        let no = webhook.no;
        let read = move |figures: &dyn FigureStore| {
            let hours = figures.hours(FiguresOf::Webhooks(&[no]), first, last)?;
            Ok((hours, figures.waiting(no, QUEUE_COUNTED_MAX)?, figures.totals(no), figures.breaker(no)))
        };
        let (hours, waiting, totals, breaker) = self.figures_read(read).await?;
        let failing_since = totals.failing_since.map(|since| {
            let ms = i64::try_from(steady.since(since).as_millis()).unwrap_or(i64::MAX);
            Timestamp::from_millis(now.as_millis().saturating_sub(ms))
        });
        let found =
            Found { webhook: &webhook, hours, queue_depth: outstanding + waiting, totals, breaker, failing_since };
        found.answer(first, last, waiting == QUEUE_COUNTED_MAX)
    }

    /// Reads figures on a thread that may block, so many at once.
    pub(super) async fn figures_read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn FigureStore) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let failed = || Problem::new(ProblemCode::Internal, "the figures could not be read");
        let _turn = self.service.reads.acquire().await.map_err(|_| failed())?;
        let figures = Arc::clone(&self.service.figures);
        tokio::task::spawn_blocking(move || read(&*figures)).await.map_err(|_| failed())?
    }
}

/// All that an answer is made of.
struct Found<'a> {
    webhook: &'a Webhook,
    hours: BTreeMap<Hour, HourRow>,
    queue_depth: usize,
    totals: WebhookStats,
    breaker: BreakerState,
    failing_since: Option<Timestamp>,
}

impl Found<'_> {
    fn answer(&self, first: Hour, last: Hour, is_minimum: bool) -> Result<Response, Problem> {
        let by_hour: Vec<_> =
            first.to(last).map(|hour| (hour, self.hours.get(&hour).map(HourRow::sum).unwrap_or_default())).collect();
        let types = together(&self.hours);
        let mut recent = Figures::default();
        by_hour.iter().rev().take(2).for_each(|(_, figures)| recent.merge(figures));
        let status = self.webhook.status;
        reply::json(
            StatusCode::OK,
            &View {
                webhook_id: self.webhook.id.to_string(),
                status,
                health: health(status, self.breaker, &recent, self.failing_since.is_some()),
                breaker: self.breaker,
                queue_depth: self.queue_depth,
                queue_depth_is_minimum: is_minimum,
                totals: Totals::of(&self.totals),
                last_24h: Day::of(&types.sum()),
                last_success_at: self.totals.last_success,
                last_failure_at: self.totals.last_failure,
                failing_since: self.failing_since,
                hourly: by_hour.iter().map(|(hour, figures)| HourView::of(*hour, figures)).collect(),
                event_types: TypeView::all(&types),
            },
        )
    }
}

/// All hours in one.
pub(super) fn together(hours: &BTreeMap<Hour, HourRow>) -> HourRow {
    let mut all = HourRow::default();
    for row in hours.values() {
        all.merge(row, crate::limits::FIGURES_SHOWN_TYPES_MAX);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many attempts, of which so many succeeded.
    fn figures(attempts: u32, successes: u32) -> Figures {
        let mut figures = Figures::default();
        for n in 0..attempts {
            figures.merge(&Figures::of_attempt(n < successes));
        }
        figures
    }

    #[test]
    fn health_by_table() {
        use BreakerState::{Closed, HalfOpen, Open};
        use WebhookStatus::{Active, Failed, Inactive, Paused};
        for (status, breaker, recent, fails_now, expected) in [
            (Active, Closed, (0, 0), false, Health::Healthy),
            (Active, Closed, (100, 95), false, Health::Healthy),
            (Active, Closed, (100, 94), false, Health::Degraded),
            (Active, Closed, (100, 50), false, Health::Degraded),
            (Active, Closed, (100, 49), false, Health::Failing),
            (Active, Closed, (4, 0), false, Health::Healthy),
            (Active, Closed, (4, 0), true, Health::Degraded),
            (Active, Closed, (5, 0), true, Health::Failing),
            (Active, HalfOpen, (100, 100), false, Health::Degraded),
            (Active, HalfOpen, (100, 10), false, Health::Failing),
            (Active, Open, (0, 0), false, Health::Failing),
            (Failed, Closed, (0, 0), false, Health::Failing),
            (Paused, Open, (100, 0), true, Health::Paused),
            (Inactive, Closed, (0, 0), false, Health::Paused),
        ] {
            let found = health(status, breaker, &figures(recent.0, recent.1), fails_now);
            assert_eq!(found, expected, "{status:?} {breaker:?} {recent:?} {fails_now}");
        }
    }
}
