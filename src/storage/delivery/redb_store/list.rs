//! Lists: the newest deliveries, or dead letters, of any number of webhooks.
//!
//! A page is a merge from the newest event down, of what waits, what is dead and what history has. Each source is looked at
//! in that order and no further than a page needs, so a page costs the same whatever lies behind it; a search that finds
//! little stops after so many rows and says where it goes on.

use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Bound;

use redb::{Error, ReadableTable};

use super::history::{Files, Recent};
use super::table::{DEAD, Key, PENDING, delivery, key};
use crate::model::{DeliveryId, EventId, WebhookNo};
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{DeadLetter, DeliveryRecord, Page, Wanted};
use crate::storage::file::Store;

/// Rows of a table that one page looks at.
pub(super) const ROWS_PER_READ: usize = 20_000;

/// See [`crate::storage::delivery::DeliveryReader::deliveries`].
pub(super) fn deliveries(
    state: &Store,
    files: &Files,
    wanted: &Wanted,
    limit: usize,
) -> Result<Page<DeliveryRecord>, Error> {
    // The state's snapshot first: what is settled meanwhile is then in history, and so in the page.
    let (mut found, floor, recent) = state.read(|txn| {
        let recent = if wanted.is_of_state() { Recent::default() } else { files.newest(wanted, limit)? };
        let mut wanted = wanted.clone();
        if recent.last.len() >= limit
            && let Some((oldest, _)) = recent.last.first_key_value()
        {
            // A page of these is full: nothing older is on it.
            wanted.first = wanted.first.max(oldest.event);
        }
        let mut found = BTreeMap::new();
        let mut floor = None;
        if wanted.reads_pending() {
            floor = newest(&txn.open_table(PENDING)?, &wanted, limit, |id, row| {
                let record = DeliveryRecord::of_row(id, PendingRow::decode(row), None);
                Ok(keep(&mut found, &wanted, record))
            })?;
        }
        if wanted.reads_dead() {
            let of_dead = newest(&txn.open_table(DEAD)?, &wanted, limit, |id, letter| {
                let record = DeliveryRecord::of_letter(DeadLetter::decode(id, letter)?, None);
                Ok(keep(&mut found, &wanted, record))
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
    let mut page = page(found.into_iter().rev(), floor, wanted, limit);
    for record in &mut page.rows {
        if record.last.is_none() && (record.attempt_count > 0 || record.dead.is_some()) {
            record.last = files.attempts(record.id)?.pop();
        }
    }
    Ok(page)
}

/// The newest dead letters that are wanted, at most `limit`.
pub(super) fn letters(state: &Store, wanted: &Wanted, limit: usize) -> Result<Page<DeadLetter>, Error> {
    let (found, floor) = state.read(|txn| {
        let mut found = BTreeMap::new();
        let floor = newest(&txn.open_table(DEAD)?, wanted, limit, |id, letter| {
            found.insert(id, DeadLetter::decode(id, letter)?);
            Ok(true)
        })?;
        Ok((found, floor))
    })?;
    Ok(page(found.into_iter().rev(), floor, wanted, limit))
}

fn keep(found: &mut BTreeMap<DeliveryId, DeliveryRecord>, wanted: &Wanted, record: DeliveryRecord) -> bool {
    let is_kept = !wanted.is_of_state() || wanted.status == Some(record.status);
    if is_kept {
        // A delivery that waits again is shown by its row.
        found.entry(record.id).or_insert(record);
    }
    is_kept
}

/// The first `limit` of these above the floor, and where the next page begins.
fn page<T>(
    newest_first: impl Iterator<Item = (DeliveryId, T)>,
    floor: Option<DeliveryId>,
    wanted: &Wanted,
    limit: usize,
) -> Page<T> {
    let above = newest_first.filter(|(id, _)| floor.is_none_or(|floor| *id > floor));
    let (ids, rows): (Vec<_>, Vec<_>) = above.take(limit).unzip();
    let next = match ids.last() {
        Some(last) if rows.len() == limit => Some(*last),
        _ => floor.map(behind),
    };
    // A page that does not move on would be asked for again and again.
    Page { rows, next: next.filter(|next| *next < wanted.before) }
}

/// The place right after a delivery, before which a page begins with it.
fn behind(id: DeliveryId) -> DeliveryId {
    match id.webhook.0.checked_add(1) {
        Some(no) => DeliveryId { webhook: WebhookNo(no), ..id },
        None => DeliveryId { event: id.event.next(), webhook: WebhookNo(0) },
    }
}

/// Visits what a table of (webhook, event) has of the wanted webhooks, newest event first, until `take` has taken `limit`.
/// If it gives up before, the delivery that it did not look at any more.
///
/// The table is in order of webhooks, so each has a place in a heap: that of its newest row not yet visited. Webhooks
/// without rows are skipped over; each of the others costs two looks, each row visited two more.
fn newest<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static Key, V>,
    wanted: &Wanted,
    limit: usize,
    mut take: impl FnMut(DeliveryId, V::SelfType<'_>) -> Result<bool, Error>,
) -> Result<Option<DeliveryId>, Error> {
    let mut heap = BinaryHeap::new();
    let mut rest = &wanted.webhooks[..];
    while let Some(no) = rest.first().copied() {
        let Some(entry) = table.range::<&Key>(&key(no, wanted.first)..)?.next() else { break };
        let at = delivery(entry?.0.value()).webhook;
        if at > no {
            rest = &rest[rest.partition_point(|no| *no < at)..];
            continue;
        }
        let end = if no < wanted.before.webhook { wanted.before.event.next() } else { wanted.before.event };
        heap.extend(last_of(table, no, wanted.first, end)?);
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
        heap.extend(last_of(table, id.webhook, wanted.first, id.event)?);
    }
    Ok(None)
}

/// The webhook's newest row of an event from `first` on and before `end`.
fn last_of<V: redb::Value + 'static>(
    table: &impl ReadableTable<&'static Key, V>,
    webhook: WebhookNo,
    first: EventId,
    end: EventId,
) -> Result<Option<DeliveryId>, Error> {
    if first >= end {
        return Ok(None);
    }
    let (first, end) = (key(webhook, first), key(webhook, end));
    let mut range = table.range::<&Key>((Bound::Included(&first), Bound::Excluded(&end)))?;
    Ok(range.next_back().transpose()?.map(|(key, _)| delivery(key.value())))
}
