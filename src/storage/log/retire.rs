//! Retires segments, and carries the events that are still needed.
//!
//! Retiring has these steps. Each can be repeated after a crash.
//! 1. Events that are still needed are copied to a file of the same name in `carry/`.
//! 2. The segment's file is renamed to `.gone`.
//! 3. The file is truncated step by step, and then unlinked.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::block::Packer;
use super::read::RedbLog;
use super::scan::records;
use super::segment::{Segment, SpareSegment};
use super::{EventLog, LogPosition, ReadError, RetireError};
use crate::limits::{CARRY_BATCH_EVENTS, TRUNCATE_STEP_BYTES};
use crate::storage::{Disk, FileError};

impl RedbLog {
    /// Copies these events durably to a file in `carry/`, and makes the file readable.
    pub(super) fn write_carried(&self, name: LogPosition, events: &[LogPosition]) -> Result<(), RetireError> {
        if events.is_empty() {
            return Ok(());
        }
        let spare = SpareSegment::create(&self.disk, &self.carry_dir.join(format!("{name}.new")))?;
        if let Err(error) = self.copy(&spare, events) {
            // The caller needs the error of the copy. If the file cannot be removed, the next start removes it.
            let _ = spare.discard(&*self.disk);
            return Err(error);
        }
        let file = Arc::new(spare.become_segment(&self.carry_dir, name)?);
        file.close()?;
        let before = self.all_carried().iter().find(|old| old.first == name).cloned();
        self.carry(&file);
        if let Some(before) = before {
            self.forget(&before);
        }
        Ok(())
    }

    fn copy(&self, to: &SpareSegment, events: &[LogPosition]) -> Result<(), RetireError> {
        let (mut heads, mut bodies) = (Packer::default(), Packer::default());
        for at in events.chunks(CARRY_BATCH_EVENTS) {
            let stored = self.events_at(at)?;
            let found =
                || at.iter().zip(&stored).filter_map(|(at, stored)| stored.as_ref().map(|stored| (*at, stored)));
            heads.pack(found().map(|(at, (head, _))| (at, &head[..])));
            bodies.pack(found().map(|(at, (_, body))| (at, &body[..])));
            to.append(&heads, &bodies)?;
        }
        Ok(())
    }

    pub(super) fn positions_in(&self, file: &Arc<Segment>) -> Result<Vec<LogPosition>, ReadError> {
        let positions = self.read_segment(file, |tables| {
            let mut positions = Vec::new();
            for entry in tables.heads.range::<u128>(..).map_err(FileError::from)? {
                let (key, block) = entry.map_err(FileError::from)?;
                for record in records(key.value(), block.value())? {
                    positions.push(record?.0);
                }
            }
            Ok(positions)
        })?;
        Ok(positions.unwrap_or_default())
    }

    /// Hides a file from readers, then deletes it.
    pub(super) fn remove(&self, file: &Arc<Segment>, pause: &mut dyn FnMut()) -> Result<(), RetireError> {
        self.forget(file);
        let gone = file.path().with_extension("gone");
        self.disk.rename(file.path(), &gone)?;
        if let Some(dir) = file.path().parent() {
            self.disk.sync_dir(dir)?;
        }
        Ok(remove_in_steps(&*self.disk, &gone, pause)?)
    }
}

/// Truncates a file step by step, then unlinks it. Unlinking a large file at once would stall every concurrent fsync.
pub(super) fn remove_in_steps(disk: &dyn Disk, path: &Path, pause: &mut dyn FnMut()) -> io::Result<()> {
    let mut len = disk.size(path)?.len;
    while len > TRUNCATE_STEP_BYTES {
        len -= TRUNCATE_STEP_BYTES;
        disk.truncate(path, len)?;
        pause();
    }
    disk.remove(path)
}
