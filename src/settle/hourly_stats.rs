//! Figures by hour, of each webhook and of each tenant, in memory: only what the last flushes did not take, so that a
//! webhook that has nothing delivered takes none. state.redb has the rest.
//!
//! A flush adds what was counted to the rows there are. With very many of them it does so every so often instead, as
//! [`super::stats`] does: a crash then forgets some of the count, never a delivery.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::handoff::Settled;
use crate::limits::{FIGURES_HOURS, FIGURES_TENANT_TYPES_MAX, FIGURES_WEBHOOK_TYPES_MAX};
use crate::model::{Decision, EventHead, Timestamp, WebhookNo};
use crate::storage::delivery::{Ended, FiguresAdded, FiguresOf, Hour, HourFigures, HourRow, Recent, Subject};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hours {
    /// The number of the next write.
    number: u64,
    hour: Hour,
    webhooks: HashMap<WebhookNo, HourRow>,
    tenants: HashMap<Arc<str>, HourRow>,
    /// Of hours before `hour`.
    past: Vec<HourFigures>,
    /// What a flush under way writes. Readers still find it here: it may not be on the disk yet.
    in_flush: Arc<Vec<HourFigures>>,
    /// Names of tenants and types, shared by the rows.
    names: HashSet<Arc<str>>,
    taken: Timestamp,
}

/// Up to this many rows go with each flush …
const ROWS_PER_FLUSH: usize = 64;
/// … more wait for this long, and as long again for each [`ROWS_PER_INTERVAL`].
const INTERVAL: Duration = Duration::from_secs(10);
const ROWS_PER_INTERVAL: usize = 16_384;
/// Names that are shared at once.
const NAMES_MAX: usize = 4_096;

impl Hours {
    /// Goes on behind the write of this number.
    pub(super) fn after(number: u64) -> Self {
        Self { number: number + 1, ..Self::default() }
    }

    /// Counts attempts and what they ended; `now` is of the wall clock.
    pub(super) fn count(&mut self, settled: &[Settled], now: Timestamp) {
        self.turn(Hour::of(now));
        let Self { webhooks, tenants, names, .. } = self;
        for outcome in settled {
            let (Some(attempt), Ok((tenant, event_type))) = (&outcome.attempt, EventHead::labels(&outcome.head)) else {
                continue;
            };
            let ended = match outcome.decision {
                Decision::Delivered => Ended::Delivered,
                Decision::Retry { .. } => Ended::NotYet,
                Decision::Dead(_) => Ended::Dead,
            };
            let row = webhooks.entry(outcome.webhook).or_default();
            let figures = row.of(event_type, FIGURES_WEBHOOK_TYPES_MAX, |name| shared(names, name));
            figures.count(attempt.number, attempt.latency, ended);
            let row = match tenants.get_mut(tenant) {
                Some(row) => row,
                None => tenants.entry(shared(names, tenant)).or_default(),
            };
            let figures = row.of(event_type, FIGURES_TENANT_TYPES_MAX, |name| shared(names, name));
            figures.count(attempt.number, attempt.latency, ended);
        }
    }

    /// Moves what was counted into a flush, unless it is much and was moved lately; `all`: whatever it is. `wall` is of the
    /// wall clock.
    pub(super) fn take(&mut self, now: Timestamp, wall: Timestamp, all: bool) -> Option<FiguresAdded> {
        let rows = self.webhooks.len() + self.tenants.len() + self.past.len();
        let interval = INTERVAL.saturating_mul(1 + (rows / ROWS_PER_INTERVAL) as u32);
        let is_much = rows > ROWS_PER_FLUSH && now.since(self.taken) < interval;
        if rows == 0 || (is_much && !all) {
            return None;
        }
        self.pass();
        self.in_flush = Arc::new(mem::take(&mut self.past));
        self.taken = now;
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        let forgotten_before = Hour::of(wall).before(FIGURES_HOURS);
        Some(FiguresAdded { number: self.number, rows: Arc::clone(&self.in_flush), forgotten_before })
    }

    /// What [`Hours::take`] gave is durable.
    pub(super) fn flushed(&mut self) {
        self.number += 1;
        self.in_flush = Arc::default();
    }

    /// What was counted in these hours, both included, and may not be on the disk.
    pub(super) fn recent(&self, of: FiguresOf<'_>, first: Hour, last: Hour) -> Recent {
        let mut rows = BTreeMap::new();
        let mut add = |hour: Hour, row: &HourRow| {
            if (first..=last).contains(&hour) {
                Recent::add(&mut rows, hour, row);
            }
        };
        match of {
            FiguresOf::Webhooks(webhooks) => {
                webhooks.iter().filter_map(|no| self.webhooks.get(no)).for_each(|row| add(self.hour, row));
            }
            FiguresOf::Tenant(tenant) => self.tenants.get(tenant).into_iter().for_each(|row| add(self.hour, row)),
            FiguresOf::Everybody => self.tenants.values().for_each(|row| add(self.hour, row)),
        }
        for HourFigures { hour, subject, row } in self.past.iter().chain(&*self.in_flush) {
            let is_wanted = match (of, subject) {
                (FiguresOf::Webhooks(webhooks), Subject::Webhook(no)) => webhooks.contains(no),
                (FiguresOf::Tenant(name), Subject::Tenant(tenant)) => **tenant == *name,
                (FiguresOf::Everybody, Subject::Tenant(_)) => true,
                _ => false,
            };
            if is_wanted {
                add(*hour, row);
            }
        }
        Recent { number: self.number, rows }
    }

    /// The hour it is: what was counted in another one is of the past. The clock may go back.
    fn turn(&mut self, hour: Hour) {
        if self.hour != hour {
            self.pass();
            self.hour = hour;
        }
    }

    /// Moves what was counted in this hour to the past.
    fn pass(&mut self) {
        let hour = self.hour;
        let webhooks = self.webhooks.drain().map(|(no, row)| (Subject::Webhook(no), row));
        let tenants = self.tenants.drain().map(|(name, row)| (Subject::Tenant(name), row));
        self.past.extend(webhooks.chain(tenants).map(|(subject, row)| HourFigures { hour, subject, row }));
    }
}

/// The one text for a name.
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

    /// Each hour's types with delivered, failed and attempts, of the last 24 hours.
    fn told(world: &World, of: FiguresOf<'_>) -> Vec<(i64, String, u32, u32, u64)> {
        let last = Hour::of(world.clock.now());
        let rows = world.records.figures(of, last.before(FIGURES_HOURS), last).unwrap();
        let mut told = Vec::new();
        for (hour, row) in &rows {
            let ago = (last.start().as_millis() - hour.start().as_millis()) / 3_600_000;
            let row = row.types().map(|(name, f)| (ago, name.to_owned(), f.delivered, f.failed, f.attempts()));
            told.extend(row);
        }
        told
    }

    fn row(ago: i64, name: &str, delivered: u32, failed: u32, attempts: u64) -> (i64, String, u32, u32, u64) {
        (ago, name.to_owned(), delivered, failed, attempts)
    }

    const ONE: FiguresOf<'_> = FiguresOf::Webhooks(&[WebhookNo(1)]);

    #[tokio::test(start_paused = true)]
    async fn what_is_counted_is_told_before_and_after_it_is_written_and_after_a_restart() {
        let mut world = World::new();
        let deliver = |world: &mut World, webhook| {
            let event = world.announce(&[webhook]);
            world.settle(webhook, event, Some(attempt(1)), Decision::Delivered);
        };
        deliver(&mut world, 1);
        deliver(&mut world, 2);
        let one = [row(0, "order.created", 1, 0, 1)];
        assert_eq!(told(&world, ONE), one, "from memory");
        world.flush();
        assert_eq!(told(&world, ONE), one, "from the disk, once");
        let event = world.announce(&[1]);
        world.retry(1, event, 1, HOUR);
        world.settle(1, event, Some(failed(2, 500)), Decision::Dead(DeadReason::Exhausted));
        let both = [row(0, "order.created", 1, 1, 3)];
        assert_eq!(told(&world, ONE), both, "from both");
        let mut world = world.reopen();
        assert_eq!(told(&world, ONE), both);
        assert_eq!(told(&world, FiguresOf::Tenant("default")), [row(0, "order.created", 2, 1, 4)]);
        assert_eq!(told(&world, FiguresOf::Everybody), [row(0, "order.created", 2, 1, 4)]);
        assert_eq!(told(&world, FiguresOf::Tenant("other")), []);
        assert_eq!(
            told(&world, FiguresOf::Webhooks(&[WebhookNo(1), WebhookNo(2)])),
            [row(0, "order.created", 2, 1, 4)]
        );
        // A crash forgets what was not flushed, and nothing else.
        deliver(&mut world, 1);
        let world = world.crash();
        assert_eq!(told(&world, ONE), both);
    }

    #[tokio::test(start_paused = true)]
    async fn hours_follow_each_other_and_old_ones_are_forgotten() {
        let mut world = World::new();
        for event_type in ["a", "b"] {
            let event = world.announce(&[1]);
            world.settle_of(event_type, 1, event, Some(attempt(1)), Decision::Delivered);
            tokio::time::advance(HOUR).await;
        }
        assert_eq!(
            told(&world, ONE),
            [row(2, "a", 1, 0, 1), row(1, "b", 1, 0, 1)],
            "the hour before is still in memory"
        );
        world.flush();
        assert_eq!(told(&world, ONE), [row(2, "a", 1, 0, 1), row(1, "b", 1, 0, 1)]);
        tokio::time::advance(23 * HOUR).await;
        let event = world.announce(&[1]);
        world.settle_of("c", 1, event, Some(attempt(1)), Decision::Delivered);
        world.flush();
        assert_eq!(told(&world, ONE), [row(24, "b", 1, 0, 1), row(0, "c", 1, 0, 1)]);
        let rows = world.reader.counts().unwrap().hours;
        assert_eq!(rows, 4, "two hours of a webhook and of its tenant");
    }

    #[tokio::test(start_paused = true)]
    async fn what_had_no_attempt_is_in_no_figure_of_a_type() {
        let mut world = World::new();
        let event = world.announce(&[1]);
        world.settle(1, event, None, Decision::Dead(DeadReason::Disabled));
        world.flush();
        assert_eq!(told(&world, ONE), []);
        assert_eq!(world.records.stats(WebhookNo(1)).dead, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn many_webhooks_wait_for_their_turn_and_a_stop_writes_all() {
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
        assert_eq!(told(&world, FiguresOf::Everybody), [row(0, "order.created", many + 1, 0, u64::from(many) + 1)]);
        tokio::time::advance(INTERVAL).await;
        deliver(&mut world, 0..1);
        world.flush();
        assert_eq!(on_disk(&world), u64::from(many) + 1);
        deliver(&mut world, 0..many);
        let world = world.reopen();
        let all = 2 * many + 2;
        assert_eq!(told(&world, FiguresOf::Everybody), [row(0, "order.created", all, 0, u64::from(all))]);
    }

    #[test]
    fn a_reader_beside_the_writer_sees_each_delivery_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _within = runtime.enter();
        let mut world = World::new();
        let (records, done) = (world.records.clone(), AtomicU32::new(0));
        let hour = Hour::of(world.clock.now());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                loop {
                    let before = done.load(Ordering::Acquire);
                    let rows = records.figures(ONE, hour, hour).unwrap();
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
