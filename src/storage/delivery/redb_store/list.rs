//! Lists the newest deliveries or dead letters of any number of webhooks.
//!
//! A page merges the waiting rows, the dead letters and the history, from the newest event to the oldest. Each source
//! is read only as far as the page needs, so the cost of a page does not depend on the older rows. A search that finds
//! too little stops after a limited number of rows, and returns where to continue.

use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;

use redb::{Error, ReadableTable};

use super::history::{HistoryFiles, RecentDeliveries};
use super::table::{DEAD, DeliveryKey, PENDING, delivery, key};
use crate::model::{DeliveryId, EventId, WebhookNo};
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{DeadLetterRecord, DeliveryPage, DeliveryQuery, DeliveryRecord};
use crate::storage::file::RedbFile;

/// The maximum number of rows of a table that one page reads.
pub(super) const ROWS_PER_READ: usize = 20_000;

/// Implements [`crate::storage::delivery::DeliveryReader::deliveries`].
pub(super) fn deliveries(
    state: &RedbFile,
    files: &HistoryFiles,
    query: &DeliveryQuery,
    limit: usize,
) -> Result<DeliveryPage<DeliveryRecord>, Error> {
    // The snapshot of state.redb comes first: a delivery that is settled meanwhile is then in the history.
    let (mut found, floor, recent) = state.read(|txn| {
        let recent = if query.is_of_state() { RecentDeliveries::default() } else { files.newest(query, limit)? };
        let mut query = query.clone();
        if recent.last.len() >= limit
            && let Some((oldest, _)) = recent.last.first_key_value()
        {
            // These already fill the page, so it contains nothing older.
            query.first = query.first.max(oldest.event);
        }
        let mut found = BTreeMap::new();
        let mut floor = None;
        if query.reads_pending() {
            floor = newest(&txn.open_table(PENDING)?, &query, limit, |id, row| {
                let record = DeliveryRecord::of_row(id, PendingRow::decode(row), None);
                Ok(keep(&mut found, &query, record))
            })?;
        }
        if query.reads_dead() {
            let of_dead = newest(&txn.open_table(DEAD)?, &query, limit, |id, value| {
                let record = DeliveryRecord::of_dead_letter(DeadLetterRecord::decode(id, value)?, None);
                Ok(keep(&mut found, &query, record))
            })?;
            floor = floor.max(of_dead);
        }
        Ok((found, floor, recent))
    })?;
    let floor = floor.max(recent.floor);
    for (id, last) in recent.last {
        match found.entry(id) {
            std::collections::btree_map::Entry::Occupied(mut record) => record.get_mut().last = Some(last),
            std::collections::btree_map::Entry::Vacant(place) => _ = place.insert(DeliveryRecord::of_history(id, last)),
        }
    }
    let mut page = page(found.into_iter().rev(), floor, query, limit);
    for record in &mut page.rows {
        if record.last.is_none() && (record.attempt_count > 0 || record.dead.is_some()) {
            record.last = files.attempts(record.id)?.pop();
        }
    }
    Ok(page)
}

/// Implements [`crate::storage::delivery::DeliveryReader::dead_letters`].
pub(super) fn dead_letters(
    state: &RedbFile,
    query: &DeliveryQuery,
    limit: usize,
) -> Result<DeliveryPage<DeadLetterRecord>, Error> {
    let (found, floor) = state.read(|txn| {
        let mut found = BTreeMap::new();
        let floor = newest(&txn.open_table(DEAD)?, query, limit, |id, value| {
            found.insert(id, DeadLetterRecord::decode(id, value)?);
            Ok(true)
        })?;
        Ok((found, floor))
    })?;
    Ok(page(found.into_iter().rev(), floor, query, limit))
}

fn keep(found: &mut BTreeMap<DeliveryId, DeliveryRecord>, query: &DeliveryQuery, record: DeliveryRecord) -> bool {
    let is_kept = !query.is_of_state() || query.status == Some(record.status);
    if is_kept {
        // A delivery with a row and a dead letter is shown by its row.
        found.entry(record.id).or_insert(record);
    }
    is_kept
}

/// Returns the first `limit` of these rows that are above the floor, and where the next page begins.
fn page<T>(
    newest_first: impl Iterator<Item = (DeliveryId, T)>,
    floor: Option<DeliveryId>,
    query: &DeliveryQuery,
    limit: usize,
) -> DeliveryPage<T> {
    let above = newest_first.filter(|(id, _)| floor.is_none_or(|floor| *id > floor));
    let (ids, rows): (Vec<_>, Vec<_>) = above.take(limit).unzip();
    let next = match ids.last() {
        Some(last) if rows.len() == limit => Some(*last),
        _ => floor.map(behind),
    };
    // A cursor that does not advance would make clients request the same page forever.
    DeliveryPage { rows, next: next.filter(|next| *next < query.before) }
}

/// Returns the position directly after a delivery. A page before this position begins with the delivery.
fn behind(id: DeliveryId) -> DeliveryId {
    match id.webhook.0.checked_add(1) {
        Some(no) => DeliveryId { webhook: WebhookNo(no), ..id },
        None => DeliveryId { event: id.event.next(), webhook: WebhookNo(0) },
    }
}

/// Visits the rows of the query's webhooks in a table with keys (webhook, event), newest event first, until `take` has
/// accepted `limit` rows. Returns the first delivery that was not visited if the search stopped early.
///
/// The table is sorted by webhook, so a heap holds the newest unvisited row of each webhook. Webhooks without rows are
/// skipped. Each other webhook costs two lookups, and each visited row two more.
fn newest<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static DeliveryKey, V>,
    query: &DeliveryQuery,
    limit: usize,
    mut take: impl FnMut(DeliveryId, V::SelfType<'_>) -> Result<bool, Error>,
) -> Result<Option<DeliveryId>, Error> {
    let mut heap = BinaryHeap::new();
    let mut rest = &query.webhooks[..];
    while let Some(no) = rest.first().copied() {
        let Some(entry) = table.range::<&DeliveryKey>(&key(no, query.first)..)?.next() else { break };
        let at = delivery(entry?.0.value()).webhook;
        if at > no {
            rest = &rest[rest.partition_point(|no| *no < at)..];
            continue;
        }
        let end = if no < query.before.webhook { query.before.event.next() } else { query.before.event };
        heap.extend(last_of(table, no, query.first, end)?);
        rest = &rest[1..];
    }
    let (mut taken, mut looked_at) = (0, 0);
    while let Some(id) = heap.pop() {
        if looked_at == ROWS_PER_READ {
            return Ok(Some(id));
        }
        looked_at += 1;
        if let Some(row) = table.get(&key(id.webhook, id.event))? {
            taken += usize::from(take(id, row.value())?);
        }
        if taken == limit {
            break;
        }
        heap.extend(last_of(table, id.webhook, query.first, id.event)?);
    }
    Ok(None)
}

/// Returns the webhook's newest row of an event from `first` (inclusive) to `end` (exclusive).
fn last_of<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static DeliveryKey, V>,
    webhook: WebhookNo,
    first: EventId,
    end: EventId,
) -> Result<Option<DeliveryId>, Error> {
    if first >= end {
        return Ok(None);
    }
    let (first, end) = (key(webhook, first), key(webhook, end));
    let mut range = table.range::<&DeliveryKey>((Bound::Included(&first), Bound::Excluded(&end)))?;
    Ok(range.next_back().transpose()?.map(|(key, _)| delivery(key.value())))
}
