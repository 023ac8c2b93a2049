//! Figures of a webhook, and of a tenant by event type; and what they say of a webhook's health.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::access::{may_see_live, tenant_of};
use super::{BreakerState, Error, ErrorKind, FigureStore, Operation, Service, WebhookRef};
use crate::limits::{
    CHECKPOINT_LIST_MAX, FIGURES_HOURS, FIGURES_SHOWN_TYPES_MAX, QUEUE_COUNTED_MAX, STATS_WEBHOOKS_MAX,
};
use crate::model::{Principal, Role, Timestamp, Visibility, WebhookNo, WebhookStatus};
use crate::outbound::Webhook;
use crate::registry::Registry;
use crate::settle::{Figures, FiguresOf, Hour, HourRow, WebhookStats};

/// Attempts of this hour and the one before below which their share of successes says nothing.
const HEALTH_ATTEMPTS_MIN: u64 = 5;
/// Share of successful attempts below which a webhook is failing …
const HEALTH_FAILING_BELOW: f64 = 0.5;
/// … and below which it is degraded.
const HEALTH_DEGRADED_BELOW: f64 = 0.95;

/// How a webhook does, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing speaks against it.
    Healthy,
    /// Some of its attempts fail.
    Degraded,
    /// It is failed, its breaker is open, or most of its attempts fail.
    Failing,
    /// It is paused or inactive.
    Paused,
}

/// What is counted of a webhook.
#[derive(Debug, Clone)]
pub struct WebhookFigures {
    /// The webhook.
    pub webhook: Arc<Webhook>,
    /// How it does.
    pub health: Health,
    /// How its circuit breaker stands.
    pub breaker: BreakerState,
    /// Deliveries that wait now.
    pub queue_depth: usize,
    /// Whether more deliveries may wait than were counted.
    pub queue_depth_is_minimum: bool,
    /// Counts since it was made.
    pub totals: WebhookStats,
    /// Since when every attempt has failed, by the wall clock.
    pub failing_since: Option<Timestamp>,
    /// The last 24 hours, the present hour last.
    pub hours: Vec<(Hour, Figures)>,
    /// The same hours together, by event type.
    pub types: HourRow,
}

/// What is counted of a tenant, or of all that the caller may see.
#[derive(Debug, Clone)]
pub struct TenantFigures {
    /// The beginning of the first hour that is counted.
    pub since: Timestamp,
    /// The end of what is counted.
    pub until: Timestamp,
    /// Counts by event type.
    pub types: HourRow,
}

/// The webhooks whose figures are added up.
enum Scope {
    Tenant(Box<str>),
    Everybody,
    Webhooks(Vec<WebhookNo>),
}

impl Service {
    /// The figures of a webhook. What waits is counted at this moment; other figures are of attempts that have ended.
    ///
    /// # Errors
    /// If the role is too low, the webhook is not there for the caller, or the figures cannot be read.
    pub async fn webhook_figures(&self, principal: &Principal, of: WebhookRef<'_>) -> Result<WebhookFigures, Error> {
        Operation::ReadFigures.permit(principal.role)?;
        let webhook = self.live(principal, of)?;
        let outstanding = self.deliveries.sync(Some(webhook.no), None, CHECKPOINT_LIST_MAX).await?.len();
        let (now, steady) = (self.clock.now(), self.clock.steady());
        let (first, last) = day_until(now);
        let no = webhook.no;
        let read = move |figures: &dyn FigureStore| {
            let hours = figures.hours(FiguresOf::Webhooks(&[no]), first, last)?;
            Ok((hours, figures.waiting(no, QUEUE_COUNTED_MAX)?, figures.totals(no), figures.breaker(no)))
        };
        let (rows, waiting, totals, breaker) = self.read_figures(read).await?;
        // Totals are kept on the scheduling clock, which may differ from the wall clock.
        let failing_since = totals.failing_since.map(|since| {
            let ms = i64::try_from(steady.since(since).as_millis()).unwrap_or(i64::MAX);
            Timestamp::from_millis(now.as_millis().saturating_sub(ms))
        });
        let hour_of = |hour| (hour, rows.get(&hour).map(HourRow::sum).unwrap_or_default());
        let hours: Vec<_> = first.to(last).map(hour_of).collect();
        let mut recent = Figures::default();
        hours.iter().rev().take(2).for_each(|(_, figures)| recent.merge(figures));
        Ok(WebhookFigures {
            health: health(webhook.status, breaker, &recent, failing_since.is_some()),
            webhook,
            breaker,
            queue_depth: outstanding + waiting,
            queue_depth_is_minimum: waiting == QUEUE_COUNTED_MAX,
            totals,
            failing_since,
            hours,
            types: together(&rows),
        })
    }

    /// The figures of a tenant, or of every tenant for a caller of tenant `*` who names none: from `since`, in whole hours
    /// and at most 24 hours ago. A caller who may not see all of a tenant's webhooks gets the sum of those that they may see.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the named tenant, or the figures cannot be read.
    pub async fn tenant_figures(
        &self,
        principal: &Principal,
        named: Option<&str>,
        since: Option<Timestamp>,
    ) -> Result<TenantFigures, Error> {
        Operation::ReadFigures.permit(principal.role)?;
        let scope = scope(&self.registry.load(), principal, tenant_of(principal, named)?);
        let now = self.clock.now();
        let (day, last) = day_until(now);
        let first = since.map_or(day, |since| Hour::of(since).clamp(last.before(FIGURES_HOURS), last));
        let read = move |figures: &dyn FigureStore| {
            let of = match &scope {
                Scope::Tenant(name) => FiguresOf::Tenant(name),
                Scope::Everybody => FiguresOf::Everybody,
                Scope::Webhooks(webhooks) => FiguresOf::Webhooks(webhooks),
            };
            Ok(together(&figures.hours(of, first, last)?))
        };
        let types = self.read_figures(read).await?;
        Ok(TenantFigures { since: first.start(), until: now, types })
    }

    /// Reads figures on a thread that may block. The bound on reads from the stores counts them too.
    async fn read_figures<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn FigureStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let failed = || Error::new(ErrorKind::Internal, "the figures could not be read");
        let _turn = self.reads.acquire().await.map_err(|_| failed())?;
        let figures = Arc::clone(&self.figures);
        tokio::task::spawn_blocking(move || read(&*figures)).await.map_err(|_| failed())?
    }
}

/// A tenant's figures are kept as one. A caller who may not see all of its webhooks gets those of the webhooks that they may
/// see.
fn scope(registry: &Registry, principal: &Principal, tenant: Option<&str>) -> Scope {
    let Some(tenant) = tenant else { return Scope::Everybody };
    if principal.role == Role::Admin || registry.tenant_settings(tenant).visibility == Visibility::Tenant {
        return Scope::Tenant(tenant.into());
    }
    let webhooks = registry.newest(Some(tenant), WebhookNo(u32::MAX));
    let seen = webhooks.filter(|webhook| may_see_live(principal, webhook));
    Scope::Webhooks(seen.take(STATS_WEBHOOKS_MAX).map(|webhook| webhook.no).collect())
}

/// The last 24 hours, the present hour included.
fn day_until(now: Timestamp) -> (Hour, Hour) {
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

/// All hours in one row.
fn together(hours: &BTreeMap<Hour, HourRow>) -> HourRow {
    let mut all = HourRow::default();
    for row in hours.values() {
        all.merge(row, FIGURES_SHOWN_TYPES_MAX);
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
