//! Fixtures: a log with tiny segments on a simulated disk, without threads.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use tokio::sync::{mpsc, oneshot};

use crate::commit::*;
use crate::config;
use crate::handoff::{
    AdmittedEvent, CommitReply, CommitResults, RetentionRefs, SettleHandle, Shards, Submission, ToSettle, ToShard,
};
use crate::limits::INGEST_PERMITS;
use crate::model::{DedupKey, DedupKind, EventId, NewEvent, Timestamp, WebhookNo, Webhooks};
use crate::runtime::{Clock, IngestPermit, IngestPermits, MemoryBudget, Metrics, Random};
use crate::storage::{Disk, ReadLog, RedbLog};

pub(super) const DIR: &str = "/data";

/// The fields of a test event.
#[derive(Debug, Clone)]
pub(in crate::commit) struct TestEvent {
    pub(in crate::commit) key: Option<(u8, DedupKind)>,
    pub(in crate::commit) nonce: Option<u8>,
    pub(in crate::commit) body: Vec<u8>,
    pub(in crate::commit) webhooks: Vec<u32>,
}

/// A log that is open for writes, and the receivers of its announcements.
pub(super) struct World {
    pub(super) group: Committer,
    pub(super) log: Arc<RedbLog>,
    pub(super) settled: Receiver<ToSettle>,
    pub(super) shards: Vec<mpsc::Receiver<ToShard>>,
    permit: Arc<IngestPermit>,
    memory: Arc<MemoryBudget>,
    clock: Clock,
}

pub(super) fn log_config(segment_bytes: u64) -> config::Log {
    config::Log {
        segment_bytes,
        segment_age: Duration::from_secs(3600),
        retention: Duration::from_secs(86_400),
        retention_bytes: u64::MAX,
        carry_bytes: u64::MAX,
        two_phase_commit: true,
    }
}

pub(in crate::commit) fn dedup_config() -> config::Dedup {
    config::Dedup { ttl: Duration::from_secs(3600), max_keys: 1_000 }
}

pub(in crate::commit) fn clock() -> Clock {
    Clock::test(Timestamp::from_millis(1_711_015_200_000))
}

pub(super) fn reopen(disk: &Arc<dyn Disk>, segment_bytes: u64, seed: u64) -> Result<OpenedLog, OpenCommitError> {
    open(OpenLog {
        disk: Arc::clone(disk),
        dir: Path::new(DIR),
        config: &log_config(segment_bytes),
        dedup: &dedup_config(),
        clock: clock(),
        random: Random::seeded(seed),
        high_water: EventId::MIN,
    })
}

pub(in crate::commit) fn permit() -> Arc<IngestPermit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(IngestPermits::new(INGEST_PERMITS).acquire(1, 1)).unwrap()
}

impl World {
    pub(super) fn open(disk: &Arc<dyn Disk>, segment_bytes: u64, seed: u64) -> Result<Self, OpenCommitError> {
        let opened = reopen(disk, segment_bytes, seed)?;
        let log = opened.log();
        let (settle, settled, _wakeup) = SettleHandle::channel();
        let (shards, ends) = Shards::channels(2);
        let group = opened.into_committer(settle, shards, Metrics::new().unwrap());
        let (permit, memory) = (permit(), MemoryBudget::new(usize::MAX));
        Ok(Self { group, log, settled, shards: ends, permit, memory, clock: clock() })
    }

    pub(in crate::commit) fn submission(&self, drafts: &[TestEvent]) -> (Submission, oneshot::Receiver<CommitResults>) {
        submission(drafts, &self.permit, &self.memory, &self.clock)
    }

    /// Commits requests as one batch.
    pub(super) fn commit(&mut self, requests: &[Vec<TestEvent>]) -> Vec<CommitResults> {
        let (batch, replies): (Vec<_>, Vec<_>) = requests.iter().map(|drafts| self.submission(drafts)).unzip();
        self.group.commit(batch);
        replies.into_iter().map(|mut reply| reply.try_recv().expect("every request is answered")).collect()
    }

    /// The events that arrived at the shards since the last call, in order, each once.
    pub(super) fn arrived(&mut self) -> Vec<EventId> {
        let mut ids = std::collections::BTreeSet::new();
        for shard in &mut self.shards {
            while let Ok(notified) = shard.try_recv() {
                let ToShard::Arrivals(arrivals) = notified else { panic!("{notified:?}") };
                ids.extend(arrivals.iter().map(|arrival| arrival.event.id));
            }
        }
        ids.into_iter().collect()
    }

    /// The events announced to settle since the last call.
    pub(super) fn announced(&self) -> Vec<EventId> {
        let announced = self.settled.try_iter().flat_map(|notified| match notified {
            ToSettle::Announce(events) => events,
            other => panic!("{other:?}"),
        });
        announced.map(|announced| announced.event).collect()
    }
}

pub(in crate::commit) fn submission(
    drafts: &[TestEvent],
    permit: &Arc<IngestPermit>,
    memory: &Arc<MemoryBudget>,
    clock: &Clock,
) -> (Submission, oneshot::Receiver<CommitResults>) {
    let (reply, answer) = CommitReply::direct();
    let events = drafts.iter().map(|draft| admitted(draft, clock.now())).collect();
    (Submission { events, permit: Arc::clone(permit), lease: memory.lease(1), reply }, answer)
}

pub(super) fn fingerprint(body: &[u8]) -> u64 {
    body.iter().fold(17, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte))
}

fn admitted(draft: &TestEvent, now: Timestamp) -> AdmittedEvent {
    let dedup = draft.key.map(|(n, kind)| -> (DedupKey, DedupKind) {
        let mut key = [n; 16];
        key[0] = u8::from(kind == DedupKind::Id);
        (key, kind)
    });
    let nonce = draft.nonce.map(|n| [n | 0x80; 16]);
    let fingerprint = fingerprint(&draft.body);
    let webhooks: Vec<_> = draft.webhooks.iter().copied().map(WebhookNo).collect();
    let mut head = Vec::new();
    let event = NewEvent {
        tenant: "default",
        event_type: "order.created",
        source: "api",
        received_at: now,
        correlation_id: "req_1",
        dedup,
        nonce,
        fingerprint,
        data_len: draft.body.len() as u32,
        ..NewEvent::default()
    };
    event.encode(&webhooks, &mut head);
    AdmittedEvent {
        head: head.into(),
        body: Bytes::from(draft.body.clone()),
        dedup: dedup.map(|(key, kind)| (key, kind, fingerprint)),
        nonce,
        matched: Webhooks::from(webhooks).into(),
    }
}

pub(in crate::commit) fn plain(byte: u8, len: usize) -> TestEvent {
    TestEvent { key: None, nonce: None, body: vec![byte; len], webhooks: vec![1, 2] }
}

/// All events of the log, in order.
pub(super) fn all(log: &RedbLog) -> Vec<(EventId, Bytes)> {
    let mut out: Vec<(EventId, Bytes)> = Vec::new();
    loop {
        let after = out.last().map_or(EventId::MIN, |(id, _)| *id);
        let heads = log.heads_after(after, 7).unwrap();
        if heads.is_empty() {
            return out;
        }
        let ids: Vec<_> = heads.iter().map(|(id, _)| *id).collect();
        let stored = log.read(&ids).unwrap();
        out.extend(ids.into_iter().zip(stored).map(|(id, stored)| (id, stored.expect("a head has its body").1)));
    }
}

/// Needs only `events`, and records the expired ones.
#[derive(Debug, Default)]
pub(super) struct FakeRetentionRefs {
    pub(super) events: std::sync::Mutex<std::collections::BTreeSet<EventId>>,
    pub(super) expired: std::sync::Mutex<Vec<EventId>>,
}

impl RetentionRefs for FakeRetentionRefs {
    fn needed(&self, first: EventId, last: EventId) -> Option<Vec<EventId>> {
        Some(self.events.lock().unwrap().range(first..=last).copied().collect())
    }

    fn expire(&self, events: Vec<EventId>) {
        self.expired.lock().unwrap().extend(events);
    }
}

pub(super) fn one(draft: TestEvent) -> Vec<Vec<TestEvent>> {
    vec![vec![draft]]
}
