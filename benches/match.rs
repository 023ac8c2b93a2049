//! Measures the registry: lookups for an event, changes, and the start.

#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a benchmark that fails has nothing to say")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hooktide::filter::{EventFields, Filter};
use hooktide::handoff::{SettleHandle, Shards};
use hooktide::model::{EventPattern, Timestamp};
use hooktide::outbound::profile::Profiles;
use hooktide::outbound::{Endpoint, SigningKeys, WebhookSettings};
use hooktide::registry::{RegistryOptions, RegistryThread, SourceSetup, start};
use hooktide::runtime::{Clock, Metrics, Random};
use hooktide::signature::SigningKey;
use hooktide::storage::RealDisk;
use hyper::http::HeaderValue;
use hyper::http::uri::PathAndQuery;
use serde_json::json;

/// One webhook in sixteen matches the published type. The others match types of their own.
fn draft(n: usize) -> WebhookSettings {
    let pattern = match n % 16 {
        0 if n < 256 => "order.*".to_owned(),
        _ => format!("type{n}.created"),
    };
    let endpoint = Endpoint {
        url: "https://example.com/hook".into(),
        tls: true,
        host: "example.com".into(),
        port: 443,
        authority: HeaderValue::from_static("example.com"),
        target: PathAndQuery::from_static("/hook"),
        subject: None,
    };
    let keys = SigningKeys { current: Arc::new(SigningKey::generate()), previous: Vec::new() };
    WebhookSettings {
        events: vec![EventPattern::try_new(&pattern).expect("a pattern")],
        ..WebhookSettings::new("default".into(), endpoint, keys)
    }
}

fn open(dir: &Path) -> RegistryThread {
    let (shards, _) = Shards::channels(1);
    let (settle, _, _) = SettleHandle::channel();
    start(RegistryOptions {
        dir,
        disk: Arc::new(RealDisk),
        access: hooktide::registry::FileAccess::default(),
        sources: SourceSetup::default(),
        event_types: hooktide::registry::catalogue::CatalogueSetup::default(),
        profiles: Profiles::default(),
        clock: Clock::system(Timestamp::default()),
        random: Random::system(),
        shards,
        settle,
        metrics: Metrics::new().expect("metrics"),
    })
    .expect("a registry")
}

/// One concurrent client per webhook, at most a thousand, like an import.
fn create(running: &RegistryThread, range: std::ops::Range<usize>) {
    create_all(running, range, draft);
}

fn create_all(running: &RegistryThread, range: std::ops::Range<usize>, draft: fn(usize) -> WebhookSettings) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let all: Vec<_> = range.collect();
        for part in all.chunks(1_000) {
            let mut tasks = tokio::task::JoinSet::new();
            for n in part {
                let (writer, draft) = (running.writer.clone(), draft(*n));
                tasks.spawn(async move { writer.create(draft).await.expect("created") });
            }
            tasks.join_all().await;
        }
    });
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn matching(c: &mut Criterion) {
    let mut group = c.benchmark_group("match");
    let dir = tempfile::tempdir().expect("a folder");
    let running = open(dir.path());
    let mut made = 0;
    for webhooks in [10, 1_000, 100_000] {
        create(&running, made..webhooks);
        made = webhooks;
        let registry = running.shared.load_full();
        group.bench_function(format!("one of {webhooks} webhooks, exact"), |b| {
            b.iter(|| {
                registry.matching(
                    black_box(&EventFields {
                        tenant: "default",
                        event_type: "type9.created",
                        ..EventFields::default()
                    }),
                    NOW,
                )
            });
        });
        group.bench_function(format!("up to 16 of {webhooks} webhooks, prefix"), |b| {
            b.iter(|| {
                registry.matching(
                    black_box(&EventFields {
                        tenant: "default",
                        event_type: "order.created",
                        ..EventFields::default()
                    }),
                    NOW,
                )
            });
        });
    }
    group.finish();
    running.stop().expect("a clean end");

    let mut group = c.benchmark_group("start");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    group.bench_function("with 100000 webhooks", |b| {
        b.iter_batched(|| (), |()| open(dir.path()).stop().expect("a clean end"), BatchSize::PerIteration);
    });
    group.finish();
}

/// Webhooks of many tenants. Three per tenant match `order.created`, one of these with a filter; the others match types
/// of their own.
fn of_tenant(n: usize) -> WebhookSettings {
    let (tenant, place) = (n / PER_TENANT, n % PER_TENANT);
    let pattern = match place {
        0 => "order.created".to_owned(),
        1 => "order.*".to_owned(),
        2 => "*".to_owned(),
        _ => format!("type{place}.created"),
    };
    let filter = json!({"conditions": {"operator": "and", "rules": [
        {"field": "total", "operator": "greater_than", "value": 1000},
        {"field": "customer.tier", "operator": "equals", "value": "gold"}]}});
    WebhookSettings {
        tenant: format!("tenant{tenant}").into(),
        events: vec![EventPattern::try_new(&pattern).expect("a pattern")],
        filters: (place == 1).then(|| Arc::new(Filter::compile(&filter).expect("a filter"))),
        ..draft(n)
    }
}

const TENANTS: usize = 1_000;
const PER_TENANT: usize = 100;

/// An order of 1 KiB. The values that the filter reads are before and after the other members.
fn order() -> Vec<u8> {
    let item = |n: usize| json!({"sku": format!("sku-{n:06}"), "name": "A thing that was ordered", "quantity": 2, "price": 12.5});
    let mut items = Vec::new();
    loop {
        let order =
            json!({"customer": {"id": 4711, "tier": "gold"}, "items": items, "status": "paid", "total": 1234.5});
        let text = serde_json::to_vec(&order).expect("JSON");
        if text.len() >= 1024 {
            return text;
        }
        items.push(item(items.len()));
    }
}

fn matching_with_a_filter(c: &mut Criterion) {
    let mut group = c.benchmark_group("match");
    let dir = tempfile::tempdir().expect("a folder");
    let running = open(dir.path());
    create_all(&running, 0..TENANTS * PER_TENANT, of_tenant);
    let (registry, data) = (running.shared.load_full(), order());
    let tenants: Vec<_> = (0..TENANTS).map(|n| format!("tenant{n}")).collect();
    // One variant uses another tenant for each event, as in practice; one always the same tenant. The difference is the
    // cost of memory access.
    for (name, step) in [("one by a filter of two rules on 1 KiB", 7), ("the same tenant each time", 0)] {
        let mut next = 0;
        group.bench_function(format!("3 of 100000 webhooks in 1000 tenants, {name}"), |b| {
            b.iter(|| {
                next = (next + step) % TENANTS;
                let event_fields = EventFields {
                    tenant: &tenants[next],
                    event_type: "order.created",
                    data: &data,
                    ..EventFields::default()
                };
                let found = registry.matching(black_box(&event_fields), NOW);
                assert_eq!(found.len(), 3);
            });
        });
    }
    group.finish();
    drop(registry);
    running.stop().expect("a clean end");
}

fn creating(c: &mut Criterion) {
    let mut group = c.benchmark_group("create");
    group.sample_size(10).throughput(Throughput::Elements(2_000));
    let dir = tempfile::tempdir().expect("a folder");
    let running = open(dir.path());
    group.bench_function("2000 webhooks, each durable", |b| b.iter(|| create(&running, 0..2_000)));
    group.finish();
    running.stop().expect("a clean end");
}

criterion_group!(benches, matching, matching_with_a_filter, creating);
criterion_main!(benches);
