//! The retain thread: lets the log make segments ahead and seal those that are full, and decides which segments the log's
//! limits take.

use std::io;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, bounded, select};

use super::body_reader::Worker;
use crate::config;
use crate::handoff::Needs;
use crate::limits::{RETAIN_INTERVAL, TRUNCATE_PAUSE};
use crate::model::{EventId, Timestamp};
use crate::runtime::{Clock, Metrics};
use crate::storage::log::LogFile;
use crate::storage::{EventLog, LogPosition, Poison, RetireError};

/// Who says what is needed; known once settle runs.
pub(super) type NeedsCell = Arc<OnceLock<Arc<dyn Needs>>>;

/// What the retain thread works with.
pub(super) struct Retain {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) config: config::Log,
    pub(super) clock: Clock,
    pub(super) needs: NeedsCell,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poison: Poison,
}

impl Retain {
    /// Starts the thread. It has the first segment made ahead at once.
    pub(super) fn start(self, bell: Receiver<()>) -> io::Result<Worker> {
        let (quit, end) = bounded::<()>(0);
        let metrics = Arc::clone(&self.metrics);
        let thread = std::thread::Builder::new().name("retain".into()).spawn(move || {
            let _guard = self.poison.guard("retain", metrics);
            self.run(&bell, &end);
        })?;
        Ok(Worker { quit, thread })
    }

    fn run(&self, bell: &Receiver<()>, quit: &Receiver<()>) {
        let prepare = || {
            self.check("seal a segment", self.log.seal());
            self.check("make a segment", self.log.make_ahead());
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
            match retire_one(&*self.log, &self.config, self.clock.steady(), needs, pause) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return self.check("retire a segment", Err(error)),
            }
        }
        self.check("tidy what is carried", tidy_carried(&*self.log, &self.config, needs, pause));
    }

    fn check(&self, what: &str, done: Result<(), RetireError>) {
        match done {
            Ok(()) => {}
            Err(error) if error.is_retryable() => {
                tracing::warn!(target: "hooktide::commit", %error, "could not {what}; later again");
            }
            Err(error) => self.poison.set(&format!("could not {what}: {error}")),
        }
    }

    fn measure(&self) {
        let segments = self.log.segments();
        self.metrics.log_segments.set(segments.len() as i64);
        self.metrics.log_bytes.set((allocated(&segments) + allocated(&self.log.carried())) as i64);
    }
}

/// Retires the oldest segment if the log's limits take it; `false` if they do not, or if it is needed a little longer.
pub(super) fn retire_one(
    log: &dyn EventLog,
    config: &config::Log,
    now: Timestamp,
    needs: &dyn Needs,
    pause: &mut dyn FnMut(),
) -> Result<bool, RetireError> {
    let segments = log.segments();
    let [oldest, next, ..] = &segments[..] else { return Ok(false) };
    let span = log.span(oldest.first)?;
    let is_too_old = span.is_none_or(|span| now.since(span.last.1) >= config.retention);
    if !is_too_old && allocated(&segments) <= config.retention_bytes {
        return Ok(false);
    }
    let needed = match span {
        None => Vec::new(),
        Some(span) => {
            debug_assert!(span.last.0 < next.first);
            let Some(needed) = needs.needed(span.first.0.event(), span.last.0.event()) else { return Ok(false) };
            needed.into_iter().map(LogPosition::of).collect()
        }
    };
    tracing::info!(
        target: "hooktide::commit", first = %oldest.first, too_old = is_too_old, "a segment of the log goes"
    );
    log.retire(oldest.first, &needed, pause)?;
    limit_carried(log, config, needs, pause)?;
    Ok(true)
}

/// Removes carried bodies that nobody names any more, and writes anew a file of which less than half is named.
pub(super) fn tidy_carried(
    log: &dyn EventLog,
    config: &config::Log,
    needs: &dyn Needs,
    pause: &mut dyn FnMut(),
) -> Result<(), RetireError> {
    for file in log.carried() {
        let inside = log.carried_positions(file.first)?;
        let needed = match (inside.first(), inside.last()) {
            (Some(first), Some(last)) => needs.needed(first.event(), last.event()),
            _ => Some(Vec::new()),
        };
        let Some(needed) = needed else { continue };
        let mut needed: Vec<_> = needed.into_iter().map(LogPosition::of).collect();
        needed.retain(|at| inside.binary_search(at).is_ok());
        if needed.len() <= inside.len() / 2 {
            log.keep_carried(file.first, &needed, pause)?;
        }
    }
    limit_carried(log, config, needs, pause)
}

/// The oldest carried bodies beyond the limit go, and what waits for them ends.
fn limit_carried(
    log: &dyn EventLog,
    config: &config::Log,
    needs: &dyn Needs,
    pause: &mut dyn FnMut(),
) -> Result<(), RetireError> {
    loop {
        let carried = log.carried();
        let Some(oldest) = carried.first().filter(|_| allocated(&carried) > config.carry_bytes) else {
            return Ok(());
        };
        let ids: Vec<EventId> = log.carried_positions(oldest.first)?.into_iter().map(LogPosition::event).collect();
        tracing::warn!(target: "hooktide::commit", events = ids.len(), "carried bodies are over their limit and expire");
        needs.expire(ids);
        log.keep_carried(oldest.first, &[], pause)?;
    }
}

fn allocated(files: &[LogFile]) -> u64 {
    files.iter().map(|file| file.allocated).sum()
}
