//! One file of the log or of `carry/`, and its handle.
//!
//! The newest segment is open for writing. The others are opened read-only on demand, and the least recently read ones
//! are closed.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::block::{BadBlock, BlockRecords, Packer};
use super::{LogPosition, ReadError};
use crate::limits::{LOG_CACHE_BYTES, SEALED_CACHE_BYTES};
use crate::model::{EventHead, EventId, Timestamp};
use crate::storage::file::RedbFile;
use crate::storage::format::SEGMENT_FILE;
use crate::storage::{Disk, FileError};

type Blocks = TableDefinition<'static, u128, &'static [u8]>;

const HEADS: Blocks = TableDefinition::new("heads");
const BODIES: Blocks = TableDefinition::new("bodies");

/// A segment of the log, or a file of carried events.
#[derive(Debug)]
pub(super) struct Segment {
    /// The position in the file's name. All events of the segment are at or after it.
    pub(super) first: LogPosition,
    file: RedbFile,
    span: OnceLock<SegmentSpan>,
}

/// A snapshot of both tables.
pub(super) struct SegmentTables {
    pub(super) heads: ReadOnlyTable<u128, &'static [u8]>,
    pub(super) bodies: ReadOnlyTable<u128, &'static [u8]>,
}

/// The first and last event of a segment, with the times they were received at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSpan {
    /// The first event.
    pub first: (LogPosition, Timestamp),
    /// The last event.
    pub last: (LogPosition, Timestamp),
}

/// A file created in advance. It becomes a segment when its first event arrives.
#[derive(Debug)]
pub(super) struct SpareSegment(RedbFile);

impl SpareSegment {
    /// Creates a file with empty tables. Its content is durable, its name is not.
    pub(super) fn create(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self, FileError> {
        Ok(Self(RedbFile::create_open(Arc::clone(disk), path, LOG_CACHE_BYTES, SEGMENT_FILE, make_tables)?))
    }

    /// Renames the file to the segment's name, and makes the name durable.
    pub(super) fn become_segment(mut self, dir: &Path, first: LogPosition) -> Result<Segment, FileError> {
        self.0.rename_to(&dir.join(file_name(first)))?;
        Ok(Segment { first, file: self.0, span: OnceLock::new() })
    }

    /// Adds blocks in one transaction.
    pub(super) fn append(&self, heads: &Packer, bodies: &Packer) -> Result<(), FileError> {
        Ok(append(self.0.write(true)?, heads, bodies)?)
    }

    /// Deletes the file.
    pub(super) fn discard(self, disk: &dyn Disk) -> std::io::Result<()> {
        self.0.abandon();
        disk.remove(self.0.path())
    }
}

impl Segment {
    /// Returns the segment of an existing file without opening it. Returns `None` if the file's name is not that of a
    /// segment.
    pub(super) fn at(disk: &Arc<dyn Disk>, path: &Path) -> Option<Self> {
        let first: EventId = path.file_name()?.to_str()?.strip_suffix(".redb")?.parse().ok()?;
        let file = RedbFile::unopened(Arc::clone(disk), path, SEALED_CACHE_BYTES, SEGMENT_FILE);
        Some(Self { first: LogPosition::of(first), file, span: OnceLock::new() })
    }

    /// Returns the file's path.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Opens the file for writing and repairs it. Reopens it if it is open, because redb refuses every operation after
    /// a failed write until the file is reopened.
    pub(super) fn open_writing(&self) -> Result<(), FileError> {
        self.file.reopen_with(LOG_CACHE_BYTES)?;
        let has_tables = self.file.read(|txn| match txn.open_table(BODIES) {
            Ok(_) => Ok(true),
            Err(TableError::TableDoesNotExist(_)) => Ok(false),
            Err(error) => Err(error.into()),
        })?;
        if !has_tables {
            let txn = self.file.write(true)?;
            make_tables(&txn)?;
            txn.commit()?;
        }
        Ok(())
    }

    /// Adds blocks in one transaction. On `Ok` they are durable.
    pub(super) fn append(&self, heads: &Packer, bodies: &Packer, two_phase: bool) -> Result<(), FileError> {
        Ok(append(self.file.write(two_phase)?, heads, bodies)?)
    }

    /// Reads from a snapshot. Reads again from a new handle if the handle is closed meanwhile. Returns `None` if the
    /// segment is retired.
    pub(super) fn read<T>(
        &self,
        mut from: impl FnMut(&SegmentTables) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.file.read_retrying(|txn| from(&SegmentTables::of(txn)?))
    }

    /// Closes the file even during reads. The next read opens it read-only.
    pub(super) fn close(&self) -> Result<(), FileError> {
        Ok(self.file.close(SEALED_CACHE_BYTES)?)
    }

    /// Closes the file permanently. Later reads return `None`.
    pub(super) fn retire(&self) {
        self.file.retire();
    }

    /// Returns whether the file is open for writing.
    pub(super) fn is_writing(&self) -> bool {
        self.file.is_writing()
    }

    /// Returns the first and last event, or `None` if the segment is empty or retired. The result is cached once the
    /// segment is not open for writing any more.
    pub(super) fn span(&self) -> Result<Option<SegmentSpan>, ReadError> {
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
            Ok(first.zip(last).map(|(first, last)| SegmentSpan { first, last }))
        })?;
        let span = span.flatten();
        if let (Some(span), false) = (span, growing) {
            let _ = self.span.set(span);
        }
        Ok(span)
    }
}

/// Returns the file name of the segment that begins at this position.
pub(super) fn file_name(first: LogPosition) -> String {
    format!("{first}.redb")
}

type Record<'a> = Option<Result<(LogPosition, &'a [u8]), BadBlock>>;

fn stamps<'a>(
    key: u128,
    block: &'a [u8],
    pick: impl FnOnce(&mut BlockRecords<'a>) -> Record<'a>,
) -> Result<Option<(LogPosition, Timestamp)>, ReadError> {
    let damaged = || ReadError::Damaged(LogPosition::from_key(key).event());
    let mut records = BlockRecords::of(block).map_err(|_| damaged())?;
    match pick(&mut records) {
        None => Ok(None),
        Some(record) => {
            let (at, head) = record.map_err(|_| damaged())?;
            let fields = EventHead::dedup_fields(head).map_err(|_| ReadError::Damaged(at.event()))?;
            Ok(Some((at, fields.received_at)))
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
            // A cursor would rewrite the table's last block, however large it is. `insert` does not move a block that
            // has pages of its own.
            table.insert(first.key(), block)?;
        }
    }
    Ok(txn.commit()?)
}

impl SegmentTables {
    fn of(txn: &ReadTransaction) -> Result<Self, FileError> {
        Ok(Self { heads: txn.open_table(HEADS)?, bodies: txn.open_table(BODIES)? })
    }
}

/// Opens a segment read-only without repairing it.
pub(super) fn open_unrepaired(disk: &Arc<dyn Disk>, path: &Path) -> Result<SegmentTables, FileError> {
    SegmentTables::of(&unopened(disk, path).read_unrepaired()?)
}

/// Repairs a segment if needed, and verifies the checksum of every page. Returns `false` if pages are damaged.
pub(super) fn check(disk: &Arc<dyn Disk>, path: &Path) -> Result<bool, FileError> {
    Ok(unopened(disk, path).check_integrity()?)
}

fn unopened(disk: &Arc<dyn Disk>, path: &Path) -> RedbFile {
    RedbFile::unopened(Arc::clone(disk), path, SEALED_CACHE_BYTES, SEGMENT_FILE)
}
