//! Tests of the threads of the log, on a simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{after, bounded};

use super::world::*;
use crate::commit::retention::{RetentionRefsCell, RetentionThread};
use crate::commit::*;
use crate::handoff::{BodyRequest, CommitError, CommitResults, SettleHandle, Shards, ToSettle, ToShard};
use crate::model::{EventId, WebhookNo};
use crate::runtime::{IngestPermit, MemoryBudget, Metrics};
use crate::storage::log::stat;
use crate::storage::sim::{DiskFault, SimDisk};
use crate::storage::{Disk, EventLog, Poison, RedbLog};

struct Threads {
    running: CommitThreads,
    shards: Vec<tokio::sync::mpsc::Receiver<ToShard>>,
    metrics: Arc<Metrics>,
    memory: Arc<MemoryBudget>,
    permit: Arc<IngestPermit>,
    settle: SettleHandle,
    settled: crossbeam_channel::Receiver<ToSettle>,
}

fn start(disk: &SimDisk, segment_bytes: u64) -> Threads {
    let opened = reopen(&(Arc::new(disk.clone()) as Arc<dyn Disk>), segment_bytes, 3).unwrap();
    let (settle, settled, _) = SettleHandle::channel();
    let (to, shards) = Shards::channels(1);
    let (metrics, memory) = (Metrics::new().unwrap(), MemoryBudget::new(1 << 20));
    let running = opened.start(settle.clone(), to, Arc::clone(&metrics), Arc::clone(&memory)).unwrap();
    Threads { running, shards, metrics, memory, permit: permit(), settle, settled }
}

impl Threads {
    fn send(&self, draft: &TestEvent) -> Result<CommitResults, CommitError> {
        let (submission, reply) = submission(std::slice::from_ref(draft), &self.permit, &self.memory, &clock());
        self.running.handle().submit(submission).map_err(|(refused, _)| refused)?;
        Ok(reply.blocking_recv().expect("what was taken is answered"))
    }
}

#[test]
fn events_arrive_at_their_shard_and_can_be_read_back() {
    let mut threads = start(&SimDisk::default(), 1 << 20);
    let id = threads.send(&plain(7, 50)).unwrap()[0].unwrap().id();
    let Some(ToShard::Arrivals(arrivals)) = threads.shards[0].blocking_recv() else { panic!("no arrivals") };
    assert_eq!((arrivals.len(), arrivals[0].event.id, arrivals[0].webhooks.len()), (1, id, 2));
    let absent = EventId::from_u128(id.as_u128() + 1);
    let request = BodyRequest { shard: 0, webhook: WebhookNo(1), events: vec![id, absent] };
    threads.running.body_requests().try_send(request).unwrap();
    let Some(ToShard::BodiesLoaded { webhook, events }) = threads.shards[0].blocking_recv() else {
        panic!("no answer")
    };
    assert_eq!((webhook, events.len()), (WebhookNo(1), 2));
    assert_eq!(events[0].1.as_ref().unwrap().body, arrivals[0].event.body);
    assert!(events[1].1.is_none());
    assert_eq!(threads.metrics.accepted.get(), 1);
    threads.running.stop().unwrap();
}

#[test]
fn a_clean_stop_leaves_nothing_to_repair() {
    let disk = SimDisk::default();
    let threads = start(&disk, 4 * 1024);
    let replies: Vec<_> = (0..200)
        .map(|n| {
            let (submission, reply) = submission(&[plain(n, 700)], &threads.permit, &threads.memory, &clock());
            threads.running.handle().submit(submission).map_err(|(refused, _)| refused).unwrap();
            reply
        })
        .collect();
    let handle = threads.running.handle();
    threads.running.stop().unwrap();
    // The submissions that were queued at the stop were committed and answered.
    for reply in replies {
        assert!(reply.blocking_recv().unwrap()[0].is_ok());
    }
    let (submission, _reply) = submission(&[plain(1, 1)], &threads.permit, &threads.memory, &clock());
    assert_eq!(handle.submit(submission).map_err(|(refused, _)| refused), Err(CommitError::Poisoned));
    let found = stat(&disk, Path::new(DIR)).unwrap();
    assert!(found.is_sound(), "{found:?}");
    assert_eq!(found.events(), 200);
}

#[test]
fn a_failed_write_poisons_the_log() {
    let disk = SimDisk::default();
    let threads = start(&disk, 1 << 20);
    threads.send(&plain(1, 10)).unwrap()[0].unwrap();
    disk.fail_at(1, DiskFault::Io);
    // The fault may have hit the retention thread. It poisons the log in either case.
    let _ = threads.send(&plain(2, 10));
    let mut poisoned = threads.running.poisoned();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(poisoned.wait_for(Option::is_some)).unwrap();
    assert_eq!(threads.send(&plain(3, 10)), Err(CommitError::Poisoned));
    assert!(threads.running.poison().reason().is_some());
}

#[test]
fn events_are_answered_and_then_refused_while_settle_takes_none() {
    let threads = start(&SimDisk::default(), 1 << 20);
    while threads.settle.try_send(ToSettle::Spill(Vec::new())).is_ok() {}
    threads.send(&plain(1, 50)).unwrap()[0].unwrap();
    // The commit thread refuses once its announcement has waited.
    while !threads.running.handle().is_full() {
        std::thread::yield_now();
    }
    assert_eq!(threads.send(&plain(2, 50)), Err(CommitError::Overloaded));
    assert_eq!(threads.metrics.handover_full.get(), 1);
    threads.settled.try_iter().for_each(drop);
    while threads.running.handle().is_full() {
        std::thread::yield_now();
    }
    threads.send(&plain(2, 50)).unwrap()[0].unwrap();
    threads.running.stop().unwrap();
}

#[test]
fn a_commit_thread_that_is_stuck_takes_no_events() {
    let threads = start(&SimDisk::default(), 1 << 20);
    threads.running.handle().set_stalled(true);
    assert_eq!(threads.send(&plain(1, 50)), Err(CommitError::Overloaded));
    threads.running.handle().set_stalled(false);
    threads.send(&plain(1, 50)).unwrap()[0].unwrap();
    threads.running.stop().unwrap();
}

/// 1. The log rolls all the time, so a wakeup comes more often than the interval of the sweeps.
/// 2. The segments over the limit are deleted nevertheless, and the metrics say so.
#[test]
fn wakeups_do_not_delay_retention() {
    let mut world = World::open(&(Arc::new(SimDisk::default()) as Arc<dyn Disk>), 2 * 1024, 1).unwrap();
    for n in 0..40 {
        world.commit(&one(plain(n, 900)));
    }
    let before = world.log.segments().len();
    assert!(before > 10, "{before}");
    let metrics = Metrics::new().unwrap();
    let refs = RetentionRefsCell::default();
    assert!(refs.set(Arc::new(FakeRetentionRefs::default())).is_ok());
    let mut config = log_config(2 * 1024);
    config.retention_bytes = 0;
    let thread = RetentionThread {
        log: Arc::<RedbLog>::clone(&world.log),
        config,
        clock: clock(),
        refs,
        metrics: Arc::clone(&metrics),
        poison: Poison::default(),
        interval: Duration::from_millis(200),
    };
    let (wakeup, wakeups) = bounded(1);
    let thread = thread.start(wakeups).unwrap();
    let limit = after(Duration::from_secs(20));
    while world.log.segments().len() > 1 && limit.recv_timeout(Duration::from_millis(1)).is_err() {
        let _ = wakeup.try_send(());
    }
    thread.stop();
    assert_eq!(world.log.segments().len(), 1);
    assert_eq!(metrics.log_segments.get(), 1);
}

#[test]
fn the_metrics_of_the_log_are_set_when_it_has_started() {
    let disk = SimDisk::default();
    let threads = start(&disk, 1 << 20);
    threads.send(&plain(1, 10)).unwrap()[0].unwrap();
    threads.running.stop().unwrap();
    let threads = start(&disk, 1 << 20);
    assert_eq!(threads.metrics.log_segments.get(), 1);
    assert!(threads.metrics.log_bytes.get() > 0);
    threads.running.stop().unwrap();
}

/// The first event of a new folder makes the first segment. The metrics must not wait for the next sweep.
#[test]
fn the_metrics_of_the_log_follow_each_roll() {
    let threads = start(&SimDisk::default(), 1 << 20);
    assert_eq!(threads.metrics.log_segments.get(), 0);
    threads.send(&plain(1, 10)).unwrap()[0].unwrap();
    let limit = after(crate::limits::RETENTION_INTERVAL / 2);
    while threads.metrics.log_segments.get() == 0 && limit.recv_timeout(Duration::from_millis(1)).is_err() {}
    assert_eq!(threads.metrics.log_segments.get(), 1);
    threads.running.stop().unwrap();
}
