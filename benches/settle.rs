//! Measures settle: a flush of outcomes, a flush of rows, a refill, and a retry decision. A flush is two commits with
//! their fsyncs, on the disk that holds the temporary folder.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run ends")]

use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hooktide::handoff::{
    AnnouncedEvent, Refill, RefillKind, SettleCommand, SettleHandle, SettledDelivery, Shards, ToSettle, ToShard,
};
use hooktide::model::{
    Attempt, AttemptError, DeadReason, Decision, DeliveryId, DeliveryStatus, EventId, NewEvent, RetryOn, RetryPolicy,
    Timestamp, WebhookNo,
};
use hooktide::runtime::{Clock, IngestPermit, IngestPermits, Metrics};
use hooktide::settle::{Callbacks, DeliveryQuery, Options, SettleDeps, SettleThread, decide, open};
use hooktide::storage::delivery::{RedbDeliveryStore, StoreOptions};
use hooktide::storage::{LogRecord, ReadError, ReadLog, RealDisk};

const ITEMS: u64 = 2_000;

/// An empty log.
struct NoLog;

impl ReadLog for NoLog {
    fn last(&self) -> EventId {
        EventId::MIN
    }
    fn read(&self, events: &[EventId]) -> Result<Vec<Option<LogRecord>>, ReadError> {
        Ok(vec![None; events.len()])
    }
    fn heads_after(&self, _: EventId, _: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        Ok(Vec::new())
    }
    fn heads_before(&self, _: EventId, _: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        Ok(Vec::new())
    }
}

/// Settle on its own folder, with one shard that the bench simulates.
struct SettleBench {
    running: SettleThread,
    shard: tokio::sync::mpsc::Receiver<ToShard>,
    permit: Arc<IngestPermit>,
    last: u128,
    _dir: tempfile::TempDir,
}

impl SettleBench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreOptions {
            disk: Arc::new(RealDisk),
            dir: dir.path().to_owned(),
            two_phase_commit: true,
            history_retention: Duration::from_secs(3_600),
        };
        let options =
            Options { dead_letter_retention: Duration::from_secs(3_600), disable_after: Duration::from_secs(3_600) };
        let store = RedbDeliveryStore::open(store).unwrap();
        let mut opened = open(Box::new(store), options).unwrap();
        opened.recover(&NoLog).unwrap();
        let (handle, messages, wakeup) = SettleHandle::channel();
        let (shards, mut ends) = Shards::channels(1);
        let callbacks = Callbacks {
            abandon_reason: Arc::new(|_| None),
            replay_targets: Arc::new(()),
            disable: Arc::new(|_, _| true),
            compose_event: Arc::new(|_| None),
            notify_outbox: Arc::new(|| {}),
            disable_after: Arc::new(|_| None),
            ballast: Arc::new(|| {}),
            poisoned: Arc::new(|error| panic!("{error}")),
        };
        let (clock, log, metrics) = (Clock::system(opened.steady()), Arc::new(NoLog), Metrics::new().unwrap());
        let start = SettleDeps { handle, messages, wakeup, shards, clock, log, metrics, callbacks };
        let running = opened.start(start).unwrap();
        let permit = block_on(IngestPermits::new(1 << 20).acquire(1, 1)).unwrap();
        Self { running, shard: ends.remove(0), permit, last: 0, _dir: dir }
    }

    /// Announces [`ITEMS`] events for one webhook each and waits until they are in the checkpoint.
    fn announce(&mut self, webhooks: u32) -> Vec<(WebhookNo, EventId)> {
        let first = self.last + 1;
        self.last += u128::from(ITEMS);
        let delivery =
            |n: u128| (WebhookNo((n.wrapping_mul(7_919) % u128::from(webhooks)) as u32), EventId::from_u128(n));
        let deliveries: Vec<_> = (first..=self.last).map(delivery).collect();
        let announced = deliveries.iter().map(|(webhook, event)| AnnouncedEvent {
            event: *event,
            webhooks: [*webhook].into_iter().collect(),
            too_costly: None,
            permit: Arc::clone(&self.permit),
        });
        self.running.handle.send(ToSettle::Announce(announced.collect()));
        self.sync();
        deliveries
    }

    /// Waits until all messages sent so far are durable.
    fn sync(&self) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let sync = SettleCommand::Sync { webhook: None, event: None, limit: 0, reply };
        self.running.handle.send(ToSettle::Command(sync));
        answer.blocking_recv().unwrap();
    }

    fn refill(&mut self, webhook: WebhookNo, rows: usize) -> usize {
        let kind = RefillKind::Ready { after: EventId::MIN };
        self.running.handle.send(ToSettle::Refill(Refill { shard: 0, webhook, kind, rows }));
        loop {
            if let Some(ToShard::Refilled(refilled)) = self.shard.blocking_recv() {
                return refilled.rows.len();
            }
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn delivered((webhook, event): (WebhookNo, EventId)) -> SettledDelivery {
    let attempt = Attempt {
        number: 1,
        at: Timestamp::from_millis(1_700_000_000_000),
        latency: Duration::from_millis(2),
        http_status: Some(200),
        error: None,
        response: "ok".into(),
    };
    SettledDelivery {
        webhook,
        event,
        attempt: Some(attempt),
        decision: Decision::Delivered,
        head: head(),
        endpoint: None,
    }
}

/// The head of an event published by an application.
fn head() -> Bytes {
    static HEAD: LazyLock<Bytes> = LazyLock::new(|| {
        let new = NewEvent { tenant: "default", event_type: "order.created", source: "api", ..NewEvent::default() };
        let mut head = Vec::new();
        new.encode(&[], &mut head);
        head.into()
    });
    HEAD.clone()
}

fn flushes(c: &mut Criterion) {
    let mut group = c.benchmark_group("settle");
    group.throughput(Throughput::Elements(ITEMS)).sample_size(20);
    for webhooks in [16, 100_000] {
        let bench = std::cell::RefCell::new(SettleBench::new());
        group.bench_function(format!("flush of {ITEMS} delivered, {webhooks} webhooks"), |b| {
            b.iter_batched(
                || bench.borrow_mut().announce(webhooks).into_iter().map(delivered).collect::<Vec<_>>(),
                |outcomes| {
                    let bench = bench.borrow();
                    bench.running.handle.send(ToSettle::Settled(outcomes));
                    bench.sync();
                },
                BatchSize::PerIteration,
            );
        });
        assert!(bench.into_inner().running.stop());
    }
    let bench = std::cell::RefCell::new(SettleBench::new());
    group.bench_function(format!("spill of {ITEMS} rows"), |b| {
        b.iter_batched(
            || bench.borrow_mut().announce(16),
            |deliveries| {
                let bench = bench.borrow();
                bench.running.handle.send(ToSettle::Spill(deliveries));
                bench.sync();
            },
            BatchSize::PerIteration,
        );
    });
    let mut bench = bench.into_inner();
    group.throughput(Throughput::Elements(512));
    group.bench_function("refill of 512 rows", |b| b.iter(|| assert_eq!(bench.refill(WebhookNo(3), 512), 512)));
    assert!(bench.running.stop());
    group.finish();
}

fn policy(c: &mut Criterion) {
    let policy = RetryPolicy::Schedule([5, 60, 300, 900, 3_600].map(Duration::from_secs).as_slice().into());
    let result = Err(AttemptError::Status(503));
    let now = Timestamp::from_millis(1_700_000_000_000);
    c.bench_function("policy", |b| {
        b.iter(|| {
            decide(black_box(&result), Some(Duration::from_secs(7)), 2, &policy, RetryOn::ALL, now, black_box(42))
        });
    });
}

/// Deliveries in the history during the list benchmarks.
const HISTORY: u64 = 10_000_000;
/// Number of webhooks of these deliveries.
const WEBHOOKS: u32 = 1_000;
/// One delivery in this number becomes a dead letter. The number shares no divisor with [`WEBHOOKS`], so every webhook
/// has dead letters.
const DEAD_OF: u128 = 499;

/// Pages of lists over a long history of many webhooks.
fn lists(c: &mut Criterion) {
    let mut bench = SettleBench::new();
    for _ in 0..HISTORY / ITEMS {
        let outcomes = bench.announce(WEBHOOKS).into_iter().map(|delivery| match delivery.1.as_u128() % DEAD_OF {
            0 => SettledDelivery { decision: Decision::Dead(DeadReason::Exhausted), ..delivered(delivery) },
            _ => delivered(delivery),
        });
        bench.running.handle.send(ToSettle::Settled(outcomes.collect()));
    }
    bench.sync();
    let one = DeliveryQuery::all([WebhookNo(7)]);
    let all = DeliveryQuery::all((0..WEBHOOKS).map(WebhookNo).collect::<Vec<_>>());
    let failed = |wanted: &DeliveryQuery| DeliveryQuery { status: Some(DeliveryStatus::Failed), ..wanted.clone() };
    let half = EventId::from_u128(u128::from(HISTORY / 2));
    let old = DeliveryQuery { before: DeliveryId { event: half, webhook: WebhookNo(0) }, ..all.clone() };
    let mut group = c.benchmark_group("lists");
    for (name, wanted, rows) in [
        ("one webhook", &one, 51),
        ("1,000 webhooks", &all, 51),
        ("1,000 webhooks, from the middle", &old, 51),
        ("1,000 webhooks, 10,000 rows", &all, 10_001),
        ("one webhook, failed", &failed(&one), 10),
        ("1,000 webhooks, failed", &failed(&all), 51),
    ] {
        group.bench_function(format!("page of {name}"), |b| {
            b.iter(|| assert_eq!(bench.running.records.deliveries(wanted, rows).unwrap().rows.len(), rows));
        });
    }
    group.finish();
    assert!(bench.running.stop());
}

criterion_group!(benches, flushes, policy, lists);
criterion_main!(benches);
