//! The table of a history file, and how its rows are written by the batch and found.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Bound;

use redb::{CursorError, Error, ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::list::ROWS_PER_READ;
use crate::model::{Attempt, DeliveryId, EventId, WebhookNo};
use crate::storage::delivery::Wanted;
use crate::storage::delivery::attempts::{Attempts, Key, decode, event_of, id_of, key_in, number_of};

const ATTEMPTS: TableDefinition<&Key, &[u8]> = TableDefinition::new("attempts");

/// Inserts runs of keys through one cursor each: a run ends where a key of the table comes between.
pub(super) fn insert_sorted(txn: &WriteTransaction, attempts: &Attempts) -> Result<(), Error> {
    let mut table = txn.open_table(ATTEMPTS)?;
    let mut rest = attempts.rows.as_slice();
    while let Some((first, start, end)) = rest.first() {
        let mut cursor = table.lower_bound_mut(Bound::Included(first))?;
        let mut inserted = 0;
        for (key, start, end) in rest {
            match cursor.insert_before(key, &attempts.bytes[*start..*end]) {
                Ok(()) => inserted += 1,
                Err(CursorError::UnorderedKey) => break,
                Err(error) => return Err(error.into()),
            }
        }
        cursor.close()?;
        if inserted == 0 {
            // An attempt that a crash made us repeat: the later record stands.
            table.insert(first, &attempts.bytes[*start..*end])?;
            inserted = 1;
        }
        rest = &rest[inserted..];
    }
    Ok(())
}

/// The table of a file, if anything was written to it.
pub(super) fn open(txn: &ReadTransaction) -> Result<Option<redb::ReadOnlyTable<&'static Key, &'static [u8]>>, Error> {
    match txn.open_table(ATTEMPTS) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

type RawRow<'a> = (redb::AccessGuard<'a, &'static Key>, redb::AccessGuard<'a, &'static [u8]>);

/// Reads a row.
pub(super) fn decode_row((key, value): &RawRow<'_>) -> Result<(EventId, Attempt), Error> {
    Ok((event_of(key.value()), decode(number_of(key.value()), value.value())?))
}

/// What one file knows of the newest deliveries.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// Each delivery with its last attempt in this file, newest first.
    pub(super) rows: Vec<(DeliveryId, Attempt)>,
    /// The first delivery that was not looked at, if it gave up before the end.
    pub(super) floor: Option<DeliveryId>,
}

/// The newest `limit` deliveries of a file that are wanted: a merge of the buckets that they are in.
pub(super) fn newest_in(txn: &ReadTransaction, wanted: &Wanted, limit: usize) -> Result<Newest, Error> {
    let mut found = Newest::default();
    let Some(table) = open(txn)? else { return Ok(found) };
    let first = DeliveryId { event: wanted.first, webhook: WebhookNo(0) };
    if first >= wanted.before {
        return Ok(found);
    }
    // Each bucket's newest row, and the rest of it; and which of these rows is the newest.
    let (mut lanes, mut heads) = (Vec::new(), BinaryHeap::new());
    for bucket in wanted.buckets() {
        let (first, last) = (key_in(bucket, first, 0), key_in(bucket, wanted.before, 0));
        let mut rest = table.range::<&Key>(&first..&last)?;
        if let Some(row) = rest.next_back().transpose()? {
            heads.push((id_of(row.0.value()), lanes.len()));
            lanes.push((row, rest));
        }
    }
    for looked_at in 0.. {
        let Some(mut head) = heads.peek_mut() else { break };
        let (id, lane) = *head;
        if looked_at == ROWS_PER_READ {
            found.floor = Some(id);
            break;
        }
        let (row, rest) = &mut lanes[lane];
        let seen = found.rows.last().is_some_and(|(last, _)| *last == id);
        if !seen && wanted.holds(id.webhook) {
            if found.rows.len() == limit {
                break;
            }
            found.rows.push((id, decode_row(row)?.1));
        }
        if let Some(next) = rest.next_back().transpose()? {
            *row = next;
            head.0 = id_of(row.0.value());
        } else {
            PeekMut::pop(head);
        }
    }
    Ok(found)
}
