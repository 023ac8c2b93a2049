//! Figures by hour, of each webhook and of each tenant. state.redb has them; memory has only what the last flushes did not
//! write, so that a webhook that has nothing delivered takes none.
//!
//! A flush reads the rows that it adds to. With very many of them it does so every so often instead, as [`super::stats`] does:
//! a crash then forgets some of the count, never a delivery. What is written carries a number, which rises: by it a reader
//! knows whether what it saw in memory is on the disk already.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use redb::{Error, ReadTransaction, ReadableTable, Table, WriteTransaction};

use super::figures::{Ended, Hour, HourRow};
use super::table::{HOURS, META, part};
use crate::handoff::Settled;
use crate::limits::{
    FIGURES_FORGOTTEN, FIGURES_HOURS, FIGURES_SHOWN_TYPES_MAX, FIGURES_TENANT_TYPES_MAX, FIGURES_WEBHOOK_TYPES_MAX,
};
use crate::model::{Decision, EventHead, Timestamp, WebhookNo};

/// Whose figures.
#[derive(Debug, Clone, Copy)]
pub enum FiguresOf<'a> {
    /// These webhooks', together.
    Webhooks(&'a [WebhookNo]),
    /// A tenant's.
    Tenant(&'a str),
    /// All tenants', together.
    Everybody,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Hours {
    /// The number of the next write.
    generation: u64,
    hour: Hour,
    webhooks: HashMap<WebhookNo, HourRow>,
    tenants: HashMap<Arc<str>, HourRow>,
    /// Of hours before `hour`.
    past: Vec<(Hour, Subject, HourRow)>,
    /// Names of tenants and types, shared by the rows.
    names: HashSet<Arc<str>>,
    written: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Webhook(WebhookNo),
    Tenant(Arc<str>),
}

/// Of [`META`]: the number of the last write.
const GENERATION: &str = "figures";
/// Up to this many rows go with each flush …
const ROWS_PER_FLUSH: usize = 64;
/// … more wait for this long, and as long again for each [`ROWS_PER_INTERVAL`].
const INTERVAL: Duration = Duration::from_secs(10);
const ROWS_PER_INTERVAL: usize = 16_384;
/// Names that are shared at once.
const NAMES_MAX: usize = 4_096;
const KIND_TENANT: u8 = 0;
const KIND_WEBHOOK: u8 = 1;
/// Bytes of a key before the tenant's name.
const KEY_FIXED: usize = 5;

impl Hours {
    /// Ready to go on from what is on the disk.
    pub(super) fn load(txn: &ReadTransaction) -> Result<Self, Error> {
        Ok(Self { generation: generation(txn)? + 1, ..Self::default() })
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

    /// Adds what was counted to the rows on the disk, unless it is much and was written lately; `all`: whatever it is. Forgets
    /// hours that are over for long.
    pub(super) fn write(
        &self,
        txn: &WriteTransaction,
        now: Timestamp,
        wall: Timestamp,
        all: bool,
    ) -> Result<bool, Error> {
        let rows = self.webhooks.len() + self.tenants.len() + self.past.len();
        let interval = INTERVAL.saturating_mul(1 + (rows / ROWS_PER_INTERVAL) as u32);
        let much = rows > ROWS_PER_FLUSH && now.since(self.written) < interval;
        if rows == 0 || (much && !all) {
            return Ok(false);
        }
        let mut table = txn.open_table(HOURS)?;
        forget(&mut table, Hour::of(wall).before(FIGURES_HOURS))?;
        let mut keyed: Vec<_> = self.rows().collect();
        keyed.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut bytes = Vec::new();
        for (key, types_max, row) in keyed {
            let before = table.get(key.as_slice())?.and_then(|row| HourRow::decode(row.value()));
            match before {
                None => row.encode(&mut bytes),
                Some(mut sum) => {
                    sum.merge(row, types_max);
                    sum.encode(&mut bytes);
                }
            }
            table.insert(key.as_slice(), bytes.as_slice())?;
        }
        txn.open_table(META)?.insert(GENERATION, self.generation.to_le_bytes().as_slice())?;
        Ok(true)
    }

    /// Notes that what [`Hours::write`] wrote is durable.
    pub(super) fn written(&mut self, now: Timestamp) {
        self.generation += 1;
        self.written = now;
        self.webhooks.clear();
        self.tenants.clear();
        self.past.clear();
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
    }

    /// What was counted in these hours and is not on the disk, unless the disk has a write of this number.
    pub(super) fn recent(&self, of: FiguresOf<'_>, first: Hour, last: Hour) -> (u64, BTreeMap<Hour, HourRow>) {
        let mut rows = BTreeMap::new();
        let mut add = |hour: Hour, row: &HourRow| {
            if (first..=last).contains(&hour) {
                merge(&mut rows, hour, row);
            }
        };
        match of {
            FiguresOf::Webhooks(webhooks) => {
                webhooks.iter().filter_map(|no| self.webhooks.get(no)).for_each(|row| add(self.hour, row));
            }
            FiguresOf::Tenant(tenant) => self.tenants.get(tenant).into_iter().for_each(|row| add(self.hour, row)),
            FiguresOf::Everybody => self.tenants.values().for_each(|row| add(self.hour, row)),
        }
        for (hour, subject, row) in &self.past {
            let wanted = match (of, subject) {
                (FiguresOf::Webhooks(webhooks), Subject::Webhook(no)) => webhooks.contains(no),
                (FiguresOf::Tenant(name), Subject::Tenant(tenant)) => **tenant == *name,
                (FiguresOf::Everybody, Subject::Tenant(_)) => true,
                _ => false,
            };
            if wanted {
                add(*hour, row);
            }
        }
        (self.generation, rows)
    }

    /// The hour it is: what was counted in another one is of the past. The clock may go back.
    fn turn(&mut self, hour: Hour) {
        let before = mem::replace(&mut self.hour, hour);
        if before == hour {
            return;
        }
        let webhooks = self.webhooks.drain().map(|(no, row)| (before, Subject::Webhook(no), row));
        let tenants = self.tenants.drain().map(|(name, row)| (before, Subject::Tenant(name), row));
        self.past.extend(webhooks.chain(tenants));
    }

    /// Everything that is not on the disk, with its key and its bound of types.
    fn rows(&self) -> impl Iterator<Item = (Vec<u8>, usize, &HourRow)> {
        let webhook = |hour, no: WebhookNo, row| (webhook_key(hour, no), FIGURES_WEBHOOK_TYPES_MAX, row);
        let tenant = |hour, name: &str, row| (tenant_key(hour, name), FIGURES_TENANT_TYPES_MAX, row);
        let past = self.past.iter().map(move |(hour, subject, row)| match subject {
            Subject::Webhook(no) => webhook(*hour, *no, row),
            Subject::Tenant(name) => tenant(*hour, name, row),
        });
        let webhooks = self.webhooks.iter().map(move |(no, row)| webhook(self.hour, *no, row));
        past.chain(webhooks).chain(self.tenants.iter().map(move |(name, row)| tenant(self.hour, name, row)))
    }
}

/// The rows on the disk, with what memory had before they were read: `recent`, which is on the disk as well once it has the
/// write of this number.
pub(super) fn rows_on_disk(
    txn: &ReadTransaction,
    of: FiguresOf<'_>,
    (first, last): (Hour, Hour),
    number: u64,
    recent: &BTreeMap<Hour, HourRow>,
) -> Result<BTreeMap<Hour, HourRow>, Error> {
    let mut rows = if generation(txn)? >= number { BTreeMap::new() } else { recent.clone() };
    let table = txn.open_table(HOURS)?;
    let mut add = |hour, bytes: &[u8]| {
        if let Some(row) = HourRow::decode(bytes) {
            merge(&mut rows, hour, &row);
        } else {
            tracing::warn!("figures of an hour cannot be read; they are left out");
        }
    };
    for hour in first.to(last) {
        match of {
            FiguresOf::Webhooks(webhooks) => {
                for webhook in webhooks {
                    if let Some(row) = table.get(webhook_key(hour, *webhook).as_slice())? {
                        add(hour, row.value());
                    }
                }
            }
            FiguresOf::Tenant(tenant) => {
                if let Some(row) = table.get(tenant_key(hour, tenant).as_slice())? {
                    add(hour, row.value());
                }
            }
            FiguresOf::Everybody => {
                let (from, to) = (kind_key(hour, KIND_TENANT), kind_key(hour, KIND_WEBHOOK));
                for entry in table.range::<&[u8]>(from.as_slice()..to.as_slice())? {
                    add(hour, entry?.1.value());
                }
            }
        }
    }
    Ok(rows)
}

fn merge(rows: &mut BTreeMap<Hour, HourRow>, hour: Hour, row: &HourRow) {
    rows.entry(hour).or_default().merge(row, FIGURES_SHOWN_TYPES_MAX);
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

fn generation(txn: &ReadTransaction) -> Result<u64, Error> {
    Ok(txn.open_table(META)?.get(GENERATION)?.map_or(0, |bytes| u64::from_le_bytes(part(bytes.value(), 0))))
}

/// Forgets hours before this one.
fn forget(table: &mut Table<'_, &'static [u8], &'static [u8]>, before: Hour) -> Result<(), Error> {
    for _ in 0..FIGURES_FORGOTTEN {
        let is_over = table.first()?.is_some_and(|(key, _)| *key.value() < before.as_u32().to_be_bytes()[..]);
        if !is_over {
            break;
        }
        table.pop_first()?;
    }
    Ok(())
}

fn kind_key(hour: Hour, kind: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(KEY_FIXED + 4);
    key.extend_from_slice(&hour.as_u32().to_be_bytes());
    key.push(kind);
    key
}

fn webhook_key(hour: Hour, webhook: WebhookNo) -> Vec<u8> {
    let mut key = kind_key(hour, KIND_WEBHOOK);
    key.extend_from_slice(&webhook.0.to_be_bytes());
    key
}

fn tenant_key(hour: Hour, tenant: &str) -> Vec<u8> {
    let mut key = kind_key(hour, KIND_TENANT);
    key.extend_from_slice(tenant.as_bytes());
    key
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::super::testing::{World, attempt, failed};
    use super::*;
    use crate::model::DeadReason;

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
        let rows = world.records.state().read(|txn| Ok(txn.open_table(HOURS)?.iter()?.count())).unwrap();
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
        let on_disk =
            |world: &World| world.records.state().read(|txn| Ok(txn.open_table(HOURS)?.iter()?.count())).unwrap();
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
        assert_eq!(on_disk(&world), many as usize + 1);
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
