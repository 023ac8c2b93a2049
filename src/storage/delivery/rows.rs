//! Rows: deliveries that wait on the disk, and what a shard asks for of them.

use super::part;
use crate::model::{DeadReason, EventId, Timestamp, WebhookNo};

/// Asks for rows of a webhook.
#[derive(Debug, Clone, Copy)]
pub struct RowsWanted {
    /// The webhook.
    pub webhook: WebhookNo,
    /// Which rows.
    pub lane: Lane,
    /// At most this many.
    pub rows: usize,
}

/// Which rows a refill wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Rows that wait for nothing, in order of acceptance, after this event.
    Ready {
        /// Exclusive; [`EventId::MIN`] for the start.
        after: EventId,
    },
    /// Rows that waited for a time, in the order of those times, after this place.
    Due {
        /// Exclusive.
        after: (Timestamp, EventId),
        /// Times up to this one, inclusive; settle lowers it to the millisecond before its flush, so that a row written
        /// later never falls behind the cursor.
        until: Timestamp,
    },
    /// All rows, in order of acceptance, after this event: of a webhook that is sent to in that order. While the rows of an
    /// event with very many webhooks are still being written, those up to it.
    Ordered {
        /// Exclusive; [`EventId::MIN`] for the start.
        after: EventId,
    },
}

/// The answer to [`RowsWanted`].
#[derive(Debug)]
pub struct Refilled {
    /// The webhook.
    pub webhook: WebhookNo,
    /// What was asked, with the cursor moved behind the last row looked at.
    pub lane: Lane,
    /// The rows, in the lane's order.
    pub rows: Vec<Row>,
    /// Of [`Lane::Ordered`]: which of the rows wait for a time, and for which; ascending by event.
    pub not_before: Box<[(EventId, Timestamp)]>,
    /// Whether the lane was empty behind them when the flush was done.
    pub end: bool,
    /// The earliest due time behind the cursor, if any row waits for one.
    pub next_due: Option<Timestamp>,
}

/// A delivery that waits on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The event.
    pub event: EventId,
    /// Attempts made so far.
    pub attempts: u16,
    /// Those of them before the last replay, which the retry schedule does not count.
    pub base: u16,
}

/// What waits on disk for a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The webhook.
    pub webhook: WebhookNo,
    /// Whether rows without a due time wait.
    pub ready: bool,
    /// The earliest due time.
    pub due: Option<Timestamp>,
}

/// What became of the wish to try a delivery once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retried {
    /// It is due now.
    Again,
    /// It waits for its turn or is under way: there is nothing to hurry.
    Waits,
    /// Its webhook takes no more.
    Abandoned(DeadReason),
    /// Nothing is known of such a delivery.
    #[default]
    Unknown,
}

/// What a row of `pending` says: u16 attempts, u16 base, i64 due time (0: ready), little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PendingRow {
    /// Attempts made so far.
    pub(super) attempts: u16,
    /// Those of them before the last replay, which the retry schedule does not count.
    pub(super) base: u16,
    /// When the next one is due; `None`: now.
    pub(super) due: Option<Timestamp>,
}

impl PendingRow {
    /// A row that waits for nothing.
    pub(super) const READY: Self = Self { attempts: 0, base: 0, due: None };

    /// A row of a delivery that is to be made again, after so many attempts.
    pub(super) const fn again(attempts: u16, due: Timestamp) -> Self {
        Self { attempts, base: attempts, due: Some(due) }
    }

    pub(super) fn encode(self) -> [u8; 12] {
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
