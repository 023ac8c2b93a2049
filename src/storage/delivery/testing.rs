//! Helpers for tests of the store and of settle: an in-memory disk that can crash, and attempts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::StorageBackend;

use crate::model::{Attempt, AttemptError, Timestamp};
use crate::storage::{Backend, Disk, FileSize};

/// An in-memory disk. A crash leaves the content that was last synced.
#[derive(Debug, Default)]
pub(crate) struct MemoryDisk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
    /// The number of writes that succeed before the disk is full. Negative: no limit.
    room: Arc<AtomicI64>,
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Mutex<(Vec<u8>, Vec<u8>)>,
    room: Arc<AtomicI64>,
}

#[derive(Debug)]
struct Open(Arc<MemoryFile>);

/// For [`MemoryDisk::set_room`]: every write fails with an error other than a full disk.
pub(crate) const BROKEN: i64 = -2;

impl MemoryDisk {
    pub(crate) fn new() -> Arc<Self> {
        let disk = Self::default();
        disk.room.store(-1, Ordering::Relaxed);
        Arc::new(disk)
    }

    /// Returns the disk that a restart after a crash finds.
    pub(crate) fn crash(&self) -> Arc<Self> {
        let disk = Self::new();
        for (path, file) in self.files.lock().unwrap().iter() {
            let durable = file.bytes.lock().unwrap().1.clone();
            let file = MemoryFile { bytes: Mutex::new((durable.clone(), durable)), room: Arc::clone(&disk.room) };
            disk.files.lock().unwrap().insert(path.clone(), Arc::new(file));
        }
        disk
    }

    /// Sets after how many writes the disk is full. -1: never.
    pub(crate) fn set_room(&self, writes: i64) {
        self.room.store(writes, Ordering::Relaxed);
    }

    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        self.files.lock().unwrap().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl MemoryFile {
    fn take_room(&self) -> io::Result<()> {
        match self.room.load(Ordering::Relaxed) {
            0 => Err(io::ErrorKind::StorageFull.into()),
            BROKEN => Err(io::Error::other("the disk is broken")),
            room => {
                if room > 0 {
                    self.room.store(room - 1, Ordering::Relaxed);
                }
                Ok(())
            }
        }
    }
}

impl StorageBackend for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().0.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        out.copy_from_slice(&self.0.bytes.lock().unwrap().0[start..start + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.take_room()?;
        self.0.bytes.lock().unwrap().0.resize(len as usize, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut bytes = self.0.bytes.lock().unwrap();
        let live = bytes.0.clone();
        bytes.1 = live;
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.take_room()?;
        let start = offset as usize;
        self.0.bytes.lock().unwrap().0[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path) -> io::Result<Backend> {
        let new = || Arc::new(MemoryFile { room: Arc::clone(&self.room), ..MemoryFile::default() });
        let file = Arc::clone(self.files.lock().unwrap().entry(path.to_owned()).or_insert_with(new));
        Ok(Backend::new(Open(file)))
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.files.lock().unwrap().keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock().unwrap();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        self.file(path)?.bytes.lock().unwrap().0.truncate(len as usize);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().unwrap().remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn size(&self, path: &Path) -> io::Result<FileSize> {
        let len = self.file(path)?.bytes.lock().unwrap().0.len() as u64;
        Ok(FileSize { len, allocated: len })
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    fn reserve(&self, path: &Path, _: u64) -> io::Result<()> {
        self.open(path).map(drop)
    }
}

/// Returns an attempt that succeeded.
pub(crate) fn attempt(number: u16) -> Attempt {
    Attempt {
        number,
        at: Timestamp::from_millis(1_000),
        latency: Duration::from_millis(3),
        http_status: Some(200),
        error: None,
        response: "".into(),
    }
}

/// Returns an attempt that failed.
pub(crate) fn failed(number: u16, status: u16) -> Attempt {
    Attempt { http_status: Some(status), error: Some(AttemptError::Status(status)), ..attempt(number) }
}
