//! What people see of deliveries: one, with what became of it, and parts of lists.

use std::sync::Arc;

use super::{DeadLetter, PendingRow};
use crate::limits::HISTORY_BUCKETS;
use crate::model::{Attempt, DeliveryId, DeliveryStatus, EventId, Timestamp, WebhookNo};

/// A delivery, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// Which delivery.
    pub id: DeliveryId,
    /// Its state.
    pub status: DeliveryStatus,
    /// Attempts made, those before a replay too.
    pub attempt_count: u16,
    /// When the next one is due, by the scheduling clock.
    pub next_retry_at: Option<Timestamp>,
    /// The last attempt, while history keeps it.
    pub last: Option<Attempt>,
    /// The dead letter it ended as.
    pub dead: Option<DeadLetter>,
}

/// A part of a list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// At most as many as were asked for; fewer do not mean the end.
    pub rows: Vec<T>,
    /// Where the next page begins (pass it as `before`); `None` at the end.
    pub next: Option<DeliveryId>,
}

/// Which deliveries a list is of.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of these webhooks, ascending.
    pub webhooks: Arc<[WebhookNo]>,
    /// In this state; a page may still hold others (`None`: in any).
    pub status: Option<DeliveryStatus>,
    /// Of events from this one on …
    pub first: EventId,
    /// … and before this delivery.
    pub before: DeliveryId,
}

impl Wanted {
    /// After every delivery.
    pub const END: DeliveryId = DeliveryId { event: EventId::MAX, webhook: WebhookNo(u32::MAX) };

    /// All deliveries of these webhooks.
    pub fn all(webhooks: impl Into<Arc<[WebhookNo]>>) -> Self {
        Self { webhooks: webhooks.into(), status: None, first: EventId::MIN, before: Self::END }
    }

    /// Whether a delivery to this webhook is wanted.
    pub(super) fn holds(&self, webhook: WebhookNo) -> bool {
        self.webhooks.binary_search(&webhook).is_ok()
    }

    /// The parts of history that its webhooks are in.
    pub(super) fn buckets(&self) -> impl Iterator<Item = u8> {
        let mut used = [false; HISTORY_BUCKETS as usize];
        for webhook in self.webhooks.iter() {
            used[(webhook.0 % HISTORY_BUCKETS) as usize] = true;
        }
        (0u8..).zip(used).filter(|(_, used)| *used).map(|(bucket, _)| bucket)
    }

    /// What waits and what is dead has a row in the state, whatever history knows.
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
    /// A delivery of which nothing is stored yet: it waits for its first attempt.
    pub fn pending(id: DeliveryId) -> Self {
        Self::of_row(id, PendingRow::READY, None)
    }

    pub(super) fn of_row(id: DeliveryId, row: PendingRow, last: Option<Attempt>) -> Self {
        let status = if row.attempts > row.base { DeliveryStatus::Retrying } else { DeliveryStatus::Pending };
        Self { id, status, attempt_count: row.attempts, next_retry_at: row.due, last, dead: None }
    }

    pub(super) fn of_letter(letter: DeadLetter, last: Option<Attempt>) -> Self {
        Self {
            id: letter.id,
            status: letter.reason.status(),
            attempt_count: letter.attempts,
            next_retry_at: None,
            last,
            dead: Some(letter),
        }
    }

    /// Without a row or a dead letter: done, or a dead letter that has been forgotten since.
    pub(super) fn of_history(id: DeliveryId, last: Attempt) -> Self {
        let status = if last.error.is_none() { DeliveryStatus::Delivered } else { DeliveryStatus::Failed };
        Self { id, status, attempt_count: last.number, next_retry_at: None, last: Some(last), dead: None }
    }
}
