//! The log of events as its readers see it.

use bytes::Bytes;

use crate::model::EventId;

/// An event as the log holds it: its encoded head and its body ([`crate::model::data_of`], [`crate::model::raw_of`]).
pub type Stored = (Bytes, Bytes);

/// The log as its readers see it; the seam for another store of events.
pub trait ReadLog: Send + Sync + 'static {
    /// The last event that is durable, [`EventId::MIN`] in an empty log.
    fn last(&self) -> EventId;
    /// These events (ascending), each with head and body; `None` for what the log's limits took.
    fn read(&self, events: &[EventId]) -> Result<Vec<Option<Stored>>, ReadError>;
    /// Encoded heads of the events after `after`, ascending, at most `limit`.
    fn heads_after(&self, after: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError>;
    /// Encoded heads of the events before `before`, descending, at most `limit`.
    fn heads_before(&self, before: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError>;
}

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// redb or the disk.
    #[error("the log cannot be read: {0}")]
    Storage(#[from] redb::Error),
    /// A record that this program does not understand.
    #[error("the log holds a damaged record at {0}")]
    Damaged(EventId),
}
