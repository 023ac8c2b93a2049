//! The writing side: the segment that grows, and the file of the next one.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::block::Packer;
use super::read::RedbLog;
use super::segment::{Segment, Spare};
use super::{AppendError, Appended, Durable, EventLog, LogPosition, NewRecord, RetireError};
use crate::config;
use crate::model::Timestamp;
use crate::storage::FileError;

/// What only the appending thread touches.
#[derive(Debug)]
pub(super) struct Writer {
    config: config::Log,
    active: Option<Active>,
    /// Memory used again for each batch.
    heads: Packer,
    bodies: Packer,
}

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) bytes: u64,
    /// When its first event came, on the scheduling clock; `None` while it is empty.
    pub(super) since: Option<Timestamp>,
}

/// Where the next segment's file comes from.
#[derive(Debug, Default)]
pub(super) enum Spares {
    /// The append that needs it makes it.
    #[default]
    Inline,
    /// [`EventLog::make_ahead`] makes it.
    Ahead(Option<Spare>),
}

/// The segment for a batch; see [`Appended`] for `prepare`.
struct Rolled {
    segment: Arc<Segment>,
    prepare: bool,
}

impl Writer {
    pub(super) fn new(config: config::Log) -> Self {
        Self { config, active: None, heads: Packer::default(), bodies: Packer::default() }
    }

    pub(super) fn grow(&mut self, active: Active) {
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
        let Rolled { segment, prepare } = self.roll(log, first.position, now).map_err(|error| self.failed(error))?;
        let appended = segment.append(&self.heads, &self.bodies, self.config.two_phase_commit);
        appended.or_else(|error| self.after_failure(log, &segment, error, last.position))?;
        log.advance(last.position);
        if let Some(active) = &mut self.active {
            active.bytes += (self.heads.len() + self.bodies.len()) as u64;
            active.since.get_or_insert(now);
        }
        Ok(Appended { durable: Durable::up_to(last.position), prepare })
    }

    /// The segment for a batch that begins with `first`: the active one, or the next if that is full or old.
    fn roll(&mut self, log: &RedbLog, first: LogPosition, now: Timestamp) -> Result<Rolled, FileError> {
        if let Some(active) = &self.active {
            let is_old = active.since.is_some_and(|since| now.since(since) >= self.config.segment_age);
            if active.bytes < self.config.segment_bytes && !is_old {
                return Ok(Rolled { segment: Arc::clone(&active.segment), prepare: false });
            }
        }
        let (is_ahead, ready) = match &mut *log.spares.lock().unwrap_or_else(PoisonError::into_inner) {
            Spares::Inline => (false, None),
            Spares::Ahead(spare) => (true, spare.take()),
        };
        let spare = match (ready, &self.active) {
            (Some(spare), _) => spare,
            // Not made yet: the active one grows a little longer.
            (None, Some(active)) if is_ahead => {
                return Ok(Rolled { segment: Arc::clone(&active.segment), prepare: true });
            }
            (None, _) => Spare::make(&log.disk, &log.dir.join(format!("{first}.new")))?,
        };
        let segment = Arc::new(spare.become_segment(&log.dir, first)?);
        log.add(&segment);
        if let Some(old) = self.active.replace(Active { segment: Arc::clone(&segment), bytes: 0, since: None })
            && !is_ahead
        {
            old.segment.close()?;
        }
        Ok(Rolled { segment, prepare: is_ahead })
    }

    /// After a write without room the file, opened again, decides: the batch is in it whole or not at all.
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
    /// Makes the next segment's file, if somebody makes it ahead and there is none.
    pub(super) fn make_spare(&self) -> Result<(), RetireError> {
        let is_wanted = matches!(&*self.spares.lock().unwrap_or_else(PoisonError::into_inner), Spares::Ahead(None));
        if is_wanted {
            let spare = Spare::make(&self.disk, &self.next_spare())?;
            *self.spares.lock().unwrap_or_else(PoisonError::into_inner) = Spares::Ahead(Some(spare));
        }
        Ok(())
    }

    /// Closes every segment but the last that is still open for writing.
    pub(super) fn seal_full(&self) -> Result<(), RetireError> {
        let segments = self.all_segments();
        let Some((_, full)) = segments.split_last() else { return Ok(()) };
        for segment in full.iter().filter(|segment| segment.is_writing()) {
            segment.close()?;
        }
        Ok(())
    }

    fn next_spare(&self) -> PathBuf {
        let no = self.spares_made.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        self.dir.join(format!("{no}.new"))
    }
}
