//! One file of the log (or of `carry/`), and its handle.
//!
//! The newest is open for writing; the others are opened for reading when somebody reads, and closed when others are read
//! more. A reader takes a snapshot and never holds up who closes the file: redb then tells it so, and it takes the new
//! handle.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyDatabase, ReadOnlyTable, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};

use super::record::{BadBlock, Packer, Records};
use crate::limits::{LOG_CACHE_BYTES, SEALED_CACHE_BYTES};
use crate::model::{EventHead, EventId, Timestamp};
use crate::storage::{Disk, ReadError};

type Blocks = TableDefinition<'static, u128, &'static [u8]>;

const HEADS: Blocks = TableDefinition::new("heads");
const BODIES: Blocks = TableDefinition::new("bodies");
/// A reader whose handle is closed under it tries again this often …
const READ_TRIES: usize = 4;
/// … and waits this long for the commit thread to open the file again.
const REOPEN_WAIT: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    /// Its name: the first event it was made for. Each of its events has this id or a later one.
    pub(super) first: EventId,
    path: PathBuf,
    state: RwLock<State>,
    /// Counts handles, so that a reader can wait for the next one.
    handles: Mutex<u64>,
    renewed: Condvar,
    span: OnceLock<Span>,
}

enum State {
    Closed,
    Writing(Database),
    Reading(ReadOnlyDatabase),
    /// Retired: the file is no longer there for readers.
    Gone,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "Closed",
            Self::Writing(_) => "Writing",
            Self::Reading(_) => "Reading",
            Self::Gone => "Gone",
        })
    }
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
    pub first: (EventId, Timestamp),
    /// The last.
    pub last: (EventId, Timestamp),
}

/// A file made ahead, to be renamed when its first event comes.
#[derive(Debug)]
pub(super) struct Spare {
    db: Database,
    path: PathBuf,
}

impl Spare {
    /// Makes a file with empty tables, durable but for its name.
    pub(super) fn make(disk: &dyn Disk, path: PathBuf) -> Result<Self, redb::Error> {
        let db = open_writing(disk, &path)?;
        Ok(Self { db, path })
    }

    /// Gives the file its name and makes that durable.
    pub(super) fn become_segment(self, disk: &dyn Disk, dir: &Path, first: EventId) -> Result<Segment, redb::Error> {
        let path = dir.join(file_name(first));
        disk.rename(&self.path, &path)?;
        disk.sync_dir(dir)?;
        Ok(Segment::with_state(first, path, State::Writing(self.db)))
    }

    /// Adds blocks in one transaction.
    pub(super) fn append(&self, heads: &Packer, bodies: &Packer) -> Result<(), redb::Error> {
        append(self.db.begin_write()?, heads, bodies, true)
    }

    /// Removes the file again.
    pub(super) fn discard(self, disk: &dyn Disk) -> std::io::Result<()> {
        drop(self.db);
        disk.remove(&self.path)
    }
}

impl Segment {
    /// A file that is there, not yet opened.
    pub(super) fn at(path: PathBuf) -> Option<Self> {
        let first = path.file_name()?.to_str()?.strip_suffix(".redb")?.parse().ok()?;
        Some(Self::with_state(first, path, State::Closed))
    }

    fn with_state(first: EventId, path: PathBuf, state: State) -> Self {
        Self {
            first,
            path,
            state: RwLock::new(state),
            handles: Mutex::new(0),
            renewed: Condvar::new(),
            span: OnceLock::new(),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for writing, anew if it was open: after a failed write redb refuses everything until then. Repairs it.
    pub(super) fn open_writing(&self, disk: &dyn Disk) -> Result<(), redb::Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The old handle holds the file's lock.
        *state = State::Closed;
        *state = State::Writing(open_writing(disk, &self.path)?);
        drop(state);
        self.renew();
        Ok(())
    }

    /// Adds blocks in one transaction; on `Ok` they are in a completed fsync.
    pub(super) fn append(&self, heads: &Packer, bodies: &Packer, two_phase: bool) -> Result<(), redb::Error> {
        let txn = match &*self.state.read().unwrap_or_else(PoisonError::into_inner) {
            State::Writing(db) => db.begin_write()?,
            State::Closed | State::Reading(_) | State::Gone => return Err(redb::Error::DatabaseClosed),
        };
        append(txn, heads, bodies, two_phase)
    }

    /// Reads from a snapshot, again from a new handle if this one is closed meanwhile; `None` if the segment has gone.
    pub(super) fn read<T>(
        &self,
        disk: &dyn Disk,
        mut from: impl FnMut(&Tables) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let mut tries = 0;
        loop {
            let handle = *self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            let result = match self.tables(disk) {
                Ok(None) => return Ok(None),
                Ok(Some(tables)) => from(&tables),
                Err(error) => Err(error.into()),
            };
            tries += 1;
            match result {
                Err(ReadError::Storage(redb::Error::DatabaseClosed | redb::Error::PreviousIo))
                    if tries < READ_TRIES =>
                {
                    self.drop_handle(handle);
                }
                result => return result.map(Some),
            }
        }
    }

    /// Closes the file, whoever reads; the next reader opens it for reading.
    pub(super) fn close(&self) -> Result<(), redb::Error> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Gone) {
            return Ok(());
        }
        let closed = match std::mem::replace(&mut *state, State::Closed) {
            State::Writing(db) => db.close(),
            State::Reading(db) => db.close(),
            State::Closed | State::Gone => Ok(()),
        };
        drop(state);
        self.renew();
        Ok(closed?)
    }

    /// Closes it for good: readers look elsewhere from now on.
    pub(super) fn retire(&self) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = State::Gone;
        self.renew();
    }

    /// Whether it is open for writing.
    pub(super) fn is_writing(&self) -> bool {
        matches!(*self.state.read().unwrap_or_else(PoisonError::into_inner), State::Writing(_))
    }

    /// First and last event; `None` if it is empty or has gone. Looked up once for a segment that grows no more.
    pub(super) fn span(&self, disk: &dyn Disk) -> Result<Option<Span>, ReadError> {
        if let Some(span) = self.span.get() {
            return Ok(Some(*span));
        }
        let growing = self.is_writing();
        let span = self.read(disk, |tables| {
            let first = match tables.heads.first().map_err(redb::Error::from)? {
                Some((key, block)) => stamps(key.value(), block.value(), Iterator::next)?,
                None => None,
            };
            let last = match tables.heads.last().map_err(redb::Error::from)? {
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

    fn tables(&self, disk: &dyn Disk) -> Result<Option<Tables>, redb::Error> {
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if !matches!(*state, State::Closed) {
                return snapshot(&state);
            }
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Closed) {
            *state = State::Reading(open_reading(disk, &self.path)?);
        }
        snapshot(&state)
    }

    /// Makes sure that the next read is not from this handle.
    fn drop_handle(&self, handle: u64) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Reading(_)) {
            *state = State::Closed;
        }
        let writing = matches!(*state, State::Writing(_));
        drop(state);
        if writing {
            // Only the commit thread opens it again, and it does so at once if it sees the error too.
            let now = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = self.renewed.wait_timeout_while(now, REOPEN_WAIT, |now| *now == handle);
        }
    }

    fn renew(&self) {
        *self.handles.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.renewed.notify_all();
    }
}

/// The name of the segment that begins with this event.
pub(super) fn file_name(first: EventId) -> String {
    format!("{first}.redb")
}

type Record<'a> = Option<Result<(EventId, &'a [u8]), BadBlock>>;

fn stamps<'a>(
    key: u128,
    block: &'a [u8],
    pick: impl FnOnce(&mut Records<'a>) -> Record<'a>,
) -> Result<Option<(EventId, Timestamp)>, ReadError> {
    let damaged = || ReadError::Damaged(EventId::from_u128(key));
    let mut records = Records::of(block).map_err(|_| damaged())?;
    match pick(&mut records) {
        None => Ok(None),
        Some(record) => {
            let (id, head) = record.map_err(|_| damaged())?;
            let stamp = EventHead::stamp(head).map_err(|_| ReadError::Damaged(id))?;
            Ok(Some((id, stamp.received_at)))
        }
    }
}

fn append(mut txn: WriteTransaction, heads: &Packer, bodies: &Packer, two_phase: bool) -> Result<(), redb::Error> {
    txn.set_durability(Durability::Immediate)?;
    txn.set_two_phase_commit(two_phase);
    for (name, blocks) in [(HEADS, heads), (BODIES, bodies)] {
        let mut table = txn.open_table(name)?;
        for (first, block) in blocks.blocks() {
            // Not by cursor: that would write the table's last block once more, however large it is; `insert` leaves a
            // block with pages of its own where it is.
            table.insert(first.as_u128(), block)?;
        }
    }
    Ok(txn.commit()?)
}

fn snapshot(state: &State) -> Result<Option<Tables>, redb::Error> {
    let txn = match state {
        State::Writing(db) => db.begin_read()?,
        State::Reading(db) => db.begin_read()?,
        State::Closed => return Err(redb::Error::DatabaseClosed),
        State::Gone => return Ok(None),
    };
    Ok(Some(Tables { heads: txn.open_table(HEADS)?, bodies: txn.open_table(BODIES)? }))
}

fn open_writing(disk: &dyn Disk, path: &Path) -> Result<Database, redb::Error> {
    let db = Builder::new().set_cache_size(LOG_CACHE_BYTES).create_with_backend(disk.open(path)?)?;
    let has_tables = match db.begin_read()?.open_table(BODIES) {
        Ok(_) => true,
        Err(redb::TableError::TableDoesNotExist(_)) => false,
        Err(error) => return Err(error.into()),
    };
    if !has_tables {
        let txn = db.begin_write()?;
        txn.open_table(HEADS)?;
        txn.open_table(BODIES)?;
        txn.commit()?;
    }
    Ok(db)
}

fn open_reading(disk: &dyn Disk, path: &Path) -> Result<ReadOnlyDatabase, redb::Error> {
    let open = || Builder::new().set_cache_size(SEALED_CACHE_BYTES).open_read_only_with_backend(disk.open(path)?);
    match open() {
        // It was open in a crash: to be repaired, it must be opened for writing once.
        Err(DatabaseError::RepairAborted) => {
            open_writing(disk, path)?.close()?;
            Ok(open()?)
        }
        opened => Ok(opened?),
    }
}

/// Opens a segment for reading as it is, without repairing it.
pub(super) fn open_unrepaired(disk: &dyn Disk, path: &Path) -> Result<Option<Tables>, redb::Error> {
    let db = Builder::new().set_cache_size(SEALED_CACHE_BYTES).open_read_only_with_backend(disk.open(path)?)?;
    snapshot(&State::Reading(db))
}

/// Reads every page of a segment and compares its checksum, repairing what a crash left open; `false` if pages were
/// damaged.
pub(super) fn check(disk: &dyn Disk, path: &Path) -> Result<bool, redb::Error> {
    let mut db = open_writing(disk, path)?;
    let sound = db.check_integrity()?;
    db.close()?;
    Ok(sound)
}
