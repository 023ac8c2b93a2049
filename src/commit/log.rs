//! The log as its readers see it: a row of segments, and beside it the bodies that outlived theirs.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use redb::{AccessGuard, ReadOnlyTable};

use super::record::Records;
use super::segment::{Segment, Tables};
use crate::limits::SEALED_OPEN_MAX;
use crate::model::{EventId, file};
use crate::storage::{Disk, ReadError, ReadLog, Stored};

/// See the module. The commit thread adds segments, the retain thread takes them away; everybody reads.
#[derive(Debug)]
pub struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) carry_dir: PathBuf,
    segments: ArcSwap<Vec<Arc<Segment>>>,
    carried: ArcSwap<Vec<Arc<Segment>>>,
    /// Segments that readers opened, the one read last at the end.
    opened: Mutex<Vec<Arc<Segment>>>,
    last: Mutex<EventId>,
}

impl Log {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segments: Vec<Arc<Segment>>,
        carried: Vec<Arc<Segment>>,
        last: EventId,
    ) -> Self {
        Self {
            disk,
            dir: dir.join(file::LOG),
            carry_dir: dir.join(file::CARRY),
            segments: ArcSwap::from_pointee(segments),
            carried: ArcSwap::from_pointee(carried),
            opened: Mutex::default(),
            last: Mutex::new(last),
        }
    }

    /// The segments in order; the last one grows.
    pub(super) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    /// The files of carried bodies, in order.
    pub(super) fn carried(&self) -> Arc<Vec<Arc<Segment>>> {
        self.carried.load_full()
    }

    /// The segment that grows from now on.
    pub(super) fn add(&self, segment: &Arc<Segment>) {
        self.segments.rcu(|now| with(now, segment));
    }

    /// Carried bodies, in place of those of the same name.
    pub(super) fn carry(&self, file: &Arc<Segment>) {
        self.carried.rcu(|now| with(now, file));
    }

    /// Takes a file out of sight, of the log and of carried bodies.
    pub(super) fn forget(&self, gone: &Arc<Segment>) {
        for list in [&self.segments, &self.carried] {
            list.rcu(|now| now.iter().filter(|one| !Arc::ptr_eq(one, gone)).cloned().collect::<Vec<_>>());
        }
        self.opened().retain(|one| !Arc::ptr_eq(one, gone));
        gone.retire();
    }

    /// Events up to this one are durable.
    pub(super) fn advance(&self, last: EventId) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// Reads a segment, and keeps the number of open ones within its limit.
    pub(super) fn read_segment<T>(
        &self,
        segment: &Arc<Segment>,
        from: impl FnMut(&Tables) -> Result<T, ReadError>,
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
        segment.read(&*self.disk, from)
    }

    /// Closes every file, so that the next start has nothing to repair. Later readers open them again for reading.
    pub(super) fn close(&self) -> Result<(), redb::Error> {
        self.opened().clear();
        for segment in self.segments().iter().chain(self.carried().iter()) {
            segment.close()?;
        }
        Ok(())
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Segment>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads those events that are in these files; runs of events in one file are read from one snapshot.
    fn read_files(
        &self,
        files: &[Arc<Segment>],
        events: &[EventId],
        out: &mut [Option<Stored>],
    ) -> Result<(), ReadError> {
        let place_of = |id: &EventId| files.partition_point(|file| file.first <= *id).checked_sub(1);
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

impl ReadLog for Log {
    fn last(&self) -> EventId {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, events: &[EventId]) -> Result<Vec<Option<Stored>>, ReadError> {
        let mut out = vec![None; events.len()];
        self.read_files(&self.segments(), events, &mut out)?;
        // What is carried is in sight before its segment goes out of sight, so this order misses nothing.
        let missing: Vec<usize> = (0..out.len()).filter(|&i| out[i].is_none()).collect();
        let carried = self.carried();
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

    fn heads_after(&self, after: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        let segments = self.segments();
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

    fn heads_before(&self, before: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        let segments = self.segments();
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
}

fn with(now: &[Arc<Segment>], file: &Arc<Segment>) -> Vec<Arc<Segment>> {
    let mut files: Vec<_> = now.iter().filter(|one| one.first != file.first).cloned().collect();
    let place = files.partition_point(|one| one.first < file.first);
    files.insert(place, Arc::clone(file));
    files
}

fn heads_after(tables: &Tables, after: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
    let mut out = Vec::new();
    // The block that begins at or before `after` may hold what follows it.
    let begins = tables.heads.range(..=after.as_u128()).map_err(redb::Error::from)?.next_back();
    let begins = begins.transpose().map_err(redb::Error::from)?.map_or(0, |(key, _)| key.value());
    for entry in tables.heads.range(begins..).map_err(redb::Error::from)? {
        let (key, block) = entry.map_err(redb::Error::from)?;
        for record in records(key.value(), block.value())? {
            let (id, head) = record?;
            if id > after {
                if out.len() == limit {
                    return Ok(out);
                }
                out.push((id, Bytes::copy_from_slice(head)));
            }
        }
    }
    Ok(out)
}

fn heads_before(tables: &Tables, before: EventId, limit: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
    let mut out: Vec<(EventId, Bytes)> = Vec::new();
    for entry in tables.heads.range(..before.as_u128()).map_err(redb::Error::from)?.rev() {
        let (key, block) = entry.map_err(redb::Error::from)?;
        let block_records = records(key.value(), block.value())?.collect::<Result<Vec<_>, _>>()?;
        for (id, head) in block_records.into_iter().rev().filter(|(id, _)| *id < before) {
            if out.len() == limit {
                return Ok(out);
            }
            out.push((id, Bytes::copy_from_slice(head)));
        }
    }
    Ok(out)
}

/// The records of the block with this key; a damaged head or block is an error with its place.
pub(super) fn records(
    key: u128,
    block: &[u8],
) -> Result<impl Iterator<Item = Result<(EventId, &[u8]), ReadError>>, ReadError> {
    let key = EventId::from_u128(key);
    let records = Records::of(block).map_err(|_| ReadError::Damaged(key))?;
    Ok(records.map(move |record| record.map_err(|_| ReadError::Damaged(key))))
}

/// Finds rising ids in a table: looks each block up once and walks it once.
struct BlockReader<'t> {
    table: &'t ReadOnlyTable<u128, &'static [u8]>,
    block: Option<(u128, AccessGuard<'static, &'static [u8]>, usize)>,
}

/// How a walk towards an id ended.
enum Walk {
    Found(Bytes),
    /// A later one came.
    Absent,
    /// The block came to its end.
    Ended,
}

impl<'t> BlockReader<'t> {
    fn new(table: &'t ReadOnlyTable<u128, &'static [u8]>) -> Self {
        Self { table, block: None }
    }

    fn find(&mut self, id: EventId) -> Result<Option<Bytes>, ReadError> {
        match self.walk(id)? {
            Walk::Found(bytes) => return Ok(Some(bytes)),
            Walk::Absent => return Ok(None),
            Walk::Ended => {}
        }
        let range = (Bound::Unbounded, Bound::Included(id.as_u128()));
        let entry = self.table.range::<u128>(range).map_err(redb::Error::from)?.next_back();
        let Some((key, block)) = entry.transpose().map_err(redb::Error::from)? else { return Ok(None) };
        if self.block.as_ref().is_some_and(|(current, ..)| *current == key.value()) {
            // Walked to its end just now.
            return Ok(None);
        }
        let key = key.value();
        let remaining =
            Records::of(block.value()).map_err(|_| ReadError::Damaged(EventId::from_u128(key)))?.remaining();
        self.block = Some((key, block, remaining));
        match self.walk(id)? {
            Walk::Found(bytes) => Ok(Some(bytes)),
            Walk::Absent | Walk::Ended => Ok(None),
        }
    }

    /// Goes on in the current block.
    fn walk(&mut self, id: EventId) -> Result<Walk, ReadError> {
        let Some((key, block, remaining)) = &mut self.block else { return Ok(Walk::Ended) };
        let mut records = Records::resume(block.value(), *remaining);
        loop {
            *remaining = records.remaining();
            match records.next() {
                None => return Ok(Walk::Ended),
                Some(Err(_)) => return Err(ReadError::Damaged(EventId::from_u128(*key))),
                Some(Ok((at, _))) if at < id => {}
                Some(Ok((at, bytes))) if at == id => {
                    return Ok(Walk::Found(Bytes::copy_from_slice(bytes)));
                }
                Some(Ok(_)) => return Ok(Walk::Absent),
            }
        }
    }
}
