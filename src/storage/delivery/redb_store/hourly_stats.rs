//! The table of hourly statistics of each webhook and each tenant.
//!
//! Key (big-endian): u32 hour, u8 kind, then the webhook's number (u32) or the tenant's name. A write adds to the
//! existing rows. Each write has an increasing number, by which a reader knows whether the statistics in memory are
//! already on the disk.

use std::collections::BTreeMap;

use redb::{Error, ReadTransaction, ReadableTable, Table, WriteTransaction};

use super::table::{HOURLY_STATS, META};
use crate::limits::STATS_ROWS_DELETED_PER_FLUSH;
use crate::model::WebhookNo;
use crate::storage::delivery::{
    Hour, HourlyStats, HourlyStatsRow, HourlyStatsUpdate, StatsScope, StatsSubject, UnflushedStats, part,
};

/// The key in [`META`] of the number of the last write.
const NUMBER: &str = "figures";
const KIND_TENANT: u8 = 0;
const KIND_WEBHOOK: u8 = 1;
/// The length of a key before the webhook's number or the tenant's name.
const KEY_FIXED: usize = 5;

/// Adds statistics to the stored rows, and deletes old hours.
pub(super) fn add(txn: &WriteTransaction, update: &HourlyStatsUpdate) -> Result<(), Error> {
    let mut table = txn.open_table(HOURLY_STATS)?;
    forget(&mut table, update.forgotten_before)?;
    let mut keyed: Vec<_> = update.rows.iter().map(|added| (key(added), added)).collect();
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut bytes = Vec::new();
    for (key, added) in keyed {
        let before = table.get(key.as_slice())?.and_then(|row| HourlyStatsRow::decode(row.value()));
        match before {
            None => added.row.encode(&mut bytes),
            Some(mut sum) => {
                sum.merge(&added.row, added.subject.types_max());
                sum.encode(&mut bytes);
            }
        }
        table.insert(key.as_slice(), bytes.as_slice())?;
    }
    txn.open_table(META)?.insert(NUMBER, update.number.to_le_bytes().as_slice())?;
    Ok(())
}

/// Implements [`crate::storage::delivery::DeliveryReader::hourly_stats`].
pub(super) fn read(
    txn: &ReadTransaction,
    of: StatsScope<'_>,
    first: Hour,
    last: Hour,
    recent: &UnflushedStats,
) -> Result<BTreeMap<Hour, HourlyStatsRow>, Error> {
    let mut rows = if number(txn)? >= recent.number { BTreeMap::new() } else { recent.rows.clone() };
    let table = txn.open_table(HOURLY_STATS)?;
    let mut add = |hour, bytes: &[u8]| {
        if let Some(row) = HourlyStatsRow::decode(bytes) {
            UnflushedStats::add(&mut rows, hour, &row);
        } else {
            tracing::warn!("figures of an hour cannot be read; they are left out");
        }
    };
    for hour in first.to(last) {
        match of {
            StatsScope::Webhooks(webhooks) => {
                for webhook in webhooks {
                    if let Some(row) = table.get(webhook_key(hour, *webhook).as_slice())? {
                        add(hour, row.value());
                    }
                }
            }
            StatsScope::Tenant(tenant) => {
                if let Some(row) = table.get(tenant_key(hour, tenant).as_slice())? {
                    add(hour, row.value());
                }
            }
            StatsScope::AllTenants => {
                let (from, to) = (kind_key(hour, KIND_TENANT), kind_key(hour, KIND_WEBHOOK));
                for entry in table.range::<&[u8]>(from.as_slice()..to.as_slice())? {
                    add(hour, entry?.1.value());
                }
            }
        }
    }
    Ok(rows)
}

/// Returns the number of the last write, or 0 without one.
pub(super) fn number(txn: &ReadTransaction) -> Result<u64, Error> {
    Ok(txn.open_table(META)?.get(NUMBER)?.map_or(0, |bytes| u64::from_le_bytes(part(bytes.value(), 0))))
}

/// Deletes rows of hours before this one, at most [`STATS_ROWS_DELETED_PER_FLUSH`].
fn forget(table: &mut Table<'_, &'static [u8], &'static [u8]>, before: Hour) -> Result<(), Error> {
    for _ in 0..STATS_ROWS_DELETED_PER_FLUSH {
        let is_over = table.first()?.is_some_and(|(key, _)| *key.value() < before.as_u32().to_be_bytes()[..]);
        if !is_over {
            break;
        }
        table.pop_first()?;
    }
    Ok(())
}

fn key(added: &HourlyStats) -> Vec<u8> {
    match &added.subject {
        StatsSubject::Webhook(webhook) => webhook_key(added.hour, *webhook),
        StatsSubject::Tenant(tenant) => tenant_key(added.hour, tenant),
    }
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
