//! One file of the log (or of `carry/`), and its handle.
//!
//! The newest is open for writing; the others are opened for reading when somebody reads, and closed when others are read
//! more.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::block::{BadBlock, Packer, Records};
use super::{LogPosition, ReadError};
use crate::limits::{LOG_CACHE_BYTES, SEALED_CACHE_BYTES};
use crate::model::{EventHead, EventId, Timestamp};
use crate::storage::file::Store;
use crate::storage::format::SEGMENT_FILE;
use crate::storage::{Disk, FileError};

type Blocks = TableDefinition<'static, u128, &'static [u8]>;

const HEADS: Blocks = TableDefinition::new("heads");
const BODIES: Blocks = TableDefinition::new("bodies");

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its name: the first event it was made for. Each of its events is at this place or behind it.
    pub(super) first: LogPosition,
    file: Store,
    span: OnceLock<Span>,
}

/// A snapshot of both tables.
pub(super) struct Tables {
    pub(super) heads: ReadOnlyTable<u128, &'static [u8]>,
    pub(super) bodies: ReadOnlyTable<u128, &'static [u8]>,
}

/// First and last event with the times of their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first event.
    pub first: (LogPosition, Timestamp),
    /// The last.
    pub last: (LogPosition, Timestamp),
}

/// A file made ahead, to be renamed when its first event comes.
#[derive(Debug)]
pub(super) struct Spare(Store);

impl Spare {
    /// Makes a file with empty tables, durable but for its name.
    pub(super) fn make(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self, FileError> {
        Ok(Self(Store::make_open(Arc::clone(disk), path, LOG_CACHE_BYTES, SEGMENT_FILE, make_tables)?))
    }

    /// Gives the file its name and makes that durable.
    pub(super) fn become_segment(mut self, dir: &Path, first: LogPosition) -> Result<Segment, FileError> {
        self.0.take_name(&dir.join(file_name(first)))?;
        Ok(Segment { first, file: self.0, span: OnceLock::new() })
    }

    /// Adds blocks in one transaction.
    pub(super) fn append(&self, heads: &Packer, bodies: &Packer) -> Result<(), FileError> {
        Ok(append(self.0.write(true)?, heads, bodies)?)
    }

    /// Removes the file again.
    pub(super) fn discard(self, disk: &dyn Disk) -> std::io::Result<()> {
        self.0.abandon();
        disk.remove(self.0.path())
    }
}

impl Segment {
    /// A file that is there, not yet opened.
    pub(super) fn at(disk: &Arc<dyn Disk>, path: &Path) -> Option<Self> {
        let first: EventId = path.file_name()?.to_str()?.strip_suffix(".redb")?.parse().ok()?;
        let file = Store::closed(Arc::clone(disk), path, SEALED_CACHE_BYTES, SEGMENT_FILE);
        Some(Self { first: LogPosition::of(first), file, span: OnceLock::new() })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Opens it for writing, anew if it was open: after a failed write redb refuses everything until then. Repairs it.
    pub(super) fn open_writing(&self) -> Result<(), FileError> {
        self.file.reopen_with(LOG_CACHE_BYTES)?;
        let has_tables = self.file.read(|txn| match txn.open_table(BODIES) {
            Ok(_) => Ok(true),
            Err(TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error.into()),
        })?;
        if !has_tables {
            let txn = self.file.write(false)?;
            make_tables(&txn)?;
            txn.commit()?;
        }
        Ok(())
    }

    /// Adds blocks in one transaction; on `Ok` they are in a completed fsync.
    pub(super) fn append(&self, heads: &Packer, bodies: &Packer, two_phase: bool) -> Result<(), FileError> {
        Ok(append(self.file.write(two_phase)?, heads, bodies)?)
    }

    /// Reads from a snapshot, again from a new handle if this one is closed meanwhile; `None` if the segment has gone.
    pub(super) fn read<T>(
        &self,
        mut from: impl FnMut(&Tables) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.file.read_again(|txn| from(&Tables::of(txn)?))
    }

    /// Closes the file, whoever reads; the next reader opens it for reading.
    pub(super) fn close(&self) -> Result<(), FileError> {
        Ok(self.file.close(SEALED_CACHE_BYTES)?)
    }

    /// Closes it for good: readers look elsewhere from now on.
    pub(super) fn retire(&self) {
        self.file.retire();
    }

    /// Whether it is open for writing.
    pub(super) fn is_writing(&self) -> bool {
        self.file.is_writing()
    }

    /// First and last event; `None` if it is empty or has gone. Looked up once for a segment that grows no more.
    pub(super) fn span(&self) -> Result<Option<Span>, ReadError> {
        if let Some(span) = self.span.get() {
            return Ok(Some(*span));
        }
        let growing = self.is_writing();
        let span = self.read(|tables| {
            let first = match tables.heads.first().map_err(FileError::from)? {
                Some((key, block)) => stamps(key.value(), block.value(), Iterator::next)?,
                None => None,
            };
            let last = match tables.heads.last().map_err(FileError::from)? {
                Some((key, block)) => stamps(key.value(), block.value(), |records| records.last())?,
                None => None,
            };
            Ok(first.zip(last).map(|(first, last)| Span { first, last }))
        })?;
        let span = span.flatten();
        if let (Some(span), false) = (span, growing) {
            let _ = self.span.set(span);
        }
        Ok(span)
    }
}

/// The name of the segment that begins with this event.
pub(super) fn file_name(first: LogPosition) -> String {
    format!("{first}.redb")
}

type Record<'a> = Option<Result<(LogPosition, &'a [u8]), BadBlock>>;

fn stamps<'a>(
    key: u128,
    block: &'a [u8],
    pick: impl FnOnce(&mut Records<'a>) -> Record<'a>,
) -> Result<Option<(LogPosition, Timestamp)>, ReadError> {
    let damaged = || ReadError::Damaged(LogPosition::from_key(key).event());
    let mut records = Records::of(block).map_err(|_| damaged())?;
    match pick(&mut records) {
        None => Ok(None),
        Some(record) => {
            let (at, head) = record.map_err(|_| damaged())?;
            let stamp = EventHead::stamp(head).map_err(|_| ReadError::Damaged(at.event()))?;
            Ok(Some((at, stamp.received_at)))
        }
    }
}

fn make_tables(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(HEADS)?;
    txn.open_table(BODIES)?;
    Ok(())
}

fn append(txn: WriteTransaction, heads: &Packer, bodies: &Packer) -> Result<(), redb::Error> {
    for (name, blocks) in [(HEADS, heads), (BODIES, bodies)] {
        let mut table = txn.open_table(name)?;
        for (first, block) in blocks.blocks() {
            // Not by cursor: that would write the table's last block once more, however large it is; `insert` leaves a
            // block with pages of its own where it is.
            table.insert(first.key(), block)?;
        }
    }
    Ok(txn.commit()?)
}

impl Tables {
    fn of(txn: &ReadTransaction) -> Result<Self, FileError> {
        Ok(Self { heads: txn.open_table(HEADS)?, bodies: txn.open_table(BODIES)? })
    }
}

/// Opens a segment for reading as it is, without repairing it.
pub(super) fn open_unrepaired(disk: &Arc<dyn Disk>, path: &Path) -> Result<Tables, FileError> {
    Tables::of(&closed(disk, path).read_unrepaired()?)
}

/// Reads every page of a segment and compares its checksum, repairing what a crash left open; `false` if pages were
/// damaged.
pub(super) fn check(disk: &Arc<dyn Disk>, path: &Path) -> Result<bool, FileError> {
    Ok(closed(disk, path).check_integrity()?)
}

fn closed(disk: &Arc<dyn Disk>, path: &Path) -> Store {
    Store::closed(Arc::clone(disk), path, SEALED_CACHE_BYTES, SEGMENT_FILE)
}
