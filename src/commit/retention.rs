//! The retention thread (`retain`): creates segments ahead, seals full segments, and deletes segments that exceed the
//! limits of the log.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, after, bounded, select_biased};

use super::body_reader::StoppableThread;
use crate::config;
use crate::handoff::RetentionRefs;
use crate::limits::TRUNCATE_PAUSE;
use crate::model::{EventId, Timestamp};
use crate::runtime::{Clock, Metrics};
use crate::storage::log::LogFile;
use crate::storage::{EventLog, LogPosition, Poison, RetireError};

/// Says which bodies are still needed. Empty until settle runs.
pub(super) type RetentionRefsCell = Arc<OnceLock<Arc<dyn RetentionRefs>>>;

/// The state of the retention thread.
pub(super) struct RetentionThread {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) config: config::Log,
    pub(super) clock: Clock,
    pub(super) refs: RetentionRefsCell,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poison: Poison,
    /// The time between two sweeps: [`crate::limits::RETENTION_INTERVAL`], except in tests.
    pub(super) interval: Duration,
}

impl RetentionThread {
    /// Measures the log, then starts the thread. It creates the first segment ahead at once. A message on `wakeup` lets it
    /// prepare segments.
    pub(super) fn start(self, wakeup: Receiver<()>) -> io::Result<StoppableThread> {
        self.measure();
        let (quit, end) = bounded::<()>(0);
        let metrics = Arc::clone(&self.metrics);
        let thread = std::thread::Builder::new().name("retain".into()).spawn(move || {
            let _guard = self.poison.guard("retain", metrics);
            self.run(&wakeup, &end);
        })?;
        Ok(StoppableThread { quit, thread })
    }

    /// Prepares segments on each wakeup. Sweeps at a fixed deadline, which a wakeup does not move: under steady load a
    /// wakeup comes at each roll.
    fn run(&self, wakeup: &Receiver<()>, quit: &Receiver<()>) {
        self.prepare();
        let mut due = after(self.interval);
        loop {
            select_biased! {
                recv(quit) -> _ => break,
                recv(due) -> _ => {
                    self.prepare();
                    if let Some(refs) = self.refs.get() {
                        self.sweep(&**refs, wakeup, quit);
                    }
                    self.measure();
                    due = after(self.interval);
                }
                recv(wakeup) -> received => if received.is_err() { break } else { self.prepare() },
            }
        }
    }

    fn prepare(&self) {
        self.check("seal a segment", self.log.seal());
        self.check("make a segment", self.log.create_next_segment());
        self.measure();
    }

    fn sweep(&self, refs: &dyn RetentionRefs, wakeup: &Receiver<()>, quit: &Receiver<()>) {
        let mut pause = || match wakeup.recv_timeout(TRUNCATE_PAUSE) {
            Ok(()) => self.prepare(),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        };
        let is_stopping = || !matches!(quit.try_recv(), Err(TryRecvError::Empty));
        while !is_stopping() && !self.poison.is_set() {
            match delete_oldest_segment(&*self.log, &self.config, self.clock.steady(), refs, &mut pause) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return self.check("retire a segment", Err(error)),
            }
        }
        self.check("tidy what is carried", tidy_carried(&*self.log, &self.config, refs, &mut pause));
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

/// Deletes the oldest segment if it exceeds the limits of the log. Bodies that are still needed are carried over to
/// another file. `false` if the segment is within the limits, or if one of its deliveries is still pending and the
/// segment must wait.
pub(super) fn delete_oldest_segment(
    log: &dyn EventLog,
    config: &config::Log,
    now: Timestamp,
    refs: &dyn RetentionRefs,
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
            let Some(needed) = refs.needed(span.first.0.event(), span.last.0.event()) else { return Ok(false) };
            needed.into_iter().map(LogPosition::of).collect()
        }
    };
    tracing::info!(
        target: "hooktide::commit", first = %oldest.first, too_old = is_too_old, "a segment of the log goes"
    );
    log.retire(oldest.first, &needed, pause)?;
    limit_carried(log, config, refs, pause)?;
    Ok(true)
}

/// Rewrites each file of carried bodies of which at most half is still needed. A file without needed bodies is deleted.
pub(super) fn tidy_carried(
    log: &dyn EventLog,
    config: &config::Log,
    refs: &dyn RetentionRefs,
    pause: &mut dyn FnMut(),
) -> Result<(), RetireError> {
    for file in log.carried() {
        let inside = log.carried_positions(file.first)?;
        let needed = match (inside.first(), inside.last()) {
            (Some(first), Some(last)) => refs.needed(first.event(), last.event()),
            _ => Some(Vec::new()),
        };
        let Some(needed) = needed else { continue };
        let mut needed: Vec<_> = needed.into_iter().map(LogPosition::of).collect();
        needed.retain(|at| inside.binary_search(at).is_ok());
        if needed.len() <= inside.len() / 2 {
            log.rewrite_carried(file.first, &needed, pause)?;
        }
    }
    limit_carried(log, config, refs, pause)
}

/// Deletes the oldest carried bodies beyond the limit. Their pending deliveries expire.
fn limit_carried(
    log: &dyn EventLog,
    config: &config::Log,
    refs: &dyn RetentionRefs,
    pause: &mut dyn FnMut(),
) -> Result<(), RetireError> {
    loop {
        let carried = log.carried();
        let Some(oldest) = carried.first().filter(|_| allocated(&carried) > config.carry_bytes) else {
            return Ok(());
        };
        let ids: Vec<EventId> = log.carried_positions(oldest.first)?.into_iter().map(LogPosition::event).collect();
        tracing::warn!(target: "hooktide::commit", events = ids.len(), "carried bodies are over their limit and expire");
        refs.expire(ids);
        log.rewrite_carried(oldest.first, &[], pause)?;
    }
}

fn allocated(files: &[LogFile]) -> u64 {
    files.iter().map(|file| file.allocated).sum()
}
