//! Crashes at any moment and failures of any operation: no acknowledged event is lost, and no event is incomplete.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::world::*;
use crate::commit::retention;
use crate::handoff::CommitError;
use crate::limits::DISK_SPACE_INTERVAL;
use crate::model::EventId;
use crate::runtime::Random;
use crate::storage::sim::{DiskFault, Loss, SimDisk, scaled};
use crate::storage::{Disk, EventLog, ReadLog};

const SEGMENT_BYTES: u64 = 12 * 1024;
/// The number of crash images in the normal test run.
const IMAGES: u64 = 2_000;

/// The acknowledged events, with the time in disk operations.
#[derive(Default)]
struct AckedEvents {
    /// Every acknowledged body, with the operation after which it was acknowledged.
    acked: BTreeMap<EventId, (usize, Bytes)>,
    /// Retired events, with the operation before which their retirement began.
    retired: BTreeMap<EventId, usize>,
}

fn arc(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Batches of mixed sizes over several segments, a restart in between, a retirement at the end.
fn workload(disk: &SimDisk, acked_events: &mut AckedEvents) {
    let mut random = Random::seeded(7);
    for run in 0..2 {
        let mut world = World::open(&arc(disk), SEGMENT_BYTES, run).unwrap();
        for n in 0..8u8 {
            let sizes: Vec<usize> = (0..random.between(1..=4)).map(|_| random.between(0..=3_000) as usize).collect();
            let bodies: Vec<Vec<TestEvent>> = sizes.iter().map(|&len| vec![plain(n, len)]).collect();
            for (verdicts, drafts) in world.commit(&bodies).into_iter().zip(&bodies) {
                let id = verdicts[0].unwrap().id();
                acked_events.acked.insert(id, (disk.operations(), drafts[0].body.clone().into()));
            }
        }
        world.log.close().unwrap();
    }
    let world = World::open(&arc(disk), SEGMENT_BYTES, 9).unwrap();
    let begun = disk.operations();
    let first: Vec<_> = world.log.segments().iter().take(2).map(|segment| segment.first).collect();
    let gone: Vec<_> = acked_events.acked.range(first[0].event()..first[1].event()).map(|(id, _)| *id).collect();
    let wanted = FakeRetentionRefs::default();
    wanted.events.lock().unwrap().insert(gone[0]);
    let mut config = log_config(SEGMENT_BYTES);
    config.retention_bytes = 0;
    assert!(retention::delete_oldest_segment(&*world.log, &config, clock().steady(), &wanted, &mut || {}).unwrap());
    acked_events.retired.extend(gone[1..].iter().map(|id| (*id, begun)));
}

/// Checks that every event acknowledged by operation `at` reads back, and that all other events are complete.
fn compare(disk: &SimDisk, at: usize, acked_events: &AckedEvents, what: &str) {
    let log = reopen(&arc(disk), SEGMENT_BYTES, 5).unwrap_or_else(|error| panic!("{what}: {error}")).log();
    let listed = all(&log);
    let ids: Vec<_> = acked_events.acked.keys().copied().collect();
    for (id, stored) in ids.iter().zip(log.read(&ids).unwrap()) {
        let (acked, body) = &acked_events.acked[id];
        if let Some((_, data)) = stored {
            assert_eq!(data, body, "{what}: {id} is not what was sent");
        } else {
            let retired = acked_events.retired.get(id).is_some_and(|begun| *begun < at);
            assert!(*acked > at || retired, "{what}: {id} was acknowledged and is lost");
        }
    }
    assert!(listed.iter().all(|(id, _)| acked_events.acked.contains_key(id)), "{what}: an event that nobody sent");
    assert!(listed.is_sorted_by_key(|(id, _)| *id), "{what}: out of order");
}

#[test]
fn a_crash_at_any_moment_loses_nothing_acknowledged() {
    let disk = SimDisk::default();
    let mut acked_events = AckedEvents::default();
    workload(&disk, &mut acked_events);
    let total = disk.operations() as u64;
    let mut replay = disk.replay();
    let images = scaled(IMAGES);
    for image in 0..images {
        let at = (image * (total + 1) / images) as usize;
        while replay.at() < at {
            assert!(replay.step());
        }
        let mut random = Random::seeded(image);
        let crashed = replay.crash(Loss::of(image), &mut random);
        let what = format!("image {image} at {at} of {total}");
        if image % 4 == 3 {
            // Crash again during the recovery.
            let _ = reopen(&arc(&crashed), SEGMENT_BYTES, 4).unwrap();
            let again = random.between(0..=crashed.operations() as u64) as usize;
            let loss = Loss::of(random.between(0..=7));
            compare(
                &crashed.crash_at(again, loss, &mut random),
                at,
                &acked_events,
                &format!("{what}, again at {again}"),
            );
        } else {
            compare(&crashed, at, &acked_events, &what);
        }
    }
}

/// Commits until the first refusal and returns the acknowledged events.
fn run_into(disk: &SimDisk) -> (AckedEvents, Vec<CommitError>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _paused = runtime.enter();
    let mut acked_events = AckedEvents::default();
    let mut refused = Vec::new();
    let Ok(mut world) = World::open(&arc(disk), SEGMENT_BYTES, 1) else { return (acked_events, refused) };
    for n in 0..8u8 {
        let requests: Vec<_> = (0..3).map(|_| vec![plain(n, 900)]).collect();
        for (verdicts, drafts) in world.commit(&requests).into_iter().zip(&requests) {
            match verdicts[0] {
                Ok(committed) => {
                    acked_events.acked.insert(committed.id(), (0, drafts[0].body.clone().into()));
                }
                Err(error) => refused.push(error),
            }
        }
        // The free space is queried again after this time.
        runtime.block_on(tokio::time::advance(DISK_SPACE_INTERVAL));
        let announced = world.announced();
        assert!(announced.iter().all(|id| acked_events.acked.contains_key(id)), "announced without being acknowledged");
    }
    (acked_events, refused)
}

/// After each single failure, acknowledged events survive a crash that loses as much as possible.
fn fail_everywhere(fault: DiskFault, then: impl Fn(&[CommitError])) {
    for k in 1.. {
        let disk = SimDisk::default();
        disk.fail_at(k, fault);
        let (acked_events, refused) = run_into(&disk);
        if !disk.has_failed() {
            assert!(k > 50, "the failure came at {k} operations only");
            return;
        }
        then(&refused);
        for loss in [Loss::All, Loss::Nothing] {
            let crashed = disk.crash_at(disk.operations(), loss, &mut Random::seeded(k));
            let log = reopen(&arc(&crashed), SEGMENT_BYTES, 2).unwrap_or_else(|error| panic!("{k}: {error}")).log();
            let ids: Vec<_> = acked_events.acked.keys().copied().collect();
            for (id, stored) in ids.iter().zip(log.read(&ids).unwrap()) {
                assert_eq!(stored.map(|(_, data)| data).as_ref(), Some(&acked_events.acked[id].1), "{k}: {id} is lost");
            }
        }
    }
}

#[test]
fn no_event_is_acknowledged_after_an_io_error() {
    fail_everywhere(DiskFault::Io, |refused| assert!(refused.iter().all(|refused| *refused == CommitError::Poisoned)));
}

#[test]
fn a_full_disk_refuses_only_the_current_batch() {
    let recovered = std::cell::Cell::new(0);
    fail_everywhere(DiskFault::NoSpace, |refused| {
        // A batch has up to three events. Only a failed fsync is final, whatever its error.
        let all = |what| refused.iter().all(|refused| *refused == what);
        assert!((all(CommitError::DiskFull) && refused.len() <= 3) || all(CommitError::Poisoned), "{refused:?}");
        recovered.set(recovered.get() + u32::from(all(CommitError::DiskFull)));
    });
    assert!(recovered.get() > 50, "{recovered:?} failures were recovered from");
}

#[test]
fn events_are_accepted_again_when_the_disk_has_space() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _paused = runtime.enter();
    let disk = SimDisk::default();
    let mut world = World::open(&arc(&disk), SEGMENT_BYTES, 1).unwrap();
    let before = world.commit(&one(plain(1, 100)))[0][0].unwrap().id();
    disk.set_full(true);
    // The first batch may still use the result of an earlier query. It is large, so it needs pages that were never
    // written.
    assert_eq!(world.commit(&one(plain(2, 50_000)))[0][0], Err(CommitError::DiskFull));
    assert_eq!(world.commit(&one(plain(2, 5)))[0][0], Err(CommitError::DiskFull));
    assert!(world.log.read(&[before]).unwrap()[0].is_some(), "reading goes on");
    disk.set_full(false);
    runtime.block_on(tokio::time::advance(DISK_SPACE_INTERVAL));
    let after = world.commit(&one(plain(3, 100)))[0][0].unwrap().id();
    assert_eq!(all(&world.log).len(), 2);
    assert!(after > before);
}

#[test]
fn under_full_load_writes_are_less_than_twice_the_input() {
    let disk = SimDisk::default();
    let mut world = World::open(&arc(&disk), 256 << 20, 1).unwrap();
    let batch: Vec<_> = (0..100).map(|n| vec![plain(n, 1024)]).collect();
    world.commit(&batch);
    let before = disk.bytes_written();
    for _ in 0..20 {
        world.commit(&batch);
    }
    let per_event = (disk.bytes_written() - before) / (20 * 100);
    assert!(per_event < 2 * 1024, "{per_event} bytes");
}
