//! Figures by hour, of each webhook and of each tenant. state.redb has them; memory has only what the last flushes did not
//! write, so that a webhook that has nothing delivered takes none.
//!
//! A flush reads the rows that it adds to. With very many of them it does so every so often instead, as [`super::stats`] does:
//! a crash then forgets some of the count, never a delivery. What is written carries a number, which rises: by it a reader
//! knows whether what it saw in memory is on the disk already.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redb::{Error, ReadTransaction, ReadableTable, Table, WriteTransaction};

use super::figures::{Ended, Hour, HourRow};
use super::store::Store;
use super::table::{HOURS, META, part};
use super::Settled;
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
pub(super) struct Hours(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
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
        let inner = Inner { generation: generation(txn)? + 1, ..Inner::default() };
        Ok(Self(Mutex::new(inner)))
    }

    /// Counts attempts and what they ended; `now` is of the wall clock.
    pub(super) fn count(&self, settled: &[Settled], now: Timestamp) {
        let mut guard = self.lock();
        guard.turn(Hour::of(now));
        let Inner { webhooks, tenants, names, .. } = &mut *guard;
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
            if !tenants.contains_key(tenant) {
                tenants.insert(shared(names, tenant), HourRow::default());
            }
            if let Some(row) = tenants.get_mut(tenant) {
                let figures = row.of(event_type, FIGURES_TENANT_TYPES_MAX, |name| shared(names, name));
                figures.count(attempt.number, attempt.latency, ended);
            }
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
        let inner = self.lock();
        let rows = inner.webhooks.len() + inner.tenants.len() + inner.past.len();
        let interval = INTERVAL.saturating_mul(1 + (rows / ROWS_PER_INTERVAL) as u32);
        let much = rows > ROWS_PER_FLUSH && now.since(inner.written) < interval;
        if rows == 0 || (much && !all) {
            return Ok(false);
        }
        let mut table = txn.open_table(HOURS)?;
        forget(&mut table, Hour::of(wall).before(FIGURES_HOURS))?;
        let mut keyed: Vec<_> = inner.rows().map(|(key, types_max, row)| (key, types_max, row)).collect();
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
        txn.open_table(META)?.insert(GENERATION, inner.generation.to_le_bytes().as_slice())?;
        Ok(true)
    }

    /// Notes that what [`Hours::write`] wrote is durable.
    pub(super) fn written(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.generation += 1;
        inner.written = now;
        inner.webhooks.clear();
        inner.tenants.clear();
        inner.past.clear();
        if inner.names.len() > NAMES_MAX {
            inner.names.clear();
        }
    }

    /// The figures of these hours, both included; an hour without any is not there.
    pub(super) fn read(
        &self,
        store: &Store,
        of: FiguresOf<'_>,
        first: Hour,
        last: Hour,
    ) -> Result<BTreeMap<Hour, HourRow>, Error> {
        // Memory first: what is written between is on the disk, by its number.
        let (number, recent) = self.recent(of, first, last);
        store.read(|txn| {
            let mut rows = if generation(txn)? >= number { BTreeMap::new() } else { recent.clone() };
            let table = txn.open_table(HOURS)?;
            let mut add = |hour, bytes: &[u8]| match HourRow::decode(bytes) {
                Some(row) => merge(&mut rows, hour, &row),
                None => tracing::warn!("figures of an hour cannot be read; they are left out"),
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
        })
    }

    fn recent(&self, of: FiguresOf<'_>, first: Hour, last: Hour) -> (u64, BTreeMap<Hour, HourRow>) {
        let inner = self.lock();
        let mut rows = BTreeMap::new();
        let mut add = |hour: Hour, row: &HourRow| {
            if (first..=last).contains(&hour) {
                merge(&mut rows, hour, row);
            }
        };
        match of {
            FiguresOf::Webhooks(webhooks) => {
                webhooks.iter().filter_map(|no| inner.webhooks.get(no)).for_each(|row| add(inner.hour, row));
            }
            FiguresOf::Tenant(tenant) => inner.tenants.get(tenant).into_iter().for_each(|row| add(inner.hour, row)),
            FiguresOf::Everybody => inner.tenants.values().for_each(|row| add(inner.hour, row)),
        }
        for (hour, subject, row) in &inner.past {
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
        (inner.generation, rows)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
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
