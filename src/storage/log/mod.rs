//! The log of accepted events: the trait [`EventLog`], and its implementation [`RedbLog`] with redb files.
//!
//! - [`EventLog`] can have another implementation, for instance a replicated log. It addresses events by position
//!   ([`LogPosition`]).
//! - [`ReadLog`] is the read-only part for code that addresses events by [`EventId`]. Every [`EventLog`] implements it.
//!
//! [`RedbLog`] is a sequence of segments, one file each. A segment has two tables, heads and bodies, in blocks of many
//! events ([`block`]). Appends go to the newest segment. The oldest segment is retired as a whole; events that are
//! still needed are first copied to a file of carried events.

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
pub use segment::SegmentSpan;
pub use stat::{LogStat, SegmentStat, SegmentState, stat, verify};

/// An event as the log stores it: its encoded head and its body ([`crate::model::data_of`], [`crate::model::raw_of`]).
pub type LogRecord = (Bytes, Bytes);

/// An event to append.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// The event's position. It must be after every position in the log.
    pub position: LogPosition,
    /// The encoded head ([`crate::model::NewEvent::encode`]).
    pub head: &'a [u8],
    /// The event's body.
    pub body: &'a [u8],
}

impl NewRecord<'_> {
    /// Returns the bytes that the event takes in the blocks.
    pub fn stored_bytes(&self) -> usize {
        2 * block::RECORD_HEADER + self.head.len() + self.body.len()
    }
}

/// The result of an append.
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    /// The proof that the appended events are durable.
    pub durable: Durable,
    /// Whether [`EventLog::seal`] and [`EventLog::create_next_segment`] must be called.
    pub prepare: bool,
}

/// A file of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFile {
    /// The position that the file is named after. All events in the file are at or after it.
    pub first: LogPosition,
    /// Bytes allocated on the disk.
    pub allocated: u64,
}

/// The encoded heads of one block, in the order of their positions.
pub type HeadRun<'a> = &'a [(LogPosition, &'a [u8])];

/// A durable log of events. One thread appends, one thread retires, and any thread reads.
pub trait EventLog: Send + Sync + 'static {
    /// Appends events in one durable transaction. Their positions must be ascending. On `Ok` all of them are durable,
    /// on `Err` none is in the log. `now` is the scheduling clock; it decides whether the newest segment is too old.
    fn append(&self, records: &[NewRecord<'_>], now: Timestamp) -> Result<Appended, AppendError>;

    /// Returns the proof for everything appended so far.
    fn durable(&self) -> Durable;

    /// Returns the events at these positions (ascending), each with head and body. An event that was retired is `None`.
    fn events_at(&self, positions: &[LogPosition]) -> Result<Vec<Option<LogRecord>>, ReadError>;

    /// Returns at most `limit` encoded heads after the position `after`, in ascending order.
    fn heads_after_position(&self, after: LogPosition, limit: usize) -> Result<Vec<(LogPosition, Bytes)>, ReadError>;

    /// Returns at most `limit` encoded heads before the position `before`, in descending order.
    fn heads_before_position(&self, before: LogPosition, limit: usize) -> Result<Vec<(LogPosition, Bytes)>, ReadError>;

    /// Visits the heads block by block, from the newest block to the oldest, without copying them. Stops when the
    /// visitor returns `Break`.
    fn walk_back(
        &self,
        visit: &mut dyn FnMut(HeadRun<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError>;

    /// Returns the segments, oldest first. Appends go to the last one.
    fn segments(&self) -> Vec<LogFile>;

    /// Returns the first and last event of a segment, or `None` if the segment is empty or deleted.
    fn span(&self, segment: LogPosition) -> Result<Option<SegmentSpan>, ReadError>;

    /// Deletes the oldest segment. First copies the events at `needed` (ascending) durably to a file of carried events,
    /// where [`EventLog::events_at`] still finds them. Calls `pause` between the steps of the deletion.
    fn retire(&self, segment: LogPosition, needed: &[LogPosition], pause: &mut dyn FnMut()) -> Result<(), RetireError>;

    /// Returns the files of carried events, oldest first.
    fn carried(&self) -> Vec<LogFile>;

    /// Returns the positions of the events in a file of carried events, ascending.
    fn carried_positions(&self, file: LogPosition) -> Result<Vec<LogPosition>, ReadError>;

    /// Rewrites a file of carried events with only the events at `needed`. Deletes the file if `needed` is empty.
    fn rewrite_carried(
        &self,
        file: LogPosition,
        needed: &[LogPosition],
        pause: &mut dyn FnMut(),
    ) -> Result<(), RetireError>;

    /// Declares that from now on another thread calls [`EventLog::seal`] and [`EventLog::create_next_segment`] whenever
    /// [`Appended::prepare`] is set. Without this call, appends create and close segments themselves.
    fn enable_background_prepare(&self);

    /// Closes full segments.
    fn seal(&self) -> Result<(), RetireError>;

    /// Creates the file of the next segment in advance, if there is none.
    fn create_next_segment(&self) -> Result<(), RetireError>;

    /// Closes every file, so that the next start has nothing to repair. Later reads reopen the files read-only.
    fn close(&self) -> Result<(), super::FileError>;
}

/// Read access to the log by event id. Every [`EventLog`] implements it.
pub trait ReadLog: Send + Sync + 'static {
    /// Returns the last durable event, or [`EventId::MIN`] for an empty log.
    fn last(&self) -> EventId;
    /// Returns these events (ascending), each with head and body. An event that retention removed is `None`.
    fn read(&self, events: &[EventId]) -> Result<Vec<Option<LogRecord>>, ReadError>;
    /// Returns at most `limit` encoded heads of the events after `after`, in ascending order.
    fn heads_after(&self, after: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError>;
    /// Returns at most `limit` encoded heads of the events before `before`, in descending order.
    fn heads_before(&self, before: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError>;
}

impl<L: EventLog> ReadLog for L {
    fn last(&self) -> EventId {
        self.durable().last().event()
    }

    fn read(&self, events: &[EventId]) -> Result<Vec<Option<LogRecord>>, ReadError> {
        let positions: Vec<_> = events.iter().copied().map(LogPosition::of).collect();
        self.events_at(&positions)
    }

    fn heads_after(&self, after: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        Ok(by_event(self.heads_after_position(LogPosition::of(after), limit)?))
    }

    fn heads_before(&self, before: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        Ok(by_event(self.heads_before_position(LogPosition::of(before), limit)?))
    }
}

fn by_event(heads: Vec<(LogPosition, Bytes)>) -> Vec<(EventId, Bytes)> {
    heads.into_iter().map(|(position, head)| (position.event(), head)).collect()
}
