//! A process: all stages of one start, without their threads.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use crate::commit::stepping::SteppedLog;
use crate::commit::{self, OpenLog, OpenedLog};
use crate::config;
use crate::dispatch::stepping::SteppedShard;
use crate::dispatch::{DispatchSetup, Ports};
use crate::filter::EventFields;
use crate::handoff::{BodyRequest, CommitHandle, SettleCommand, SettleHandle, Shards, Submission, ToSettle};
use crate::ingest::Ingest;
use crate::model::{EventId, RetryPolicy, Timestamp, WebhookNo, WebhookStatus, Webhooks};
use crate::outbound::profile::Profiles;
use crate::registry::stepping::SteppedRegistry;
use crate::registry::{FileAccess, RegistryOptions, Shared, SourceSetup, catalogue};
use crate::runtime::{Clock, IngestPermits, MemoryBudget, Metrics, Random};
use crate::settle::stepping::{LoadedSettle, SteppedSettle};
use crate::settle::{self, Callbacks, ReplayTargets, SettleDeps};
use crate::storage::sim::SimDisk;
use crate::storage::{Disk, ReadLog};

/// The number of shards.
pub(super) const SHARDS: usize = 2;
/// Bytes of bodies in memory: few, so that bodies are often read back from the log.
pub(super) const MEMORY_BYTES: usize = 24 << 10;
/// The schedule of retries, in seconds.
const RETRIES: [u64; 4] = [1, 5, 20, 60];
/// The timeout of an attempt.
const TIMEOUT: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);

/// The stages, and the messages between them.
pub(super) struct Node {
    pub(super) clock: Clock,
    pub(super) log: SteppedLog,
    pub(super) settle: SteppedSettle,
    pub(super) registry: SteppedRegistry,
    pub(super) shards: Vec<SteppedShard>,
    pub(super) ingest: Ingest<Shared, CommitHandle>,
    pub(super) submissions: Receiver<Box<Submission>>,
    pub(super) body_requests: Receiver<BodyRequest>,
    /// Messages that settle has not taken, in their order.
    pub(super) to_settle: VecDeque<ToSettle>,
    pub(super) settle_handle: SettleHandle,
    pub(super) memory: Arc<MemoryBudget>,
}

fn log_config() -> config::Log {
    config::Log {
        segment_bytes: 96 << 10,
        segment_age: Duration::from_secs(3_600),
        retention: DAY,
        retention_bytes: 400 << 10,
        carry_bytes: u64::MAX,
        two_phase_commit: true,
    }
}

impl Node {
    /// Starts as the server does. Fails if the disk does.
    pub(super) fn start(disk: &SimDisk, dir: &Path, wall: Timestamp, random: &mut Random) -> Result<Self, String> {
        let mut seeded = || Random::seeded(random.between(0..=u64::MAX));
        let files: Arc<dyn Disk> = Arc::new(disk.clone());
        let (mut loaded, opened, clock) = open_files(&files, dir, wall, seeded())?;
        let log = opened.log();
        let endpoint_states = Arc::new(loaded.opened.endpoint_states());
        loaded.recover(&*log).map_err(|error| error.to_string())?;
        let (shards, inboxes) = Shards::channels(SHARDS);
        let (settle_handle, messages, wakeup) = SettleHandle::channel();
        let metrics = Metrics::new().map_err(|error| error.to_string())?;
        let memory = MemoryBudget::new(MEMORY_BYTES);
        let registry = SteppedRegistry::open(RegistryOptions {
            dir,
            disk: files,
            access: FileAccess::default(),
            sources: SourceSetup::default(),
            event_types: catalogue::CatalogueSetup::default(),
            profiles: Profiles::default(),
            clock: clock.clone(),
            random: seeded(),
            shards: shards.clone(),
            settle: settle_handle.clone(),
            metrics: Arc::clone(&metrics),
        })
        .map_err(|error| error.to_string())?;
        let last_event = ReadLog::last(&*log);
        let ends = (settle_handle.clone(), shards.clone());
        let log =
            SteppedLog::new(opened, (log_config(), clock.clone()), ends, Arc::clone(&metrics), Arc::clone(&memory));
        let settle = loaded
            .start(SettleDeps {
                handle: settle_handle.clone(),
                messages,
                wakeup,
                shards,
                clock: clock.clone(),
                log: Arc::<crate::storage::RedbLog>::clone(&log.log),
                metrics: Arc::clone(&metrics),
                callbacks: callbacks(&registry, &clock),
            })
            .map_err(|error| error.to_string())?;
        let (to_reader, body_requests) = bounded(3);
        let ports = Ports { settle: settle_handle.clone(), body_requests: to_reader };
        let setup =
            DispatchSetup { endpoint_states, ..dispatch_setup(&registry, &clock, &metrics, &memory, last_event) };
        let shards = inboxes
            .into_iter()
            .enumerate()
            .map(|(index, inbox)| SteppedShard::new((index, SHARDS), setup.clone(), ports.clone(), inbox, seeded()));
        let shards = shards.collect();
        let (to_commit, submissions) = bounded(64);
        // There is no commit thread that could give signs of life.
        let (pings, _) = bounded(1);
        let (poison, handover) = (log.poison.clone(), Arc::clone(&log.handover));
        let handle = CommitHandle { to: to_commit, pings, poison, handover };
        let permits = Arc::new(IngestPermits::new(256 << 10));
        let ingest = Ingest::new(Shared::clone(&registry.shared), handle, permits, Arc::clone(&memory));
        let to_settle = VecDeque::new();
        Ok(Self {
            clock,
            log,
            settle,
            registry,
            shards,
            ingest,
            submissions,
            body_requests,
            to_settle,
            settle_handle,
            memory,
        })
    }

    /// Sends a command to settle.
    pub(super) fn command(&self, command: SettleCommand) {
        self.settle_handle.send(ToSettle::Command(command));
    }

    /// The webhooks of the snapshot.
    pub(super) fn webhook(&self, no: WebhookNo) -> Option<Arc<crate::outbound::Webhook>> {
        self.registry.shared.load().webhook(no).map(Arc::clone)
    }
}

/// Opens the state and the log, before recovery.
fn open_files(
    files: &Arc<dyn Disk>,
    dir: &Path,
    wall: Timestamp,
    random: Random,
) -> Result<(LoadedSettle, OpenedLog, Clock), String> {
    let options = settle::Options { dead_letter_retention: 1_000 * DAY, disable_after: 1_000 * DAY };
    let loaded = LoadedSettle::open(Arc::clone(files), dir, options).map_err(|error| error.to_string())?;
    let clock = Clock::simulated(wall, loaded.opened.steady());
    let opened = commit::open(OpenLog {
        disk: Arc::clone(files),
        dir,
        config: &log_config(),
        dedup: &config::Dedup { ttl: DAY, max_keys: 1_000_000 },
        clock: clock.clone(),
        random,
        high_water: loaded.opened.last_event(),
    })
    .map_err(|error| error.to_string())?;
    Ok((loaded, opened, clock))
}

/// The targets of replays: the webhooks of the snapshot.
struct SnapshotTargets(Shared, Clock);

impl ReplayTargets for SnapshotTargets {
    fn matching(&self, event_fields: &EventFields<'_>) -> Webhooks {
        self.0.load().matching(event_fields, self.1.now()).receivers
    }

    fn is_held(&self, webhook: WebhookNo) -> bool {
        let registry = self.0.load();
        registry
            .webhook(webhook)
            .is_some_and(|webhook| matches!(webhook.status, WebhookStatus::Paused | WebhookStatus::Inactive))
    }
}

/// The callbacks of settle, as the server has them, without operational events and without a ballast file.
fn callbacks(registry: &SteppedRegistry, clock: &Clock) -> Callbacks {
    let (shared, writer) = (Shared::clone(&registry.shared), registry.writer.clone());
    Callbacks {
        replay_targets: Arc::new(SnapshotTargets(Shared::clone(&shared), clock.clone())),
        abandon_reason: Arc::new(move |no| shared.load().abandon_reason(no)),
        disable: Arc::new(move |no, reason| writer.disable(no, reason)),
        compose_event: Arc::new(|_| None),
        notify_outbox: Arc::new(|| {}),
        disable_after: Arc::new(|_| None),
        ballast: Arc::new(|| {}),
        poisoned: Arc::new(|_| {}),
    }
}

fn dispatch_setup(
    registry: &SteppedRegistry,
    clock: &Clock,
    metrics: &Arc<Metrics>,
    memory: &Arc<MemoryBudget>,
    last_event: EventId,
) -> DispatchSetup {
    DispatchSetup {
        webhooks: Shared::clone(&registry.shared),
        decide: settle::decide,
        delivery: config::DeliveryDefaults {
            retry_policy: RetryPolicy::Schedule(RETRIES.map(Duration::from_secs).into()),
            timeout: TIMEOUT,
            max_in_flight: 6,
        },
        breaker: config::Breaker {
            window: 10,
            failure_ratio: 0.5,
            min_attempts: 5,
            open: Duration::from_secs(10),
            open_max: Duration::from_secs(60),
            close_after: 2,
            disable_after: 1_000 * DAY,
        },
        clock: clock.clone(),
        metrics: Arc::clone(metrics),
        memory: Arc::clone(memory),
        last_event,
        endpoint_states: Arc::default(),
    }
}
