//! Figures by hour, of each webhook and of each tenant.
//!
//! Key: u32 hour, u8 kind, then the webhook's number (u32) or the tenant's name; big-endian. A write adds to the rows that
//! are there. It carries a number, which rises: by it a reader knows whether what it saw in memory is on the disk already.

use std::collections::BTreeMap;

use redb::{Error, ReadTransaction, ReadableTable, Table, WriteTransaction};

use super::table::{HOURS, META};
use crate::limits::FIGURES_FORGOTTEN;
use crate::model::WebhookNo;
use crate::storage::delivery::{FiguresAdded, FiguresOf, Hour, HourFigures, HourRow, Recent, Subject, part};

/// Of [`META`]: the number of the last write.
const NUMBER: &str = "figures";
const KIND_TENANT: u8 = 0;
const KIND_WEBHOOK: u8 = 1;
/// Bytes of a key before the tenant's name.
const KEY_FIXED: usize = 5;

/// Adds figures to the rows on the disk, and forgets hours that are over for long.
pub(super) fn add(txn: &WriteTransaction, figures: &FiguresAdded) -> Result<(), Error> {
    let mut table = txn.open_table(HOURS)?;
    forget(&mut table, figures.forgotten_before)?;
    let mut keyed: Vec<_> = figures.rows.iter().map(|added| (key(added), added)).collect();
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut bytes = Vec::new();
    for (key, added) in keyed {
        let before = table.get(key.as_slice())?.and_then(|row| HourRow::decode(row.value()));
        match before {
            None => added.row.encode(&mut bytes),
            Some(mut sum) => {
                sum.merge(&added.row, added.subject.types_max());
                sum.encode(&mut bytes);
            }
        }
        table.insert(key.as_slice(), bytes.as_slice())?;
    }
    txn.open_table(META)?.insert(NUMBER, figures.number.to_le_bytes().as_slice())?;
    Ok(())
}

/// See [`crate::storage::delivery::DeliveryReader::figures`].
pub(super) fn read(
    txn: &ReadTransaction,
    of: FiguresOf<'_>,
    first: Hour,
    last: Hour,
    recent: &Recent,
) -> Result<BTreeMap<Hour, HourRow>, Error> {
    let mut rows = if number(txn)? >= recent.number { BTreeMap::new() } else { recent.rows.clone() };
    let table = txn.open_table(HOURS)?;
    let mut add = |hour, bytes: &[u8]| {
        if let Some(row) = HourRow::decode(bytes) {
            Recent::add(&mut rows, hour, &row);
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

/// The number of the last write.
pub(super) fn number(txn: &ReadTransaction) -> Result<u64, Error> {
    Ok(txn.open_table(META)?.get(NUMBER)?.map_or(0, |bytes| u64::from_le_bytes(part(bytes.value(), 0))))
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

fn key(added: &HourFigures) -> Vec<u8> {
    match &added.subject {
        Subject::Webhook(webhook) => webhook_key(added.hour, *webhook),
        Subject::Tenant(tenant) => tenant_key(added.hour, tenant),
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
