//! The commit thread: passes batches to a [`GroupCommit`] and performs its outputs.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, after, never, select};

use super::batch::BatchCollector;
use super::group::{BatchOutcome, CommitTime, GroupCommit, GroupInput, GroupOutput};
use super::notifier::Notifier;
use crate::handoff::{CommitError, CommitPing, Submission};
use crate::limits::{DISK_SPACE_INTERVAL, HANDOVER_RETRY_PAUSE};
use crate::model::Timestamp;
use crate::runtime::{Clock, Metrics};
use crate::storage::{AppendError, DiskSpace, Durable, EventLog, NewRecord, Poison};

/// The writing side of the log. One thread owns it, and only this thread appends.
pub struct Committer {
    pub(super) group: GroupCommit,
    pub(super) io: CommitIo,
    /// Whether the dedup window is shorter than the time to live of the keys.
    pub(super) is_window_short: bool,
}

/// What the outputs of the [`GroupCommit`] are performed with.
pub(super) struct CommitIo {
    pub(super) log: Arc<dyn EventLog>,
    /// How long events are kept. A dedup key is not found for longer than its event is kept.
    pub(super) retention: std::time::Duration,
    pub(super) clock: Clock,
    pub(super) disk_space: DiskSpace,
    /// Wakes the retention thread when a segment must be prepared. `None` without that thread.
    pub(super) wakeup: Option<Sender<()>>,
    pub(super) notifier: Notifier,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poison: Poison,
}

impl Committer {
    /// Commits submissions until the sender of `quit` is dropped or a write fails, then answers the queued ones.
    pub(super) fn run(
        mut self,
        queue: &Receiver<Box<Submission>>,
        mut pings: Receiver<CommitPing>,
        quit: &Receiver<()>,
    ) {
        let _guard = self.io.poison.guard("commit", Arc::clone(&self.io.metrics));
        self.update_window_metrics(self.io.clock.steady());
        let (mut collector, mut stopping) = (BatchCollector::default(), false);
        let heartbeat = self.io.metrics.watchdog.watch("commit");
        while !self.io.poison.is_set() {
            if self.io.notifier.is_holding() {
                self.io.notifier.retry(self.io.clock.instant());
            }
            let first = if stopping {
                queue.try_recv().ok()
            } else {
                let recheck = self.io.next_check();
                heartbeat.idle();
                select! {
                    recv(queue) -> first => first.ok(),
                    recv(quit) -> _ => { stopping = true; continue }
                    recv(pings) -> ping => {
                        // The sender may have stopped waiting. Without senders the channel would always be ready.
                        let answered = ping.map(|ping| _ = ping.try_send(()));
                        if answered.is_err() {
                            pings = never();
                        }
                        continue;
                    }
                    // Readiness must recover without an event: while the process is not ready, none may arrive.
                    recv(recheck) -> _ => { self.io.check_disk_space(); continue }
                }
            };
            let Some(first) = first else { break };
            heartbeat.working();
            let batch = collector.gather(first, queue);
            self.commit(batch);
        }
        if self.io.poison.is_set() {
            self.io.metrics.writable.set(0);
            while let Ok(submission) = queue.try_recv() {
                let refused = submission.events.iter().map(|_| Err(CommitError::Poisoned)).collect();
                submission.reply.send(refused);
            }
        }
    }

    /// Commits one batch and answers it. Each submission gets its results in every case.
    pub fn commit(&mut self, batch: Vec<Submission>) {
        let now = self.io.now();
        let mut input = GroupInput::Submitted(batch);
        let mut at = now;
        loop {
            input = match self.group.step(at, input) {
                GroupOutput::Append(records) => GroupInput::Appended(self.io.append(&records, now)),
                GroupOutput::Finished(outcome) => {
                    self.io.notify(outcome);
                    break;
                }
            };
            at = self.io.now();
        }
        self.update_window_metrics(now.steady);
    }

    /// Updates the metrics of the dedup window, and warns when the window becomes shorter than the configured time to
    /// live.
    fn update_window_metrics(&mut self, now: Timestamp) {
        let window = self.group.window(now);
        let span = window.span.min(self.io.retention);
        let is_window_short = span < window.ttl;
        if is_window_short && !self.is_window_short {
            tracing::warn!(target: "hooktide::commit", window = ?span, "the dedup window is shorter than dedup.ttl");
        }
        self.is_window_short = is_window_short;
        self.io.metrics.dedup_window_seconds.set(span.as_secs() as i64);
        self.io.metrics.dedup_keys.set(window.keys as i64);
    }
}

impl CommitIo {
    fn now(&self) -> CommitTime {
        let moment = self.clock.moment(self.clock.instant());
        CommitTime { steady: self.clock.steady_at(moment.instant), wall: moment.wall, instant: moment.instant }
    }

    /// When the thread has something to do without a request: the disk may have room again, or a stage behind it.
    fn next_check(&self) -> Receiver<std::time::Instant> {
        if self.notifier.is_holding() {
            after(HANDOVER_RETRY_PAUSE)
        } else if self.disk_space.is_enough() {
            never()
        } else {
            after(DISK_SPACE_INTERVAL)
        }
    }

    fn check_disk_space(&mut self) {
        if !self.disk_space.is_enough() && self.disk_space.has_space(0, self.clock.instant()) {
            tracing::info!(target: "hooktide::commit", "there is room on the disk again");
            self.metrics.writable.set(1);
        }
    }

    /// Appends records. On `Ok` every record is in a completed fsync. On `Err` none is in the log.
    fn append(&mut self, records: &[NewRecord<'_>], now: CommitTime) -> Result<Durable, CommitError> {
        if self.poison.is_set() {
            return Err(CommitError::Poisoned);
        }
        let bytes: usize = records.iter().map(NewRecord::stored_bytes).sum();
        let started = self.clock.instant();
        if !self.disk_space.has_space(bytes as u64, started) {
            self.metrics.writable.set(0);
            return Err(CommitError::DiskFull);
        }
        let appended = self.log.append(records, now.steady);
        if let Some(wakeup) = self.wakeup.as_ref().filter(|_| appended.as_ref().map_or(true, |done| done.prepare)) {
            // A full channel already holds a wakeup.
            let _ = wakeup.try_send(());
        }
        let done = appended.map_err(|error| self.refuse(&error))?;
        self.metrics.writable.set(1);
        self.metrics.commit_events.observe(records.len() as f64);
        self.metrics.commit_seconds.observe(self.clock.instant().duration_since(started).as_secs_f64());
        Ok(done.durable)
    }

    fn refuse(&mut self, error: &AppendError) -> CommitError {
        self.metrics.writable.set(0);
        if error.is_disk_full() {
            return self.handle_enospc(error);
        }
        self.poison.set(&format!("a write to the log failed: {error}"));
        CommitError::Poisoned
    }

    /// Refuses new events until [`Self::check_disk_space`] finds free space again.
    fn handle_enospc(&mut self, error: &AppendError) -> CommitError {
        tracing::warn!(target: "hooktide::commit", %error, "the disk is full: new events are refused");
        self.disk_space.ran_out(self.clock.instant());
        CommitError::DiskFull
    }

    fn notify(&mut self, outcome: BatchOutcome) {
        self.metrics.accepted.inc_by(outcome.accepted);
        self.metrics.duplicates.inc_by(outcome.duplicates);
        self.notifier.notify(outcome.announced, outcome.arrivals, self.clock.instant());
        outcome.answers.send();
    }
}
