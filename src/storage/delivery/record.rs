//! Deliveries as the API shows them, and the queries for lists of deliveries.

use std::sync::Arc;

use super::{DeadLetterRecord, PendingRow};
use crate::limits::HISTORY_BUCKETS;
use crate::model::{Attempt, DeliveryId, DeliveryStatus, EventId, Timestamp, WebhookNo};

/// A delivery with the state that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// The delivery.
    pub id: DeliveryId,
    /// The delivery's status.
    pub status: DeliveryStatus,
    /// The number of attempts, including those before a replay.
    pub attempt_count: u16,
    /// When the next attempt is due, by the scheduling clock.
    pub next_retry_at: Option<Timestamp>,
    /// The last attempt, if the history still has it.
    pub last: Option<Attempt>,
    /// The dead letter, if the delivery ended as one.
    pub dead: Option<DeadLetterRecord>,
}

/// A page of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPage<T> {
    /// At most as many rows as the limit. Fewer rows do not mean the end of the list.
    pub rows: Vec<T>,
    /// The value of `before` for the next page. `None` at the end of the list.
    pub next: Option<DeliveryId>,
}

/// Selects the deliveries or dead letters of a list.
#[derive(Debug, Clone)]
pub struct DeliveryQuery {
    /// Only deliveries to these webhooks, ascending.
    pub webhooks: Arc<[WebhookNo]>,
    /// Only deliveries in this status. A page may still contain others. `None`: any status.
    pub status: Option<DeliveryStatus>,
    /// Only deliveries of this event and later events.
    pub first: EventId,
    /// Only deliveries before this one.
    pub before: DeliveryId,
}

impl DeliveryQuery {
    /// The position after every delivery, for `before`.
    pub const END: DeliveryId = DeliveryId { event: EventId::MAX, webhook: WebhookNo(u32::MAX) };

    /// Selects all deliveries of these webhooks.
    pub fn all(webhooks: impl Into<Arc<[WebhookNo]>>) -> Self {
        Self { webhooks: webhooks.into(), status: None, first: EventId::MIN, before: Self::END }
    }

    /// Returns whether the query includes deliveries to this webhook.
    pub(super) fn includes(&self, webhook: WebhookNo) -> bool {
        self.webhooks.binary_search(&webhook).is_ok()
    }

    /// Returns the history buckets that contain the query's webhooks.
    pub(super) fn buckets(&self) -> impl Iterator<Item = u8> {
        let mut used = [false; HISTORY_BUCKETS as usize];
        for webhook in self.webhooks.iter() {
            used[(webhook.0 % HISTORY_BUCKETS) as usize] = true;
        }
        (0u8..).zip(used).filter(|(_, used)| *used).map(|(bucket, _)| bucket)
    }

    /// Returns whether state.redb alone can answer the query: pending, retrying and dead deliveries have a row or a
    /// dead letter there.
    pub(super) fn is_of_state(&self) -> bool {
        self.status.is_some_and(|status| status != DeliveryStatus::Delivered)
    }

    pub(super) fn reads_pending(&self) -> bool {
        !matches!(self.status, Some(DeliveryStatus::Failed | DeliveryStatus::Abandoned))
    }

    pub(super) fn reads_dead(&self) -> bool {
        !matches!(self.status, Some(DeliveryStatus::Pending | DeliveryStatus::Retrying))
    }
}

impl DeliveryRecord {
    /// Returns the record of a delivery that is not stored yet. It waits for its first attempt.
    pub fn pending(id: DeliveryId) -> Self {
        Self::of_row(id, PendingRow::READY, None)
    }

    pub(super) fn of_row(id: DeliveryId, row: PendingRow, last: Option<Attempt>) -> Self {
        let status = if row.attempts > row.base { DeliveryStatus::Retrying } else { DeliveryStatus::Pending };
        Self { id, status, attempt_count: row.attempts, next_retry_at: row.due, last, dead: None }
    }

    pub(super) fn of_dead_letter(dead_letter: DeadLetterRecord, last: Option<Attempt>) -> Self {
        Self {
            id: dead_letter.id,
            status: dead_letter.reason.status(),
            attempt_count: dead_letter.attempts,
            next_retry_at: None,
            last,
            dead: Some(dead_letter),
        }
    }

    /// Returns the record of a delivery without a row and a dead letter. It succeeded, or its dead letter was deleted.
    pub(super) fn of_history(id: DeliveryId, last: Attempt) -> Self {
        let status = if last.error.is_none() { DeliveryStatus::Delivered } else { DeliveryStatus::Failed };
        Self { id, status, attempt_count: last.number, next_retry_at: None, last: Some(last), dead: None }
    }
}
