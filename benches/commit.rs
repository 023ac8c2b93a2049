//! Measures the commit stage: a group commit on a real disk by batch size and payload size, the packing of records, and
//! the dedup table.
//!
//! Run it with `cargo bench --bench commit`. In addition to criterion's results, the bench prints the bytes written per
//! event of each group commit: all writes of redb's backend, including headers and trees.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up should say so and stop")]

use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hooktide::commit::{Committer, DedupEntry, DedupTable, OpenLog, open};
use hooktide::config;
use hooktide::handoff::{AdmittedEvent, CommitReply, SettleHandle, Shards, Submission};
use hooktide::limits::INGEST_PERMITS;
use hooktide::model::{DedupKind, EventHead, EventId, MatchedWebhooks, NewEvent, Timestamp, WebhookNo};
use hooktide::runtime::{Clock, IngestPermit, IngestPermits, MemoryBudget, Metrics, Random};
use hooktide::storage::log::block::{BlockRecords, Packer};
use hooktide::storage::{Backend, Disk, FileSize, LogPosition, RealDisk};
use redb::StorageBackend;

/// The real disk, with a counter of the written bytes.
#[derive(Debug, Clone, Default)]
struct CountingDisk {
    written: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountingFile {
    inner: Backend,
    written: Arc<AtomicU64>,
}

impl StorageBackend for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.inner.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
}

impl Disk for CountingDisk {
    fn open(&self, path: &Path) -> io::Result<Backend> {
        let inner = RealDisk.open(path)?;
        Ok(Backend::new(CountingFile { inner, written: Arc::clone(&self.written) }))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        RealDisk.truncate(path, len)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn size(&self, path: &Path) -> io::Result<FileSize> {
        RealDisk.size(path)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
    fn reserve(&self, path: &Path, len: u64) -> io::Result<()> {
        RealDisk.reserve(path, len)
    }
}

fn group(disk: &CountingDisk, dir: &Path, two_phase_commit: bool) -> Committer {
    let config = config::Log {
        segment_bytes: 256 << 20,
        segment_age: Duration::from_secs(3_600),
        retention: Duration::from_secs(86_400),
        retention_bytes: u64::MAX,
        carry_bytes: u64::MAX,
        two_phase_commit,
    };
    let opened = open(OpenLog {
        disk: Arc::new(disk.clone()),
        dir,
        config: &config,
        dedup: &config::Dedup { ttl: Duration::from_secs(3_600), max_keys: 1_000_000 },
        clock: Clock::system(Timestamp::default()),
        random: Random::seeded(1),
        high_water: EventId::MIN,
    });
    // No one reads the announcements, because no event here has a webhook.
    let (settle, _, _) = SettleHandle::channel();
    opened.expect("a new folder").into_committer(settle, Shards::channels(1).0, Metrics::new().expect("names differ"))
}

fn head(payload: usize) -> Bytes {
    let mut head = Vec::new();
    let event = NewEvent {
        tenant: "default",
        event_type: "order.created",
        source: "api",
        correlation_id: "req_01HZX0000000000000000000",
        data_len: payload as u32,
        ..NewEvent::default()
    };
    event.encode(&[WebhookNo(7)], &mut head);
    head.into()
}

/// Requests of one event each, as on a busy server.
fn batch(events: usize, payload: usize, permit: &Arc<IngestPermit>, memory: &Arc<MemoryBudget>) -> Vec<Submission> {
    let (head, data) = (head(payload), Bytes::from(vec![b'x'; payload]));
    let submission = || Submission {
        events: [AdmittedEvent {
            head: head.clone(),
            body: data.clone(),
            dedup: None,
            nonce: None,
            matched: MatchedWebhooks::default(),
        }]
        .into(),
        permit: Arc::clone(permit),
        lease: memory.lease(payload),
        reply: CommitReply::direct().0,
    };
    (0..events).map(|_| submission()).collect()
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
fn group_commit(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let permit = runtime.block_on(IngestPermits::new(INGEST_PERMITS).acquire(1, 1)).expect("an empty door");
    let memory = MemoryBudget::new(usize::MAX);
    for (phases, two_phase) in [("one-phase", false), ("two-phase", true)] {
        let mut bench = c.benchmark_group(format!("commit/group/{phases}"));
        for (name, payload) in [("256B", 256), ("1KiB", 1 << 10), ("16KiB", 16 << 10)] {
            for events in [1, 16, 64, 256, 1_000] {
                let dir = tempfile::tempdir().expect("a folder");
                let disk = CountingDisk::default();
                let mut group = group(&disk, dir.path(), two_phase);
                let mut committed = 0;
                bench.throughput(Throughput::Elements(events as u64));
                bench.bench_function(format!("{name}/{events}"), |b| {
                    b.iter_batched(
                        || batch(events, payload, &permit, &memory),
                        |batch| {
                            committed += events as u64;
                            group.commit(batch);
                        },
                        BatchSize::PerIteration,
                    );
                });
                // Nothing is committed if a command line filter skips this benchmark.
                if let Some(bytes) = disk.written.load(Ordering::Relaxed).checked_div(committed) {
                    println!("commit/group/{phases}/{name}/{events}: {bytes} bytes written per event");
                }
            }
        }
        bench.finish();
    }
}

fn records(c: &mut Criterion) {
    let (head, data) = (head(1 << 10), vec![b'x'; 1 << 10]);
    let ids: Vec<_> = (1..=64u128).map(|n| LogPosition::of(EventId::from_u128(n << 70))).collect();
    let mut bench = c.benchmark_group("commit/record");
    bench.throughput(Throughput::Elements(64));
    let mut packer = Packer::default();
    bench.bench_function("pack 64 bodies of 1KiB", |b| {
        b.iter(|| packer.pack(ids.iter().map(|id| (*id, black_box(&data[..])))));
    });
    packer.pack(ids.iter().map(|id| (*id, &head[..])));
    bench.bench_function("read 64 heads in full", |b| {
        b.iter(|| {
            for (_, block) in packer.blocks() {
                for record in BlockRecords::of(black_box(block)).expect("packed here") {
                    let (_, head) = record.expect("packed here");
                    black_box(EventHead::parse(head).expect("encoded here"));
                }
            }
        });
    });
    bench.finish();
}

fn dedup(c: &mut Criterion) {
    let config = config::Dedup { ttl: Duration::from_secs(3_600), max_keys: 1_000_000 };
    let mut random = Random::seeded(1);
    let mut entry = |n: u64| DedupEntry {
        key: random.bits().to_le_bytes(),
        id: EventId::from_u128(u128::from(n)),
        fingerprint: n,
        at: Timestamp::default(),
    };
    let entries: Vec<_> = (0..2_000_000).map(&mut entry).collect();
    let mut table = DedupTable::new(&config, &mut Random::seeded(2));
    let mut bench = c.benchmark_group("commit/dedup");
    bench.throughput(Throughput::Elements(1));
    let mut next = entries.iter().cycle();
    entries.iter().take(config.max_keys).for_each(|entry| table.insert(*entry));
    bench.bench_function("insert into a full table", |b| {
        b.iter(|| table.insert(*next.next().expect("endless")));
    });
    let mut next = entries.iter().cycle();
    bench.bench_function("look up in a full table", |b| {
        b.iter(|| {
            let entry = next.next().expect("endless");
            black_box(table.lookup(&entry.key, DedupKind::Id, 0, Timestamp::default()))
        });
    });
    bench.bench_function("rebuild from 1,000,000 keys", |b| {
        let entries = &entries[..config.max_keys];
        b.iter(|| DedupTable::rebuild(&config, &mut Random::seeded(3), entries.iter().copied()).len());
    });
    bench.finish();
}

/// A start with a million events of 1 KiB in the log, each with a dedup key.
fn start(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let permit = runtime.block_on(IngestPermits::new(INGEST_PERMITS).acquire(1, 1)).expect("an empty door");
    let memory = MemoryBudget::new(usize::MAX);
    let mut random = Random::seeded(1);
    let dir = tempfile::tempdir().expect("a folder");
    let disk = CountingDisk::default();
    let clock = Clock::system(Timestamp::default());
    let mut writer = group(&disk, dir.path(), false);
    for _ in 0..1_000 {
        let mut batch = batch(1_000, 1 << 10, &permit, &memory);
        for event in batch.iter_mut().flat_map(|submission| &mut submission.events) {
            let key = random.bits().to_le_bytes();
            let mut head = Vec::new();
            let fields = NewEvent {
                tenant: "default",
                event_type: "order.created",
                source: "api",
                received_at: clock.now(),
                correlation_id: "req_01HZX0000000000000000000",
                dedup: Some((key, DedupKind::Id)),
                data_len: 1 << 10,
                ..NewEvent::default()
            };
            fields.encode(&[WebhookNo(7)], &mut head);
            event.head = head.into();
            event.dedup = Some((key, DedupKind::Id, 0));
        }
        writer.commit(batch);
    }
    drop(writer);
    let mut bench = c.benchmark_group("commit/start");
    bench.bench_function("1,000,000 events of 1KiB", |b| {
        b.iter(|| drop(black_box(group(&disk, dir.path(), false))));
    });
    bench.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = group_commit, records, dedup, start
}
criterion_main!(benches);
