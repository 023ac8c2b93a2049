//! Reserves disk space for settle.
//!
//! - New events are refused while the free space is below a reserve, so that deliveries and their outcomes can still be
//!   written.
//! - When even these cannot be written, the ballast file is deleted. Only settle uses the space that it frees.
//! - New events are accepted again when the free space covers the reserve and a new ballast file, which is then
//!   created.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Disk;
use crate::limits::{BALLAST_BYTES, DISK_RESERVE_BYTES, DISK_SPACE_INTERVAL};
use crate::model::file;
use crate::runtime::Instant;

/// Decides whether there is space for new events. The commit thread asks before each batch; the file system is queried
/// at most every [`DISK_SPACE_INTERVAL`], or after a quarter of the reserve has been written.
#[derive(Debug)]
pub struct DiskSpace {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    reserve: u64,
    ballast: Ballast,
    /// Whether a ballast file has existed. If it has and does not exist now, it must be created again.
    had_ballast: bool,
    enough: bool,
    checked_at: Option<Instant>,
    written: u64,
}

/// Returns the free bytes below which new events are refused: [`DISK_RESERVE_BYTES`], or an eighth of a smaller disk.
pub fn disk_reserve(disk: &dyn Disk, dir: &Path) -> io::Result<u64> {
    Ok(DISK_RESERVE_BYTES.min(disk.total_bytes(dir)? / 8))
}

impl DiskSpace {
    /// Creates the check for a data folder.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Self> {
        let reserve = disk_reserve(&*disk, dir)?;
        let ballast = Ballast::new(Arc::clone(&disk), dir);
        Ok(Self {
            disk,
            dir: dir.into(),
            reserve,
            ballast,
            had_ballast: false,
            enough: true,
            checked_at: None,
            written: 0,
        })
    }

    /// Returns whether `bytes` more can be written.
    pub fn has_space(&mut self, bytes: u64, now: Instant) -> bool {
        self.written += bytes;
        let due = self.checked_at.is_none_or(|checked_at| now.duration_since(checked_at) >= DISK_SPACE_INTERVAL);
        if due || (self.enough && self.written > self.reserve / 4) {
            self.checked_at = Some(now);
            self.written = bytes;
            match self.disk.free_bytes(&self.dir) {
                Ok(free) => self.enough = self.is_enough_of(free, bytes),
                // The write may still succeed without a known free space. If it does not, it returns the error.
                Err(error) => tracing::warn!(target: "hooktide::commit", %error, "free space is not known"),
            }
        }
        self.enough
    }

    fn is_enough_of(&mut self, free: u64, bytes: u64) -> bool {
        let is_there = self.ballast.is_there();
        let is_missing = self.had_ballast && !is_there;
        self.had_ballast |= is_there;
        let needed = self.reserve.saturating_add(bytes);
        if !is_missing {
            return free >= needed;
        }
        let is_enough = free >= needed.saturating_add(BALLAST_BYTES);
        if is_enough && let Err(error) = self.ballast.restore() {
            tracing::warn!(target: "hooktide::commit", %error, "the ballast file cannot be made again");
        }
        is_enough
    }

    /// Returns the last result of [`DiskSpace::has_space`] without a new check.
    pub fn is_enough(&self) -> bool {
        self.enough
    }

    /// Records that a write failed because the disk is full.
    pub fn ran_out(&mut self, now: Instant) {
        self.enough = false;
        self.checked_at = Some(now);
    }
}

/// The ballast file: it occupies disk space until settle needs that space.
#[derive(Debug, Clone)]
pub struct Ballast {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Ballast {
    /// Creates the handle for a data folder's ballast. [`Ballast::restore`] creates the file.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, path: dir.join(file::BALLAST) }
    }

    fn is_there(&self) -> bool {
        self.disk.size(&self.path).is_ok()
    }

    /// Deletes the file. A missing file is not an error.
    pub fn release(&self) -> io::Result<()> {
        match self.disk.remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Creates the file with its full size. Deletes a partial file if there is not enough space.
    pub fn restore(&self) -> io::Result<()> {
        self.disk.reserve(&self.path, BALLAST_BYTES).inspect_err(|_| {
            // A partial ballast would only use up the last space. The first error is the one to return.
            let _ = self.release();
        })
    }
}
