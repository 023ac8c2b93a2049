//! Answers the refill requests of shards, and lists the webhooks with rows for a start.

use std::ops::Bound;

use redb::{Error, ReadTransaction};

use super::table::{DUE, DeliveryKey, PENDING, TimeKey, delivery, due_key, due_of, key};
use crate::model::{EventId, Timestamp, WebhookNo};
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{BacklogRow, RefillKind, RefillReply, RefillRequest, WebhookBacklog};

/// The maximum number of rows that a refill reads for each row that it may return. Among rows of the other kind it
/// stops there, and the shard continues from the cursor.
const LOOKED_AT_PER_ROW: usize = 16;

/// The maximum number of rows that are read to find a ready row of a webhook. After them, one is assumed to exist.
const LOOKED_AT_FOR_READY: usize = 32;

/// Answers a refill request from the durable rows. `now` is the time of the last flush. `before` is the first event
/// whose rows are not all written yet.
pub(super) fn refill(
    txn: &ReadTransaction,
    query: &RefillRequest,
    now: Timestamp,
    before: Option<EventId>,
) -> Result<RefillReply, Error> {
    match query.kind {
        RefillKind::Ready { after } => refill_ready(txn, query, after),
        RefillKind::Due { after, until } => {
            let until = until.min(Timestamp::from_millis(now.as_millis().saturating_sub(1)));
            refill_due(txn, query, after, until)
        }
        RefillKind::Ordered { after } => refill_ordered(txn, query, after, before),
    }
}

fn refill_ready(txn: &ReadTransaction, query: &RefillRequest, after: EventId) -> Result<RefillReply, Error> {
    let webhook = query.webhook;
    let pending = txn.open_table(PENDING)?;
    let (first, last) = (key(webhook, after), key(webhook, EventId::MAX));
    // `EventId::MIN` is before every event, so excluding it skips no row.
    let range = pending.range::<&DeliveryKey>((Bound::Excluded(&first), Bound::Included(&last)))?;
    let (mut rows, mut cursor, mut end) = (Vec::new(), after, true);
    for (looked_at, entry) in range.enumerate() {
        if rows.len() == query.rows || looked_at == query.rows.saturating_mul(LOOKED_AT_PER_ROW) {
            end = false;
            break;
        }
        let (key, row) = entry?;
        let (event, row) = (delivery(key.value()).event, PendingRow::decode(row.value()));
        cursor = event;
        if row.due.is_none() {
            rows.push(BacklogRow { event, attempts: row.attempts, base: row.base });
        }
    }
    let next_due = first_due(txn, webhook, (Timestamp::from_millis(i64::MIN), EventId::MIN))?;
    Ok(RefillReply {
        webhook,
        kind: RefillKind::Ready { after: cursor },
        rows,
        not_before: Box::default(),
        end,
        next_due,
    })
}

fn refill_ordered(
    txn: &ReadTransaction,
    query: &RefillRequest,
    after: EventId,
    before: Option<EventId>,
) -> Result<RefillReply, Error> {
    let webhook = query.webhook;
    let pending = txn.open_table(PENDING)?;
    let (first, last) = (key(webhook, after), key(webhook, before.map_or(EventId::MAX, EventId::previous)));
    let (mut rows, mut not_before, mut cursor, mut end) = (Vec::new(), Vec::new(), after, before.is_none());
    if first < last {
        for entry in pending.range::<&DeliveryKey>((Bound::Excluded(&first), Bound::Included(&last)))? {
            if rows.len() == query.rows {
                end = false;
                break;
            }
            let (key, row) = entry?;
            let PendingRow { attempts, base, due } = PendingRow::decode(row.value());
            cursor = delivery(key.value()).event;
            rows.push(BacklogRow { event: cursor, attempts, base });
            not_before.extend(due.map(|at| (cursor, at)));
        }
    }
    Ok(RefillReply {
        webhook,
        kind: RefillKind::Ordered { after: cursor },
        rows,
        not_before: not_before.into(),
        end,
        next_due: None,
    })
}

fn refill_due(
    txn: &ReadTransaction,
    query: &RefillRequest,
    after: (Timestamp, EventId),
    until: Timestamp,
) -> Result<RefillReply, Error> {
    let webhook = query.webhook;
    let due = txn.open_table(DUE)?;
    let (first, last) = (due_key(webhook, after.0, after.1), due_key(webhook, until, EventId::MAX));
    let (mut rows, mut cursor, mut end) = (Vec::new(), after, true);
    if first < last {
        for entry in due.range::<&TimeKey>((Bound::Excluded(&first), Bound::Included(&last)))? {
            if rows.len() == query.rows {
                end = false;
                break;
            }
            let (key, made) = entry?;
            cursor = due_of(key.value());
            let (attempts, base) = made.value();
            rows.push(BacklogRow { event: cursor.1, attempts, base });
        }
    }
    let next_due = first_due(txn, webhook, cursor)?;
    Ok(RefillReply {
        webhook,
        kind: RefillKind::Due { after: cursor, until },
        rows,
        not_before: Box::default(),
        end,
        next_due,
    })
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

/// Lists each webhook with rows, by skipping from webhook to webhook.
pub(super) fn waiting(txn: &ReadTransaction) -> Result<Vec<WebhookBacklog>, Error> {
    let pending = txn.open_table(PENDING)?;
    let mut all = Vec::new();
    let mut from = Some(WebhookNo(0));
    while let Some(at) = from {
        let Some(entry) = pending.range::<&DeliveryKey>(&key(at, EventId::MIN)..)?.next() else { break };
        let webhook = delivery(entry?.0.value()).webhook;
        let rows = pending.range::<&DeliveryKey>(&key(webhook, EventId::MIN)..=&key(webhook, EventId::MAX))?;
        let mut ready = false;
        for (looked_at, row) in rows.enumerate() {
            ready = looked_at == LOOKED_AT_FOR_READY || PendingRow::decode(row?.1.value()).due.is_none();
            if ready {
                break;
            }
        }
        let due = first_due(txn, webhook, (Timestamp::from_millis(i64::MIN), EventId::MIN))?;
        all.push(WebhookBacklog { webhook, ready, due });
        from = webhook.0.checked_add(1).map(WebhookNo);
    }
    Ok(all)
}
