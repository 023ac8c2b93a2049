//! Opens the log: finishes the interrupted work of the last run, and finds the last event.

use std::path::Path;
use std::sync::Arc;

use super::read::RedbLog;
use super::segment::Segment;
use super::write::ActiveSegment;
use super::{EventLog, LogPosition, OpenLogError, retire};
use crate::config;
use crate::model::Timestamp;
use crate::storage::Disk;

impl RedbLog {
    /// Opens the log of a data folder. Its files are in the subfolders `log/` and `carry/`. `now` is the scheduling
    /// clock.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, config: &config::Log, now: Timestamp) -> Result<Self, OpenLogError> {
        let segments = files(&disk, &dir.join("log"))?;
        let carried = files(&disk, &dir.join("carry"))?;
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenLogError::Io { path, source }
        };
        disk.sync_dir(dir).map_err(failed(dir))?;
        let newest = segments.last().cloned();
        if let Some(newest) = &newest {
            newest.open_writing().map_err(|source| OpenLogError::of_segment(newest.path(), source))?;
        }
        let log = Self::new(disk, dir, config.clone(), segments, carried);
        let last = log.heads_before_position(LogPosition::MAX, 1)?.first().map_or(LogPosition::MIN, |(at, _)| *at);
        log.advance(last);
        if let Some(segment) = newest {
            let bytes = log.disk.size(segment.path()).map_err(failed(segment.path()))?.allocated;
            let since = segment.span()?.map(|span| span.first.1.min(now));
            log.set_active(ActiveSegment { segment, bytes, since });
        }
        Ok(log)
    }

    /// Returns the position that new events must be after: that of the last event, or the one in the newest segment's
    /// name.
    pub fn high_water(&self) -> LogPosition {
        let newest = self.all_segments().last().map_or(LogPosition::MIN, |newest| newest.first);
        newest.max(self.durable().last())
    }
}

/// Returns the segments in a folder. First finishes the work of the last run: deletes files that were not in use yet
/// (`.new`) and files that were being retired (`.gone`).
fn files(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Vec<Arc<Segment>>, OpenLogError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenLogError::Io { path, source }
    };
    disk.create_dir(dir).map_err(failed(dir))?;
    let mut segments = Vec::new();
    for path in disk.list(dir).map_err(failed(dir))? {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("new") => disk.remove(&path).map_err(failed(&path))?,
            Some("gone") => retire::remove_in_steps(&**disk, &path, &mut || {}).map_err(failed(&path))?,
            _ => {
                if let Some(segment) = Segment::at(disk, &path) {
                    segments.push(Arc::new(segment));
                } else {
                    tracing::warn!(target: "hooktide::commit", path = %path.display(), "not a file of the log");
                }
            }
        }
    }
    segments.sort_by_key(|segment| segment.first);
    disk.sync_dir(dir).map_err(failed(dir))?;
    Ok(segments)
}
