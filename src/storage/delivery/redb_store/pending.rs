//! The tables of rows: deliveries that wait on disk. `pending` contains every row, `due` indexes the rows that wait for
//! a time.
//!
//! A row with a due time has exactly one entry in `due`, which is created and deleted in the same transaction.

use std::ops::Bound;

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::table::{DUE, DeliveryKey, PENDING, TimeKey, delivery, due_key, key};
use crate::model::{EventId, WebhookNo};
use crate::storage::delivery::rows::PendingRow;

/// The tables of rows, open for writing.
pub(super) struct PendingTables<'txn> {
    pending: Table<'txn, &'static DeliveryKey, &'static [u8; 12]>,
    due: Table<'txn, &'static TimeKey, (u16, u16)>,
}

impl<'txn> PendingTables<'txn> {
    /// Opens the tables, and creates missing ones.
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, Error> {
        Ok(Self { pending: txn.open_table(PENDING)?, due: txn.open_table(DUE)? })
    }

    /// Writes a row. Replaces an existing one.
    pub(super) fn put(&mut self, webhook: WebhookNo, event: EventId, row: PendingRow) -> Result<(), Error> {
        let key = key(webhook, event);
        let old = self.pending.insert(&key, &row.encode())?.map(|old| PendingRow::decode(old.value()));
        if let Some(at) = old.and_then(|old| old.due).filter(|at| row.due != Some(*at)) {
            self.due.remove(&due_key(webhook, at, event))?;
        }
        if let Some(at) = row.due {
            self.due.insert(&due_key(webhook, at, event), (row.attempts, row.base))?;
        }
        Ok(())
    }

    /// Writes a row if there is none. Returns whether it did.
    pub(super) fn put_new(&mut self, webhook: WebhookNo, event: EventId, row: PendingRow) -> Result<bool, Error> {
        let key = key(webhook, event);
        let old = self.pending.insert(&key, &row.encode())?.map(|old| *old.value());
        if let Some(old) = old {
            self.pending.insert(&key, &old)?;
            return Ok(false);
        }
        if let Some(at) = row.due {
            self.due.insert(&due_key(webhook, at, event), (row.attempts, row.base))?;
        }
        Ok(true)
    }

    /// Deletes a row. Returns it, or `None` if there was none.
    pub(super) fn remove(&mut self, webhook: WebhookNo, event: EventId) -> Result<Option<PendingRow>, Error> {
        let old = self.pending.remove(&key(webhook, event))?.map(|old| PendingRow::decode(old.value()));
        if let Some(at) = old.and_then(|old| old.due) {
            self.due.remove(&due_key(webhook, at, event))?;
        }
        Ok(old)
    }

    /// Returns the row, or `None` if there is none.
    pub(super) fn get(&self, webhook: WebhookNo, event: EventId) -> Result<Option<PendingRow>, Error> {
        Ok(self.pending.get(&key(webhook, event))?.map(|row| PendingRow::decode(row.value())))
    }

    /// Returns the rows at or after a key, at most `limit`, up to the first key that is not `query`.
    pub(super) fn from(
        &self,
        from: &DeliveryKey,
        limit: usize,
        query: impl Fn(&DeliveryKey) -> bool,
    ) -> Result<Vec<(DeliveryKey, PendingRow)>, Error> {
        let mut rows = Vec::new();
        for entry in self.pending.range::<&DeliveryKey>((Bound::Included(from), Bound::Unbounded))?.take(limit) {
            let (key, row) = entry?;
            if !query(key.value()) {
                break;
            }
            rows.push((*key.value(), PendingRow::decode(row.value())));
        }
        Ok(rows)
    }

    /// Calls [`between`] for the table `pending`.
    pub(super) fn between(
        &self,
        from: &DeliveryKey,
        first: EventId,
        last: EventId,
        mut visit: impl FnMut(WebhookNo, EventId) -> bool,
    ) -> Result<(), Error> {
        between(&self.pending, from, first, last, |webhook, event, _| visit(webhook, event))
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> Result<u64, Error> {
        Ok(self.pending.len()?)
    }
}

/// Visits the keys (webhook, event) of a table with an event from `first` to `last`, beginning at the key `from`, until
/// `visit` returns `false`. Skips from webhook to webhook: each key costs one lookup, and each webhook without such a
/// key one or two.
pub(super) fn between<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static DeliveryKey, V>,
    from: &DeliveryKey,
    first: EventId,
    last: EventId,
    mut visit: impl FnMut(WebhookNo, EventId, V::SelfType<'_>) -> bool,
) -> Result<(), Error> {
    let mut from = *from;
    'seek: loop {
        for entry in table.range::<&DeliveryKey>(&from..)? {
            let (key_at, value) = entry?;
            let at = delivery(key_at.value());
            if at.event < first {
                from = key(at.webhook, first);
                continue 'seek;
            }
            if at.event > last {
                let Some(no) = at.webhook.0.checked_add(1) else { return Ok(()) };
                from = key(WebhookNo(no), first);
                continue 'seek;
            }
            if !visit(at.webhook, at.event, value.value()) {
                return Ok(());
            }
        }
        return Ok(());
    }
}

/// Implements [`crate::storage::delivery::DeliveryReader::oldest`].
pub(super) fn oldest(txn: &ReadTransaction, webhooks: usize) -> Result<Option<EventId>, Error> {
    let pending = txn.open_table(PENDING)?;
    let mut oldest: Option<EventId> = None;
    let mut from = Some(WebhookNo(0));
    for _ in 0..webhooks {
        let Some(at) = from else { break };
        let Some(entry) = pending.range::<&DeliveryKey>(&key(at, EventId::MIN)..)?.next() else { break };
        let first = delivery(entry?.0.value());
        oldest = Some(oldest.map_or(first.event, |event| event.min(first.event)));
        from = first.webhook.0.checked_add(1).map(WebhookNo);
    }
    Ok(oldest)
}

/// Returns the key directly after a row, for a cursor.
pub(super) fn behind(webhook: WebhookNo, event: EventId) -> DeliveryKey {
    key(webhook, event.next())
}
