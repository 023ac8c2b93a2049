//! The retain thread: makes segments ahead, seals those that are full, and retires those that the log's limits take.
//!
//! A segment goes in steps, each of which can be repeated after a crash: bodies that are still needed are copied to a file
//! of the same name in `carry/`; the file is renamed to `.gone`; it is cut short a little at a time and unlinked.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};

use super::Log;
use super::group::is_no_space;
use super::log::records;
use super::recall::Worker;
use super::record::Packer;
use super::segment::{Segment, Spare};
use crate::config;
use crate::handoff::Needs;
use crate::limits::{CARRY_EVENTS, RETAIN_INTERVAL, TRUNCATE_PAUSE, TRUNCATE_STEP_BYTES};
use crate::model::{EventId, Timestamp};
use crate::runtime::{Clock, Metrics};
use crate::storage::{Disk, Poison, ReadError, ReadLog};

/// Who says what is needed; known once settle runs.
pub(super) type NeedsCell = Arc<OnceLock<Arc<dyn Needs>>>;

/// What the retain thread works with.
pub(super) struct Retain {
    pub(super) log: Arc<Log>,
    pub(super) config: config::Log,
    pub(super) clock: Clock,
    pub(super) needs: NeedsCell,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poison: Poison,
}

/// Why a segment could not be retired now.
#[derive(Debug, thiserror::Error)]
pub(super) enum RetainError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Storage(#[from] redb::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl RetainError {
    /// Whether it may work another time.
    fn passes(&self) -> bool {
        match self {
            Self::Read(ReadError::Storage(error)) | Self::Storage(error) => is_no_space(error),
            Self::Read(ReadError::Damaged(_)) => true,
            Self::Io(error) => matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
        }
    }
}

impl Retain {
    /// Starts the thread. It makes the first spare at once.
    pub(super) fn start(self, spares: Sender<Spare>, bell: Receiver<()>) -> io::Result<Worker> {
        let (quit, end) = bounded::<()>(0);
        let metrics = Arc::clone(&self.metrics);
        let thread = std::thread::Builder::new().name("retain".into()).spawn(move || {
            let _guard = self.poison.guard("retain", metrics);
            self.run(&spares, &bell, &end);
        })?;
        Ok(Worker { quit, thread })
    }

    fn run(&self, spares: &Sender<Spare>, bell: &Receiver<()>, quit: &Receiver<()>) {
        let mut made = 0u64;
        let mut prepare = || {
            self.check("seal a segment", seal_all(&self.log));
            if spares.is_empty() {
                made += 1;
                let path = self.log.dir.join(format!("{made}.new"));
                match Spare::make(&*self.log.disk, path) {
                    // One thread sends, and it has just looked.
                    Ok(spare) => drop(spares.try_send(spare)),
                    Err(error) => self.check("make a segment", Err(error.into())),
                }
            }
        };
        prepare();
        self.measure();
        loop {
            select! {
                recv(bell) -> rung => if rung.is_err() { break } else { prepare() },
                recv(quit) -> _ => break,
                default(RETAIN_INTERVAL) => {
                    prepare();
                    if let Some(needs) = self.needs.get() {
                        let mut pause = || match bell.recv_timeout(TRUNCATE_PAUSE) {
                            Ok(()) => prepare(),
                            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
                        };
                        let gone = || !matches!(quit.try_recv(), Err(TryRecvError::Empty));
                        self.sweep(&**needs, &mut pause, &gone);
                    }
                    self.measure();
                }
            }
        }
    }

    fn sweep(&self, needs: &dyn Needs, pause: &mut dyn FnMut(), stop: &dyn Fn() -> bool) {
        while !stop() && !self.poison.is_set() {
            match retire_one(&self.log, &self.config, self.clock.steady(), needs, pause) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return self.check("retire a segment", Err(error)),
            }
        }
        self.check("tidy what is carried", tidy_carried(&self.log, &self.config, needs, pause));
    }

    fn check(&self, what: &str, done: Result<(), RetainError>) {
        match done {
            Ok(()) => {}
            Err(error) if error.passes() => {
                tracing::warn!(target: "hooktide::commit", %error, "could not {what}; later again");
            }
            Err(error) => self.poison.set(&format!("could not {what}: {error}")),
        }
    }

    fn measure(&self) {
        let segments = self.log.segments();
        let size = |files: &[Arc<Segment>]| files.iter().map(|file| allocated(&self.log, file)).sum::<u64>();
        self.metrics.log_segments.set(segments.len() as i64);
        self.metrics.log_bytes.set((size(&segments) + size(&self.log.carried())) as i64);
    }
}

/// Closes every segment but the last that is still open for writing.
pub(super) fn seal_all(log: &Log) -> Result<(), RetainError> {
    let segments = log.segments();
    let Some((_, full)) = segments.split_last() else { return Ok(()) };
    for segment in full.iter().filter(|segment| segment.is_writing()) {
        segment.close()?;
    }
    Ok(())
}

/// Retires the oldest segment if the log's limits take it; `false` if they do not, or if it is needed a little longer.
pub(super) fn retire_one(
    log: &Log,
    config: &config::Log,
    now: Timestamp,
    needs: &dyn Needs,
    pause: &mut dyn FnMut(),
) -> Result<bool, RetainError> {
    let segments = log.segments();
    let [oldest, next, ..] = &segments[..] else { return Ok(false) };
    let span = oldest.span(&*log.disk)?;
    let too_old = span.is_none_or(|span| now.since(span.last.1) >= config.retention);
    let total: u64 = segments.iter().map(|segment| allocated(log, segment)).sum();
    if !too_old && total <= config.retention_bytes {
        return Ok(false);
    }
    if let Some(span) = span {
        debug_assert!(span.last.0 < next.first);
        let Some(needed) = needs.needed(span.first.0, span.last.0) else { return Ok(false) };
        write_carried(log, oldest.first, &needed)?;
        limit_carried(log, config, needs, pause)?;
    }
    tracing::info!(target: "hooktide::commit", first = %oldest.first, too_old, "a segment of the log goes");
    remove(log, oldest, pause)?;
    Ok(true)
}

/// Removes carried bodies that nobody names any more, and writes anew a file of which less than half is named.
pub(super) fn tidy_carried(
    log: &Log,
    config: &config::Log,
    needs: &dyn Needs,
    pause: &mut dyn FnMut(),
) -> Result<(), RetainError> {
    for file in log.carried().iter() {
        let ids = ids_of(log, file)?;
        let needed = match (ids.first(), ids.last()) {
            (Some(first), Some(last)) => needs.needed(*first, *last),
            _ => Some(Vec::new()),
        };
        let Some(mut needed) = needed else { continue };
        needed.retain(|id| ids.binary_search(id).is_ok());
        if needed.is_empty() {
            remove(log, file, pause)?;
        } else if needed.len() <= ids.len() / 2 {
            write_carried(log, file.first, &needed)?;
        }
    }
    limit_carried(log, config, needs, pause)
}

/// Copies these events to `carry/`, durably, and puts the file in sight.
fn write_carried(log: &Log, name: EventId, events: &[EventId]) -> Result<(), RetainError> {
    if events.is_empty() {
        return Ok(());
    }
    let spare = Spare::make(&*log.disk, log.carry_dir.join(format!("{name}.new")))?;
    let written = copy(log, &spare, events);
    if let Err(error) = written {
        // The error that counts is the one that stopped the copying; the next start removes the file as well.
        let _ = spare.discard(&*log.disk);
        return Err(error);
    }
    let file = Arc::new(spare.become_segment(&*log.disk, &log.carry_dir, name)?);
    file.close()?;
    let before = log.carried().iter().find(|old| old.first == name).cloned();
    log.carry(&file);
    if let Some(before) = before {
        log.forget(&before);
    }
    Ok(())
}

fn copy(log: &Log, to: &Spare, events: &[EventId]) -> Result<(), RetainError> {
    let (mut heads, mut bodies) = (Packer::default(), Packer::default());
    for ids in events.chunks(CARRY_EVENTS) {
        let stored = log.read(ids)?;
        let found = || ids.iter().zip(&stored).filter_map(|(id, stored)| stored.as_ref().map(|stored| (*id, stored)));
        heads.pack(found().map(|(id, (head, _))| (id, &head[..])));
        bodies.pack(found().map(|(id, (_, data))| (id, &data[..])));
        to.append(&heads, &bodies)?;
    }
    Ok(())
}

/// The oldest carried bodies beyond the limit go, and what waits for them ends.
fn limit_carried(
    log: &Log,
    config: &config::Log,
    needs: &dyn Needs,
    pause: &mut dyn FnMut(),
) -> Result<(), RetainError> {
    loop {
        let carried = log.carried();
        let total: u64 = carried.iter().map(|file| allocated(log, file)).sum();
        let Some(oldest) = carried.first().filter(|_| total > config.carry_bytes) else { return Ok(()) };
        let ids = ids_of(log, oldest)?;
        tracing::warn!(target: "hooktide::commit", events = ids.len(), "carried bodies are over their limit and expire");
        needs.expire(ids);
        remove(log, oldest, pause)?;
    }
}

fn ids_of(log: &Log, file: &Arc<Segment>) -> Result<Vec<EventId>, ReadError> {
    let ids = log.read_segment(file, |tables| {
        let mut ids = Vec::new();
        for entry in tables.heads.range::<u128>(..).map_err(redb::Error::from)? {
            let (key, block) = entry.map_err(redb::Error::from)?;
            for record in records(key.value(), block.value())? {
                ids.push(record?.0);
            }
        }
        Ok(ids)
    })?;
    Ok(ids.unwrap_or_default())
}

/// Takes a file out of sight, then off the disk.
fn remove(log: &Log, file: &Arc<Segment>, pause: &mut dyn FnMut()) -> Result<(), RetainError> {
    log.forget(file);
    let gone = file.path().with_extension("gone");
    log.disk.rename(file.path(), &gone)?;
    if let Some(dir) = file.path().parent() {
        log.disk.sync_dir(dir)?;
    }
    Ok(remove_in_steps(&*log.disk, &gone, pause)?)
}

/// Cuts a file short a little at a time, then unlinks it: at once, a large one stalls every fsync beside it.
pub(super) fn remove_in_steps(disk: &dyn Disk, path: &Path, pause: &mut dyn FnMut()) -> io::Result<()> {
    let mut len = disk.size(path)?.len;
    while len > TRUNCATE_STEP_BYTES {
        len -= TRUNCATE_STEP_BYTES;
        disk.truncate(path, len)?;
        pause();
    }
    disk.remove(path)
}

fn allocated(log: &Log, file: &Segment) -> u64 {
    // A file that was retired just now takes nothing.
    log.disk.size(file.path()).map_or(0, |size| size.allocated)
}
