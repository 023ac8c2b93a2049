//! The decisions of the group commit: what is new in a batch, what its events are called, and who is told of it.
//!
//! A [`Group`] owns its state and does no I/O. Its thread ([`super::committer`]) hands it what happened and the time, and
//! carries out what it says, so that a simulation can do the same on a thread and a time of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::dedup::{Dedup, Entry, Seen};
use super::ids::Ids;
use crate::handoff::{Admitted, Announced, Arrival, Committed, Refused, Round, Submission, Verdicts, shard_of};
use crate::limits::WIDE_EVENT_WEBHOOKS;
use crate::model::{DedupKey, DedupKind, EventId, Timestamp, Webhooks};
use crate::outbound::Event;
use crate::runtime::{BodyLease, Instant, Permit};
use crate::storage::{Durable, LogPosition, NewRecord};

/// Decides batch after batch. One batch is under way at a time: [`Input::Submitted`] begins it, [`Output::Told`] ends it.
#[derive(Debug)]
pub struct Group {
    ids: Ids,
    dedup: Dedup,
    shards: usize,
    /// Covers every event of the log.
    durable: Durable,
    batch: Vec<Submission>,
    /// When the batch began, on the scheduling clock.
    begun: Timestamp,
    /// Memory used again for each batch: one verdict for each event of the batch, and the keys of its new events.
    verdicts: Vec<Verdict>,
    keys: HashMap<DedupKey, Entry>,
}

/// The time of a step.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The scheduling clock, for the dedup window.
    pub steady: Timestamp,
    /// The wall clock, for ids.
    pub wall: Timestamp,
    /// The monotonic clock, for latencies.
    pub instant: Instant,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// These requests gathered. No batch is under way.
    Submitted(Vec<Submission>),
    /// What became of the records of [`Output::Append`].
    Appended(Result<Durable, Refused>),
}

/// What is to be done.
#[derive(Debug)]
pub enum Output<'a> {
    /// Append these records in one durable transaction, then say what became of it.
    Append(Vec<NewRecord<'a>>),
    /// The batch is over: tell these.
    Told(Told),
}

/// What a batch came to. To be told in the order of the fields.
#[derive(Debug, Default)]
pub struct Told {
    /// Events that were new.
    pub accepted: u64,
    /// Events that were in the log before.
    pub duplicates: u64,
    /// To settle.
    pub announced: Vec<Announced>,
    /// To the shards.
    pub arrivals: Vec<Arrivals>,
    /// To whoever submitted.
    pub answers: Round,
}

/// Arrivals for each shard, and an event behind them that is of so many webhooks that every shard is told of it.
#[derive(Debug)]
pub struct Arrivals {
    /// One list for each shard.
    pub by_shard: Vec<Vec<Arrival>>,
    /// The wide event.
    pub wide: Option<EventId>,
}

/// How far back a duplicate is sure to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The time to live, unless younger keys crowded older ones out.
    pub span: Duration,
    /// The time to live.
    pub ttl: Duration,
    /// Keys remembered.
    pub keys: usize,
}

/// What is decided of an event before the write.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Written with this batch.
    New(EventId),
    /// The same as another of this batch, and so bound to its fate.
    DuplicateInBatch(EventId),
    /// An idempotency key of this batch with another body.
    KeyReusedInBatch,
    /// Stored before.
    Known(EventId),
    /// An idempotency key stored before with another body.
    Reused,
}

impl Group {
    /// Decides on top of a log whose events `durable` covers and whose keys `dedup` knows, for so many shards.
    pub(super) fn new(ids: Ids, dedup: Dedup, durable: Durable, shards: usize) -> Self {
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

    /// One step. Whatever happens, each submission of a batch gets its verdicts.
    pub fn step(&mut self, now: Now, input: Input) -> Output<'_> {
        match input {
            Input::Submitted(batch) => {
                self.batch = batch;
                self.begun = now.steady;
                self.decide(now);
                if self.verdicts.iter().any(|verdict| matches!(verdict, Verdict::New(_))) {
                    Output::Append(self.records())
                } else {
                    Output::Told(self.tell(Ok(()), now))
                }
            }
            Input::Appended(Ok(durable)) => {
                self.durable = durable;
                self.remember();
                Output::Told(self.tell(Ok(()), now))
            }
            Input::Appended(Err(refused)) => Output::Told(self.tell(Err(refused), now)),
        }
    }

    /// How far back a duplicate is sure to be found at this time.
    pub fn window(&self, now: Timestamp) -> Window {
        Window { span: self.dedup.window(now), ttl: self.dedup.ttl(), keys: self.dedup.len() }
    }

    fn decide(&mut self, now: Now) {
        self.dedup.expire(now.steady);
        self.keys.clear();
        self.verdicts.clear();
        for admitted in self.batch.iter().flat_map(|submission| &submission.events) {
            let known =
                keys(admitted).find_map(|(key, kind, fingerprint)| self.known(&key, kind, fingerprint, now.steady));
            let verdict = known.unwrap_or_else(|| {
                let id = self.ids.next(now.wall);
                for (key, _, fingerprint) in keys(admitted) {
                    self.keys.insert(key, Entry { key, id, fingerprint, at: now.steady });
                }
                Verdict::New(id)
            });
            self.verdicts.push(verdict);
        }
    }

    /// What a key that was there before, in the table or in this batch, says of its event.
    fn known(&self, key: &DedupKey, kind: DedupKind, fingerprint: u64, now: Timestamp) -> Option<Verdict> {
        match self.dedup.look(key, kind, fingerprint, now) {
            Seen::Before(id) => Some(Verdict::Known(id)),
            Seen::OtherBody => Some(Verdict::Reused),
            Seen::No => match self.keys.get(key)?.judge(kind, fingerprint) {
                Seen::Before(id) => Some(Verdict::DuplicateInBatch(id)),
                Seen::OtherBody | Seen::No => Some(Verdict::KeyReusedInBatch),
            },
        }
    }

    /// The new events of the batch. One allocation a batch.
    fn records(&self) -> Vec<NewRecord<'_>> {
        let admitted = self.batch.iter().flat_map(|submission| &submission.events);
        let mut records = Vec::with_capacity(self.verdicts.len());
        for (verdict, Admitted { head, body, .. }) in self.verdicts.iter().zip(admitted) {
            if let Verdict::New(id) = verdict {
                records.push(NewRecord { position: LogPosition::of(*id), head, body });
            }
        }
        records
    }

    fn remember(&mut self) {
        let admitted = self.batch.iter().flat_map(|submission| &submission.events);
        for (verdict, admitted) in self.verdicts.iter().zip(admitted) {
            let Verdict::New(id) = verdict else { continue };
            for (key, _, fingerprint) in keys(admitted) {
                self.dedup.insert(Entry { key, id: *id, fingerprint, at: self.begun });
            }
        }
    }

    /// Ends the batch: what was written is announced, to settle first, then to the shards, and everybody is answered.
    fn tell(&mut self, written: Result<(), Refused>, now: Now) -> Told {
        let mut told = Told::default();
        let mut arrivals: Vec<Vec<Arrival>> = vec![Vec::new(); self.shards];
        let mut passed: Option<(EventId, Arc<Permit>)> = None;
        let mut verdicts = self.verdicts.iter().copied();
        for Submission { events, permit, lease, reply } in std::mem::take(&mut self.batch) {
            let mut answers = Verdicts::new();
            for (admitted, verdict) in events.into_iter().zip(&mut verdicts) {
                let answer = verdict.answer(written, self.durable);
                answers.push(answer);
                let Ok(committed) = answer else { continue };
                if committed.is_duplicate() {
                    told.duplicates += 1;
                    continue;
                }
                told.accepted += 1;
                if admitted.webhooks.is_empty() {
                    passed = Some((committed.id(), Arc::clone(&permit)));
                    continue;
                }
                let id = committed.id();
                let webhooks = share(id, admitted, (&lease, now.instant), &mut arrivals, &mut told.arrivals);
                told.announced.push(Announced { event: id, webhooks, permit: Arc::clone(&permit) });
            }
            told.answers.add(reply, answers);
        }
        told.arrivals.push(Arrivals { by_shard: arrivals, wide: None });
        // Nobody waits for an event without webhooks, but the checkpoint must pass it, or a start would read it again.
        if let Some((event, permit)) =
            passed.filter(|(id, _)| told.announced.last().is_none_or(|last| last.event < *id))
        {
            told.announced.push(Announced { event, webhooks: Webhooks::new(), permit });
        }
        told
    }
}

/// Adds an event to the arrivals of its webhooks' shards; one of too many webhooks ends the round of arrivals instead.
fn share(
    id: EventId,
    admitted: Admitted,
    (lease, committed_at): (&Arc<BodyLease>, Instant),
    arrivals: &mut Vec<Vec<Arrival>>,
    rounds: &mut Vec<Arrivals>,
) -> Webhooks {
    let Admitted { head, body, webhooks, .. } = admitted;
    if webhooks.len() > WIDE_EVENT_WEBHOOKS {
        let next = vec![Vec::new(); arrivals.len()];
        rounds.push(Arrivals { by_shard: std::mem::replace(arrivals, next), wide: Some(id) });
        return webhooks;
    }
    let event = Arc::new(Event { id, head, body, committed_at, lease: Arc::clone(lease) });
    if let [all] = &mut arrivals[..] {
        all.push(Arrival { event, webhooks: webhooks.clone() });
        return webhooks;
    }
    for &no in &webhooks {
        let shard = shard_of(no, arrivals.len());
        match arrivals[shard].last_mut() {
            Some(last) if last.event.id == event.id => last.webhooks.push(no),
            _ => arrivals[shard].push(Arrival { event: Arc::clone(&event), webhooks: SmallVec::from_slice(&[no]) }),
        }
    }
    webhooks
}

impl Verdict {
    fn answer(self, written: Result<(), Refused>, durable: Durable) -> Result<Committed, Refused> {
        let (id, is_duplicate) = match self {
            Self::New(id) => (written.map(|()| id)?, false),
            Self::DuplicateInBatch(id) => (written.map(|()| id)?, true),
            Self::KeyReusedInBatch => return Err(written.err().unwrap_or(Refused::KeyReused)),
            Self::Known(id) => (id, true),
            Self::Reused => return Err(Refused::KeyReused),
        };
        // Without a proof nothing may be acknowledged.
        durable.event(id).map(|proof| Committed::new(proof, is_duplicate)).ok_or(Refused::Poisoned)
    }
}

/// The keys of an event, in the order in which they are asked and remembered.
fn keys(admitted: &Admitted) -> impl Iterator<Item = (DedupKey, DedupKind, u64)> {
    admitted.dedup.into_iter().chain(admitted.nonce.map(|key| (key, DedupKind::Id, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::tests::world::{clock, dedup_config, permit, plain, submission};
    use crate::model::DedupKind;
    use crate::runtime::{MemoryBudget, Random};

    fn group() -> Group {
        let mut random = Random::seeded(1);
        let dedup = Dedup::new(&dedup_config(), &mut random);
        Group::new(Ids::after(EventId::MIN, random), dedup, Durable::for_test(LogPosition::MIN), 2)
    }

    fn now(steady_ms: i64) -> Now {
        let (clock, steady) = (clock(), Timestamp::from_millis(steady_ms));
        Now { steady, wall: clock.now(), instant: clock.instant() }
    }

    /// One event with an idempotency key, and where its answer comes.
    fn keyed(body: u8) -> (Vec<Submission>, tokio::sync::oneshot::Receiver<Verdicts>) {
        let mut draft = plain(body, 8);
        draft.key = Some((1, DedupKind::IdempotencyKey));
        let (submission, answer) = submission(&[draft], &permit(), &MemoryBudget::new(usize::MAX), &clock());
        (vec![submission], answer)
    }

    /// Steps until the batch is told; gives the answer to its one event.
    fn commit(group: &mut Group, at: i64, body: u8, written: impl Fn(LogPosition) -> Result<Durable, Refused>) -> Told {
        let (batch, _answer) = keyed(body);
        let appended = match group.step(now(at), Input::Submitted(batch)) {
            Output::Append(records) => written(records[0].position),
            Output::Told(told) => return told,
        };
        match group.step(now(at), Input::Appended(appended)) {
            Output::Told(told) => told,
            Output::Append(records) => panic!("{records:?} again"),
        }
    }

    #[test]
    fn what_was_not_written_is_neither_told_nor_remembered() {
        let mut group = group();
        let refused = commit(&mut group, 0, 7, |_| Err(Refused::DiskFull));
        assert_eq!((refused.accepted, refused.announced.len()), (0, 0));
        let accepted = commit(&mut group, 0, 7, |at| Ok(Durable::for_test(at)));
        assert_eq!((accepted.accepted, accepted.duplicates, accepted.announced.len()), (1, 0, 1));
        let again = commit(&mut group, 0, 7, |_| panic!("a duplicate is not written"));
        assert_eq!((again.accepted, again.duplicates), (0, 1));
    }

    #[test]
    fn a_key_is_new_again_when_its_time_is_over() {
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
        assert!(matches!(group.step(now(0), Input::Submitted(batch)), Output::Append(_)));
        let short = Durable::for_test(LogPosition::MIN);
        let Output::Told(told) = group.step(now(0), Input::Appended(Ok(short))) else { panic!("not told") };
        assert!(told.announced.is_empty());
        told.answers.hand_in();
        assert_eq!(answer.try_recv().unwrap()[0], Err(Refused::Poisoned));
    }
}
