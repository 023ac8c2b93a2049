//! Room on the disk: new events are refused while there is less than a reserve, so that deliveries and their outcomes can
//! still be written; and a ballast file is given up when even they cannot. What the ballast gave is settle's: new events
//! are taken again when there is room for the ballast as well, and then it is made anew.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Disk;
use crate::limits::{BALLAST_BYTES, DISK_RESERVE_BYTES, ROOM_INTERVAL};
use crate::model::file;
use crate::runtime::Instant;

/// Whether there is room for new events, asked before each batch and of the system only now and then.
#[derive(Debug)]
pub struct Room {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    reserve: u64,
    ballast: Ballast,
    /// Whether there has been a ballast file, which is missing when it is not there.
    had_ballast: bool,
    enough: bool,
    asked: Option<Instant>,
    written: u64,
}

/// Free bytes below which no events are taken: on a small disk an eighth of it.
pub fn disk_reserve(disk: &dyn Disk, dir: &Path) -> io::Result<u64> {
    Ok(DISK_RESERVE_BYTES.min(disk.total_bytes(dir)? / 8))
}

impl Room {
    /// The room in a data folder.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Self> {
        let reserve = disk_reserve(&*disk, dir)?;
        let ballast = Ballast::new(Arc::clone(&disk), dir);
        Ok(Self { disk, dir: dir.into(), reserve, ballast, had_ballast: false, enough: true, asked: None, written: 0 })
    }

    /// Whether `bytes` more can be written.
    pub fn has(&mut self, bytes: u64, now: Instant) -> bool {
        self.written += bytes;
        let due = self.asked.is_none_or(|asked| now.duration_since(asked) >= ROOM_INTERVAL);
        if due || (self.enough && self.written > self.reserve / 4) {
            self.asked = Some(now);
            self.written = bytes;
            match self.disk.free_bytes(&self.dir) {
                Ok(free) => self.enough = self.is_enough_of(free, bytes),
                // Who cannot say how much is free may still take what is written; if not, the write says so.
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

    /// What [`Room::has`] said last.
    pub fn is_enough(&self) -> bool {
        self.enough
    }

    /// A write was refused for want of room.
    pub fn ran_out(&mut self, now: Instant) {
        self.enough = false;
        self.asked = Some(now);
    }
}

/// A file that takes room on the disk until it is needed more urgently.
#[derive(Debug, Clone)]
pub struct Ballast {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Ballast {
    /// The ballast of a data folder; call [`Ballast::restore`] to have it.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, path: dir.join(file::BALLAST) }
    }

    fn is_there(&self) -> bool {
        self.disk.size(&self.path).is_ok()
    }

    /// Gives the room up. It is no error if there was none.
    pub fn release(&self) -> io::Result<()> {
        match self.disk.remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the room again, if there is enough; otherwise none of it.
    pub fn restore(&self) -> io::Result<()> {
        self.disk.reserve(&self.path, BALLAST_BYTES).inspect_err(|_| {
            // Half a ballast only makes a full disk fuller; the error that matters is the first.
            let _ = self.release();
        })
    }
}
