//! The state machine of the group commit: detects duplicates in a batch, assigns ids, and says which threads are
//! notified.
//!
//! A [`GroupCommit`] owns its state and does no I/O. Its thread ([`super::committer`]) passes inputs and the time in
//! and performs the outputs. A simulation can do the same with its own thread and time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::dedup::{DedupEntry, DedupLookup, DedupTable};
use super::ids::IdGenerator;
use crate::handoff::{
    AdmittedEvent, AnnouncedEvent, CommitError, CommitResults, Committed, CostlyDeliveries, EventArrival, ReplyBatch,
    Submission, shard_of,
};
use crate::limits::WIDE_EVENT_WEBHOOKS;
use crate::model::{DedupKey, DedupKind, EventId, Timestamp, Webhooks};
use crate::outbound::Event;
use crate::runtime::{BodyLease, IngestPermit, Instant};
use crate::storage::{Durable, LogPosition, NewRecord};

/// Decides batches, one at a time: [`GroupInput::Submitted`] begins a batch, [`GroupOutput::Finished`] ends it.
#[derive(Debug)]
pub struct GroupCommit {
    ids: IdGenerator,
    dedup: DedupTable,
    shards: usize,
    /// The proof that every event of the log is durable.
    durable: Durable,
    batch: Vec<Submission>,
    /// The scheduling clock's time at the begin of the batch.
    begun: Timestamp,
    /// One verdict for each event of the batch. Its memory is reused for each batch, as is that of `keys`.
    verdicts: Vec<DedupVerdict>,
    /// The keys of the new events of the batch.
    keys: HashMap<DedupKey, DedupEntry>,
}

/// The time of a step.
#[derive(Debug, Clone, Copy)]
pub struct CommitTime {
    /// The scheduling clock, for the dedup window.
    pub steady: Timestamp,
    /// The wall clock, for ids.
    pub wall: Timestamp,
    /// The monotonic clock, for latencies.
    pub instant: Instant,
}

/// The input of a step.
#[derive(Debug)]
pub enum GroupInput {
    /// A batch of requests. Never passed while a batch is being written.
    Submitted(Vec<Submission>),
    /// The result of [`GroupOutput::Append`].
    Appended(Result<Durable, CommitError>),
}

/// What the thread must do after a step.
#[derive(Debug)]
pub enum GroupOutput<'a> {
    /// Append these records in one durable transaction, then pass [`GroupInput::Appended`].
    Append(Vec<NewRecord<'a>>),
    /// The batch is finished: send its notifications and answers.
    Finished(BatchOutcome),
}

/// The counts, notifications and answers of a finished batch. They are sent in the order of the fields.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// The number of new events.
    pub accepted: u64,
    /// The number of events that are duplicates.
    pub duplicates: u64,
    /// The new events, for settle.
    pub announced: Vec<AnnouncedEvent>,
    /// The new events, for the shards.
    pub arrivals: Vec<ShardArrivals>,
    /// The results, for the requests.
    pub answers: ReplyBatch,
}

/// New events for each shard, followed by at most one event with too many webhooks for one message, so that every shard is notified of it.
#[derive(Debug)]
pub struct ShardArrivals {
    /// One list of arrivals for each shard.
    pub by_shard: Vec<Vec<EventArrival>>,
    /// An event with more than [`WIDE_EVENT_WEBHOOKS`] webhooks.
    pub wide: Option<EventId>,
}

/// How far back a duplicate is certainly found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupWindow {
    /// The time to live, or less if newer keys evicted older ones.
    pub span: Duration,
    /// The configured time to live.
    pub ttl: Duration,
    /// The number of keys in the table.
    pub keys: usize,
}

/// The decision about an event before the write.
#[derive(Debug, Clone, Copy)]
enum DedupVerdict {
    /// A new event, written with this batch.
    New(EventId),
    /// A duplicate of an event in this batch. If the write of that event fails, this one fails too.
    DuplicateInBatch(EventId),
    /// An event of this batch has the same idempotency key and another body.
    KeyReusedInBatch,
    /// A duplicate of an event in the log.
    Duplicate(EventId),
    /// An event in the log has the same idempotency key and another body.
    KeyReused,
}

impl GroupCommit {
    /// A state machine for a log. `durable` covers the log's events, `dedup` has their keys; `shards` is the number of
    /// shards.
    pub(super) fn new(ids: IdGenerator, dedup: DedupTable, durable: Durable, shards: usize) -> Self {
        Self {
            ids,
            dedup,
            shards,
            durable,
            batch: Vec::new(),
            begun: Timestamp::default(),
            verdicts: Vec::new(),
            keys: HashMap::new(),
        }
    }

    /// Performs one step. Each submission of a batch gets its results in every case.
    pub fn step(&mut self, now: CommitTime, input: GroupInput) -> GroupOutput<'_> {
        match input {
            GroupInput::Submitted(batch) => {
                self.batch = batch;
                self.begun = now.steady;
                self.decide(now);
                if self.verdicts.iter().any(|verdict| matches!(verdict, DedupVerdict::New(_))) {
                    GroupOutput::Append(self.records())
                } else {
                    GroupOutput::Finished(self.finish(Ok(()), now))
                }
            }
            GroupInput::Appended(Ok(durable)) => {
                self.durable = durable;
                self.insert_keys();
                GroupOutput::Finished(self.finish(Ok(()), now))
            }
            GroupInput::Appended(Err(refused)) => GroupOutput::Finished(self.finish(Err(refused), now)),
        }
    }

    /// How far back a duplicate is certainly found at the time `now`.
    pub fn window(&self, now: Timestamp) -> DedupWindow {
        DedupWindow { span: self.dedup.window(now), ttl: self.dedup.ttl(), keys: self.dedup.len() }
    }

    fn decide(&mut self, now: CommitTime) {
        self.dedup.expire(now.steady);
        self.keys.clear();
        self.verdicts.clear();
        for submission in &self.batch {
            if let Some(reused) = self.key_reused(&submission.events, now.steady) {
                self.verdicts.extend(submission.events.iter().map(|_| reused));
                continue;
            }
            for admitted in &submission.events {
                let known =
                    keys(admitted).find_map(|(key, kind, fingerprint)| self.known(&key, kind, fingerprint, now.steady));
                let verdict = known.unwrap_or_else(|| {
                    let id = self.ids.next(now.wall);
                    for (key, _, fingerprint) in keys(admitted).chain(batch_key(admitted)) {
                        self.keys.entry(key).or_insert(DedupEntry { key, id, fingerprint, at: now.steady });
                    }
                    DedupVerdict::New(id)
                });
                self.verdicts.push(verdict);
            }
        }
    }

    /// The verdict for all events of a request whose idempotency key was used with another body. A single event gets the
    /// same verdict by its own key.
    fn key_reused(&self, events: &[AdmittedEvent], now: Timestamp) -> Option<DedupVerdict> {
        events.iter().find_map(|admitted| {
            let (key, kind, fingerprint) = batch_key(admitted)?;
            let verdict = self.known(&key, kind, fingerprint, now)?;
            matches!(verdict, DedupVerdict::KeyReused | DedupVerdict::KeyReusedInBatch).then_some(verdict)
        })
    }

    /// The decision about an event whose key is in the table or in this batch. `None` if the key is new.
    fn known(&self, key: &DedupKey, kind: DedupKind, fingerprint: u64, now: Timestamp) -> Option<DedupVerdict> {
        match self.dedup.lookup(key, kind, fingerprint, now) {
            DedupLookup::Duplicate(id) => Some(DedupVerdict::Duplicate(id)),
            DedupLookup::KeyReused => Some(DedupVerdict::KeyReused),
            DedupLookup::New => match self.keys.get(key)?.compare(kind, fingerprint) {
                DedupLookup::Duplicate(id) => Some(DedupVerdict::DuplicateInBatch(id)),
                DedupLookup::KeyReused | DedupLookup::New => Some(DedupVerdict::KeyReusedInBatch),
            },
        }
    }

    /// The records of the new events, with one allocation for the batch.
    fn records(&self) -> Vec<NewRecord<'_>> {
        let admitted = self.batch.iter().flat_map(|submission| &submission.events);
        let mut records = Vec::with_capacity(self.verdicts.len());
        for (verdict, AdmittedEvent { head, body, .. }) in self.verdicts.iter().zip(admitted) {
            if let DedupVerdict::New(id) = verdict {
                records.push(NewRecord { position: LogPosition::of(*id), head, body });
            }
        }
        records
    }

    fn insert_keys(&mut self) {
        let admitted = self.batch.iter().flat_map(|submission| &submission.events);
        for (verdict, admitted) in self.verdicts.iter().zip(admitted) {
            let DedupVerdict::New(id) = verdict else { continue };
            for (key, _, fingerprint) in keys(admitted) {
                self.dedup.insert(DedupEntry { key, id: *id, fingerprint, at: self.begun });
            }
            // All events of a batch have the same key of the batch.
            if let Some((key, kind, fingerprint)) = batch_key(admitted)
                && self.dedup.lookup(&key, kind, fingerprint, self.begun) == DedupLookup::New
            {
                self.dedup.insert(DedupEntry { key, id: *id, fingerprint, at: self.begun });
            }
        }
    }

    /// Ends the batch: announces the written events to settle and then to the shards, and answers every request.
    fn finish(&mut self, written: Result<(), CommitError>, now: CommitTime) -> BatchOutcome {
        let mut outcome = BatchOutcome::default();
        let mut arrivals: Vec<Vec<EventArrival>> = vec![Vec::new(); self.shards];
        let mut passed: Option<(EventId, Arc<IngestPermit>)> = None;
        let mut verdicts = self.verdicts.iter().copied();
        for Submission { events, permit, lease, reply } in std::mem::take(&mut self.batch) {
            let mut answers = CommitResults::new();
            for (admitted, verdict) in events.into_iter().zip(&mut verdicts) {
                let answer = verdict.answer(written, self.durable);
                answers.push(answer);
                let Ok(committed) = answer else { continue };
                if committed.is_duplicate() {
                    outcome.duplicates += 1;
                    continue;
                }
                outcome.accepted += 1;
                if admitted.matched.is_empty() {
                    passed = Some((committed.id(), Arc::clone(&permit)));
                    continue;
                }
                let id = committed.id();
                let too_costly = too_costly(&admitted);
                let webhooks = share(id, admitted, (&lease, now.instant), &mut arrivals, &mut outcome.arrivals);
                outcome.announced.push(AnnouncedEvent { event: id, webhooks, too_costly, permit: Arc::clone(&permit) });
            }
            outcome.answers.add(reply, answers);
        }
        outcome.arrivals.push(ShardArrivals { by_shard: arrivals, wide: None });
        // An event without webhooks is announced too: without it, the checkpoint stays before it and every start reads
        // it again.
        if let Some((event, permit)) =
            passed.filter(|(id, _)| outcome.announced.last().is_none_or(|last| last.event < *id))
        {
            outcome.announced.push(AnnouncedEvent { event, webhooks: Webhooks::new(), too_costly: None, permit });
        }
        outcome
    }
}

/// The deliveries of an event that settle makes dead letters. No shard learns of them.
fn too_costly(admitted: &AdmittedEvent) -> Option<Box<CostlyDeliveries>> {
    let webhooks = &admitted.matched.too_costly;
    (!webhooks.is_empty())
        .then(|| Box::new(CostlyDeliveries { head: admitted.head.clone(), webhooks: webhooks.clone() }))
}

/// Adds an event to the arrivals of its webhooks' shards. A wide event instead ends the current [`ShardArrivals`].
fn share(
    id: EventId,
    admitted: AdmittedEvent,
    (lease, committed_at): (&Arc<BodyLease>, Instant),
    arrivals: &mut Vec<Vec<EventArrival>>,
    rounds: &mut Vec<ShardArrivals>,
) -> Webhooks {
    let AdmittedEvent { head, body, matched, .. } = admitted;
    let webhooks = matched.receivers;
    if webhooks.is_empty() {
        return webhooks;
    }
    if webhooks.len() > WIDE_EVENT_WEBHOOKS {
        let next = vec![Vec::new(); arrivals.len()];
        rounds.push(ShardArrivals { by_shard: std::mem::replace(arrivals, next), wide: Some(id) });
        return webhooks;
    }
    let event = Arc::new(Event { id, head, body, committed_at, lease: Arc::clone(lease) });
    if let [all] = &mut arrivals[..] {
        all.push(EventArrival { event, webhooks: webhooks.clone() });
        return webhooks;
    }
    for &no in &webhooks {
        let shard = shard_of(no, arrivals.len());
        match arrivals[shard].last_mut() {
            Some(last) if last.event.id == event.id => last.webhooks.push(no),
            _ => {
                arrivals[shard].push(EventArrival { event: Arc::clone(&event), webhooks: SmallVec::from_slice(&[no]) });
            }
        }
    }
    webhooks
}

impl DedupVerdict {
    fn answer(self, written: Result<(), CommitError>, durable: Durable) -> Result<Committed, CommitError> {
        let (id, is_duplicate) = match self {
            Self::New(id) => (written.map(|()| id)?, false),
            Self::DuplicateInBatch(id) => (written.map(|()| id)?, true),
            Self::KeyReusedInBatch => return Err(written.err().unwrap_or(CommitError::KeyReused)),
            Self::Duplicate(id) => (id, true),
            Self::KeyReused => return Err(CommitError::KeyReused),
        };
        // An event without a proof must not be acknowledged.
        durable.event(id).map(|proof| Committed::new(proof, is_duplicate)).ok_or(CommitError::Poisoned)
    }
}

/// The keys of an event, in the order in which they are looked up and inserted.
fn keys(admitted: &AdmittedEvent) -> impl Iterator<Item = (DedupKey, DedupKind, u64)> {
    let nonce = admitted.nonce.filter(|_| batch_key(admitted).is_none());
    admitted.dedup.into_iter().chain(nonce.map(|key| (key, DedupKind::Id, 0)))
}

/// The key of the batch that the event is in, if the batch has an idempotency key.
fn batch_key(admitted: &AdmittedEvent) -> Option<(DedupKey, DedupKind, u64)> {
    match (admitted.dedup, admitted.nonce) {
        (Some((_, DedupKind::IdempotencyKey, fingerprint)), Some(key)) => {
            Some((key, DedupKind::IdempotencyKey, fingerprint))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::tests::world::{TestEvent, clock, dedup_config, permit, plain, submission};
    use crate::model::DedupKind;
    use crate::runtime::{MemoryBudget, Random};

    fn group() -> GroupCommit {
        let mut random = Random::seeded(1);
        let dedup = DedupTable::new(&dedup_config(), &mut random);
        GroupCommit::new(IdGenerator::after(EventId::MIN, random), dedup, Durable::for_test(LogPosition::MIN), 2)
    }

    fn now(steady_ms: i64) -> CommitTime {
        let (clock, steady) = (clock(), Timestamp::from_millis(steady_ms));
        CommitTime { steady, wall: clock.now(), instant: clock.instant() }
    }

    /// One event with an idempotency key, and the receiver of its result.
    fn keyed(body: u8) -> (Vec<Submission>, tokio::sync::oneshot::Receiver<CommitResults>) {
        let mut draft = plain(body, 8);
        draft.key = Some((1, DedupKind::IdempotencyKey));
        let (submission, answer) = submission(&[draft], &permit(), &MemoryBudget::new(usize::MAX), &clock());
        (vec![submission], answer)
    }

    /// Steps until the batch is finished, and returns its outcome.
    fn commit(
        group: &mut GroupCommit,
        at: i64,
        body: u8,
        written: impl Fn(LogPosition) -> Result<Durable, CommitError>,
    ) -> BatchOutcome {
        let (batch, _answer) = keyed(body);
        let appended = match group.step(now(at), GroupInput::Submitted(batch)) {
            GroupOutput::Append(records) => written(records[0].position),
            GroupOutput::Finished(outcome) => return outcome,
        };
        match group.step(now(at), GroupInput::Appended(appended)) {
            GroupOutput::Finished(outcome) => outcome,
            GroupOutput::Append(records) => panic!("{records:?} again"),
        }
    }

    #[test]
    fn an_event_that_was_not_written_is_neither_announced_nor_inserted() {
        let mut group = group();
        let refused = commit(&mut group, 0, 7, |_| Err(CommitError::DiskFull));
        assert_eq!((refused.accepted, refused.announced.len()), (0, 0));
        let accepted = commit(&mut group, 0, 7, |at| Ok(Durable::for_test(at)));
        assert_eq!((accepted.accepted, accepted.duplicates, accepted.announced.len()), (1, 0, 1));
        let again = commit(&mut group, 0, 7, |_| panic!("a duplicate is not written"));
        assert_eq!((again.accepted, again.duplicates), (0, 1));
    }

    /// The events of one request with an idempotency key.
    fn batch_of(bodies: &[u8], fingerprint: u64) -> (Submission, tokio::sync::oneshot::Receiver<CommitResults>) {
        let draft = |(index, byte): (usize, &u8)| TestEvent {
            key: Some((index as u8 + 1, DedupKind::IdempotencyKey)),
            nonce: Some(0),
            ..plain(*byte, 8)
        };
        let drafts: Vec<_> = bodies.iter().enumerate().map(draft).collect();
        let (mut submission, answer) = submission(&drafts, &permit(), &MemoryBudget::new(usize::MAX), &clock());
        for event in &mut submission.events {
            event.dedup = event.dedup.map(|(key, kind, _)| (key, kind, fingerprint));
        }
        (submission, answer)
    }

    #[test]
    fn all_events_of_a_request_are_refused_if_its_key_has_another_body() {
        let mut group = group();
        let (first, mut first_answer) = batch_of(&[1, 2], 12);
        let (longer, mut longer_answer) = batch_of(&[1, 2, 3], 123);
        let (again, mut again_answer) = batch_of(&[1, 2], 12);
        let written = match group.step(now(0), GroupInput::Submitted(vec![first, longer, again])) {
            GroupOutput::Append(records) => records.last().map(|record| record.position).unwrap(),
            GroupOutput::Finished(outcome) => panic!("{outcome:?}"),
        };
        let appended = GroupInput::Appended(Ok(Durable::for_test(written)));
        let GroupOutput::Finished(outcome) = group.step(now(0), appended) else { panic!("written twice") };
        assert_eq!((outcome.accepted, outcome.duplicates), (2, 2));
        outcome.answers.send();
        let accepted = |answer: &mut tokio::sync::oneshot::Receiver<CommitResults>| -> Vec<_> {
            answer.try_recv().unwrap().iter().map(Result::is_ok).collect()
        };
        assert_eq!(accepted(&mut first_answer), [true, true]);
        assert_eq!(accepted(&mut longer_answer), [false, false, false]);
        assert_eq!(accepted(&mut again_answer), [true, true]);
        let (shorter, _answer) = batch_of(&[1], 1);
        assert!(matches!(group.step(now(0), GroupInput::Submitted(vec![shorter])), GroupOutput::Finished(_)));
    }

    #[test]
    fn a_key_is_new_again_after_its_time_to_live() {
        let mut group = group();
        let ttl = dedup_config().ttl.as_millis() as i64;
        commit(&mut group, 0, 7, |at| Ok(Durable::for_test(at)));
        assert_eq!(commit(&mut group, ttl - 1, 7, |_| panic!("known")).duplicates, 1);
        assert_eq!(commit(&mut group, ttl, 7, |at| Ok(Durable::for_test(at))).accepted, 1);
    }

    #[test]
    fn without_a_proof_that_covers_it_an_event_is_not_acknowledged() {
        let mut group = group();
        let (batch, mut answer) = keyed(7);
        assert!(matches!(group.step(now(0), GroupInput::Submitted(batch)), GroupOutput::Append(_)));
        let short = Durable::for_test(LogPosition::MIN);
        let GroupOutput::Finished(outcome) = group.step(now(0), GroupInput::Appended(Ok(short))) else {
            panic!("not told")
        };
        assert!(outcome.announced.is_empty());
        outcome.answers.send();
        assert_eq!(answer.try_recv().unwrap()[0], Err(CommitError::Poisoned));
    }
}
