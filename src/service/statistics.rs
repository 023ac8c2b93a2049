//! Statistics of a webhook and of a tenant by event type, and the health of a webhook.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::access::{may_see_live, tenant_of};
use super::{BreakerState, Error, ErrorKind, Operation, Service, StatisticsBackend, WebhookCounts, WebhookRef};
use crate::limits::{QUEUE_COUNT_MAX, STATS_HOURS, STATS_SHOWN_TYPES_MAX, STATS_WEBHOOKS_MAX};
use crate::model::{EndpointPause, Principal, Role, Timestamp, Visibility, WebhookNo, WebhookStatus};
use crate::outbound::Webhook;
use crate::registry::Registry;
use crate::settle::{DeliveryStats, Hour, HourlyStatsRow, StatsScope, WebhookStats};

/// Minimum number of attempts in this hour and the hour before. With fewer attempts the success rate does not affect
/// the health.
const HEALTH_ATTEMPTS_MIN: u64 = 5;
/// A webhook is failing below this success rate.
const HEALTH_FAILING_BELOW: f64 = 0.5;
/// A webhook is degraded below this success rate.
const HEALTH_DEGRADED_BELOW: f64 = 0.95;

/// The health of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookHealth {
    /// No problem is known.
    Healthy,
    /// Some attempts fail.
    Degraded,
    /// The webhook has failed, its breaker is open, or most attempts fail.
    Failing,
    /// The webhook is paused or inactive.
    Paused,
}

/// The statistics of a webhook.
#[derive(Debug, Clone)]
pub struct WebhookStatistics {
    /// The webhook.
    pub webhook: Arc<Webhook>,
    /// The health of the webhook.
    pub health: WebhookHealth,
    /// The state of its circuit breaker.
    pub breaker: BreakerState,
    /// The pause of its endpoint, with its end by the wall clock.
    pub pause: Option<EndpointPause>,
    /// The number of deliveries that wait now.
    pub queue_depth: usize,
    /// Whether more deliveries may wait than were counted.
    pub queue_depth_is_minimum: bool,
    /// Counts since the webhook was created.
    pub totals: WebhookStats,
    /// The time since which every attempt has failed, on the wall clock.
    pub failing_since: Option<Timestamp>,
    /// Statistics of the last 24 hours by hour, the current hour last.
    pub hours: Vec<(Hour, DeliveryStats)>,
    /// The same 24 hours as one row, by event type.
    pub types: HourlyStatsRow,
}

/// The statistics of a tenant, or of all tenants that the caller may see.
#[derive(Debug, Clone)]
pub struct TenantStatistics {
    /// The beginning of the first hour that is counted.
    pub since: Timestamp,
    /// The end of the counted time.
    pub until: Timestamp,
    /// Counts by event type.
    pub types: HourlyStatsRow,
}

/// The webhooks whose statistics are summed.
enum StatisticsScope {
    Tenant(Box<str>),
    Everybody,
    Webhooks(Vec<WebhookNo>),
}

impl Service {
    /// Returns the statistics of a webhook. All of them but the breaker's state are of the same moment.
    ///
    /// # Errors
    /// If the role is too low, the webhook does not exist for the caller, or the statistics cannot be read.
    pub async fn webhook_statistics(
        &self,
        principal: &Principal,
        of: WebhookRef<'_>,
    ) -> Result<WebhookStatistics, Error> {
        Operation::ReadStatistics.permit(principal.role)?;
        let webhook = self.live_webhook(principal, of)?;
        let (now, steady) = (self.clock.now(), self.clock.steady());
        let (first, last) = day_until(now);
        let counts = {
            let _turn = self.reads.acquire().await.map_err(|_| unreadable())?;
            self.statistics.of_webhook(webhook.no, first, last, QUEUE_COUNT_MAX).await?
        };
        let WebhookCounts { totals, waiting, waiting_is_minimum, hours: rows } = counts;
        let breaker = match self.statistics.endpoint_state(webhook.no) {
            // The breaker of an earlier address does not count.
            Some(state) if state.address_version != webhook.address_version => BreakerState::Closed,
            _ => self.statistics.breaker(webhook.no),
        };
        // Totals use the scheduling clock, which may differ from the wall clock.
        let failing_since = totals.failing_since.map(|since| {
            let ms = i64::try_from(steady.since(since).as_millis()).unwrap_or(i64::MAX);
            Timestamp::from_millis(now.as_millis().saturating_sub(ms))
        });
        let hour_of = |hour| (hour, rows.get(&hour).map(HourlyStatsRow::sum).unwrap_or_default());
        let hours: Vec<_> = first.to(last).map(hour_of).collect();
        let mut recent = DeliveryStats::default();
        hours.iter().rev().take(2).for_each(|(_, statistics)| recent.merge(statistics));
        Ok(WebhookStatistics {
            health: health(webhook.status, breaker, &recent, failing_since.is_some()),
            pause: self.pause_of(&webhook),
            webhook,
            breaker,
            queue_depth: waiting,
            queue_depth_is_minimum: waiting_is_minimum,
            totals,
            failing_since,
            hours,
            types: sum_hours(&rows),
        })
    }

    /// Returns the statistics of a tenant from `since`, in whole hours and at most 24 hours ago. A caller of tenant `*`
    /// that names no tenant gets the sum of all tenants. A caller that may not see all webhooks of a tenant gets the
    /// sum of those that it may see.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the named tenant, or the statistics cannot be read.
    pub async fn tenant_statistics(
        &self,
        principal: &Principal,
        named: Option<&str>,
        since: Option<Timestamp>,
    ) -> Result<TenantStatistics, Error> {
        Operation::ReadStatistics.permit(principal.role)?;
        let scope = scope(&self.registry.load(), principal, tenant_of(principal, named)?);
        let now = self.clock.now();
        let (day, last) = day_until(now);
        let first = since.map_or(day, |since| Hour::of(since).clamp(last.before(STATS_HOURS), last));
        let read = move |statistics: &dyn StatisticsBackend| {
            let of = match &scope {
                StatisticsScope::Tenant(name) => StatsScope::Tenant(name),
                StatisticsScope::Everybody => StatsScope::AllTenants,
                StatisticsScope::Webhooks(webhooks) => StatsScope::Webhooks(webhooks),
            };
            Ok(sum_hours(&statistics.hours(of, first, last)?))
        };
        let types = self.read_statistics(read).await?;
        Ok(TenantStatistics { since: first.start(), until: now, types })
    }

    /// Reads statistics on a blocking thread. The limit on concurrent store reads includes these reads.
    async fn read_statistics<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn StatisticsBackend) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let _turn = self.reads.acquire().await.map_err(|_| unreadable())?;
        let statistics = Arc::clone(&self.statistics);
        tokio::task::spawn_blocking(move || read(&*statistics)).await.map_err(|_| unreadable())?
    }
}

/// The scope of a tenant's statistics. A tenant's statistics are stored as one sum. For a caller that may not see all
/// webhooks of the tenant, the statistics of the visible webhooks are summed.
fn scope(registry: &Registry, principal: &Principal, tenant: Option<&str>) -> StatisticsScope {
    let Some(tenant) = tenant else { return StatisticsScope::Everybody };
    if principal.role == Role::Admin || registry.tenant_settings(tenant).visibility == Visibility::Tenant {
        return StatisticsScope::Tenant(tenant.into());
    }
    let webhooks = registry.newest(Some(tenant), WebhookNo(u32::MAX));
    let seen = webhooks.filter(|webhook| may_see_live(principal, webhook));
    StatisticsScope::Webhooks(seen.take(STATS_WEBHOOKS_MAX).map(|webhook| webhook.no).collect())
}

fn unreadable() -> Error {
    Error::new(ErrorKind::Internal, "the figures could not be read")
}

/// The last 24 hours, the current hour included.
fn day_until(now: Timestamp) -> (Hour, Hour) {
    let last = Hour::of(now);
    (last.before(STATS_HOURS - 1), last)
}

fn health(status: WebhookStatus, breaker: BreakerState, recent: &DeliveryStats, fails_now: bool) -> WebhookHealth {
    let share = Some(recent.attempts()).filter(|attempts| *attempts >= HEALTH_ATTEMPTS_MIN);
    let share = share.map(|attempts| f64::from(recent.delivered) / attempts as f64);
    match (status, breaker, share) {
        (WebhookStatus::Paused | WebhookStatus::Inactive, ..) => WebhookHealth::Paused,
        (WebhookStatus::Failed, ..) | (_, BreakerState::Open, _) => WebhookHealth::Failing,
        (.., Some(share)) if share < HEALTH_FAILING_BELOW => WebhookHealth::Failing,
        (_, BreakerState::HalfOpen, _) => WebhookHealth::Degraded,
        (.., Some(share)) if share < HEALTH_DEGRADED_BELOW => WebhookHealth::Degraded,
        _ if fails_now => WebhookHealth::Degraded,
        _ => WebhookHealth::Healthy,
    }
}

/// Sums all hours into one row.
fn sum_hours(hours: &BTreeMap<Hour, HourlyStatsRow>) -> HourlyStatsRow {
    let mut all = HourlyStatsRow::default();
    for row in hours.values() {
        all.merge(row, STATS_SHOWN_TYPES_MAX);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Statistics with this number of attempts and successes.
    fn statistics(attempts: u32, successes: u32) -> DeliveryStats {
        let mut statistics = DeliveryStats::default();
        for n in 0..attempts {
            statistics.merge(&DeliveryStats::of_attempt(n < successes));
        }
        statistics
    }

    #[test]
    fn health_by_table() {
        use BreakerState::{Closed, HalfOpen, Open};
        use WebhookStatus::{Active, Failed, Inactive, Paused};
        for (status, breaker, recent, fails_now, expected) in [
            (Active, Closed, (0, 0), false, WebhookHealth::Healthy),
            (Active, Closed, (100, 95), false, WebhookHealth::Healthy),
            (Active, Closed, (100, 94), false, WebhookHealth::Degraded),
            (Active, Closed, (100, 50), false, WebhookHealth::Degraded),
            (Active, Closed, (100, 49), false, WebhookHealth::Failing),
            (Active, Closed, (4, 0), false, WebhookHealth::Healthy),
            (Active, Closed, (4, 0), true, WebhookHealth::Degraded),
            (Active, Closed, (5, 0), true, WebhookHealth::Failing),
            (Active, HalfOpen, (100, 100), false, WebhookHealth::Degraded),
            (Active, HalfOpen, (100, 10), false, WebhookHealth::Failing),
            (Active, Open, (0, 0), false, WebhookHealth::Failing),
            (Failed, Closed, (0, 0), false, WebhookHealth::Failing),
            (Paused, Open, (100, 0), true, WebhookHealth::Paused),
            (Inactive, Closed, (0, 0), false, WebhookHealth::Paused),
        ] {
            let found = health(status, breaker, &statistics(recent.0, recent.1), fails_now);
            assert_eq!(found, expected, "{status:?} {breaker:?} {recent:?} {fails_now}");
        }
    }
}
