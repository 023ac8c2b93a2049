//! Hourly statistics of each webhook and of each tenant, in memory. Only what is not flushed yet is here, so that a
//! webhook without deliveries needs no memory. state.redb has the rest.
//!
//! A flush adds the counts to the rows on the disk. When very many rows changed, it does so only once in an interval,
//! as [`super::webhook_stats`] does: a crash then loses some counts, never a delivery.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::handoff::SettledDelivery;
use crate::limits::{STATS_HOURS, STATS_TENANT_TYPES_MAX, STATS_WEBHOOK_TYPES_MAX};
use crate::model::{Decision, EventHead, Timestamp, WebhookNo};
use crate::storage::delivery::{
    DeliveryOutcome, Hour, HourlyStats, HourlyStatsRow, HourlyStatsUpdate, StatsScope, StatsSubject, UnflushedStats,
};

/// The hourly statistics that are not yet durable.
#[derive(Debug, Default)]
pub(super) struct HourlyStatsBuffer {
    /// The number of the next write. The disk stores the number of the last one, so that a reader counts no row twice.
    number: u64,
    hour: Hour,
    webhooks: HashMap<WebhookNo, HourlyStatsRow>,
    tenants: HashMap<Arc<str>, HourlyStatsRow>,
    /// Statistics of hours before `hour`.
    past: Vec<HourlyStats>,
    /// What the current flush writes. Readers still find it here, because it may not be on the disk yet.
    in_flush: Arc<Vec<HourlyStats>>,
    /// Names of tenants and types, shared by the rows.
    names: HashSet<Arc<str>>,
    taken: Timestamp,
}

/// A flush writes up to this many rows at once.
const ROWS_PER_FLUSH: usize = 64;
/// More rows are written once in this time, and in this time more for each [`ROWS_PER_INTERVAL`].
const INTERVAL: Duration = Duration::from_secs(10);
const ROWS_PER_INTERVAL: usize = 16_384;
/// The most names that are shared at a time.
const NAMES_MAX: usize = 4_096;

impl HourlyStatsBuffer {
    /// An empty buffer. `number` is the number of the last write on the disk.
    pub(super) fn after(number: u64) -> Self {
        Self { number: number + 1, ..Self::default() }
    }

    /// Counts attempts and their outcomes. `now` is the wall clock's time.
    pub(super) fn count(&mut self, settled: &[SettledDelivery], now: Timestamp) {
        self.set_hour(Hour::of(now));
        let Self { webhooks, tenants, names, .. } = self;
        for outcome in settled {
            let (Some(attempt), Ok((tenant, event_type))) = (&outcome.attempt, EventHead::labels(&outcome.head)) else {
                continue;
            };
            let ended = match outcome.decision {
                Decision::Delivered => DeliveryOutcome::Delivered,
                Decision::Retry { .. } => DeliveryOutcome::Unsettled,
                Decision::Dead(_) => DeliveryOutcome::Dead,
            };
            let row = webhooks.entry(outcome.webhook).or_default();
            let stats = row.stats_mut(event_type, STATS_WEBHOOK_TYPES_MAX, |name| shared(names, name));
            stats.count(attempt.number, attempt.latency, ended);
            let row = match tenants.get_mut(tenant) {
                Some(row) => row,
                None => tenants.entry(shared(names, tenant)).or_default(),
            };
            let stats = row.stats_mut(event_type, STATS_TENANT_TYPES_MAX, |name| shared(names, name));
            stats.count(attempt.number, attempt.latency, ended);
        }
    }

    /// Moves the counts into a flush, unless they are many and the last flush of counts was a short time ago. `all`: in
    /// any case. `now` is the scheduling clock's time, `wall` the wall clock's. `None` if there is nothing to write.
    pub(super) fn take(&mut self, now: Timestamp, wall: Timestamp, all: bool) -> Option<HourlyStatsUpdate> {
        let rows = self.webhooks.len() + self.tenants.len() + self.past.len();
        let interval = INTERVAL.saturating_mul(1 + (rows / ROWS_PER_INTERVAL) as u32);
        let is_much = rows > ROWS_PER_FLUSH && now.since(self.taken) < interval;
        if rows == 0 || (is_much && !all) {
            return None;
        }
        self.close_hour();
        self.in_flush = Arc::new(mem::take(&mut self.past));
        self.taken = now;
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        let forgotten_before = Hour::of(wall).before(STATS_HOURS);
        Some(HourlyStatsUpdate { number: self.number, rows: Arc::clone(&self.in_flush), forgotten_before })
    }

    /// Called when the update from [`HourlyStatsBuffer::take`] is durable.
    pub(super) fn flushed(&mut self) {
        self.number += 1;
        self.in_flush = Arc::default();
    }

    /// The counts of the hours from `first` to `last`, both included, that may not be on the disk.
    pub(super) fn recent(&self, of: StatsScope<'_>, first: Hour, last: Hour) -> UnflushedStats {
        let mut rows = BTreeMap::new();
        let mut add = |hour: Hour, row: &HourlyStatsRow| {
            if (first..=last).contains(&hour) {
                UnflushedStats::add(&mut rows, hour, row);
            }
        };
        match of {
            StatsScope::Webhooks(webhooks) => {
                webhooks.iter().filter_map(|no| self.webhooks.get(no)).for_each(|row| add(self.hour, row));
            }
            StatsScope::Tenant(tenant) => self.tenants.get(tenant).into_iter().for_each(|row| add(self.hour, row)),
            StatsScope::AllTenants => self.tenants.values().for_each(|row| add(self.hour, row)),
        }
        for HourlyStats { hour, subject, row } in self.past.iter().chain(&*self.in_flush) {
            let is_wanted = match (of, subject) {
                (StatsScope::Webhooks(webhooks), StatsSubject::Webhook(no)) => webhooks.contains(no),
                (StatsScope::Tenant(name), StatsSubject::Tenant(tenant)) => **tenant == *name,
                (StatsScope::AllTenants, StatsSubject::Tenant(_)) => true,
                _ => false,
            };
            if is_wanted {
                add(*hour, row);
            }
        }
        UnflushedStats { number: self.number, rows }
    }

    /// Sets the current hour. Counts of another hour move to the past hours. The clock may go back.
    fn set_hour(&mut self, hour: Hour) {
        if self.hour != hour {
            self.close_hour();
            self.hour = hour;
        }
    }

    /// Moves the counts of the current hour to the past hours.
    fn close_hour(&mut self) {
        let hour = self.hour;
        let webhooks = self.webhooks.drain().map(|(no, row)| (StatsSubject::Webhook(no), row));
        let tenants = self.tenants.drain().map(|(name, row)| (StatsSubject::Tenant(name), row));
        self.past.extend(webhooks.chain(tenants).map(|(subject, row)| HourlyStats { hour, subject, row }));
    }
}

/// The shared copy of a name.
fn shared(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(shared) = names.get(name) {
        return Arc::clone(shared);
    }
    let shared: Arc<str> = name.into();
    names.insert(Arc::clone(&shared));
    shared
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::testing::World;
    use super::*;
    use crate::model::DeadReason;
    use crate::storage::delivery::testing::{attempt, failed};

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Per hour and event type of the last 24 hours: hours ago, type, delivered, failed, attempts.
    fn stats_rows(world: &World, of: StatsScope<'_>) -> Vec<(i64, String, u32, u32, u64)> {
        let last = Hour::of(world.clock.now());
        let rows = world.records.hourly_stats(of, last.before(STATS_HOURS), last).unwrap();
        let mut stats_rows = Vec::new();
        for (hour, row) in &rows {
            let ago = (last.start().as_millis() - hour.start().as_millis()) / 3_600_000;
            let row = row.types().map(|(name, f)| (ago, name.to_owned(), f.delivered, f.failed, f.attempts()));
            stats_rows.extend(row);
        }
        stats_rows
    }

    fn row(ago: i64, name: &str, delivered: u32, failed: u32, attempts: u64) -> (i64, String, u32, u32, u64) {
        (ago, name.to_owned(), delivered, failed, attempts)
    }

    const ONE: StatsScope<'_> = StatsScope::Webhooks(&[WebhookNo(1)]);

    #[tokio::test(start_paused = true)]
    async fn counts_are_visible_before_and_after_the_flush_and_after_a_restart() {
        let mut world = World::new();
        let deliver = |world: &mut World, webhook| {
            let event = world.announce(&[webhook]);
            world.settle(webhook, event, Some(attempt(1)), Decision::Delivered);
        };
        deliver(&mut world, 1);
        deliver(&mut world, 2);
        let one = [row(0, "order.created", 1, 0, 1)];
        assert_eq!(stats_rows(&world, ONE), one, "from memory");
        world.flush();
        assert_eq!(stats_rows(&world, ONE), one, "from the disk, once");
        let event = world.announce(&[1]);
        world.retry(1, event, 1, HOUR);
        world.settle(1, event, Some(failed(2, 500)), Decision::Dead(DeadReason::Exhausted));
        let both = [row(0, "order.created", 1, 1, 3)];
        assert_eq!(stats_rows(&world, ONE), both, "from both");
        let mut world = world.reopen();
        assert_eq!(stats_rows(&world, ONE), both);
        assert_eq!(stats_rows(&world, StatsScope::Tenant("default")), [row(0, "order.created", 2, 1, 4)]);
        assert_eq!(stats_rows(&world, StatsScope::AllTenants), [row(0, "order.created", 2, 1, 4)]);
        assert_eq!(stats_rows(&world, StatsScope::Tenant("other")), []);
        assert_eq!(
            stats_rows(&world, StatsScope::Webhooks(&[WebhookNo(1), WebhookNo(2)])),
            [row(0, "order.created", 2, 1, 4)]
        );
        // A crash forgets what was not flushed, and nothing else.
        deliver(&mut world, 1);
        let world = world.crash();
        assert_eq!(stats_rows(&world, ONE), both);
    }

    #[tokio::test(start_paused = true)]
    async fn hours_are_kept_in_order_and_old_hours_are_deleted() {
        let mut world = World::new();
        for event_type in ["a", "b"] {
            let event = world.announce(&[1]);
            world.settle_of(event_type, 1, event, Some(attempt(1)), Decision::Delivered);
            tokio::time::advance(HOUR).await;
        }
        assert_eq!(
            stats_rows(&world, ONE),
            [row(2, "a", 1, 0, 1), row(1, "b", 1, 0, 1)],
            "the hour before is still in memory"
        );
        world.flush();
        assert_eq!(stats_rows(&world, ONE), [row(2, "a", 1, 0, 1), row(1, "b", 1, 0, 1)]);
        tokio::time::advance(23 * HOUR).await;
        let event = world.announce(&[1]);
        world.settle_of("c", 1, event, Some(attempt(1)), Decision::Delivered);
        world.flush();
        assert_eq!(stats_rows(&world, ONE), [row(24, "b", 1, 0, 1), row(0, "c", 1, 0, 1)]);
        let rows = world.reader.counts().unwrap().hours;
        assert_eq!(rows, 4, "two hours of a webhook and of its tenant");
    }

    #[tokio::test(start_paused = true)]
    async fn a_delivery_without_an_attempt_is_not_counted_by_event_type() {
        let mut world = World::new();
        let event = world.announce(&[1]);
        world.settle(1, event, None, Decision::Dead(DeadReason::Disabled));
        world.flush();
        assert_eq!(stats_rows(&world, ONE), []);
        assert_eq!(world.records.stats(WebhookNo(1)).dead, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn rows_of_many_webhooks_wait_for_the_interval_and_a_stop_writes_all() {
        let mut world = World::new();
        let deliver = |world: &mut World, webhooks: std::ops::Range<u32>| {
            for webhook in webhooks {
                let event = world.announce(&[webhook]);
                world.settle(webhook, event, Some(attempt(1)), Decision::Delivered);
            }
        };
        let on_disk = |world: &World| world.reader.counts().unwrap().hours;
        let many = ROWS_PER_FLUSH as u32 + 1;
        tokio::time::advance(INTERVAL).await;
        deliver(&mut world, 0..1);
        world.flush();
        assert_eq!(on_disk(&world), 2);
        deliver(&mut world, 0..many);
        world.flush();
        assert_eq!(on_disk(&world), 2, "too many for this flush");
        assert_eq!(
            stats_rows(&world, StatsScope::AllTenants),
            [row(0, "order.created", many + 1, 0, u64::from(many) + 1)]
        );
        tokio::time::advance(INTERVAL).await;
        deliver(&mut world, 0..1);
        world.flush();
        assert_eq!(on_disk(&world), u64::from(many) + 1);
        deliver(&mut world, 0..many);
        let world = world.reopen();
        let all = 2 * many + 2;
        assert_eq!(stats_rows(&world, StatsScope::AllTenants), [row(0, "order.created", all, 0, u64::from(all))]);
    }

    #[test]
    fn a_concurrent_reader_counts_each_delivery_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _within = runtime.enter();
        let mut world = World::new();
        let (records, done) = (world.records.clone(), AtomicU32::new(0));
        let hour = Hour::of(world.clock.now());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                loop {
                    let before = done.load(Ordering::Acquire);
                    let rows = records.hourly_stats(ONE, hour, hour).unwrap();
                    let seen = rows.get(&hour).map_or(0, |row| row.sum().delivered);
                    assert!((before..=done.load(Ordering::Acquire) + 1).contains(&seen), "{seen} of {before}");
                    if before == 300 {
                        return;
                    }
                }
            });
            for n in 1..=300 {
                let event = world.announce(&[1]);
                world.settle(1, event, Some(attempt(1)), Decision::Delivered);
                done.store(n, Ordering::Release);
                world.flush();
            }
            reader.join().unwrap();
        });
    }
}
