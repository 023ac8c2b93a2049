//! Measures dispatch: its parts, and a shard that delivers 10,000 events to receivers that respond at once.

#![expect(clippy::expect_used, reason = "a bench that cannot start has nothing to measure")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, bounded};

use hooktide::config;
use hooktide::dispatch::breaker::CircuitBreaker;
use hooktide::dispatch::queue::{LaneKind, Queue, QueueEntry};
use hooktide::dispatch::{DispatchSetup, Ports, ShardThreads, WebhookDirectory, start};
use hooktide::handoff::{
    AttemptOutcome, AttemptRequest, EventArrival, RetryDecision, SettleHandle, Shards, ToSettle, ToShard, Transport,
};
use hooktide::model::{Decision, EventId, RateLimit, RetryPolicy, Timestamp, WebhookId, WebhookNo};
use hooktide::outbound::{Endpoint, Event, SigningKeys, Webhook, WebhookSettings};
use hooktide::runtime::{Clock, MemoryBudget, Metrics, TokenBucket};
use hooktide::signature::SigningKey;

const EVENTS: usize = 10_000;
const BATCH: usize = 64;

fn parts(c: &mut Criterion) {
    let clock = Clock::system(Timestamp::from_millis(0));
    let now = clock.instant();
    let memory = MemoryBudget::new(1 << 30);
    let event = event(1, &memory, &clock);
    c.bench_function("queue push and pop", |b| {
        let mut queue = Queue::default();
        for _ in 0..100 {
            queue.push(LaneKind::Main, QueueEntry::arrived(&event, true));
        }
        b.iter(|| {
            queue.push(LaneKind::Main, QueueEntry::arrived(&event, true));
            queue.pop()
        });
    });
    c.bench_function("bucket ask and take", |b| {
        let (mut bucket, limit) = (TokenBucket::default(), RateLimit { per_second: 1e6, burst: 1_000 });
        b.iter(|| {
            let at = bucket.ready_at(black_box(&limit), now);
            bucket.take(&limit, now);
            at
        });
    });
    c.bench_function("breaker attempt", |b| {
        let (mut breaker, settings) = (CircuitBreaker::default(), breaker());
        b.iter(|| {
            let admits = breaker.admits(black_box(now));
            let probe = breaker.begin();
            breaker.end(true, probe, now, &settings);
            admits
        });
    });
}

fn shard(c: &mut Criterion) {
    let mut group = c.benchmark_group("shard moves 10,000 events");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
    for webhooks in [16, 100_000] {
        let bench = ShardBench::new(webhooks);
        group.bench_function(format!("to {webhooks} webhooks"), |b| b.iter(|| bench.deliver_all()));
        bench.end();
    }
    group.finish();
}

/// A shard with its channels and input.
struct ShardBench {
    shards: Shards,
    messages: Receiver<ToSettle>,
    running: ShardThreads,
    arrivals: Vec<Vec<EventArrival>>,
}

impl ShardBench {
    fn new(webhooks: u32) -> Self {
        let clock = Clock::system(Timestamp::from_millis(0));
        let memory = MemoryBudget::new(1 << 30);
        let (settle, messages, _wakeup) = SettleHandle::channel();
        let (body_requests, _) = bounded(1);
        let setup = DispatchSetup {
            webhooks: Arc::new(WebhookTable((0..webhooks).map(webhook).collect())),
            decide: |_, _, _, _, _, _, _| RetryDecision {
                decision: Decision::Delivered,
                pause_webhook_until: None,
                disable: false,
            },
            delivery: config::DeliveryDefaults {
                retry_policy: RetryPolicy::Schedule(Arc::new([])),
                timeout: Duration::from_secs(30),
                max_in_flight: 8,
            },
            breaker: breaker(),
            clock: clock.clone(),
            metrics: Metrics::new().expect("the figures have names of their own"),
            memory: Arc::clone(&memory),
            last_event: EventId::MIN,
            endpoint_states: Arc::default(),
        };
        let ports = Ports { settle, body_requests };
        let (shards, inboxes) = Shards::channels(1);
        let running = start(&setup, &ports, inboxes, move |_| InstantTransport(clock.clone())).expect("a thread");
        let clock = Clock::system(Timestamp::from_millis(0));
        let arrivals: Vec<_> = (0..EVENTS)
            .map(|n| EventArrival {
                event: event(n as u128 + 1, &memory, &clock),
                // Spread like the values of a hash.
                webhooks: [WebhookNo((n as u32).wrapping_mul(2_654_435_761) % webhooks)].into_iter().collect(),
            })
            .collect();
        Self { shards, messages, running, arrivals: arrivals.chunks(BATCH).map(<[_]>::to_vec).collect() }
    }

    fn deliver_all(&self) {
        for arrivals in &self.arrivals {
            self.shards.send(0, ToShard::Arrivals(arrivals.clone()));
        }
        let mut settled = 0;
        while settled < EVENTS {
            if let Ok(ToSettle::Settled(list)) = self.messages.recv() {
                settled += list.len();
            }
        }
    }

    fn end(mut self) {
        self.running.stop(Duration::ZERO);
        self.running.join().expect("no shard panics");
    }
}

struct InstantTransport(Clock);

impl Transport for InstantTransport {
    async fn deliver(&self, _: AttemptRequest<'_>) -> AttemptOutcome {
        AttemptOutcome {
            result: Ok(()),
            http_status: Some(200),
            retry_after: None,
            response: Box::default(),
            latency: Duration::ZERO,
            sent_at: Some(self.0.instant()),
        }
    }
}

struct WebhookTable(Vec<Arc<Webhook>>);

impl WebhookDirectory for WebhookTable {
    fn webhook(&self, no: WebhookNo) -> Option<Arc<Webhook>> {
        self.0.get(no.0 as usize).cloned()
    }
}

fn event(n: u128, memory: &Arc<MemoryBudget>, clock: &Clock) -> Arc<Event> {
    Arc::new(Event {
        id: EventId::from_u128(n),
        head: Bytes::from_static(&[0; 128]),
        body: Bytes::from_static(&[0; 1_024]),
        committed_at: clock.instant(),
        lease: memory.lease(1_024),
    })
}

fn breaker() -> config::Breaker {
    config::Breaker {
        window: 50,
        failure_ratio: 0.5,
        min_attempts: 10,
        open: Duration::from_secs(30),
        open_max: Duration::from_secs(600),
        close_after: 2,
        disable_after: Duration::from_secs(432_000),
    }
}

fn webhook(no: u32) -> Arc<Webhook> {
    let endpoint = Endpoint {
        url: "http://127.0.0.1/".into(),
        tls: false,
        host: "127.0.0.1".into(),
        port: 80,
        authority: http::HeaderValue::from_static("127.0.0.1"),
        target: http::uri::PathAndQuery::from_static("/"),
        subject: None,
    };
    let keys = SigningKeys { current: Arc::new(SigningKey::generate()), previous: Vec::new() };
    Arc::new(Webhook {
        no: WebhookNo(no),
        id: WebhookId::from_u128(u128::from(no)),
        settings: WebhookSettings::new("default".into(), endpoint, keys),
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
        version: 1,
        address_version: 1,
    })
}

criterion_group!(benches, parts, shard);
criterion_main!(benches);
