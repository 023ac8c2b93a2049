//! Tests of the log alone: durability proofs, positions, and unknown formats.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config;
use crate::model::NewEvent;
use crate::storage::Disk;
use crate::storage::format::set_version;
use crate::storage::sim::SimDisk;

const DIR: &str = "/data";

fn config() -> config::Log {
    config::Log {
        segment_bytes: 4 * 1024,
        segment_age: Duration::from_secs(3_600),
        retention: Duration::from_secs(86_400),
        retention_bytes: u64::MAX,
        carry_bytes: u64::MAX,
        two_phase_commit: true,
    }
}

fn open(disk: &SimDisk) -> Result<RedbLog, OpenLogError> {
    RedbLog::open(Arc::new(disk.clone()) as Arc<dyn Disk>, Path::new(DIR), &config(), Timestamp::default())
}

fn at(n: u128) -> LogPosition {
    LogPosition::of(EventId::from_u128(n << 70))
}

fn append(log: &RedbLog, places: std::ops::RangeInclusive<u128>) -> Durable {
    let mut head = Vec::new();
    NewEvent { tenant: "default", event_type: "order.created", source: "api", data_len: 900, ..NewEvent::default() }
        .encode(&[], &mut head);
    let body = [7; 900];
    let records: Vec<_> = places.map(|n| NewRecord { position: at(n), head: &head, body: &body }).collect();
    log.append(&records, Timestamp::default()).unwrap().durable
}

#[test]
fn a_proof_covers_the_appended_events_and_no_later_ones() {
    let disk = SimDisk::default();
    let log = open(&disk).unwrap();
    assert_eq!(log.durable().last(), LogPosition::MIN);
    assert!(log.durable().event(at(1).event()).is_none());
    let durable = append(&log, 1..=3);
    assert!(durable.event(at(3).event()).is_some() && durable.event(at(4).event()).is_none());
    assert_eq!(log.durable(), durable);
    log.close().unwrap();
    assert_eq!(open(&disk).unwrap().durable(), durable, "after a restart too");
}

#[test]
fn heads_are_visited_from_the_newest_block_to_the_oldest() {
    let disk = SimDisk::default();
    let log = open(&disk).unwrap();
    for n in 0..9 {
        append(&log, n * 2 + 1..=n * 2 + 2);
    }
    assert!(log.segments().len() > 1);
    let mut seen = Vec::new();
    log.walk_back(&mut |run| {
        assert!(run.is_sorted_by_key(|(at, _)| *at));
        seen.extend(run.iter().rev().map(|(at, _)| *at));
        Ok(if seen.len() < 10 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
    .unwrap();
    assert_eq!(seen, (9..=18).rev().map(at).collect::<Vec<_>>());
}

#[test]
fn carried_events_stay_readable_after_their_segment_is_deleted() {
    let log = open(&SimDisk::default()).unwrap();
    for n in 0..9 {
        append(&log, n * 2 + 1..=n * 2 + 2);
    }
    let segments = log.segments();
    let last = log.span(segments[0].first).unwrap().unwrap().last.0;
    log.retire(segments[0].first, &[at(2)], &mut || {}).unwrap();
    assert_eq!(log.segments(), segments[1..]);
    let found = log.events_at(&[at(1), at(2), last]).unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
    let carried = log.carried();
    assert_eq!(log.carried_positions(carried[0].first).unwrap(), [at(2)]);
    log.rewrite_carried(carried[0].first, &[], &mut || {}).unwrap();
    assert!(log.carried().is_empty() && log.events_at(&[at(2)]).unwrap()[0].is_none());
}

#[test]
fn the_log_waits_for_the_next_segment_that_another_thread_creates() {
    let log = open(&SimDisk::default()).unwrap();
    log.enable_background_prepare();
    append(&log, 1..=5);
    let grown = log.append(&[], Timestamp::default()).unwrap();
    assert!(!grown.prepare, "nothing was appended");
    // The next file does not exist yet: the full segment grows, and the append asks for the file.
    let body = [0; 10];
    let one = |n| [NewRecord { position: at(n), head: &body, body: &body }];
    assert!(log.append(&one(6), Timestamp::default()).unwrap().prepare);
    assert_eq!(log.segments().len(), 1);
    log.create_next_segment().unwrap();
    assert!(log.append(&one(7), Timestamp::default()).unwrap().prepare);
    assert_eq!(log.segments().len(), 2);
    log.seal().unwrap();
    assert!(log.events_at(&[at(1), at(7)]).unwrap().iter().all(Option::is_some));
}

#[test]
fn a_file_of_a_newer_format_is_refused_with_instructions() {
    let disk = SimDisk::default();
    let log = open(&disk).unwrap();
    append(&log, 1..=3);
    let path = Path::new(DIR).join("log").join(format!("{}.redb", at(1)));
    log.close().unwrap();
    drop(log);
    set_version(&disk, &path, 2);
    let refused = open(&disk).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!(
            "{} has format version 2; this program reads version 1: run the newer program, or restore a backup",
            path.display()
        )
    );
    set_version(&disk, &path, 1);
    assert_eq!(open(&disk).unwrap().durable().last(), at(3));
}
