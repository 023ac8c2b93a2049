//! The lifecycle of a redb file: create, open for writing or reading, close, reopen, retire.
//!
//! After an I/O error redb refuses every operation, reads included, until the file is reopened, and a full disk must
//! not end the process. So readers look up the current handle for each transaction. A reader never blocks the thread
//! that closes the file: redb returns an error to the reader, and the reader takes the next handle.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redb::{
    Builder, Database, DatabaseError, Durability, Error, ReadOnlyDatabase, ReadTransaction, ReadableDatabase,
    WriteTransaction,
};

use super::Disk;
use super::error::FileError;
use super::format::{self, FileKind};

/// A redb file with its current handle. Threads share it by reference.
#[derive(Debug)]
pub(crate) struct RedbFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    kind: FileKind,
    cache_bytes: AtomicUsize,
    slot: RwLock<FileState>,
    /// Whether this process has dropped what the kernel had cached of the file before.
    is_cache_dropped: AtomicBool,
    /// The number of handles so far. A reader waits here for the next one.
    handles: Mutex<u64>,
    renewed: Condvar,
}

enum FileState {
    Open(Database),
    Reading(ReadOnlyDatabase),
    Closed,
    /// The file is about to be deleted. Opening it would create it again, so it stays closed.
    Retired,
}

impl std::fmt::Debug for FileState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Reading(_) => "Reading",
            Self::Closed => "Closed",
            Self::Retired => "Retired",
        })
    }
}

/// Cache while a file is created: an empty file needs no more.
const CREATE_CACHE_BYTES: usize = 1 << 20;
/// Read attempts of a reader whose handle is closed during the read.
const READ_TRIES: usize = 4;
/// How long such a reader waits for the writing thread to reopen the file.
const REOPEN_WAIT: Duration = Duration::from_secs(2);

impl RedbFile {
    /// Opens the file for writing, and creates it if it does not exist. Fails for a file of a newer format.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize, kind: FileKind) -> Result<Self, Error> {
        let store = Self::unopened(disk, path, cache_bytes, kind);
        store.reopen()?;
        Ok(store)
    }

    /// Creates the file if it does not exist, and makes its name durable. The file first gets a temporary name, because
    /// a crash between redb's first writes leaves a file that cannot be opened.
    pub(crate) fn create(disk: &Arc<dyn Disk>, path: &Path, kind: FileKind) -> Result<(), Error> {
        Self::create_as(disk, path, &path.with_extension("new"), kind, |_| Ok(()))
    }

    /// Like [`RedbFile::create`]. `new` is the temporary name, and `fill` writes the first content.
    pub(crate) fn create_as(
        disk: &Arc<dyn Disk>,
        path: &Path,
        new: &Path,
        kind: FileKind,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if disk.size(path).is_ok() {
            // An earlier try may have failed, or been killed, between the renaming and the sync of the folder.
            return Ok(path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))?);
        }
        if disk.size(new).is_ok() {
            disk.remove(new)?;
        }
        let mut store = Self::create_open(Arc::clone(disk), new, CREATE_CACHE_BYTES, kind, fill)?;
        store.close(CREATE_CACHE_BYTES)?;
        store.rename_to(path)
    }

    /// Creates a file under the temporary name `new` and leaves it open for writing. Its content is durable, its name
    /// is not. [`RedbFile::rename_to`] gives it its final name.
    pub(crate) fn create_open(
        disk: Arc<dyn Disk>,
        new: &Path,
        cache_bytes: usize,
        kind: FileKind,
        fill: impl FnOnce(&WriteTransaction) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let store = Self::open(disk, new, cache_bytes, kind)?;
        // Two phases, because the file may stay open. After a one-phase commit, the repair of a crash takes a later
        // transaction as committed whose fsync failed, if the kernel's cache still shows all its pages.
        let txn = store.write(true)?;
        format::stamp(&txn, kind)?;
        fill(&txn)?;
        txn.commit()?;
        Ok(store)
    }

    /// Renames the file to its final name and makes the name durable.
    pub(crate) fn rename_to(&mut self, path: &Path) -> Result<(), Error> {
        self.disk.rename(&self.path, path)?;
        path.clone_into(&mut self.path);
        if let Some(dir) = path.parent() {
            self.disk.sync_dir(dir)?;
        }
        Ok(())
    }

    /// Returns a closed file. [`RedbFile::read_or_open`] or [`RedbFile::read_retrying`] opens it on the first read.
    pub(crate) fn unopened(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize, kind: FileKind) -> Self {
        Self {
            disk,
            path: path.to_owned(),
            kind,
            cache_bytes: AtomicUsize::new(cache_bytes),
            slot: RwLock::new(FileState::Closed),
            is_cache_dropped: AtomicBool::new(false),
            handles: Mutex::new(0),
            renewed: Condvar::new(),
        }
    }

    /// Returns the file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the file is open for writing.
    pub(crate) fn is_writing(&self) -> bool {
        matches!(*self.slot.read().unwrap_or_else(PoisonError::into_inner), FileState::Open(_))
    }

    /// Closes the file and opens it for writing. Uncommitted changes are dropped. Fails if the file is retired.
    pub(crate) fn reopen(&self) -> Result<(), Error> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, FileState::Retired) {
            return Err(Error::DatabaseClosed);
        }
        // The old handle is dropped first, because a file has at most one. Its errors on closing are of no use.
        *slot = FileState::Closed;
        *slot = FileState::Open(self.open_file()?);
        drop(slot);
        self.renew();
        Ok(())
    }

    /// Like [`RedbFile::reopen`], with a cache of `cache_bytes`.
    pub(crate) fn reopen_with(&self, cache_bytes: usize) -> Result<(), Error> {
        self.cache_bytes.store(cache_bytes, Ordering::Relaxed);
        self.reopen()
    }

    /// Closes the file. It is later opened with a cache of `cache_bytes`.
    pub(crate) fn close(&self, cache_bytes: usize) -> Result<(), Error> {
        self.cache_bytes.store(cache_bytes, Ordering::Relaxed);
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        let closed = match std::mem::replace(&mut *slot, FileState::Closed) {
            FileState::Open(database) => database.close(),
            FileState::Reading(database) => database.close(),
            FileState::Closed => Ok(()),
            FileState::Retired => {
                *slot = FileState::Retired;
                Ok(())
            }
        };
        drop(slot);
        self.renew();
        Ok(closed?)
    }

    /// Drops the handle after an error, without a clean close. The next open repairs the file.
    pub(crate) fn abandon(&self) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*slot, FileState::Retired) {
            *slot = FileState::Closed;
        }
    }

    /// Closes the file permanently, before it is deleted.
    pub(crate) fn retire(&self) {
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = FileState::Retired;
        self.renew();
    }

    /// Begins a write transaction. It is durable when its commit returns. `two_phase` selects redb's two-phase commit.
    pub(crate) fn write(&self, two_phase: bool) -> Result<WriteTransaction, Error> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let FileState::Open(database) = &*slot else { return Err(Error::DatabaseClosed) };
        let mut txn = database.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_two_phase_commit(two_phase);
        Ok(txn)
    }

    /// Reads from a snapshot. Reads once more if the file was reopened meanwhile.
    pub(crate) fn read<T>(&self, read: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error> {
        match self.begin_read().and_then(|txn| read(&txn)) {
            Err(Error::DatabaseClosed | Error::PreviousIo) => read(&self.begin_read()?),
            done => done,
        }
    }

    /// Reads from a snapshot. Opens the file for writing if it is closed, and returns whether it did.
    pub(crate) fn read_or_open<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<(T, bool), Error> {
        match self.read(&read) {
            Err(Error::DatabaseClosed) => {
                let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
                if matches!(*slot, FileState::Closed) {
                    *slot = FileState::Open(self.open_file()?);
                }
                drop(slot);
                Ok((self.read(&read)?, true))
            }
            done => Ok((done?, false)),
        }
    }

    /// Reads from a snapshot. Opens a closed file read-only. If the handle is closed during the read, reads again from
    /// a new handle, and waits for it if the file was open for writing. Returns `None` if the file is retired.
    pub(crate) fn read_retrying<T, E: From<FileError> + HasFileError>(
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
                Err(error) if error.file_error().is_some_and(FileError::is_stale) && tries < READ_TRIES => {
                    self.drop_handle(handle);
                }
                result => return result.map(Some),
            }
        }
    }

    /// Returns a snapshot of the open file. Fails if it is closed or retired.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, Error> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        slot.begin_read()?.ok_or(Error::DatabaseClosed)
    }

    /// Returns a snapshot, opening a closed file read-only. Returns `None` if the file is retired.
    fn begin_reading(&self) -> Result<Option<ReadTransaction>, Error> {
        {
            let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            if !matches!(*slot, FileState::Closed) {
                return slot.begin_read();
            }
        }
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, FileState::Closed) {
            *slot = FileState::Reading(self.open_reading()?);
        }
        slot.begin_read()
    }

    /// Ensures that the next read does not use this handle.
    fn drop_handle(&self, handle: u64) {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, FileState::Reading(_)) {
            *slot = FileState::Closed;
        }
        let is_writing = matches!(*slot, FileState::Open(_));
        drop(slot);
        if is_writing {
            // Only the writing thread reopens the file. It does so at once if it gets the error too.
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

    /// Opens the file for writing, and repairs it if it was open during a crash.
    fn open_file(&self) -> Result<Database, Error> {
        // An fsync of the last process may have failed. The kernel then shows changes that the disk does not have, and a
        // repair would build on them.
        if !self.is_cache_dropped.swap(true, Ordering::Relaxed) {
            self.disk.drop_cache(&self.path)?;
        }
        let database = self.builder().create_with_backend(self.disk.open(&self.path)?)?;
        format::check(&database.begin_read()?, &self.path, self.kind)?;
        Ok(database)
    }

    fn open_reading(&self) -> Result<ReadOnlyDatabase, Error> {
        match self.open_unrepaired() {
            // The file was open during a crash. redb repairs it only when it is opened for writing.
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

    /// Returns a snapshot of a closed file without repairing it.
    pub(crate) fn read_unrepaired(&self) -> Result<ReadTransaction, Error> {
        Ok(self.open_unrepaired()?.begin_read()?)
    }

    /// Repairs a closed file if needed, and verifies the checksum of every page. Returns `false` if pages are damaged.
    pub(crate) fn check_integrity(&self) -> Result<bool, Error> {
        let mut database = self.open_file()?;
        let is_sound = database.check_integrity()?;
        database.close()?;
        Ok(is_sound)
    }
}

impl FileState {
    /// Returns a snapshot, or `None` if the file is retired.
    fn begin_read(&self) -> Result<Option<ReadTransaction>, Error> {
        match self {
            Self::Open(database) => Ok(Some(database.begin_read()?)),
            Self::Reading(database) => Ok(Some(database.begin_read()?)),
            Self::Closed => Err(Error::DatabaseClosed),
            Self::Retired => Ok(None),
        }
    }
}

/// An error that may wrap a [`FileError`].
pub(crate) trait HasFileError {
    /// Returns the wrapped error of the file, if there is one.
    fn file_error(&self) -> Option<&FileError>;
}

/// Returns whether a redb error says that the disk is full. Such an error is temporary, unlike others.
pub(crate) fn is_full(error: &Error) -> bool {
    match error {
        Error::Io(error) => is_full_io(error),
        _ => false,
    }
}

/// Returns whether an I/O error says that the disk is full or the quota is used up.
pub(crate) fn is_full_io(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use redb::{ReadableTable, TableDefinition};

    use super::*;
    use crate::runtime::Random;
    use crate::storage::format::STATE_FILE;
    use crate::storage::sim::{DiskFault, Loss, SimDisk};

    const TABLE: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("t");

    fn open(disk: &SimDisk) -> RedbFile {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        RedbFile::create(&disk, Path::new("/d/f.redb"), STATE_FILE).unwrap();
        RedbFile::open(disk, Path::new("/d/f.redb"), 1 << 20, STATE_FILE).unwrap()
    }

    /// Rows of a batch. They take several pages.
    const ROWS: u64 = 20;

    /// Inserts a batch of rows in one transaction.
    fn insert(file: &RedbFile, batch: u64, two_phase: bool) -> Result<(), Error> {
        let txn = file.write(two_phase)?;
        {
            let mut table = txn.open_table(TABLE)?;
            for row in 0..ROWS {
                table.insert(batch * ROWS + row, &[7; 1_500][..])?;
            }
        }
        Ok(txn.commit()?)
    }

    /// The committed batches.
    fn batches(file: &RedbFile) -> Vec<u64> {
        let read = |txn: &ReadTransaction| match txn.open_table(TABLE) {
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            table => table?.iter()?.map(|row| Ok(row?.0.value())).collect::<Result<Vec<_>, Error>>(),
        };
        let rows = file.read(read).unwrap();
        assert_eq!(rows.len() as u64 % ROWS, 0, "no batch is in part: {rows:?}");
        rows.iter().step_by(ROWS as usize).map(|row| row / ROWS).collect()
    }

    /// A new file, closed and opened after its creation, or still open from it, as the log's segments are.
    fn create(disk: &SimDisk, stays_open: bool) -> RedbFile {
        if !stays_open {
            return open(disk);
        }
        let new = Path::new("/d/f.new");
        let mut file = RedbFile::create_open(Arc::new(disk.clone()), new, 1 << 20, STATE_FILE, |_| Ok(())).unwrap();
        file.rename_to(Path::new("/d/f.redb")).unwrap();
        file
    }

    #[test]
    fn a_file_survives_a_failed_fsync_a_restart_and_a_power_cut() {
        let cases = (1..=60).flat_map(|k| [(k, false, true), (k, true, true), (k, false, false), (k, true, false)]);
        for (k, stays_open, two_phase) in cases {
            let disk = SimDisk::default();
            let file = create(&disk, stays_open);
            disk.fail_at(k, DiskFault::Io);
            let failed = (0..40).find(|batch| insert(&file, *batch, two_phase).is_err()).expect("the fault occurs");

            // The next process sees the kernel's cache.
            let disk = disk.after_kill();
            let file = open(&disk);
            let found = batches(&file);
            assert!(
                found.iter().copied().eq(0..failed) || found.iter().copied().eq(0..=failed),
                "fault {k}: {found:?}"
            );
            insert(&file, 100, two_phase).unwrap();

            let disk = disk.crash_at(disk.operations(), Loss::All, &mut Random::seeded(k));
            assert_eq!(batches(&open(&disk)), [found, vec![100]].concat(), "fault {k}, {stays_open}, {two_phase}");
        }
    }
}
