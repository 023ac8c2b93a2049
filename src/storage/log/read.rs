//! Reads the log: the segments, and the files of carried events.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::scan::{BlockReader, heads_after, heads_before, records};
use super::segment::{Segment, SegmentSpan, SegmentTables};
use super::write::{ActiveSegment, SegmentWriter, SpareSource};
use super::{
    AppendError, Appended, Durable, EventLog, HeadRun, LogFile, LogPosition, LogRecord, NewRecord, ReadError,
    RetireError,
};
use crate::config;
use crate::limits::SEALED_OPEN_MAX;
use crate::model::{Timestamp, file};
use crate::storage::{Disk, FileError};

/// The event log in redb files. The appending thread adds segments, the retiring thread removes them, and any thread
/// reads.
#[derive(Debug)]
pub struct RedbLog {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) carry_dir: PathBuf,
    segments: ArcSwap<Vec<Arc<Segment>>>,
    carried: ArcSwap<Vec<Arc<Segment>>>,
    /// Segments that readers opened, least recently read first.
    opened: Mutex<Vec<Arc<Segment>>>,
    last: Mutex<LogPosition>,
    /// Locked only by the appending thread, once per batch.
    writer: Mutex<SegmentWriter>,
    pub(super) spares: Mutex<SpareSource>,
    pub(super) spares_made: AtomicU64,
}

impl RedbLog {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: config::Log,
        segments: Vec<Arc<Segment>>,
        carried: Vec<Arc<Segment>>,
    ) -> Self {
        Self {
            disk,
            dir: dir.join(file::LOG),
            carry_dir: dir.join(file::CARRY),
            segments: ArcSwap::from_pointee(segments),
            carried: ArcSwap::from_pointee(carried),
            opened: Mutex::default(),
            last: Mutex::new(LogPosition::MIN),
            writer: Mutex::new(SegmentWriter::new(config)),
            spares: Mutex::default(),
            spares_made: AtomicU64::new(0),
        }
    }

    /// Sets the segment that appends go to.
    pub(super) fn set_active(&self, active: ActiveSegment) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).set_active(active);
    }

    /// Returns the segments in order. Appends go to the last one.
    pub(super) fn all_segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    /// Returns the files of carried events, in order.
    pub(super) fn all_carried(&self) -> Arc<Vec<Arc<Segment>>> {
        self.carried.load_full()
    }

    /// Adds a segment.
    pub(super) fn add(&self, segment: &Arc<Segment>) {
        self.segments.rcu(|now| with(now, segment));
    }

    /// Adds a file of carried events. Replaces a file of the same name.
    pub(super) fn carry(&self, file: &Arc<Segment>) {
        self.carried.rcu(|now| with(now, file));
    }

    /// Removes a file from the lists of segments and carried events, so that readers no longer find it.
    pub(super) fn forget(&self, gone: &Arc<Segment>) {
        for list in [&self.segments, &self.carried] {
            list.rcu(|now| now.iter().filter(|one| !Arc::ptr_eq(one, gone)).cloned().collect::<Vec<_>>());
        }
        self.opened().retain(|one| !Arc::ptr_eq(one, gone));
        gone.retire();
    }

    /// Records that events up to this position are durable.
    pub(super) fn advance(&self, last: LogPosition) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// Reads a segment. Closes the least recently read segment if more than [`SEALED_OPEN_MAX`] are open. Returns
    /// `None` if the segment is retired.
    pub(super) fn read_segment<T>(
        &self,
        segment: &Arc<Segment>,
        from: impl FnMut(&SegmentTables) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        if !segment.is_writing() {
            let mut opened = self.opened();
            opened.retain(|one| !Arc::ptr_eq(one, segment));
            opened.push(Arc::clone(segment));
            let least = if opened.len() > SEALED_OPEN_MAX { Some(opened.remove(0)) } else { None };
            drop(opened);
            if let Some(Err(error)) = least.map(|least| least.close()) {
                tracing::warn!(target: "hooktide::commit", %error, "a sealed segment did not close");
            }
        }
        segment.read(from)
    }

    fn files(&self, files: &[Arc<Segment>]) -> Vec<LogFile> {
        // A file that was just retired has no size.
        let allocated = |file: &Segment| self.disk.size(file.path()).map_or(0, |size| size.allocated);
        files.iter().map(|file| LogFile { first: file.first, allocated: allocated(file) }).collect()
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Segment>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the events that are in these files into `out`. Consecutive events of one file are read from one snapshot.
    fn read_files(
        &self,
        files: &[Arc<Segment>],
        events: &[LogPosition],
        out: &mut [Option<LogRecord>],
    ) -> Result<(), ReadError> {
        let place_of = |id: &LogPosition| files.partition_point(|file| file.first <= *id).checked_sub(1);
        let mut from = 0;
        while from < events.len() {
            let place = place_of(&events[from]);
            let to = from + events[from..].iter().take_while(|id| place_of(id) == place).count();
            if let Some(place) = place {
                let found = self.read_segment(&files[place], |tables| {
                    let mut heads = BlockReader::new(&tables.heads);
                    let mut bodies = BlockReader::new(&tables.bodies);
                    events[from..to].iter().map(|id| Ok(heads.find(*id)?.zip(bodies.find(*id)?))).collect::<Result<
                        Vec<_>,
                        ReadError,
                    >>(
                    )
                })?;
                for (slot, found) in out[from..to].iter_mut().zip(found.unwrap_or_default()) {
                    *slot = slot.take().or(found);
                }
            }
            from = to;
        }
        Ok(())
    }
}

impl EventLog for RedbLog {
    fn append(&self, records: &[NewRecord<'_>], now: Timestamp) -> Result<Appended, AppendError> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).append(self, records, now)
    }

    fn durable(&self) -> Durable {
        Durable::up_to(*self.last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn events_at(&self, events: &[LogPosition]) -> Result<Vec<Option<LogRecord>>, ReadError> {
        let mut out = vec![None; events.len()];
        self.read_files(&self.all_segments(), events, &mut out)?;
        // Carried events are readable before their segment is removed, so reading in this order misses none.
        let missing: Vec<usize> = (0..out.len()).filter(|&i| out[i].is_none()).collect();
        let carried = self.all_carried();
        if !missing.is_empty() && !carried.is_empty() {
            let ids: Vec<_> = missing.iter().map(|&i| events[i]).collect();
            let mut found = vec![None; ids.len()];
            self.read_files(&carried, &ids, &mut found)?;
            for (place, found) in missing.into_iter().zip(found) {
                out[place] = found;
            }
        }
        Ok(out)
    }

    fn heads_after_position(&self, after: LogPosition, limit: usize) -> Result<Vec<(LogPosition, Bytes)>, ReadError> {
        let segments = self.all_segments();
        let start = segments.partition_point(|segment| segment.first <= after).saturating_sub(1);
        let mut out = Vec::new();
        for segment in &segments[start..] {
            if out.len() >= limit {
                break;
            }
            let read = self.read_segment(segment, |tables| heads_after(tables, after, limit - out.len()))?;
            out.extend(read.unwrap_or_default());
        }
        Ok(out)
    }

    fn heads_before_position(&self, before: LogPosition, limit: usize) -> Result<Vec<(LogPosition, Bytes)>, ReadError> {
        let segments = self.all_segments();
        let end = segments.partition_point(|segment| segment.first < before);
        let mut out = Vec::new();
        for segment in segments[..end].iter().rev() {
            if out.len() >= limit {
                break;
            }
            let read = self.read_segment(segment, |tables| heads_before(tables, before, limit - out.len()))?;
            out.extend(read.unwrap_or_default());
        }
        Ok(out)
    }

    fn walk_back(
        &self,
        visit: &mut dyn FnMut(HeadRun<'_>) -> Result<ControlFlow<()>, ReadError>,
    ) -> Result<(), ReadError> {
        for segment in self.all_segments().iter().rev() {
            let walked = self.read_segment(segment, |tables| {
                for entry in tables.heads.range::<u128>(..).map_err(FileError::from)?.rev() {
                    let (key, block) = entry.map_err(FileError::from)?;
                    let run = records(key.value(), block.value())?.collect::<Result<Vec<_>, _>>()?;
                    if visit(&run)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if walked.is_none_or(|walked| walked.is_break()) {
                break;
            }
        }
        Ok(())
    }

    fn segments(&self) -> Vec<LogFile> {
        self.files(&self.all_segments())
    }

    fn span(&self, segment: LogPosition) -> Result<Option<SegmentSpan>, ReadError> {
        match find(&self.all_segments(), segment) {
            Some(segment) => segment.span(),
            None => Ok(None),
        }
    }

    fn retire(&self, segment: LogPosition, needed: &[LogPosition], pause: &mut dyn FnMut()) -> Result<(), RetireError> {
        let Some(file) = find(&self.all_segments(), segment).cloned() else { return Ok(()) };
        self.write_carried(segment, needed)?;
        self.remove(&file, pause)
    }

    fn carried(&self) -> Vec<LogFile> {
        self.files(&self.all_carried())
    }

    fn carried_positions(&self, file: LogPosition) -> Result<Vec<LogPosition>, ReadError> {
        match find(&self.all_carried(), file) {
            Some(file) => self.positions_in(file),
            None => Ok(Vec::new()),
        }
    }

    fn rewrite_carried(
        &self,
        file: LogPosition,
        needed: &[LogPosition],
        pause: &mut dyn FnMut(),
    ) -> Result<(), RetireError> {
        match find(&self.all_carried(), file) {
            Some(file) if needed.is_empty() => self.remove(file, pause),
            Some(_) => self.write_carried(file, needed),
            None => Ok(()),
        }
    }

    fn enable_background_prepare(&self) {
        *self.spares.lock().unwrap_or_else(PoisonError::into_inner) = SpareSource::Ahead(None);
    }

    fn seal(&self) -> Result<(), RetireError> {
        self.seal_full()
    }

    fn create_next_segment(&self) -> Result<(), RetireError> {
        self.create_spare()
    }

    fn close(&self) -> Result<(), FileError> {
        self.opened().clear();
        for segment in self.all_segments().iter().chain(self.all_carried().iter()) {
            segment.close()?;
        }
        Ok(())
    }
}

fn find(files: &[Arc<Segment>], first: LogPosition) -> Option<&Arc<Segment>> {
    files.binary_search_by_key(&first, |file| file.first).ok().map(|at| &files[at])
}

fn with(now: &[Arc<Segment>], file: &Arc<Segment>) -> Vec<Arc<Segment>> {
    let mut files: Vec<_> = now.iter().filter(|one| one.first != file.first).cloned().collect();
    let place = files.partition_point(|one| one.first < file.first);
    files.insert(place, Arc::clone(file));
    files
}
