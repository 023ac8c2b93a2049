//! The table of a history file: writing a batch of rows, and finding rows.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Bound;

use redb::{CursorError, Error, ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::list::ROWS_PER_READ;
use crate::model::{Attempt, DeliveryId, EventId, WebhookNo};
use crate::storage::delivery::DeliveryQuery;
use crate::storage::delivery::attempts::{AttemptKey, Attempts, decode, event_of, id_of, key_in, number_of};

const ATTEMPTS: TableDefinition<&AttemptKey, &[u8]> = TableDefinition::new("attempts");

/// Inserts the attempts. Uses one cursor for each run of keys that has no existing key in between.
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
            // The attempt was repeated after a crash. The later record replaces the earlier one.
            table.insert(first, &attempts.bytes[*start..*end])?;
            inserted = 1;
        }
        rest = &rest[inserted..];
    }
    Ok(())
}

/// Returns the table of a file, or `None` if nothing was written to it.
pub(super) fn open(
    txn: &ReadTransaction,
) -> Result<Option<redb::ReadOnlyTable<&'static AttemptKey, &'static [u8]>>, Error> {
    match txn.open_table(ATTEMPTS) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

type RawRow<'a> = (redb::AccessGuard<'a, &'static AttemptKey>, redb::AccessGuard<'a, &'static [u8]>);

/// Decodes a row.
pub(super) fn decode_row((key, value): &RawRow<'_>) -> Result<(EventId, Attempt), Error> {
    Ok((event_of(key.value()), decode(number_of(key.value()), value.value())?))
}

/// The newest deliveries in one file.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// Each delivery with its last attempt in this file, newest first.
    pub(super) rows: Vec<(DeliveryId, Attempt)>,
    /// The first delivery that was not searched, if the search stopped before the end.
    pub(super) floor: Option<DeliveryId>,
}

/// Returns the newest `limit` deliveries of a file that match the query, by merging the buckets of the query's
/// webhooks.
pub(super) fn newest_in(txn: &ReadTransaction, query: &DeliveryQuery, limit: usize) -> Result<Newest, Error> {
    let mut found = Newest::default();
    let Some(table) = open(txn)? else { return Ok(found) };
    let first = DeliveryId { event: query.first, webhook: WebhookNo(0) };
    if first >= query.before {
        return Ok(found);
    }
    // For each bucket, its newest row and the remaining ones. The heap yields the newest of these rows.
    let (mut lanes, mut heads) = (Vec::new(), BinaryHeap::new());
    for bucket in query.buckets() {
        let (first, last) = (key_in(bucket, first, 0), key_in(bucket, query.before, 0));
        let mut rest = table.range::<&AttemptKey>(&first..&last)?;
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
        if !seen && query.includes(id.webhook) {
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
