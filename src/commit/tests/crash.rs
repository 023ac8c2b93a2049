//! A crash at any moment, a failure of any operation: nothing acknowledged is lost, nothing is half there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::world::*;
use crate::commit::retention;
use crate::handoff::Refused;
use crate::limits::ROOM_INTERVAL;
use crate::model::EventId;
use crate::runtime::Random;
use crate::storage::sim::{Fault, Loss, SimDisk};
use crate::storage::{Disk, EventLog, ReadLog};

const SEGMENT_BYTES: u64 = 12 * 1024;
/// Images of a crash in the normal test run.
const IMAGES: u64 = 2_000;

/// What was submitted and what was acknowledged when.
#[derive(Default)]
struct Ledger {
    /// Every body ever acknowledged, with the operation it was acknowledged behind.
    acked: BTreeMap<EventId, (usize, Bytes)>,
    /// Events retired, with the operation before which that began.
    retired: BTreeMap<EventId, usize>,
}

fn arc(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// Batches of mixed sizes over several segments, a reopening in the midst, a retirement at the end.
fn workload(disk: &SimDisk, ledger: &mut Ledger) {
    let mut random = Random::seeded(7);
    for run in 0..2 {
        let mut world = World::open(&arc(disk), SEGMENT_BYTES, run).unwrap();
        for n in 0..8u8 {
            let sizes: Vec<usize> = (0..random.between(1..=4)).map(|_| random.between(0..=3_000) as usize).collect();
            let bodies: Vec<Vec<Draft>> = sizes.iter().map(|&len| vec![plain(n, len)]).collect();
            for (verdicts, drafts) in world.commit(&bodies).into_iter().zip(&bodies) {
                let id = verdicts[0].unwrap().id();
                ledger.acked.insert(id, (disk.operations(), drafts[0].body.clone().into()));
            }
        }
        world.log.close().unwrap();
    }
    let world = World::open(&arc(disk), SEGMENT_BYTES, 9).unwrap();
    let begun = disk.operations();
    let first: Vec<_> = world.log.segments().iter().take(2).map(|segment| segment.first).collect();
    let gone: Vec<_> = ledger.acked.range(first[0].event()..first[1].event()).map(|(id, _)| *id).collect();
    let wanted = Wanted::default();
    wanted.events.lock().unwrap().insert(gone[0]);
    let mut config = log_config(SEGMENT_BYTES);
    config.retention_bytes = 0;
    assert!(retention::retire_one(&*world.log, &config, clock().steady(), &wanted, &mut || {}).unwrap());
    ledger.retired.extend(gone[1..].iter().map(|id| (*id, begun)));
}

/// Everything acknowledged by then reads back; whatever else is there is whole.
fn compare(disk: &SimDisk, at: usize, ledger: &Ledger, what: &str) {
    let log = reopen(&arc(disk), SEGMENT_BYTES, 5).unwrap_or_else(|error| panic!("{what}: {error}")).log();
    let listed = all(&log);
    let ids: Vec<_> = ledger.acked.keys().copied().collect();
    for (id, stored) in ids.iter().zip(log.read(&ids).unwrap()) {
        let (acked, body) = &ledger.acked[id];
        if let Some((_, data)) = stored {
            assert_eq!(data, body, "{what}: {id} is not what was sent");
        } else {
            let retired = ledger.retired.get(id).is_some_and(|begun| *begun < at);
            assert!(*acked > at || retired, "{what}: {id} was acknowledged and is lost");
        }
    }
    assert!(listed.iter().all(|(id, _)| ledger.acked.contains_key(id)), "{what}: an event that nobody sent");
    assert!(listed.is_sorted_by_key(|(id, _)| *id), "{what}: out of order");
}

#[test]
fn a_crash_at_any_moment_loses_nothing_acknowledged() {
    let disk = SimDisk::default();
    let mut ledger = Ledger::default();
    workload(&disk, &mut ledger);
    let total = disk.operations() as u64;
    let mut replay = disk.replay();
    for image in 0..IMAGES {
        let at = (image * (total + 1) / IMAGES) as usize;
        while replay.at() < at {
            assert!(replay.step());
        }
        let mut random = Random::seeded(image);
        let crashed = replay.crash(Loss::of(image), &mut random);
        let what = format!("image {image} at {at} of {total}");
        if image % 4 == 3 {
            // Crash again inside the recovery.
            let _ = reopen(&arc(&crashed), SEGMENT_BYTES, 4).unwrap();
            let again = random.between(0..=crashed.operations() as u64) as usize;
            let loss = Loss::of(random.between(0..=7));
            compare(&crashed.crash_at(again, loss, &mut random), at, &ledger, &format!("{what}, again at {again}"));
        } else {
            compare(&crashed, at, &ledger, &what);
        }
    }
}

/// Runs until the first refusal; gives what was acknowledged.
fn run_into(disk: &SimDisk) -> (Ledger, Vec<Refused>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _paused = runtime.enter();
    let mut ledger = Ledger::default();
    let mut refused = Vec::new();
    let Ok(mut world) = World::open(&arc(disk), SEGMENT_BYTES, 1) else { return (ledger, refused) };
    for n in 0..8u8 {
        let requests: Vec<_> = (0..3).map(|_| vec![plain(n, 900)]).collect();
        for (verdicts, drafts) in world.commit(&requests).into_iter().zip(&requests) {
            match verdicts[0] {
                Ok(committed) => {
                    ledger.acked.insert(committed.id(), (0, drafts[0].body.clone().into()));
                }
                Err(error) => refused.push(error),
            }
        }
        // So that free space is asked for again.
        runtime.block_on(tokio::time::advance(ROOM_INTERVAL));
        let announced = world.announced();
        assert!(announced.iter().all(|id| ledger.acked.contains_key(id)), "announced without being acknowledged");
    }
    (ledger, refused)
}

/// After each single failure: what was acknowledged is there after a crash that takes all it can.
fn fail_everywhere(fault: Fault, then: impl Fn(&[Refused])) {
    for k in 1.. {
        let disk = SimDisk::default();
        disk.fail_at(k, fault);
        let (ledger, refused) = run_into(&disk);
        if !disk.has_failed() {
            assert!(k > 50, "the failure came at {k} operations only");
            return;
        }
        then(&refused);
        for loss in [Loss::All, Loss::Nothing] {
            let crashed = disk.crash_at(disk.operations(), loss, &mut Random::seeded(k));
            let log = reopen(&arc(&crashed), SEGMENT_BYTES, 2).unwrap_or_else(|error| panic!("{k}: {error}")).log();
            let ids: Vec<_> = ledger.acked.keys().copied().collect();
            for (id, stored) in ids.iter().zip(log.read(&ids).unwrap()) {
                assert_eq!(stored.map(|(_, data)| data).as_ref(), Some(&ledger.acked[id].1), "{k}: {id} is lost");
            }
        }
    }
}

#[test]
fn after_an_io_error_nothing_more_is_acknowledged() {
    fail_everywhere(Fault::Io, |refused| assert!(refused.iter().all(|refused| *refused == Refused::Poisoned)));
}

#[test]
fn a_full_disk_refuses_a_batch_and_no_more() {
    let recovered = std::cell::Cell::new(0);
    fail_everywhere(Fault::NoSpace, |refused| {
        // One batch of three; only a failed fsync is final, whatever it says.
        let all = |what| refused.iter().all(|refused| *refused == what);
        assert!((all(Refused::DiskFull) && refused.len() <= 3) || all(Refused::Poisoned), "{refused:?}");
        recovered.set(recovered.get() + u32::from(all(Refused::DiskFull)));
    });
    assert!(recovered.get() > 50, "{recovered:?} failures were recovered from");
}

#[test]
fn events_come_in_again_when_there_is_room_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _paused = runtime.enter();
    let disk = SimDisk::default();
    let mut world = World::open(&arc(&disk), SEGMENT_BYTES, 1).unwrap();
    let before = world.commit(&one(plain(1, 100)))[0][0].unwrap().id();
    disk.set_full(true);
    // The first batch may still find the room asked for long ago; large, it needs pages that were never written.
    assert_eq!(world.commit(&one(plain(2, 50_000)))[0][0], Err(Refused::DiskFull));
    assert_eq!(world.commit(&one(plain(2, 5)))[0][0], Err(Refused::DiskFull));
    assert!(world.log.read(&[before]).unwrap()[0].is_some(), "reading goes on");
    disk.set_full(false);
    runtime.block_on(tokio::time::advance(ROOM_INTERVAL));
    let after = world.commit(&one(plain(3, 100)))[0][0].unwrap().id();
    assert_eq!(all(&world.log).len(), 2);
    assert!(after > before);
}

#[test]
fn a_full_load_writes_less_than_twice_what_comes_in() {
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
