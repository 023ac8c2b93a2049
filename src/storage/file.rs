//! The lifecycle of a redb file: made, opened for writing or for reading, closed, opened again, retired.
//!
//! The handle stands behind a slot that readers look into for each transaction. After an I/O error redb refuses everything,
//! reads included, until the file is opened anew, and a full disk must not end the process. A reader never holds up the
//! thread that closes the file: redb tells the reader that its handle is closed, and the reader takes the next handle.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redb::{
    Builder, Database, DatabaseError, Durability, Error, ReadOnlyDatabase, ReadTransaction, ReadableDatabase,
    WriteTransaction,
};

use super::Disk;
use super::error::FileError;
use super::format::{self, FileKind};

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    kind: FileKind,
    cache_bytes: AtomicUsize,
    slot: RwLock<Slot>,
    /// Counts handles, so that a reader can wait for the next one.
    handles: Mutex<u64>,
    renewed: Condvar,
}

enum Slot {
    Open(Database),
    Reading(ReadOnlyDatabase),
    Closed,
    /// The file is about to go: it must not be opened, and so made, again.
    Retired,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Reading(_) => "Reading",
            Self::Closed => "Closed",
            Self::Retired => "Retired",
        })
    }
}

/// An empty file needs no more.
const MAKING_CACHE_BYTES: usize = 1 << 20;
/// A reader whose handle is closed under it tries again this often …
const READ_TRIES: usize = 4;
/// … and waits this long for the writing thread to open the file again.
const REOPEN_WAIT: Duration = Duration::from_secs(2);

impl Store {
    /// Opens the file for writing, made if it is not there. Refuses a file of a newer format.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize, kind: FileKind) -> Result<Self, Error> {
        let store = Self::closed(disk, path, cache_bytes, kind);
        store.reopen()?;
        Ok(store)
    }

    /// Makes the file if it is not there: under another name first, as a crash between redb's first writes leaves one that
    /// cannot be opened.
    pub(crate) fn make(disk: &Arc<dyn Disk>, path: &Path, kind: FileKind) -> Result<(), Error> {
        Self::make_as(disk, path, &path.with_extension("new"), kind, |_| Ok(()))
    }

    /// The same, with the name that the file has until it is complete, and with what is written into it.
    pub(crate) fn make_as(
        disk: &Arc<dyn Disk>,
        path: &Path,
        new: &Path,
        kind: FileKind,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if disk.size(path).is_ok() {
            return Ok(());
        }
        if disk.size(new).is_ok() {
            disk.remove(new)?;
        }
        let mut store = Self::make_open(Arc::clone(disk), new, MAKING_CACHE_BYTES, kind, fill)?;
        store.close(MAKING_CACHE_BYTES)?;
        store.take_name(path)
    }

    /// Makes a file, durable but for its name, and leaves it open for writing. [`Store::take_name`] completes it.
    pub(crate) fn make_open(
        disk: Arc<dyn Disk>,
        new: &Path,
        cache_bytes: usize,
        kind: FileKind,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let store = Self::open(disk, new, cache_bytes, kind)?;
        let txn = store.write(false)?;
        format::stamp(&txn, kind)?;
        fill(&txn)?;
        txn.commit()?;
        Ok(store)
    }

    /// Gives the file its own name, and makes the name durable.
    pub(crate) fn take_name(&mut self, path: &Path) -> Result<(), Error> {
        self.disk.rename(&self.path, path)?;
        path.clone_into(&mut self.path);
        if let Some(dir) = path.parent() {
            self.disk.sync_dir(dir)?;
        }
        Ok(())
    }

    /// A file that is opened when it is first read by [`Store::read_opening`] or [`Store::read_again`].
    pub(crate) fn closed(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize, kind: FileKind) -> Self {
        Self {
            disk,
            path: path.to_owned(),
            kind,
            cache_bytes: AtomicUsize::new(cache_bytes),
            slot: RwLock::new(Slot::Closed),
            handles: Mutex::new(0),
            renewed: Condvar::new(),
        }
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is open for writing.
    pub(crate) fn is_writing(&self) -> bool {
        matches!(*self.slot.read().unwrap_or_else(PoisonError::into_inner), Slot::Open(_))
    }

    /// Closes the file and opens it again for writing, which drops whatever had not been committed.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Retired) {
            return Err(Error::DatabaseClosed);
        }
        // The old handle goes first: a file has one. If it has seen an I/O error it has nothing useful to say.
        *slot = Slot::Closed;
        *slot = Slot::Open(self.open_file()?);
        drop(slot);
        self.renew();
        Ok(())
    }

    /// The same, with another cache.
    pub(crate) fn reopen_with(&self, cache_bytes: usize) -> Result<(), Error> {
        self.cache_bytes.store(cache_bytes, Ordering::Relaxed);
        self.reopen()
    }

    /// Closes the file; from now on it is opened with another cache.
    pub(crate) fn close(&self, cache_bytes: usize) -> Result<(), Error> {
        self.cache_bytes.store(cache_bytes, Ordering::Relaxed);
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        let closed = match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Open(database) => database.close(),
            Slot::Reading(database) => database.close(),
            Slot::Closed => Ok(()),
            Slot::Retired => {
                *slot = Slot::Retired;
                Ok(())
            }
        };
        drop(slot);
        self.renew();
        Ok(closed?)
    }

    /// Drops the handle without the work of a clean close, after an error. The next opening repairs the file.
    pub(crate) fn abandon(&self) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*slot, Slot::Retired) {
            *slot = Slot::Closed;
        }
    }

    /// Closes the file for good.
    pub(crate) fn retire(&self) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Slot::Retired;
        self.renew();
    }

    /// Begins a write that is on the disk when its commit returns.
    pub(crate) fn write(&self, two_phase: bool) -> Result<WriteTransaction, Error> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let Slot::Open(database) = &*slot else { return Err(Error::DatabaseClosed) };
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_two_phase_commit(two_phase);
        Ok(txn)
    }

    /// Reads; once more if the file was opened anew meanwhile.
    pub(crate) fn read<T>(&self, read: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error> {
        match self.begin_read().and_then(|txn| read(&txn)) {
            Err(Error::DatabaseClosed | Error::PreviousIo) => read(&self.begin_read()?),
            done => done,
        }
    }

    /// Reads, opening the file for writing if it is closed; whether it was.
    pub(crate) fn read_opening<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<(T, bool), Error> {
        match self.read(&read) {
            Err(Error::DatabaseClosed) => {
                let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
                if matches!(*slot, Slot::Closed) {
                    *slot = Slot::Open(self.open_file()?);
                }
                drop(slot);
                Ok((self.read(&read)?, true))
            }
            done => Ok((done?, false)),
        }
    }

    /// Reads, opening the file for reading alone if it is closed. Reads again from a new handle if the handle is closed
    /// meanwhile, and waits for that handle if the file was open for writing. `None` if the file is retired.
    pub(crate) fn read_again<T, E: From<FileError> + OfFile>(
        &self,
        mut read: impl FnMut(&ReadTransaction) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let mut tries = 0;
        loop {
            let handle = *self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            let result = match self.begin_reading() {
                Ok(None) => return Ok(None),
                Ok(Some(txn)) => read(&txn),
                Err(error) => Err(FileError::from(error).into()),
            };
            tries += 1;
            match result {
                Err(error) if error.of_file().is_some_and(FileError::is_stale) && tries < READ_TRIES => {
                    self.drop_handle(handle);
                }
                result => return result.map(Some),
            }
        }
    }

    /// A snapshot of the open file.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, Error> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        slot.begin_read()?.ok_or(Error::DatabaseClosed)
    }

    /// `None` if the file is retired.
    fn begin_reading(&self) -> Result<Option<ReadTransaction>, Error> {
        {
            let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            if !matches!(*slot, Slot::Closed) {
                return slot.begin_read();
            }
        }
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Closed) {
            *slot = Slot::Reading(self.open_reading()?);
        }
        slot.begin_read()
    }

    /// Makes sure that the next read is not from this handle.
    fn drop_handle(&self, handle: u64) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Reading(_)) {
            *slot = Slot::Closed;
        }
        let is_writing = matches!(*slot, Slot::Open(_));
        drop(slot);
        if is_writing {
            // Only the writing thread opens it again, and it does so at once if it sees the error too.
            let now = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = self.renewed.wait_timeout_while(now, REOPEN_WAIT, |now| *now == handle);
        }
    }

    fn renew(&self) {
        *self.handles.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.renewed.notify_all();
    }

    fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes.load(Ordering::Relaxed));
        builder
    }

    /// Opens for writing, and repairs what a crash left open.
    fn open_file(&self) -> Result<Database, Error> {
        let database = self.builder().create_with_backend(self.disk.open(&self.path)?)?;
        format::check(&database.begin_read()?, &self.path, self.kind)?;
        Ok(database)
    }

    fn open_reading(&self) -> Result<ReadOnlyDatabase, Error> {
        match self.open_unrepaired() {
            // It was open in a crash: to be repaired, it must be opened for writing once.
            Err(Error::RepairAborted) => {
                self.open_file()?.close()?;
                self.open_unrepaired()
            }
            opened => opened,
        }
    }

    fn open_unrepaired(&self) -> Result<ReadOnlyDatabase, Error> {
        let backend = self.disk.open(&self.path)?;
        let database = self.builder().open_read_only_with_backend(backend).map_err(|error| match error {
            DatabaseError::RepairAborted => Error::RepairAborted,
            other => other.into(),
        })?;
        format::check(&database.begin_read()?, &self.path, self.kind)?;
        Ok(database)
    }

    /// Reads a closed file as it is, without repairing it.
    pub(crate) fn read_unrepaired(&self) -> Result<ReadTransaction, Error> {
        Ok(self.open_unrepaired()?.begin_read()?)
    }

    /// Reads every page of a closed file and compares its checksum, repairing what a crash left open; `false` if pages were
    /// damaged.
    pub(crate) fn check_integrity(&self) -> Result<bool, Error> {
        let mut database = self.open_file()?;
        let is_sound = database.check_integrity()?;
        database.close()?;
        Ok(is_sound)
    }
}

impl Slot {
    /// A snapshot; `None` if the file is retired.
    fn begin_read(&self) -> Result<Option<ReadTransaction>, Error> {
        match self {
            Self::Open(database) => Ok(Some(database.begin_read()?)),
            Self::Reading(database) => Ok(Some(database.begin_read()?)),
            Self::Closed => Err(Error::DatabaseClosed),
            Self::Retired => Ok(None),
        }
    }
}

/// An error that may be of the file that was read.
pub(crate) trait OfFile {
    /// The error of the file.
    fn of_file(&self) -> Option<&FileError>;
}

/// Whether an error says that the disk is full, which passes, where others do not.
pub(crate) fn is_full(error: &Error) -> bool {
    match error {
        Error::Io(error) => is_full_io(error),
        _ => false,
    }
}

/// The same of an error of the file system.
pub(crate) fn is_full_io(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
