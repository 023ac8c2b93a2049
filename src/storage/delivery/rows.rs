//! Rows: deliveries that wait on disk, and the messages by which shards read them.

use super::part;
use crate::model::{DeadReason, EventId, Timestamp, WebhookNo};

/// A request for rows of a webhook.
#[derive(Debug, Clone, Copy)]
pub struct RefillRequest {
    /// The webhook.
    pub webhook: WebhookNo,
    /// Which rows, and from which cursor.
    pub kind: RefillKind,
    /// The maximum number of rows.
    pub rows: usize,
}

/// Which rows a refill reads, with the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefillKind {
    /// Rows that are ready, in order of acceptance.
    Ready {
        /// The cursor: rows after this event. [`EventId::MIN`] for the start.
        after: EventId,
    },
    /// Rows that waited for a time that has come, in the order of these times.
    Due {
        /// The cursor: rows after this time and event.
        after: (Timestamp, EventId),
        /// Only rows with times up to this one, inclusive. The store lowers it to the millisecond before the last
        /// flush, so that a row written later is never before the cursor.
        until: Timestamp,
    },
    /// All rows, in order of acceptance, for a webhook with ordered delivery. While the rows of a wide event are still
    /// being written, only the rows before it.
    Ordered {
        /// The cursor: rows after this event. [`EventId::MIN`] for the start.
        after: EventId,
    },
}

/// The reply to a [`RefillRequest`].
#[derive(Debug)]
pub struct RefillReply {
    /// The webhook.
    pub webhook: WebhookNo,
    /// The kind of the request, with the cursor moved to the last row that was read.
    pub kind: RefillKind,
    /// The rows, in the order of the kind.
    pub rows: Vec<BacklogRow>,
    /// For [`RefillKind::Ordered`]: the rows that wait for a time, with this time, ascending by event.
    pub not_before: Box<[(EventId, Timestamp)]>,
    /// Whether there were no more rows after these when the flush was done.
    pub end: bool,
    /// The earliest due time after the cursor, if a row waits for a time.
    pub next_due: Option<Timestamp>,
}

/// A row: a delivery to one webhook that waits on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BacklogRow {
    /// The event.
    pub event: EventId,
    /// The number of attempts so far.
    pub attempts: u16,
    /// The number of attempts before the last replay. The retry schedule does not count them.
    pub base: u16,
}

/// The rows that wait on disk for a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookBacklog {
    /// The webhook.
    pub webhook: WebhookNo,
    /// Whether there are rows without a due time.
    pub ready: bool,
    /// The earliest due time, if a row waits for a time.
    pub due: Option<Timestamp>,
}

/// The result of a request to retry a delivery now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetryResult {
    /// The delivery is due now.
    Scheduled,
    /// The delivery is already due or in flight, so nothing changed.
    AlreadyPending,
    /// The webhook accepts no more deliveries.
    Abandoned(DeadReason),
    /// There is no such delivery.
    #[default]
    NotFound,
}

/// The value of a row in `pending`: u16 attempts, u16 base, i64 due time (0: ready), little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingRow {
    /// The number of attempts so far.
    pub(super) attempts: u16,
    /// The number of attempts before the last replay. The retry schedule does not count them.
    pub(super) base: u16,
    /// When the next attempt is due. `None`: the row is ready.
    pub(super) due: Option<Timestamp>,
}

impl PendingRow {
    /// The row of a delivery without attempts that is ready.
    pub(super) const READY: Self = Self { attempts: 0, base: 0, due: None };

    /// Returns the row of a delivery that is redelivered after `attempts` attempts. Its retry schedule starts again.
    pub(super) const fn redelivery(attempts: u16, due: Timestamp) -> Self {
        Self { attempts, base: attempts, due: Some(due) }
    }

    pub(super) fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..2].copy_from_slice(&self.attempts.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.base.to_le_bytes());
        bytes[4..].copy_from_slice(&self.due.map_or(0, Timestamp::as_millis).to_le_bytes());
        bytes
    }

    /// Decodes a row's value.
    pub(super) fn decode(bytes: &[u8; 12]) -> Self {
        let due = i64::from_le_bytes(part(bytes, 4));
        Self {
            attempts: u16::from_le_bytes(part(bytes, 0)),
            base: u16::from_le_bytes(part(bytes, 2)),
            due: (due != 0).then(|| Timestamp::from_millis(due)),
        }
    }
}
