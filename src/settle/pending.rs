//! Rows: deliveries that wait on disk. `pending` is the authority; `due` holds those of them that wait for a time.
//!
//! A row's value is u16 attempts, u16 base, i64 due time (0: ready), little-endian. A row with a due time has exactly one
//! entry in `due`, made and removed in the same transaction.

use std::ops::Bound;

use redb::{Error, ReadTransaction, ReadableTable, Table, WriteTransaction};

use super::table::{DUE, Key, PENDING, TimeKey, due_key, due_of, key, next, part, previous};
use crate::handoff::{Lane, Refill, Refilled, Row, Waiting};
use crate::model::{EventId, Timestamp, WebhookNo};

/// What a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingRow {
    /// Attempts made so far.
    pub(super) attempts: u16,
    /// Those of them before the last replay, which the retry schedule does not count.
    pub(super) base: u16,
    /// When the next one is due; `None`: now.
    pub(super) due: Option<Timestamp>,
}

/// The tables, open for writing.
pub(super) struct Rows<'txn> {
    pending: Table<'txn, &'static Key, &'static [u8; 12]>,
    due: Table<'txn, &'static TimeKey, (u16, u16)>,
}

/// Rows that a refill looks at for each row that it may return: among rows of the other lane it gives up for this time,
/// and the shard asks on from the cursor.
const LOOKED_AT_PER_ROW: usize = 16;

/// Rows that are looked at to learn whether one of a webhook is ready; past them it is assumed.
const LOOKED_AT_FOR_READY: usize = 32;

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
        use redb::ReadableTableMetadata;
        Ok(self.pending.len()?)
    }
}

impl PendingRow {
    /// A row that waits for nothing.
    pub(super) const READY: Self = Self { attempts: 0, base: 0, due: None };

    /// A row of a delivery that is to be made again, after so many attempts.
    pub(super) const fn again(attempts: u16, due: Timestamp) -> Self {
        Self { attempts, base: attempts, due: Some(due) }
    }

    fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..2].copy_from_slice(&self.attempts.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.base.to_le_bytes());
        bytes[4..].copy_from_slice(&self.due.map_or(0, Timestamp::as_millis).to_le_bytes());
        bytes
    }

    /// Reads a row's value.
    pub(super) fn decode(bytes: &[u8; 12]) -> Self {
        let due = i64::from_le_bytes(part(bytes, 4));
        Self {
            attempts: u16::from_le_bytes(part(bytes, 0)),
            base: u16::from_le_bytes(part(bytes, 2)),
            due: (due != 0).then(|| Timestamp::from_millis(due)),
        }
    }
}

/// Answers a refill from what is durable. `now` is the time of the flush before it; `before` is the first event whose rows
/// are not all written.
pub(super) fn refill(
    txn: &ReadTransaction,
    refill: &Refill,
    now: Timestamp,
    before: Option<EventId>,
) -> Result<Refilled, Error> {
    match refill.lane {
        Lane::Ready { after } => refill_ready(txn, refill, after),
        Lane::Due { after, until } => {
            let until = until.min(Timestamp::from_millis(now.as_millis().saturating_sub(1)));
            refill_due(txn, refill, after, until)
        }
        Lane::Ordered { after } => refill_ordered(txn, refill, after, before),
    }
}

fn refill_ready(txn: &ReadTransaction, refill: &Refill, after: EventId) -> Result<Refilled, Error> {
    let webhook = refill.webhook;
    let pending = txn.open_table(PENDING)?;
    let (first, last) = (key(webhook, after), key(webhook, EventId::MAX));
    // MIN is before every event, so excluding it loses none.
    let range = pending.range::<&Key>((Bound::Excluded(&first), Bound::Included(&last)))?;
    let (mut rows, mut cursor, mut end) = (Vec::new(), after, true);
    for (looked_at, entry) in range.enumerate() {
        if rows.len() == refill.rows || looked_at == refill.rows.saturating_mul(LOOKED_AT_PER_ROW) {
            end = false;
            break;
        }
        let (key, row) = entry?;
        let (event, row) = (super::table::delivery(key.value()).event, PendingRow::decode(row.value()));
        cursor = event;
        if row.due.is_none() {
            rows.push(Row { event, attempts: row.attempts, base: row.base });
        }
    }
    let next_due = first_due(txn, webhook, (Timestamp::from_millis(i64::MIN), EventId::MIN))?;
    Ok(Refilled { webhook, lane: Lane::Ready { after: cursor }, rows, not_before: Box::default(), end, next_due })
}

fn refill_ordered(
    txn: &ReadTransaction,
    refill: &Refill,
    after: EventId,
    before: Option<EventId>,
) -> Result<Refilled, Error> {
    let webhook = refill.webhook;
    let pending = txn.open_table(PENDING)?;
    let (first, last) = (key(webhook, after), key(webhook, before.map_or(EventId::MAX, previous)));
    let (mut rows, mut not_before, mut cursor, mut end) = (Vec::new(), Vec::new(), after, before.is_none());
    if first < last {
        for entry in pending.range::<&Key>((Bound::Excluded(&first), Bound::Included(&last)))? {
            if rows.len() == refill.rows {
                end = false;
                break;
            }
            let (key, row) = entry?;
            let PendingRow { attempts, base, due } = PendingRow::decode(row.value());
            cursor = super::table::delivery(key.value()).event;
            rows.push(Row { event: cursor, attempts, base });
            not_before.extend(due.map(|at| (cursor, at)));
        }
    }
    Ok(Refilled {
        webhook,
        lane: Lane::Ordered { after: cursor },
        rows,
        not_before: not_before.into(),
        end,
        next_due: None,
    })
}

fn refill_due(
    txn: &ReadTransaction,
    refill: &Refill,
    after: (Timestamp, EventId),
    until: Timestamp,
) -> Result<Refilled, Error> {
    let webhook = refill.webhook;
    let due = txn.open_table(DUE)?;
    let (first, last) = (due_key(webhook, after.0, after.1), due_key(webhook, until, EventId::MAX));
    let (mut rows, mut cursor, mut end) = (Vec::new(), after, true);
    if first < last {
        for entry in due.range::<&TimeKey>((Bound::Excluded(&first), Bound::Included(&last)))? {
            if rows.len() == refill.rows {
                end = false;
                break;
            }
            let (key, made) = entry?;
            cursor = due_of(key.value());
            let (attempts, base) = made.value();
            rows.push(Row { event: cursor.1, attempts, base });
        }
    }
    let next_due = first_due(txn, webhook, cursor)?;
    Ok(Refilled { webhook, lane: Lane::Due { after: cursor, until }, rows, not_before: Box::default(), end, next_due })
}

fn first_due(
    txn: &ReadTransaction,
    webhook: WebhookNo,
    after: (Timestamp, EventId),
) -> Result<Option<Timestamp>, Error> {
    let due = txn.open_table(DUE)?;
    let first = due_key(webhook, after.0, after.1);
    let last = due_key(webhook, Timestamp::from_millis(i64::MAX), EventId::MAX);
    let mut range = due.range::<&TimeKey>((Bound::Excluded(&first), Bound::Included(&last)))?;
    Ok(range.next().transpose()?.map(|(key, _)| due_of(key.value()).0))
}

/// What waits for each webhook with rows, found by skipping from webhook to webhook.
pub(super) fn waiting(txn: &ReadTransaction) -> Result<Vec<Waiting>, Error> {
    let pending = txn.open_table(PENDING)?;
    let mut all = Vec::new();
    let mut from = Some(WebhookNo(0));
    while let Some(at) = from {
        let Some(entry) = pending.range::<&Key>(&key(at, EventId::MIN)..)?.next() else { break };
        let webhook = super::table::delivery(entry?.0.value()).webhook;
        let rows = pending.range::<&Key>(&key(webhook, EventId::MIN)..=&key(webhook, EventId::MAX))?;
        let mut ready = false;
        for (looked_at, row) in rows.enumerate() {
            ready = looked_at == LOOKED_AT_FOR_READY || PendingRow::decode(row?.1.value()).due.is_none();
            if ready {
                break;
            }
        }
        let due = first_due(txn, webhook, (Timestamp::from_millis(i64::MIN), EventId::MIN))?;
        all.push(Waiting { webhook, ready, due });
        from = webhook.0.checked_add(1).map(WebhookNo);
    }
    Ok(all)
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
            let at = super::table::delivery(key_at.value());
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
        let first = super::table::delivery(entry?.0.value());
        oldest = Some(oldest.map_or(first.event, |event| event.min(first.event)));
        from = first.webhook.0.checked_add(1).map(WebhookNo);
    }
    Ok(oldest)
}

/// The key behind a row, for a cursor.
pub(super) fn behind(webhook: WebhookNo, event: EventId) -> Key {
    key(webhook, next(event))
}
