//! Group commit: takes what has gathered, decides what is new, writes it in one transaction, and only then tells anybody.
//!
//! One thread owns a [`Group`]; nobody else gives ids, writes to the log, or decides what is a duplicate.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, after, never, select};
use smallvec::SmallVec;

use super::Log;
use super::dedup::{Dedup, Entry, Seen};
use super::gather::Gatherer;
use super::ids::Ids;
use super::record::Packer;
use super::room::Room;
use super::segment::{Segment, Spare};
use crate::config;
use crate::handoff::{
    Admitted, Announced, Arrival, Committed, Refused, Round, SettleHandle, Shards, Submission, ToSettle, Verdicts,
};
use crate::limits::{ROOM_INTERVAL, WIDE_EVENT_WEBHOOKS};
use crate::model::{DedupKey, DedupKind, EventId, Timestamp, Webhooks};
use crate::outbound::Event;
use crate::runtime::{Clock, Metrics};
use crate::storage::{Poison, ReadLog};

/// The writing side of the log.
#[derive(Debug)]
pub struct Group {
    pub(super) log: Arc<Log>,
    pub(super) config: config::Log,
    pub(super) clock: Clock,
    pub(super) ids: Ids,
    pub(super) dedup: Dedup,
    pub(super) room: Room,
    pub(super) active: Option<Active>,
    pub(super) spares: Spares,
    pub(super) settle: SettleHandle,
    pub(super) shards: Shards,
    pub(super) metrics: Arc<Metrics>,
    pub(super) poison: Poison,
    pub(super) scratch: Scratch,
    /// Whether the dedup window is shorter than its time to live.
    pub(super) narrow: bool,
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
#[derive(Debug)]
pub(super) enum Spares {
    /// Made when it is needed.
    Inline,
    /// Made ahead by the retain thread, which is rung for when one was taken.
    Ahead { ready: Receiver<Spare>, bell: Sender<()> },
}

/// Memory used again for each batch.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    heads: Packer,
    bodies: Packer,
    keys: HashMap<DedupKey, Entry>,
    verdicts: Vec<Verdict>,
}

/// What is decided of an event before the write.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Written with this batch.
    New(EventId),
    /// The same as another of this batch, and so bound to its fate.
    Twin(EventId),
    /// An idempotency key of this batch with another body.
    TwinReused,
    /// Stored before.
    Known(EventId),
    /// An idempotency key stored before with another body.
    Reused,
}

impl Group {
    /// Commits what comes until `quit`'s other end is dropped or a write fails, then answers what is still queued.
    pub(super) fn run(mut self, queue: &Receiver<Box<Submission>>, quit: &Receiver<()>) {
        let _guard = self.poison.guard("commit", Arc::clone(&self.metrics));
        self.show_window(self.clock.steady());
        let (mut gatherer, mut stopping) = (Gatherer::default(), false);
        while !self.poison.is_set() {
            let first = if stopping {
                queue.try_recv().ok()
            } else {
                let recheck = if self.room.is_enough() { never() } else { after(ROOM_INTERVAL) };
                select! {
                    recv(queue) -> first => first.ok(),
                    recv(quit) -> _ => { stopping = true; continue }
                    // Readiness must come back by itself: while it is off, no event may come to ask for room.
                    recv(recheck) -> _ => { self.look_for_room(); continue }
                }
            };
            let Some(first) = first else { break };
            let batch = gatherer.gather(first, queue);
            self.commit(batch);
        }
        if self.poison.is_set() {
            self.metrics.writable.set(0);
            while let Ok(submission) = queue.try_recv() {
                let refused = submission.events.iter().map(|_| Err(Refused::Poisoned)).collect();
                submission.reply.give(refused);
            }
        }
    }

    /// Commits one batch and answers it. Whatever happens, each submission gets its verdicts.
    pub fn commit(&mut self, batch: Vec<Submission>) {
        let now = self.clock.steady();
        self.decide(&batch, now);
        let fresh = self.scratch.verdicts.iter().filter(|verdict| matches!(verdict, Verdict::New(_))).count();
        let written = if fresh == 0 { Ok(()) } else { self.write(&batch, fresh, now) };
        if written.is_ok() {
            self.remember(&batch, now);
        }
        self.tell(batch, written);
        self.show_window(now);
    }

    fn look_for_room(&mut self) {
        if self.room.has(0, self.clock.instant()) {
            tracing::info!(target: "hooktide::commit", "there is room on the disk again");
            self.metrics.writable.set(1);
        }
    }

    /// Shows how far back a duplicate is sure to be found, and warns when that is less than was asked for.
    fn show_window(&mut self, now: Timestamp) {
        let window = self.dedup.window(now).min(self.config.retention);
        let narrow = window < self.dedup.ttl();
        if narrow && !self.narrow {
            tracing::warn!(target: "hooktide::commit", ?window, "the dedup window is shorter than dedup.ttl");
        }
        self.narrow = narrow;
        self.metrics.dedup_window_seconds.set(window.as_secs() as i64);
        self.metrics.dedup_keys.set(self.dedup.len() as i64);
    }

    fn decide(&mut self, batch: &[Submission], now: Timestamp) {
        self.dedup.expire(now);
        self.scratch.keys.clear();
        self.scratch.verdicts.clear();
        let wall = self.clock.now();
        for admitted in batch.iter().flat_map(|submission| &submission.events) {
            let known = keys(admitted).find_map(|(key, kind, fingerprint)| self.known(&key, kind, fingerprint, now));
            let verdict = known.unwrap_or_else(|| {
                let id = self.ids.next(wall);
                for (key, _, fingerprint) in keys(admitted) {
                    self.scratch.keys.insert(key, Entry { key, id, fingerprint, at: now });
                }
                Verdict::New(id)
            });
            self.scratch.verdicts.push(verdict);
        }
    }

    /// What a key that was there before, in the table or in this batch, says of its event.
    fn known(&self, key: &DedupKey, kind: DedupKind, fingerprint: u64, now: Timestamp) -> Option<Verdict> {
        match self.dedup.look(key, kind, fingerprint, now) {
            Seen::Before(id) => Some(Verdict::Known(id)),
            Seen::OtherBody => Some(Verdict::Reused),
            Seen::No => match self.scratch.keys.get(key)?.judge(kind, fingerprint) {
                Seen::Before(id) => Some(Verdict::Twin(id)),
                Seen::OtherBody | Seen::No => Some(Verdict::TwinReused),
            },
        }
    }

    /// On `Ok` every new event of the batch is in a completed fsync; on `Err` none is in the log.
    fn write(&mut self, batch: &[Submission], fresh: usize, now: Timestamp) -> Result<(), Refused> {
        if self.poison.is_set() {
            return Err(Refused::Poisoned);
        }
        let Scratch { heads, bodies, verdicts, .. } = &mut self.scratch;
        let events = || {
            let admitted = batch.iter().flat_map(|submission| &submission.events);
            verdicts.iter().zip(admitted).filter_map(|(verdict, admitted)| match verdict {
                Verdict::New(id) => Some((*id, admitted)),
                _ => None,
            })
        };
        heads.pack(events().map(|(id, admitted)| (id, &admitted.head[..])));
        bodies.pack(events().map(|(id, admitted)| (id, &admitted.body[..])));
        let Some(((first, _), (last, _))) = events().next().zip(events().last()) else { return Ok(()) };
        let bytes = (heads.len() + bodies.len()) as u64;

        let started = self.clock.instant();
        if !self.room.has(bytes, started) {
            self.metrics.writable.set(0);
            return Err(Refused::DiskFull);
        }
        let appended = self.roll(first, now).and_then(|segment| {
            let appended = segment.append(&self.scratch.heads, &self.scratch.bodies, self.config.two_phase_commit);
            appended.or_else(|error| self.after_failure(&segment, error, last))
        });
        if let Err(error) = appended {
            return Err(self.refuse(&error));
        }
        self.log.advance(last);
        if let Some(active) = &mut self.active {
            active.bytes += bytes;
            active.since.get_or_insert(now);
        }
        self.metrics.writable.set(1);
        self.metrics.commit_events.observe(fresh as f64);
        self.metrics.commit_seconds.observe(self.clock.instant().duration_since(started).as_secs_f64());
        Ok(())
    }

    /// The segment for a batch that begins with `first`: the active one, or the next if that is full or old.
    fn roll(&mut self, first: EventId, now: Timestamp) -> Result<Arc<Segment>, redb::Error> {
        if let Some(active) = &self.active {
            let old = active.since.is_some_and(|since| now.since(since) >= self.config.segment_age);
            if active.bytes < self.config.segment_bytes && !old {
                return Ok(Arc::clone(&active.segment));
            }
        }
        let ahead = match &self.spares {
            Spares::Ahead { ready, .. } => ready.try_recv().ok(),
            Spares::Inline => None,
        };
        let spare = match (ahead, &self.active, &self.spares) {
            (Some(spare), ..) => spare,
            (None, Some(active), Spares::Ahead { bell, .. }) => {
                // Not made yet: the active one grows a little longer.
                let _ = bell.try_send(());
                return Ok(Arc::clone(&active.segment));
            }
            (None, ..) => Spare::make(&*self.log.disk, self.log.dir.join(format!("{first}.new")))?,
        };
        let segment = Arc::new(spare.become_segment(&*self.log.disk, &self.log.dir, first)?);
        self.log.add(&segment);
        if let Some(old) = self.active.replace(Active { segment: Arc::clone(&segment), bytes: 0, since: None })
            && matches!(self.spares, Spares::Inline)
        {
            old.segment.close()?;
        }
        if let Spares::Ahead { bell, .. } = &self.spares {
            let _ = bell.try_send(());
        }
        Ok(segment)
    }

    /// After a write without room the file, opened again, decides: the batch is in it whole or not at all. Anything but
    /// want of room is final: what a failed fsync left behind cannot be known without a restart.
    fn after_failure(&self, segment: &Segment, error: redb::Error, last: EventId) -> Result<(), redb::Error> {
        if !is_no_space(&error) {
            return Err(error);
        }
        segment.open_writing(&*self.log.disk)?;
        match self.log.read(&[last]) {
            Ok(found) if found.iter().all(Option::is_some) => Ok(()),
            Ok(_) => Err(error),
            Err(crate::storage::ReadError::Storage(error)) => Err(error),
            Err(crate::storage::ReadError::Damaged(id)) => Err(redb::Error::Corrupted(format!("damaged record {id}"))),
        }
    }

    fn refuse(&mut self, error: &redb::Error) -> Refused {
        self.metrics.writable.set(0);
        let writable = self.active.as_ref().is_none_or(|active| active.segment.is_writing());
        if is_no_space(error) && writable {
            tracing::warn!(target: "hooktide::commit", %error, "the disk is full: new events are refused");
            self.room.ran_out(self.clock.instant());
            return Refused::DiskFull;
        }
        self.poison.set(&format!("a write to the log failed: {error}"));
        Refused::Poisoned
    }

    fn remember(&mut self, batch: &[Submission], now: Timestamp) {
        let admitted = batch.iter().flat_map(|submission| &submission.events);
        for (verdict, admitted) in self.scratch.verdicts.iter().zip(admitted) {
            let Verdict::New(id) = verdict else { continue };
            for (key, _, fingerprint) in keys(admitted) {
                self.dedup.insert(Entry { key, id: *id, fingerprint, at: now });
            }
        }
    }

    /// Announces what was written, to settle first, then to the shards, and answers everybody.
    fn tell(&mut self, batch: Vec<Submission>, written: Result<(), Refused>) {
        let committed_at = self.clock.instant();
        let mut verdicts = self.scratch.verdicts.iter().copied();
        let mut announced = Vec::new();
        let mut arrivals: Vec<Vec<Arrival>> = vec![Vec::new(); self.shards.count()];
        let mut round = Round::default();
        let (mut accepted, mut duplicates, mut passed, mut wide) = (0, 0, None, Vec::new());
        for Submission { events, permit, lease, reply } in batch {
            let mut answers = Verdicts::new();
            for (admitted, verdict) in events.into_iter().zip(&mut verdicts) {
                answers.push(verdict.answer(written));
                match answers.last() {
                    Some(Ok(committed)) if committed.is_duplicate() => duplicates += 1,
                    Some(Ok(committed)) => {
                        accepted += 1;
                        let Admitted { head, body, webhooks, .. } = admitted;
                        let id = committed.id();
                        if webhooks.is_empty() {
                            passed = Some((id, Arc::clone(&permit)));
                            continue;
                        }
                        if webhooks.len() <= WIDE_EVENT_WEBHOOKS {
                            let event = Event { id, head, body, committed_at, lease: Arc::clone(&lease) };
                            self.share(&Arc::new(event), &webhooks, &mut arrivals);
                        } else {
                            let next = vec![Vec::new(); self.shards.count()];
                            wide.push((std::mem::replace(&mut arrivals, next), id));
                        }
                        announced.push(Announced { event: id, webhooks, permit: Arc::clone(&permit) });
                    }
                    Some(Err(_)) | None => {}
                }
            }
            round.add(reply, answers);
        }
        self.metrics.accepted.inc_by(accepted);
        self.metrics.duplicates.inc_by(duplicates);
        // Nobody waits for an event without webhooks, but the checkpoint must pass it, or a start would read it again.
        if let Some((event, permit)) = passed.filter(|(id, _)| announced.last().is_none_or(|last| last.event < *id)) {
            announced.push(Announced { event, webhooks: Webhooks::new(), permit });
        }
        if !announced.is_empty() {
            self.settle.tell(ToSettle::Announce(announced));
        }
        for (before, event) in wide {
            self.shards.tell_arrivals(before);
            self.shards.tell_all(event);
        }
        self.shards.tell_arrivals(arrivals);
        round.hand_in();
    }

    fn share(&self, event: &Arc<Event>, webhooks: &Webhooks, arrivals: &mut [Vec<Arrival>]) {
        if let [all] = arrivals {
            all.push(Arrival { event: Arc::clone(event), webhooks: webhooks.clone() });
            return;
        }
        for &no in webhooks {
            let arrivals = &mut arrivals[self.shards.of(no)];
            match arrivals.last_mut() {
                Some(last) if last.event.id == event.id => last.webhooks.push(no),
                _ => arrivals.push(Arrival { event: Arc::clone(event), webhooks: SmallVec::from_slice(&[no]) }),
            }
        }
    }
}

impl Verdict {
    fn answer(self, written: Result<(), Refused>) -> Result<Committed, Refused> {
        match self {
            Self::New(id) => written.map(|()| Committed::new(id, false)),
            Self::Twin(id) => written.map(|()| Committed::new(id, true)),
            Self::TwinReused => Err(written.err().unwrap_or(Refused::KeyReused)),
            Self::Known(id) => Ok(Committed::new(id, true)),
            Self::Reused => Err(Refused::KeyReused),
        }
    }
}

/// The keys of an event, in the order in which they are asked and remembered.
fn keys(admitted: &Admitted) -> impl Iterator<Item = (DedupKey, DedupKind, u64)> {
    admitted.dedup.into_iter().chain(admitted.once.map(|key| (key, DedupKind::Id, 0)))
}

/// Whether an error says that the disk is full, which is the one failure that passes.
pub(super) fn is_no_space(error: &redb::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, redb::Error::Io(error) if matches!(error.kind(), StorageFull | QuotaExceeded))
}
