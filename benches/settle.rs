//! What settle costs: a flush of outcomes, of rows, a refill, a verdict. One flush is two commits with their fsyncs, on the
//! disk that holds the temporary folder.

#![expect(clippy::unwrap_used, reason = "a bench that cannot run ends")]

use std::hint::black_box;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hooktide::handoff::{Announced, Command, Lane, Refill, SettleHandle, Settled, Shards, ToSettle, ToShard};
use hooktide::model::{
    Attempt, AttemptError, DeadReason, Decision, DeliveryId, DeliveryStatus, EventId, NewEvent, RetryOn, RetryPolicy,
    Timestamp, WebhookNo,
};
use hooktide::runtime::{Clock, IngestPermits, Metrics, Permit};
use hooktide::settle::{Callbacks, Options, Running, Start, Wanted, decide, open};
use hooktide::storage::delivery::{RedbDeliveryStore, StoreOptions};
use hooktide::storage::{ReadError, ReadLog, RealDisk, Stored};

const ITEMS: u64 = 2_000;

/// An empty log.
struct NoLog;

impl ReadLog for NoLog {
    fn last(&self) -> EventId {
        EventId::MIN
    }
    fn read(&self, events: &[EventId]) -> Result<Vec<Option<Stored>>, ReadError> {
        Ok(vec![None; events.len()])
    }
    fn heads_after(&self, _: EventId, _: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        Ok(Vec::new())
    }
    fn heads_before(&self, _: EventId, _: usize) -> Result<Vec<(EventId, Bytes)>, ReadError> {
        Ok(Vec::new())
    }
}

/// Settle on a folder of its own, with one shard that the bench plays.
struct World {
    running: Running,
    shard: tokio::sync::mpsc::Receiver<ToShard>,
    permit: Arc<Permit>,
    last: u128,
    _dir: tempfile::TempDir,
}

impl World {
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
        let (handle, messages, bell) = SettleHandle::channel();
        let (shards, mut ends) = Shards::channels(1);
        let hooks = Callbacks {
            abandons: Arc::new(|_| None),
            targets: Arc::new(()),
            disable: Arc::new(|_, _| true),
            compose: Arc::new(|_| None),
            outbox: Arc::new(|| {}),
            disable_after: Arc::new(|_| None),
            ballast: Arc::new(|| {}),
            poisoned: Arc::new(|error| panic!("{error}")),
        };
        let (clock, log, metrics) = (Clock::system(opened.steady()), Arc::new(NoLog), Metrics::new().unwrap());
        let start = Start { handle, messages, bell, shards, clock, log, metrics, hooks };
        let running = opened.start(start).unwrap();
        let permit = block_on(IngestPermits::new(1 << 20).acquire(1, 1)).unwrap();
        Self { running, shard: ends.remove(0), permit, last: 0, _dir: dir }
    }

    /// Announces [`ITEMS`] events for one webhook each, and waits until they are in the checkpoint.
    fn announce(&mut self, webhooks: u32) -> Vec<(WebhookNo, EventId)> {
        let first = self.last + 1;
        self.last += u128::from(ITEMS);
        let delivery =
            |n: u128| (WebhookNo((n.wrapping_mul(7_919) % u128::from(webhooks)) as u32), EventId::from_u128(n));
        let deliveries: Vec<_> = (first..=self.last).map(delivery).collect();
        let announced = deliveries.iter().map(|(webhook, event)| Announced {
            event: *event,
            webhooks: [*webhook].into_iter().collect(),
            permit: Arc::clone(&self.permit),
        });
        self.running.handle.tell(ToSettle::Announce(announced.collect()));
        self.sync();
        deliveries
    }

    /// Waits until everything told is durable.
    fn sync(&self) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let sync = Command::Sync { webhook: None, event: None, limit: 0, reply };
        self.running.handle.tell(ToSettle::Command(sync));
        answer.blocking_recv().unwrap();
    }

    fn refill(&mut self, webhook: WebhookNo, rows: usize) -> usize {
        let lane = Lane::Ready { after: EventId::MIN };
        self.running.handle.tell(ToSettle::Refill(Refill { shard: 0, webhook, lane, rows }));
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

fn delivered((webhook, event): (WebhookNo, EventId)) -> Settled {
    let attempt = Attempt {
        number: 1,
        at: Timestamp::from_millis(1_700_000_000_000),
        latency: Duration::from_millis(2),
        http_status: Some(200),
        error: None,
        response: "ok".into(),
    };
    Settled { webhook, event, attempt: Some(attempt), decision: Decision::Delivered, head: head() }
}

/// Of an event that an application sent.
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
        let world = std::cell::RefCell::new(World::new());
        group.bench_function(format!("flush of {ITEMS} delivered, {webhooks} webhooks"), |b| {
            b.iter_batched(
                || world.borrow_mut().announce(webhooks).into_iter().map(delivered).collect::<Vec<_>>(),
                |outcomes| {
                    let world = world.borrow();
                    world.running.handle.tell(ToSettle::Settled(outcomes));
                    world.sync();
                },
                BatchSize::PerIteration,
            );
        });
        assert!(world.into_inner().running.stop());
    }
    let world = std::cell::RefCell::new(World::new());
    group.bench_function(format!("spill of {ITEMS} rows"), |b| {
        b.iter_batched(
            || world.borrow_mut().announce(16),
            |deliveries| {
                let world = world.borrow();
                world.running.handle.tell(ToSettle::Spill(deliveries));
                world.sync();
            },
            BatchSize::PerIteration,
        );
    });
    let mut world = world.into_inner();
    group.throughput(Throughput::Elements(512));
    group.bench_function("refill of 512 rows", |b| b.iter(|| assert_eq!(world.refill(WebhookNo(3), 512), 512)));
    assert!(world.running.stop());
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

/// Deliveries in history while lists are measured.
const HISTORY: u64 = 10_000_000;
/// Webhooks that they go to.
const WEBHOOKS: u32 = 1_000;
/// One delivery in so many becomes a dead letter: of each webhook, as the two share no divisor.
const DEAD_OF: u128 = 499;

/// Pages of lists over a long history, spread over many webhooks.
fn lists(c: &mut Criterion) {
    let mut world = World::new();
    for _ in 0..HISTORY / ITEMS {
        let outcomes = world.announce(WEBHOOKS).into_iter().map(|delivery| match delivery.1.as_u128() % DEAD_OF {
            0 => Settled { decision: Decision::Dead(DeadReason::Exhausted), ..delivered(delivery) },
            _ => delivered(delivery),
        });
        world.running.handle.tell(ToSettle::Settled(outcomes.collect()));
    }
    world.sync();
    let one = Wanted::all([WebhookNo(7)]);
    let all = Wanted::all((0..WEBHOOKS).map(WebhookNo).collect::<Vec<_>>());
    let failed = |wanted: &Wanted| Wanted { status: Some(DeliveryStatus::Failed), ..wanted.clone() };
    let half = EventId::from_u128(u128::from(HISTORY / 2));
    let old = Wanted { before: DeliveryId { event: half, webhook: WebhookNo(0) }, ..all.clone() };
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
            b.iter(|| assert_eq!(world.running.records.deliveries(wanted, rows).unwrap().rows.len(), rows));
        });
    }
    group.finish();
    assert!(world.running.stop());
}

criterion_group!(benches, flushes, policy, lists);
criterion_main!(benches);
