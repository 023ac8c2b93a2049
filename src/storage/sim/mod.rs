//! sim: an in-memory disk that loses unsynced data in a crash, and fails on demand.
//!
//! # Fault model
//!
//! The data and length of a file are volatile until the next successful sync of the file. Names (created, renamed,
//! deleted) are volatile until the next sync of their folder. A crash keeps this part of the volatile changes:
//!
//! - for each file, independently: nothing, everything, a prefix, any subset of the writes, subsets of their sectors of
//!   512 or 4,096 bytes, the lengths without the data, or the data without the lengths ([`Loss`]);
//! - for the names of all folders: a prefix of the changes, as a journaling file system orders them.
//!
//! A failed sync drops the changes that it should have made durable: the kernel marks their pages clean, readers still
//! see them until [`Disk::drop_cache`], also in the next process, and no later sync writes them. A write
//! that fails because the disk is full changes nothing. Files are sparse, so only the first write to a page needs space.
//!
//! # Use
//!
//! ```ignore
//! let disk = SimDisk::default();                 // a `Disk`; clones share it
//! // … run something on Arc::new(disk.clone()), record `disk.operations()` at each acknowledgement …
//! for at in 0..=disk.operations() {
//!     let image = disk.crash_at(at, Loss::of(seed), &mut Random::seeded(seed));   // a new SimDisk, after a reboot
//!     // … open `image`, compare with what had been acknowledged at `at` …
//! }
//! disk.fail_at(k, DiskFault::Io);                // the k-th operation from now on fails, once
//! disk.set_full(true);                           // every write that needs space fails until it is false
//! ```
//!
//! The seed determines everything. The cost of a `crash_at` is proportional to all data written before it. For many
//! crash images of one run, [`SimDisk::replay`] reads the journal only once.

mod journal;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

pub(crate) use journal::{JournalReplay, Loss};

use crate::runtime::Random;
use crate::storage::{Backend, Disk, FileSize};
use journal::{FileNo, Op};

const PAGE_BYTES: usize = 4096;

/// The usual number of tries in a test, times `HOOKTIDE_TEST_SCALE` for long runs by hand.
pub(crate) fn scaled(usual: u64) -> u64 {
    std::env::var("HOOKTIDE_TEST_SCALE").map_or(usual, |scale| usual * scale.parse::<u64>().unwrap())
}

/// The simulated disk. Clones share its content.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<DiskState>>);

/// The error of a failing operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskFault {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    NoSpace,
}

#[derive(Debug, Default)]
struct DiskState {
    /// The content at the beginning, all durable.
    base: Contents,
    /// The content that readers see now.
    live: Contents,
    journal: Vec<Op>,
    operations: u64,
    fail: Option<(u64, DiskFault)>,
    full: bool,
    written: u64,
    /// The pages of files that take space: file and page number.
    allocated: BTreeSet<(usize, usize)>,
}

/// Names, and the content of files by number. Several files may have had the same name one after the other.
#[derive(Debug, Clone, Default)]
struct Contents {
    names: BTreeMap<PathBuf, FileNo>,
    files: Vec<Vec<u8>>,
}

impl DiskFault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io => nix::errno::Errno::EIO as i32,
            Self::NoSpace => nix::errno::Errno::ENOSPC as i32,
        })
    }
}

impl SimDisk {
    /// Returns the number of operations so far (writes, syncs, changes of lengths and names): a position in the
    /// journal.
    pub(crate) fn operations(&self) -> usize {
        self.world().journal.len()
    }

    /// Returns the number of bytes written so far. Changes of lengths do not count.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.world().written
    }

    /// Makes the `k`-th operation from now on fail once; the next one is 1. Only changes and syncs count as operations.
    pub(crate) fn fail_at(&self, k: u64, fault: DiskFault) {
        let mut world = self.world();
        world.fail = Some((world.operations + k, fault));
    }

    /// Takes back [`SimDisk::fail_at`].
    pub(crate) fn forget_fault(&self) {
        self.world().fail = None;
    }

    /// Returns whether the operation of [`SimDisk::fail_at`] has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.world().fail.is_none()
    }

    /// Sets whether the disk is full. On a full disk every first write to a page fails with `ENOSPC`, and no byte is
    /// free.
    pub(crate) fn set_full(&self, full: bool) {
        self.world().full = full;
    }

    /// Returns the disk after a crash that follows the first `at` operations.
    pub(crate) fn crash_at(&self, at: usize, loss: Loss, random: &mut Random) -> SimDisk {
        let mut replay = self.replay();
        while replay.at() < at && replay.step() {}
        replay.crash(loss, random)
    }

    /// Returns the disk as the next process finds it after this one was killed: unsynced changes are visible, and a later
    /// crash may still lose them. Changes made through this handle afterwards do not reach it.
    pub(crate) fn after_kill(&self) -> SimDisk {
        let world = self.world();
        Self(Arc::new(Mutex::new(DiskState {
            base: world.base.clone(),
            live: world.live.clone(),
            journal: world.journal.clone(),
            allocated: world.allocated.clone(),
            ..DiskState::default()
        })))
    }

    /// Returns a replay of the journal, to simulate crashes at many positions of one run.
    pub(crate) fn replay(&self) -> JournalReplay {
        let world = self.world();
        JournalReplay::new(world.base.clone(), world.journal.clone())
    }

    fn holding(contents: Contents) -> Self {
        Self(Arc::new(Mutex::new(DiskState { base: contents.clone(), live: contents, ..DiskState::default() })))
    }

    fn world(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskState {
    /// Counts an operation. Returns an error if it is the one that must fail.
    fn count(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fail {
            Some((k, fault)) if k == self.operations => {
                self.fail = None;
                Err(fault.error())
            }
            _ => Ok(()),
        }
    }

    fn take_room(&mut self, file: FileNo, bytes: Range<usize>) -> io::Result<()> {
        let pages = (bytes.start / PAGE_BYTES..bytes.end.div_ceil(PAGE_BYTES)).map(|page| (file.0, page));
        if self.full && pages.clone().any(|page| !self.allocated.contains(&page)) {
            return Err(DiskFault::NoSpace.error());
        }
        self.allocated.extend(pages);
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<FileNo> {
        self.live.names.get(path).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn apply(&mut self, op: Op) {
        op.apply(&mut self.live);
        self.journal.push(op);
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Backend> {
        let mut world = self.world();
        let file = if let Ok(file) = world.find(path) {
            file
        } else {
            world.count()?;
            let file = FileNo(world.live.files.len());
            world.apply(Op::Create { path: path.into(), file });
            file
        };
        Ok(Backend::new(SimFile { disk: self.clone(), file }))
    }

    fn drop_cache(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let Ok(file) = world.find(path) else { return Ok(()) };
        let has_lost = world.journal.iter().any(|op| matches!(op, Op::SyncFailed { file: of } if *of == file));
        world.count()?;
        world.apply(Op::Sync { file });
        if has_lost {
            let mut replay = JournalReplay::new(world.base.clone(), world.journal.clone());
            while replay.step() {}
            world.live.files[file.0] = replay.into_durable(file);
        }
        Ok(())
    }

    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.world().live.names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.find(from)?;
        world.count()?;
        world.apply(Op::Rename { from: from.into(), to: to.into() });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.count()?;
        world.apply(Op::SyncDir { dir: dir.into() });
        Ok(())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut world = self.world();
        let file = world.find(path)?;
        world.count()?;
        world.apply(Op::SetLen { file, len });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.find(path)?;
        world.count()?;
        world.apply(Op::Remove { path: path.into() });
        Ok(())
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        let world = self.world();
        let len = world.live.files[world.find(path)?.0].len() as u64;
        Ok(FileSize { len, allocated: len })
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(if self.world().full { 0 } else { u64::MAX })
    }

    fn reserve(&self, path: &Path, len: u64) -> io::Result<()> {
        self.open(path)?.set_len(len)
    }
}

/// An open file. It stays the same file if its name is changed or deleted.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    file: FileNo,
}

impl StorageBackend for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.world().live.files[self.file.0].len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let world = self.disk.world();
        let from = offset as usize;
        let bytes = world.live.files[self.file.0].get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.count()?;
        world.apply(Op::SetLen { file: self.file, len });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let counted = world.count();
        world.apply(if counted.is_ok() { Op::Sync { file: self.file } } else { Op::SyncFailed { file: self.file } });
        counted
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut world = self.disk.world();
        world.count()?;
        let offset = offset as usize;
        world.take_room(self.file, offset..offset + data.len())?;
        world.written += data.len() as u64;
        world.apply(Op::Write { file: self.file, offset, data: data.into() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &SimDisk) -> Backend {
        disk.open(Path::new("/d/f")).unwrap()
    }

    fn bytes(disk: &SimDisk) -> Option<Vec<u8>> {
        let len = disk.size(Path::new("/d/f")).ok()?.len;
        let mut out = vec![0; len as usize];
        file(disk).read(0, &mut out).unwrap();
        Some(out)
    }

    fn written() -> SimDisk {
        let disk = SimDisk::default();
        let f = file(&disk);
        disk.sync_dir(Path::new("/d")).unwrap();
        f.set_len(2).unwrap();
        f.write(0, b"ab").unwrap();
        f.sync_data().unwrap();
        f.set_len(4).unwrap();
        f.write(1, b"xyz").unwrap();
        disk
    }

    #[test]
    fn synced_data_survives_a_crash_and_other_data_may_be_lost() {
        let disk = written();
        let crash = |loss| bytes(&disk.crash_at(disk.operations(), loss, &mut Random::seeded(1)));
        assert_eq!(crash(Loss::All).as_deref(), Some(&b"ab"[..]));
        assert_eq!(crash(Loss::Nothing).as_deref(), Some(&b"axyz"[..]));
        assert_eq!(crash(Loss::Data).as_deref(), Some(&b"ab\0\0"[..]));
        assert_eq!(crash(Loss::Lengths).as_deref(), Some(&b"ax"[..]));
    }

    #[test]
    fn a_name_survives_a_crash_after_its_folder_is_synced() {
        let disk = written();
        assert_eq!(bytes(&disk.crash_at(1, Loss::All, &mut Random::seeded(1))), None);
        assert_eq!(bytes(&disk.crash_at(2, Loss::All, &mut Random::seeded(1))), Some(Vec::new()));
    }

    #[test]
    fn a_failed_sync_loses_the_changes_it_should_have_made_durable() {
        let disk = written();
        disk.fail_at(1, DiskFault::Io);
        assert!(file(&disk).sync_data().is_err() && disk.has_failed());
        file(&disk).sync_data().unwrap();
        assert_eq!(bytes(&disk).as_deref(), Some(&b"axyz"[..]));
        let after = disk.crash_at(disk.operations(), Loss::Nothing, &mut Random::seeded(1));
        assert_eq!(bytes(&after).as_deref(), Some(&b"ab"[..]));
    }

    #[test]
    fn a_full_disk_rejects_writes_to_new_pages() {
        let disk = written();
        disk.set_full(true);
        let error = file(&disk).write(PAGE_BYTES as u64, b"c").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file(&disk).write(0, b"c").unwrap();
        assert_eq!(bytes(&disk).as_deref(), Some(&b"cxyz"[..]));
        disk.set_full(false);
        file(&disk).write(PAGE_BYTES as u64, b"c").unwrap();
    }
}
