//! The commit thread: hands a [`Group`] what gathers, and carries out what the group says.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, after, never, select};

use super::batch::Gatherer;
use super::group::{Group, Input, Now, Output, Told};
use crate::handoff::{Refused, SettleHandle, Shards, Submission, ToSettle};
use crate::limits::ROOM_INTERVAL;
use crate::model::Timestamp;
use crate::runtime::{Clock, Metrics};
use crate::storage::{AppendError, Durable, EventLog, NewRecord, Poison, Room};

/// The writing side of the log. One thread owns it; nobody else appends.
pub struct Committer {
    pub(super) group: Group,
    pub(super) hands: Hands,
    /// Whether the dedup window is shorter than its time to live.
    pub(super) is_narrow: bool,
}

/// What the decisions of the group are carried out with.
pub(super) struct Hands {
    pub(super) log: Arc<dyn EventLog>,
    /// No key is found for longer than its event is kept.
    pub(super) retention: std::time::Duration,
    pub(super) clock: Clock,
    pub(super) room: Room,
    /// Rung when the log has something to prepare.
    pub(super) bell: Option<Sender<()>>,
    pub(super) settle: SettleHandle,
    pub(super) shards: Shards,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poison: Poison,
}

impl Committer {
    /// Commits what comes until `quit`'s other end is dropped or a write fails, then answers what is still queued.
    pub(super) fn run(mut self, queue: &Receiver<Box<Submission>>, quit: &Receiver<()>) {
        let _guard = self.hands.poison.guard("commit", Arc::clone(&self.hands.metrics));
        self.show_window(self.hands.clock.steady());
        let (mut gatherer, mut stopping) = (Gatherer::default(), false);
        while !self.hands.poison.is_set() {
            let first = if stopping {
                queue.try_recv().ok()
            } else {
                let recheck = if self.hands.room.is_enough() { never() } else { after(ROOM_INTERVAL) };
                select! {
                    recv(queue) -> first => first.ok(),
                    recv(quit) -> _ => { stopping = true; continue }
                    // Readiness must come back by itself: while it is off, no event may come to ask for room.
                    recv(recheck) -> _ => { self.hands.look_for_room(); continue }
                }
            };
            let Some(first) = first else { break };
            let batch = gatherer.gather(first, queue);
            self.commit(batch);
        }
        if self.hands.poison.is_set() {
            self.hands.metrics.writable.set(0);
            while let Ok(submission) = queue.try_recv() {
                let refused = submission.events.iter().map(|_| Err(Refused::Poisoned)).collect();
                submission.reply.give(refused);
            }
        }
    }

    /// Commits one batch and answers it. Whatever happens, each submission gets its verdicts.
    pub fn commit(&mut self, batch: Vec<Submission>) {
        let now = self.hands.now();
        let mut input = Input::Submitted(batch);
        let mut at = now;
        loop {
            input = match self.group.step(at, input) {
                Output::Append(records) => Input::Appended(self.hands.append(&records, now)),
                Output::Told(told) => {
                    self.hands.tell(told);
                    break;
                }
            };
            at = self.hands.now();
        }
        self.show_window(now.steady);
    }

    /// Shows how far back a duplicate is sure to be found, and warns when that is less than was asked for.
    fn show_window(&mut self, now: Timestamp) {
        let window = self.group.window(now);
        let span = window.span.min(self.hands.retention);
        let is_narrow = span < window.ttl;
        if is_narrow && !self.is_narrow {
            tracing::warn!(target: "hooktide::commit", window = ?span, "the dedup window is shorter than dedup.ttl");
        }
        self.is_narrow = is_narrow;
        self.hands.metrics.dedup_window_seconds.set(span.as_secs() as i64);
        self.hands.metrics.dedup_keys.set(window.keys as i64);
    }
}

impl Hands {
    fn now(&self) -> Now {
        let moment = self.clock.moment(self.clock.instant());
        Now { steady: self.clock.steady_at(moment.instant), wall: moment.wall, instant: moment.instant }
    }

    fn look_for_room(&mut self) {
        if self.room.has(0, self.clock.instant()) {
            tracing::info!(target: "hooktide::commit", "there is room on the disk again");
            self.metrics.writable.set(1);
        }
    }

    /// On `Ok` every record is in a completed fsync; on `Err` none is in the log.
    fn append(&mut self, records: &[NewRecord<'_>], now: Now) -> Result<Durable, Refused> {
        if self.poison.is_set() {
            return Err(Refused::Poisoned);
        }
        let bytes: usize = records.iter().map(NewRecord::stored_bytes).sum();
        let started = self.clock.instant();
        if !self.room.has(bytes as u64, started) {
            self.metrics.writable.set(0);
            return Err(Refused::DiskFull);
        }
        let appended = self.log.append(records, now.steady);
        if let Some(bell) = self.bell.as_ref().filter(|_| appended.as_ref().map_or(true, |done| done.prepare)) {
            // A bell that rings already is enough.
            let _ = bell.try_send(());
        }
        let done = appended.map_err(|error| self.refuse(&error))?;
        self.metrics.writable.set(1);
        self.metrics.commit_events.observe(records.len() as f64);
        self.metrics.commit_seconds.observe(self.clock.instant().duration_since(started).as_secs_f64());
        Ok(done.durable)
    }

    fn refuse(&mut self, error: &AppendError) -> Refused {
        self.metrics.writable.set(0);
        if error.is_disk_full() {
            tracing::warn!(target: "hooktide::commit", %error, "the disk is full: new events are refused");
            self.room.ran_out(self.clock.instant());
            return Refused::DiskFull;
        }
        self.poison.set(&format!("a write to the log failed: {error}"));
        Refused::Poisoned
    }

    fn tell(&self, told: Told) {
        self.metrics.accepted.inc_by(told.accepted);
        self.metrics.duplicates.inc_by(told.duplicates);
        if !told.announced.is_empty() {
            self.settle.tell(ToSettle::Announce(told.announced));
        }
        for arrivals in told.arrivals {
            self.shards.tell_arrivals(arrivals.by_shard);
            if let Some(event) = arrivals.wide {
                self.shards.tell_all(event);
            }
        }
        told.answers.hand_in();
    }
}
