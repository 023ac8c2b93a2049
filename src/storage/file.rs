//! A redb file that can be closed and opened again under its readers.
//!
//! After an I/O error redb refuses everything, reads included, until the file is opened anew; a full disk must not end
//! the process, so the handle stands behind a slot that its readers look into for each transaction.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Builder, Database, Durability, Error, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::storage::Disk;

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    cache_bytes: AtomicUsize,
    slot: RwLock<Slot>,
}

#[derive(Debug)]
enum Slot {
    Open(Database),
    Closed,
    /// The file is about to go: it must not be opened, and so made, again.
    Retired,
}

/// An empty file needs no more.
const MAKING_CACHE_BYTES: usize = 1 << 20;

impl Store {
    /// Opens the file, made if it is not there.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        let store = Self::closed(disk, path, cache_bytes);
        store.reopen()?;
        Ok(store)
    }

    /// Makes the file if it is not there: under another name first, as a crash between redb's first writes leaves one that
    /// cannot be opened.
    pub(crate) fn make(disk: &Arc<dyn Disk>, path: &Path) -> Result<(), Error> {
        if disk.size(path).is_ok() {
            return Ok(());
        }
        let new = path.with_extension("new");
        if disk.size(&new).is_ok() {
            disk.remove(&new)?;
        }
        Self::open(Arc::clone(disk), &new, MAKING_CACHE_BYTES)?.close(MAKING_CACHE_BYTES)?;
        disk.rename(&new, path)?;
        if let Some(dir) = path.parent() {
            disk.sync_dir(dir)?;
        }
        Ok(())
    }

    /// A file that is opened when it is first read by [`Store::read_opening`].
    pub(crate) fn closed(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Self {
        let cache_bytes = AtomicUsize::new(cache_bytes);
        Self { disk, path: path.to_owned(), cache_bytes, slot: RwLock::new(Slot::Closed) }
    }

    /// Closes the file and opens it again, which drops whatever had not been committed.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Retired) {
            return Err(Error::DatabaseClosed);
        }
        // The old handle goes first: a file has one. If it has seen an I/O error it has nothing useful to say.
        *slot = Slot::Closed;
        *slot = Slot::Open(self.open_file()?);
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
        match std::mem::replace(&mut *slot, Slot::Closed) {
            Slot::Open(database) => Ok(database.close()?),
            Slot::Closed => Ok(()),
            Slot::Retired => {
                *slot = Slot::Retired;
                Ok(())
            }
        }
    }

    /// Closes the file for good.
    pub(crate) fn retire(&self) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = Slot::Retired;
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

    /// Reads, opening the file if it is closed; whether it was.
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

    fn begin_read(&self) -> Result<ReadTransaction, Error> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Slot::Open(database) => Ok(database.begin_read()?),
            Slot::Closed | Slot::Retired => Err(Error::DatabaseClosed),
        }
    }

    fn open_file(&self) -> Result<Database, Error> {
        let backend = self.disk.open(&self.path)?;
        Ok(Builder::new().set_cache_size(self.cache_bytes.load(Ordering::Relaxed)).create_with_backend(backend)?)
    }
}

/// Whether an error says that the disk is full, which passes, where others do not.
pub(crate) fn is_full(error: &Error) -> bool {
    match error {
        Error::Io(io) => matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
        _ => false,
    }
}
