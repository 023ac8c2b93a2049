//! The file system as a trait: all operations that the log, state.redb, the history and registry.redb need.
//!
//! [`RealDisk`] uses the operating system. The simulated disk of the tests (`super::sim`) records each write and sync,
//! so that a test can crash between any two of them and check what a restart finds.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// File system operations. All paths include the data folder.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Opens a file for redb, and creates it if it does not exist. Its name is durable only after [`Disk::sync_dir`].
    fn open(&self, path: &Path) -> io::Result<Backend>;
    /// Writes the unsynced changes of a file, if it exists, and drops what the kernel caches of the file. Reads then
    /// return what the disk has. Without this, the cache shows changes that a failed fsync has lost. A disk without a
    /// cache does nothing.
    fn drop_cache(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    /// Creates a folder and its parents.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns the paths of the files in a folder, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Renames a file. Replaces a file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable (fsync of the folder).
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Truncates a file to `len` bytes.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Returns a file's length and its allocated bytes. They differ because redb's files are sparse.
    fn size(&self, path: &Path) -> io::Result<FileSize>;
    /// Returns the free bytes of the file system that holds a folder.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Returns the size in bytes of the file system that holds a folder.
    fn total_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
    /// Creates a file without content that allocates `len` bytes on the disk.
    fn reserve(&self, path: &Path, len: u64) -> io::Result<()>;
}

/// The length and allocated size of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSize {
    /// Length in bytes.
    pub len: u64,
    /// Bytes allocated on the disk (`st_blocks`).
    pub allocated: u64,
}

/// A redb storage backend of any [`Disk`].
pub struct Backend(Box<dyn StorageBackend>);

impl Backend {
    /// Wraps a backend.
    pub fn new(inner: impl StorageBackend) -> Self {
        Self(Box::new(inner))
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        // The error kind is dropped, so that a failed fsync never looks like a full disk: the content of the disk is
        // unknown after it.
        self.0.sync_data().map_err(|error| io::Error::other(format!("fsync failed: {error}")))
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

/// The operating system's file system. redb files are created with mode 0600.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Backend> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        FileBackend::new(file).map(Backend::new).map_err(io::Error::other)
    }

    fn drop_cache(&self, path: &Path) -> io::Result<()> {
        let file = match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        file.sync_data()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(io::Error::from)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(len)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(path)?;
        Ok(FileSize { len: meta.len(), allocated: meta.blocks() * 512 })
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(dir).map_err(io::Error::from)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    fn total_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(dir).map_err(io::Error::from)?;
        Ok(stat.blocks() * stat.fragment_size())
    }

    fn reserve(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let len = i64::try_from(len).map_err(io::Error::other)?;
        nix::fcntl::posix_fallocate(&file, 0, len).map_err(io::Error::from)
    }
}
