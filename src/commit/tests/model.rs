//! Compares the log with a simple model: the same operations on both must give the same results.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::world::*;
use crate::commit::retention;
use crate::handoff::{CommitError, CommitResults, RetentionRefs};
use crate::model::{DedupKind, EventId};
use crate::runtime::Random;
use crate::storage::log::{SegmentState, stat, verify};
use crate::storage::sim::{Loss, SimDisk};
use crate::storage::{Disk, EventLog, ReadLog, RedbLog};

const SEGMENT_BYTES: u64 = 8 * 1024;

#[derive(Debug, Clone)]
enum Operation {
    /// One batch of requests.
    Append(Vec<Vec<TestEvent>>),
    /// Reads everything in both directions.
    Read,
    /// A clean stop and a start.
    Reopen,
    /// A crash with a random loss, and a start.
    Crash { loss: u64, seed: u64 },
    /// The oldest segment is retired. One of `needed_of` of its events is still needed.
    Retire { needed_of: usize },
    /// No event is needed any more.
    Settle,
}

/// The expected content of the log.
#[derive(Default)]
struct Model {
    events: BTreeMap<EventId, Bytes>,
    carried: BTreeMap<EventId, Bytes>,
    keys: BTreeMap<(u8, bool), (EventId, u64)>,
    nonce: BTreeMap<u8, EventId>,
    /// Requests with an idempotency key: their events, and the fingerprint of the body.
    batches: BTreeMap<u8, (Vec<EventId>, u64)>,
}

fn draft() -> impl Strategy<Value = TestEvent> {
    let key = prop_oneof![
        Just(None),
        (0..12u8, any::<bool>())
            .prop_map(|(n, by_id)| { Some((n, if by_id { DedupKind::Id } else { DedupKind::IdempotencyKey })) })
    ];
    let body = (0..4u8, prop_oneof![4 => 0..200usize, 2 => 0..3_000usize, 1 => 60_000..70_000usize]);
    let nonce = prop_oneof![2 => Just(None), 1 => (0..6u8).prop_map(Some)];
    (key, nonce, body, proptest::collection::vec(0..9u32, 0..3)).prop_map(|(key, nonce, (byte, len), mut webhooks)| {
        // With an idempotency key, this would be the key of a batch.
        let nonce = nonce.filter(|_| !matches!(key, Some((_, DedupKind::IdempotencyKey))));
        webhooks.sort_unstable();
        webhooks.dedup();
        // There are few bodies with keys, so that a key comes with the same body and with another one.
        let len = if key.is_some() { 8 } else { len };
        TestEvent { key, nonce, body: vec![byte % if key.is_some() { 2 } else { 4 }; len], webhooks }
    })
}

/// A request of several events with an idempotency key. All events have the fingerprint of the request's body.
fn batch() -> impl Strategy<Value = Vec<TestEvent>> {
    (0..3u8, 0..3u8, 1..4u8).prop_map(|(key, byte, len)| {
        let event = |index| {
            let key_of_event = Some((100 + key * 8 + index, DedupKind::IdempotencyKey));
            TestEvent { key: key_of_event, nonce: Some(100 + key), ..plain(byte, 9) }
        };
        (0..len).map(event).collect()
    })
}

/// The key of the batch that an event is in.
fn batch_key(event: &TestEvent) -> Option<u8> {
    event.nonce.filter(|_| matches!(event.key, Some((_, DedupKind::IdempotencyKey))))
}

fn operation() -> impl Strategy<Value = Operation> {
    let request = prop_oneof![3 => proptest::collection::vec(draft(), 1..4), 1 => batch()];
    prop_oneof![
        8 => proptest::collection::vec(request, 1..5).prop_map(Operation::Append),
        2 => Just(Operation::Read),
        1 => Just(Operation::Reopen),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(loss, seed)| Operation::Crash { loss, seed }),
        2 => (1..4usize).prop_map(|needed_of| Operation::Retire { needed_of }),
        1 => Just(Operation::Settle),
    ]
}

impl Model {
    /// Applies a batch. Returns the events announced to settle and those that arrive at a shard.
    fn append(&mut self, requests: &[Vec<TestEvent>], verdicts: &[CommitResults]) -> (Vec<EventId>, Vec<EventId>) {
        let (mut arrived, mut newest) = (Vec::new(), None);
        for (request, verdicts) in requests.iter().zip(verdicts) {
            let is_reused = |event: &TestEvent| {
                let known = batch_key(event).and_then(|key| self.batches.get(&key));
                known.is_some_and(|(_, known)| *known != fingerprint(&event.body))
            };
            if request.iter().any(is_reused) {
                assert!(verdicts.iter().all(|verdict| *verdict == Err(CommitError::KeyReused)), "{verdicts:?}");
                continue;
            }
            for (draft, verdict) in request.iter().zip(verdicts) {
                let fingerprint = fingerprint(&draft.body);
                let key = draft.key.map(|(n, kind)| (n, kind == DedupKind::Id));
                let seen = key.and_then(|key| self.keys.get(&key).map(|seen| (key, *seen)));
                let nonce = draft.nonce.filter(|_| batch_key(draft).is_none());
                let seen_nonce = nonce.and_then(|nonce| self.nonce.get(&nonce));
                match (seen, seen_nonce) {
                    (Some(((_, false), (_, other))), _) if other != fingerprint => {
                        assert_eq!(*verdict, Err(CommitError::KeyReused));
                    }
                    (Some((_, (first, _))), _) | (None, Some(&first)) => {
                        let committed = verdict.unwrap();
                        assert!(committed.is_duplicate());
                        assert_eq!(committed.id(), first);
                    }
                    (None, None) => {
                        let id = verdict.unwrap().id();
                        assert!(!verdict.unwrap().is_duplicate());
                        assert!(self.events.last_key_value().is_none_or(|(last, _)| *last < id), "ids rise");
                        self.events.insert(id, draft.body.clone().into());
                        if let Some(key) = key {
                            self.keys.insert(key, (id, fingerprint));
                        }
                        if let Some(nonce) = nonce {
                            self.nonce.insert(nonce, id);
                        }
                        if let Some(key) = batch_key(draft) {
                            self.batches.entry(key).or_insert((Vec::new(), fingerprint)).0.push(id);
                        }
                        newest = Some(id);
                        if !draft.webhooks.is_empty() {
                            arrived.push(id);
                        }
                    }
                }
            }
        }
        // The newest event is announced even without webhooks, so that the checkpoint passes it.
        let announced = arrived.iter().copied().chain(newest.filter(|id| arrived.last() != Some(id))).collect();
        (announced, arrived)
    }

    fn compare(&self, log: &RedbLog) {
        let expected: Vec<_> = self.events.iter().map(|(id, body)| (*id, body.clone())).collect();
        assert_eq!(all(log), expected);
        let mut back: Vec<_> =
            log.heads_before(EventId::MAX, usize::MAX).unwrap().into_iter().map(|(id, _)| id).collect();
        back.reverse();
        assert!(back.iter().eq(self.events.keys()));
        let ids: Vec<_> = self.carried.keys().copied().collect();
        for (id, stored) in ids.iter().zip(log.read(&ids).unwrap()) {
            assert_eq!(stored.map(|(_, data)| data).as_ref(), self.carried.get(id), "carried {id}");
        }
        let absent: Vec<_> = self.events.keys().map(|id| EventId::from_u128(id.as_u128() + 1)).collect();
        assert!(log.read(&absent).unwrap().iter().all(Option::is_none));
        if let Some((last, _)) = self.events.last_key_value() {
            assert_eq!(log.last(), *last);
        }
    }

    /// After a restart only the events in the log are known.
    fn forget_retired_keys(&mut self) {
        self.keys.retain(|_, (id, _)| self.events.contains_key(id));
        self.nonce.retain(|_, id| self.events.contains_key(id));
        self.batches.retain(|_, (ids, _)| ids.iter().any(|id| self.events.contains_key(id)));
    }
}

fn retire(world: &World, model: &mut Model, wanted: &FakeRetentionRefs, needed_of: usize) {
    let segments = world.log.segments();
    let [oldest, next, ..] = &segments[..] else { return };
    let inside: Vec<_> = model.events.range(oldest.first.event()..next.first.event()).map(|(id, _)| *id).collect();
    wanted.events.lock().unwrap().extend(inside.iter().step_by(needed_of));
    let mut config = log_config(SEGMENT_BYTES);
    config.retention_bytes = 0;
    assert!(retention::delete_oldest_segment(&*world.log, &config, clock().steady(), wanted, &mut || {}).unwrap());
    for (n, id) in inside.into_iter().enumerate() {
        let body = model.events.remove(&id).unwrap();
        if n % needed_of == 0 {
            model.carried.insert(id, body);
        }
    }
}

fn run(operations: Vec<Operation>) {
    let mut disk = SimDisk::default();
    let mut model = Model::default();
    let wanted = FakeRetentionRefs::default();
    let arc = |disk: &SimDisk| -> Arc<dyn Disk> { Arc::new(disk.clone()) };
    let mut world = World::open(&arc(&disk), SEGMENT_BYTES, 1).unwrap();
    for (n, operation) in operations.into_iter().enumerate() {
        match operation {
            Operation::Append(requests) => {
                let verdicts = world.commit(&requests);
                let (announced, arrived) = model.append(&requests, &verdicts);
                assert_eq!(world.announced(), announced);
                assert_eq!(world.arrived(), arrived);
            }
            Operation::Read => model.compare(&world.log),
            Operation::Reopen => {
                world.log.close().unwrap();
                drop(world);
                world = World::open(&arc(&disk), SEGMENT_BYTES, n as u64).unwrap();
                model.forget_retired_keys();
            }
            Operation::Crash { loss, seed } => {
                disk = disk.crash_at(disk.operations(), Loss::of(loss), &mut Random::seeded(seed));
                world = World::open(&arc(&disk), SEGMENT_BYTES, n as u64).unwrap();
                model.forget_retired_keys();
            }
            Operation::Retire { needed_of } => retire(&world, &mut model, &wanted, needed_of),
            Operation::Settle => {
                wanted.events.lock().unwrap().clear();
                retention::tidy_carried(&*world.log, &log_config(SEGMENT_BYTES), &wanted, &mut || {}).unwrap();
                assert!(world.log.carried().is_empty());
                model.carried.clear();
            }
        }
    }
    model.compare(&world.log);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn the_log_answers_as_the_model_does(operations in proptest::collection::vec(operation(), 1..40)) {
        run(operations);
    }
}

#[test]
fn a_duplicate_within_a_batch_gets_the_result_of_the_first() {
    let disk = SimDisk::default();
    let mut world = World::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), SEGMENT_BYTES, 1).unwrap();
    let keyed = |body: u8| TestEvent {
        key: Some((1, DedupKind::IdempotencyKey)),
        nonce: None,
        body: vec![body],
        webhooks: vec![],
    };
    world.commit(&one(plain(1, 1)));
    disk.set_full(true);
    let refused = world.commit(&[vec![keyed(1), keyed(1), keyed(2), plain(1, 50_000)]]);
    assert!(refused[0].iter().all(|verdict| *verdict == Err(CommitError::DiskFull)));
}

/// 1. A provider signs a nonce and only a part of the body.
/// 2. An attacker sends a captured request again with another body, and so with another id, also after a restart.
/// 3. The result is the first request's event.
#[test]
fn a_nonce_is_accepted_once_whatever_the_event_id() {
    let disk = SimDisk::default();
    let arc: Arc<dyn Disk> = Arc::new(disk);
    let mut world = World::open(&arc, SEGMENT_BYTES, 1).unwrap();
    let event = |id: u8, nonce: u8| TestEvent { key: Some((id, DedupKind::Id)), nonce: Some(nonce), ..plain(id, 8) };
    let verdicts = world.commit(&[vec![event(1, 1), event(2, 1), event(3, 3), event(3, 4)]]);
    let ids: Vec<_> = verdicts[0].iter().map(|verdict| verdict.unwrap()).collect();
    assert_eq!(ids.iter().map(|one| one.is_duplicate()).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!((ids[1].id(), ids[3].id()), (ids[0].id(), ids[2].id()));
    for seed in 2..4 {
        let again = world.commit(&[vec![event(5, 1), event(3, 6)]]);
        assert_eq!((again[0][0].unwrap().id(), again[0][1].unwrap().id()), (ids[0].id(), ids[2].id()));
        world.log.close().unwrap();
        world = World::open(&arc, SEGMENT_BYTES, seed).unwrap();
    }
    assert!(!world.commit(&[vec![event(2, 2)]])[0][0].unwrap().is_duplicate(), "what was refused remembers nothing");
}

#[test]
fn old_segments_are_deleted_except_the_current_one() {
    /// A delivery of the segment is pending.
    struct Busy;
    impl RetentionRefs for Busy {
        fn needed(&self, _: EventId, _: EventId) -> Option<Vec<EventId>> {
            None
        }
        fn expire(&self, events: Vec<EventId>) {
            panic!("{events:?} were not to go");
        }
    }
    let disk = SimDisk::default();
    let mut world = World::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), SEGMENT_BYTES, 1).unwrap();
    let ids: Vec<_> = (0..40).map(|n| world.commit(&one(plain(n, 900)))[0][0].unwrap().id()).collect();
    let mut config = log_config(SEGMENT_BYTES);
    let retire = |config: &_, refs: &dyn RetentionRefs| {
        retention::delete_oldest_segment(&*world.log, config, clock().steady(), refs, &mut || {}).unwrap()
    };
    assert!(!retire(&config, &FakeRetentionRefs::default()), "none is old enough");
    config.retention = std::time::Duration::ZERO;
    assert!(!retire(&config, &Busy), "later again");
    while retire(&config, &FakeRetentionRefs::default()) {}
    assert_eq!(world.log.segments().len(), 1);
    assert_eq!(disk.list(&std::path::Path::new(DIR).join("log")).unwrap().len(), 1);
    let left = all(&world.log);
    assert!(!left.is_empty() && left.len() < ids.len());
    assert_eq!(left.last().unwrap().0, ids[39]);
}

#[test]
fn carried_bodies_beyond_the_limit_expire() {
    let disk = SimDisk::default();
    let mut world = World::open(&(Arc::new(disk) as Arc<dyn Disk>), SEGMENT_BYTES, 1).unwrap();
    let ids: Vec<_> = (0..40).map(|n| world.commit(&one(plain(n, 900)))[0][0].unwrap().id()).collect();
    let wanted = FakeRetentionRefs::default();
    wanted.events.lock().unwrap().extend(&ids);
    let mut config = log_config(SEGMENT_BYTES);
    (config.retention_bytes, config.carry_bytes) = (0, 1);
    assert!(retention::delete_oldest_segment(&*world.log, &config, clock().steady(), &wanted, &mut || {}).unwrap());
    let expired = wanted.expired.lock().unwrap().clone();
    assert!(!expired.is_empty() && ids.starts_with(&expired));
    assert!(world.log.read(&expired).unwrap().iter().all(Option::is_none));
}

#[test]
fn a_carried_file_is_rewritten_when_most_of_it_is_settled() {
    let disk = SimDisk::default();
    let mut world = World::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), SEGMENT_BYTES, 1).unwrap();
    let ids: Vec<_> = (0..40).map(|n| world.commit(&one(plain(n, 900)))[0][0].unwrap().id()).collect();
    let wanted = FakeRetentionRefs::default();
    wanted.events.lock().unwrap().extend(&ids);
    let mut config = log_config(SEGMENT_BYTES);
    config.retention_bytes = 0;
    while retention::delete_oldest_segment(&*world.log, &config, clock().steady(), &wanted, &mut || {}).unwrap() {}
    *wanted.events.lock().unwrap() = [ids[0]].into();
    retention::tidy_carried(&*world.log, &config, &wanted, &mut || {}).unwrap();
    assert_eq!(world.log.carried().len(), 1);
    let left = stat(&disk, std::path::Path::new(DIR)).unwrap().carried;
    assert_eq!(left.iter().map(|file| file.events).sum::<u64>(), 1);
    let read = world.log.read(&ids[..2]).unwrap();
    assert!(read[0].is_some() && read[1].is_none());
}

#[test]
fn stat_and_verify_report_the_content() {
    let disk = SimDisk::default();
    let mut world = World::open(&(Arc::new(disk.clone()) as Arc<dyn Disk>), SEGMENT_BYTES, 1).unwrap();
    let ids: Vec<_> = (0..30).map(|n| world.commit(&one(plain(n, 900)))[0][0].unwrap().id()).collect();
    let dir = std::path::Path::new(DIR);
    let open = disk.crash_at(disk.operations(), Loss::Nothing, &mut Random::seeded(1));
    assert_eq!(stat(&open, dir).unwrap().segments.last().unwrap().state, SegmentState::NotClosed);
    world.log.close().unwrap();
    for found in [stat(&disk, dir).unwrap(), verify(&disk, dir).unwrap(), verify(&open, dir).unwrap()] {
        assert!(found.is_sound(), "{found:?}");
        assert_eq!(found.events(), 30);
        assert_eq!(found.segments[0].first.unwrap().0, ids[0]);
        assert_eq!(found.segments.last().unwrap().last.unwrap().0, ids[29]);
    }
}
