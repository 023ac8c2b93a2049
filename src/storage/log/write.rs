//! Appends to the newest segment, and creates the file of the next one.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::block::Packer;
use super::read::RedbLog;
use super::segment::{Segment, SpareSegment};
use super::{AppendError, Appended, Durable, EventLog, LogPosition, NewRecord, RetireError};
use crate::config;
use crate::model::Timestamp;
use crate::storage::FileError;

/// The state of the appending thread.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    config: config::Log,
    active: Option<ActiveSegment>,
    /// Memory that is reused for each batch.
    heads: Packer,
    bodies: Packer,
}

/// The segment that appends go to.
#[derive(Debug)]
pub(super) struct ActiveSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) bytes: u64,
    /// When its first event was appended, on the scheduling clock. `None` while it is empty.
    pub(super) since: Option<Timestamp>,
}

/// Who creates the next segment's file.
#[derive(Debug, Default)]
pub(super) enum SpareSource {
    /// The append that needs the file creates it.
    #[default]
    Inline,
    /// [`EventLog::create_next_segment`] creates the file in advance. `None` until it has.
    Ahead(Option<SpareSegment>),
}

/// The segment for a batch. `prepare` has the meaning of [`Appended::prepare`].
struct BatchSegment {
    segment: Arc<Segment>,
    prepare: bool,
}

impl SegmentWriter {
    pub(super) fn new(config: config::Log) -> Self {
        Self { config, active: None, heads: Packer::default(), bodies: Packer::default() }
    }

    pub(super) fn set_active(&mut self, active: ActiveSegment) {
        self.active = Some(active);
    }

    pub(super) fn append(
        &mut self,
        log: &RedbLog,
        records: &[NewRecord<'_>],
        now: Timestamp,
    ) -> Result<Appended, AppendError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Ok(Appended { durable: log.durable(), prepare: false });
        };
        self.heads.pack(records.iter().map(|record| (record.position, record.head)));
        self.bodies.pack(records.iter().map(|record| (record.position, record.body)));
        let BatchSegment { segment, prepare } =
            self.roll(log, first.position, now).map_err(|error| self.failed(error))?;
        let appended = segment.append(&self.heads, &self.bodies, self.config.two_phase_commit);
        appended.or_else(|error| self.after_failure(log, &segment, error, last.position))?;
        log.advance(last.position);
        if let Some(active) = &mut self.active {
            active.bytes += (self.heads.len() + self.bodies.len()) as u64;
            active.since.get_or_insert(now);
        }
        Ok(Appended { durable: Durable::up_to(last.position), prepare })
    }

    /// Returns the segment for a batch that begins with `first`: the active one, or the next one if that is full or too
    /// old.
    fn roll(&mut self, log: &RedbLog, first: LogPosition, now: Timestamp) -> Result<BatchSegment, FileError> {
        if let Some(active) = &self.active {
            let is_old = active.since.is_some_and(|since| now.since(since) >= self.config.segment_age);
            if active.bytes < self.config.segment_bytes && !is_old {
                return Ok(BatchSegment { segment: Arc::clone(&active.segment), prepare: false });
            }
        }
        let (is_ahead, ready) = match &mut *log.spares.lock().unwrap_or_else(PoisonError::into_inner) {
            SpareSource::Inline => (false, None),
            SpareSource::Ahead(spare) => (true, spare.take()),
        };
        let spare = match (ready, &self.active) {
            (Some(spare), _) => spare,
            // The next file does not exist yet, so the active segment grows beyond its limit.
            (None, Some(active)) if is_ahead => {
                return Ok(BatchSegment { segment: Arc::clone(&active.segment), prepare: true });
            }
            (None, _) => SpareSegment::create(&log.disk, &log.dir.join(format!("{first}.new")))?,
        };
        let segment = Arc::new(spare.become_segment(&log.dir, first)?);
        log.add(&segment);
        if let Some(old) = self.active.replace(ActiveSegment { segment: Arc::clone(&segment), bytes: 0, since: None })
            && !is_ahead
        {
            old.segment.close()?;
        }
        Ok(BatchSegment { segment, prepare: is_ahead })
    }

    /// Handles a failed write. If the disk is full, reopens the file and looks for the batch, which is in it completely
    /// or not at all.
    fn after_failure(
        &self,
        log: &RedbLog,
        segment: &Segment,
        error: FileError,
        last: LogPosition,
    ) -> Result<(), AppendError> {
        if !error.is_disk_full() {
            return Err(AppendError::Failed(error));
        }
        segment.open_writing().map_err(AppendError::Failed)?;
        let found = log.events_at(&[last]).map_err(AppendError::Unknown)?;
        if found.iter().all(Option::is_some) { Ok(()) } else { Err(self.failed(error)) }
    }

    fn failed(&self, error: FileError) -> AppendError {
        let is_writable = self.active.as_ref().is_none_or(|active| active.segment.is_writing());
        if error.is_disk_full() && is_writable { AppendError::DiskFull(error) } else { AppendError::Failed(error) }
    }
}

impl RedbLog {
    /// Creates the next segment's file in advance, if this is enabled and there is none.
    pub(super) fn create_spare(&self) -> Result<(), RetireError> {
        let is_wanted =
            matches!(&*self.spares.lock().unwrap_or_else(PoisonError::into_inner), SpareSource::Ahead(None));
        if is_wanted {
            let spare = SpareSegment::create(&self.disk, &self.next_spare_path())?;
            *self.spares.lock().unwrap_or_else(PoisonError::into_inner) = SpareSource::Ahead(Some(spare));
        }
        Ok(())
    }

    /// Closes every segment that is open for writing, except the last.
    pub(super) fn seal_full(&self) -> Result<(), RetireError> {
        let segments = self.all_segments();
        let Some((_, full)) = segments.split_last() else { return Ok(()) };
        for segment in full.iter().filter(|segment| segment.is_writing()) {
            segment.close()?;
        }
        Ok(())
    }

    fn next_spare_path(&self) -> PathBuf {
        let no = self.spares_made.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        self.dir.join(format!("{no}.new"))
    }
}
