//! The bounds of a webhook's memory and of a shard.

use crate::limits;

/// The bounds of a webhook's memory and of a shard. Tests use small ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShardBounds {
    /// Entries of one webhook in memory.
    pub(super) window_entries: usize,
    /// Bytes of one webhook's events in memory.
    pub(super) window_bytes: usize,
    /// Fresh entries of one webhook.
    pub(super) fresh_entries: usize,
    /// Rows of one refill request.
    pub(super) refill_rows: usize,
    /// Refill requests of the shard without a reply.
    pub(super) refills: usize,
    /// Events of one body request.
    pub(super) body_read_events: usize,
    /// Deliveries of the shard in flight.
    pub(super) in_flight: usize,
}

impl Default for ShardBounds {
    fn default() -> Self {
        Self {
            window_entries: limits::WINDOW_ENTRIES,
            window_bytes: limits::WINDOW_BYTES,
            fresh_entries: limits::FRESH_ENTRIES,
            refill_rows: limits::REFILL_ROWS,
            refills: limits::REFILLS_PER_SHARD,
            body_read_events: limits::BODY_READ_EVENTS,
            in_flight: limits::IN_FLIGHT_PER_SHARD,
        }
    }
}
