//! Rows: deliveries that wait on disk. `pending` is the authority; `due` holds those of them that wait for a time.
//!
//! A row with a due time has exactly one entry in `due`, made and removed in the same transaction.

use std::ops::Bound;

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::table::{DUE, Key, PENDING, TimeKey, delivery, due_key, key};
use crate::model::{EventId, WebhookNo};
use crate::storage::delivery::rows::PendingRow;

/// The tables, open for writing.
pub(super) struct Rows<'txn> {
    pending: Table<'txn, &'static Key, &'static [u8; 12]>,
    due: Table<'txn, &'static TimeKey, (u16, u16)>,
}

impl<'txn> Rows<'txn> {
    /// Opens the tables, made if they are not there.
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, Error> {
        Ok(Self { pending: txn.open_table(PENDING)?, due: txn.open_table(DUE)? })
    }

    /// Writes a row over any that is there.
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

    /// Writes a row if none is there; whether it did.
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

    /// Removes a row.
    pub(super) fn remove(&mut self, webhook: WebhookNo, event: EventId) -> Result<Option<PendingRow>, Error> {
        let old = self.pending.remove(&key(webhook, event))?.map(|old| PendingRow::decode(old.value()));
        if let Some(at) = old.and_then(|old| old.due) {
            self.due.remove(&due_key(webhook, at, event))?;
        }
        Ok(old)
    }

    /// The row, if there is one.
    pub(super) fn get(&self, webhook: WebhookNo, event: EventId) -> Result<Option<PendingRow>, Error> {
        Ok(self.pending.get(&key(webhook, event))?.map(|row| PendingRow::decode(row.value())))
    }

    /// The first rows at or after this key, at most `limit`, for as long as `wanted` says.
    pub(super) fn from(
        &self,
        from: &Key,
        limit: usize,
        wanted: impl Fn(&Key) -> bool,
    ) -> Result<Vec<(Key, PendingRow)>, Error> {
        let mut rows = Vec::new();
        for entry in self.pending.range::<&Key>((Bound::Included(from), Bound::Unbounded))?.take(limit) {
            let (key, row) = entry?;
            if !wanted(key.value()) {
                break;
            }
            rows.push((*key.value(), PendingRow::decode(row.value())));
        }
        Ok(rows)
    }

    /// See [`between`].
    pub(super) fn between(
        &self,
        from: &Key,
        first: EventId,
        last: EventId,
        mut visit: impl FnMut(WebhookNo, EventId) -> bool,
    ) -> Result<(), Error> {
        between(&self.pending, from, first, last, |webhook, event, _| visit(webhook, event))
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> Result<u64, Error> {
        Ok(self.pending.len()?)
    }
}

/// Walks the keys (webhook, event) of a table that lie between two events, skipping from webhook to webhook, until `visit`
/// says enough. Each key costs one look, each webhook with none between them one or two.
pub(super) fn between<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static Key, V>,
    from: &Key,
    first: EventId,
    last: EventId,
    mut visit: impl FnMut(WebhookNo, EventId, V::SelfType<'_>) -> bool,
) -> Result<(), Error> {
    let mut from = *from;
    'seek: loop {
        for entry in table.range::<&Key>(&from..)? {
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

/// The oldest event that waits, over at most `webhooks` webhooks with rows.
pub(super) fn oldest(txn: &ReadTransaction, webhooks: usize) -> Result<Option<EventId>, Error> {
    let pending = txn.open_table(PENDING)?;
    let mut oldest: Option<EventId> = None;
    let mut from = Some(WebhookNo(0));
    for _ in 0..webhooks {
        let Some(at) = from else { break };
        let Some(entry) = pending.range::<&Key>(&key(at, EventId::MIN)..)?.next() else { break };
        let first = delivery(entry?.0.value());
        oldest = Some(oldest.map_or(first.event, |event| event.min(first.event)));
        from = first.webhook.0.checked_add(1).map(WebhookNo);
    }
    Ok(oldest)
}

/// The key behind a row, for a cursor.
pub(super) fn behind(webhook: WebhookNo, event: EventId) -> Key {
    key(webhook, event.next())
}
