//! The log of accepted events: what the program asks of it, and the store of redb files that answers.
//!
//! [`EventLog`] is the seam for another store, for instance a replicated one. It speaks of places ([`LogPosition`]).
//! [`ReadLog`] is its reading half for the code that speaks of events; every event log is one.
//!
//! The store ([`RedbLog`]) is a row of files. A segment has two tables, heads and bodies, in blocks of many events
//! ([`block`]). The newest segment grows. The others are retired whole, oldest first; bodies that somebody still needs are
//! carried to a file of their own before.

pub mod block;
mod durable;
mod error;
mod position;

mod open;
mod read;
mod retire;
mod scan;
mod segment;
mod stat;
mod write;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::model::{EventId, Timestamp};

pub use durable::{Durable, DurableEvent};
pub use error::{AppendError, OpenLogError, ReadError, RetireError};
pub use position::LogPosition;
pub use read::RedbLog;
pub use segment::Span;
pub use stat::{LogStat, SegmentStat, SegmentState, stat, verify};

/// An event as the log holds it: its encoded head and its body ([`crate::model::data_of`], [`crate::model::raw_of`]).
pub type Stored = (Bytes, Bytes);

/// An event to be appended.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Behind every place of the log.
    pub position: LogPosition,
    /// The encoded head ([`crate::model::NewEvent::encode`]).
    pub head: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

impl NewRecord<'_> {
    /// Bytes of the record in its blocks.
    pub fn stored_bytes(&self) -> usize {
        2 * block::RECORD_HEADER + self.head.len() + self.body.len()
    }
}

/// What came of an append.
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    /// Covers the appended events.
    pub durable: Durable,
    /// [`EventLog::seal`] and [`EventLog::make_ahead`] have something to do.
    pub prepare: bool,
}

/// A file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFile {
    /// The file's name: no event in it is before this place.
    pub first: LogPosition,
    /// Bytes that it takes on the disk.
    pub allocated: u64,
}

/// Heads that were stored together, in the order of their places.
pub type HeadRun<'a> = &'a [(LogPosition, &'a [u8])];

/// A durable log of events. One thread appends, one retires, and anybody reads.
pub trait EventLog: Send + Sync + 'static {
    /// Appends events in one durable transaction, their places rising. On `Ok` all of them are in a completed fsync, on `Err`
    /// none is in the log. `now`, on the scheduling clock, decides whether the current segment is too old to grow.
    fn append(&self, records: &[NewRecord<'_>], now: Timestamp) -> Result<Appended, AppendError>;

    /// Proof for everything appended so far.
    fn durable(&self) -> Durable;

    /// The events at these places (ascending), each with head and body; `None` for one that was retired.
    fn events_at(&self, positions: &[LogPosition]) -> Result<Vec<Option<Stored>>, ReadError>;

    /// Encoded heads behind `after`, ascending, at most `limit`.
    fn heads_behind(&self, after: LogPosition, limit: usize) -> Result<Vec<(LogPosition, Bytes)>, ReadError>;

    /// Encoded heads ahead of `before`, descending, at most `limit`.
    fn heads_ahead_of(&self, before: LogPosition, limit: usize) -> Result<Vec<(LogPosition, Bytes)>, ReadError>;

    /// Visits heads from the newest run to the oldest, without copying them, until the visitor breaks.
    fn walk_back(
        &self,
        visit: &mut dyn FnMut(HeadRun<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError>;

    /// The segments, oldest first; the last one grows.
    fn segments(&self) -> Vec<LogFile>;

    /// First and last event of a segment; `None` if it is empty or gone.
    fn span(&self, segment: LogPosition) -> Result<Option<Span>, ReadError>;

    /// Removes the oldest segment. The events at `needed` (ascending) are carried to a file of their own first, durably, and
    /// stay readable by [`EventLog::events_at`]. `pause` is called between the steps of the removal.
    fn retire(&self, segment: LogPosition, needed: &[LogPosition], pause: &mut dyn FnMut()) -> Result<(), RetireError>;

    /// The files of carried events, oldest first.
    fn carried(&self) -> Vec<LogFile>;

    /// The places of the events in a file of carried events, ascending.
    fn carried_positions(&self, file: LogPosition) -> Result<Vec<LogPosition>, ReadError>;

    /// Writes a file of carried events anew with only these events; removes it if there are none.
    fn keep_carried(
        &self,
        file: LogPosition,
        needed: &[LogPosition],
        pause: &mut dyn FnMut(),
    ) -> Result<(), RetireError>;

    /// From now on a thread calls [`EventLog::seal`] and [`EventLog::make_ahead`] whenever an append asks for it.
    fn prepare_from_now_on(&self);

    /// Closes segments that are full.
    fn seal(&self) -> Result<(), RetireError>;

    /// Makes the file of the next segment ahead, if there is none.
    fn make_ahead(&self) -> Result<(), RetireError>;

    /// Closes every file, so that the next start has nothing to repair. Later readers open them again for reading.
    fn close(&self) -> Result<(), super::FileError>;
}

/// The log as the readers of events see it.
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

/// The border between places and event ids.
impl<L: EventLog> ReadLog for L {
    fn last(&self) -> EventId {
        self.durable().last().event()
    }

    fn read(&self, events: &[EventId]) -> Result<Vec<Option<Stored>>, ReadError> {
        let positions: Vec<_> = events.iter().copied().map(LogPosition::of).collect();
        self.events_at(&positions)
    }

    fn heads_after(&self, after: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        Ok(by_event(self.heads_behind(LogPosition::of(after), limit)?))
    }

    fn heads_before(&self, before: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        Ok(by_event(self.heads_ahead_of(LogPosition::of(before), limit)?))
    }
}

fn by_event(heads: Vec<(LogPosition, Bytes)>) -> Vec<(EventId, Bytes)> {
    heads.into_iter().map(|(position, head)| (position.event(), head)).collect()
}
