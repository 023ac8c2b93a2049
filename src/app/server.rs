//! Builds the stages in the order of their dependencies, and stops them in the order of the data.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use super::adapters::{AdapterParts, RequestHandlers, build};
use super::callbacks::ThreadFailures;
use super::keys::{AdminKey, access, admin_key};
use super::operational_events::OutboxThread;
use super::start_error::StartError;
use super::transport::ShardTransport;
use super::watchdog;
use super::{CompiledConfig, apply_file, startup};
use crate::admit::ProcessHealth;
use crate::api::routes;
use crate::auth::SharedAccessRules;
use crate::bus::{EventBus, EventBusHandle};
use crate::commit;
use crate::config::Config;
use crate::dispatch;
use crate::handoff::{CommitHandle, SettleHandle, Shards, ToShard};
use crate::http::{self, ManagementThreads, PassedSockets};
use crate::outbound::profile::Profiles;
use crate::outbound::{EgressGuard, SharedEgressGuard};
use crate::registry::{self, FileAccess, Shared, SourceSetup, catalogue};
use crate::runtime::{Clock, MemoryBudget, Metrics, Random, count_panics};
use crate::send::{self, ClientSetup, DnsResolver};
use crate::service::Service;
use crate::service::apply::DeclarationFile;
use crate::settle;
use crate::storage::delivery::{RedbDeliveryStore, StoreOptions};
use crate::storage::{Disk, ReadLog, RealDisk};

/// A running server.
pub(super) struct RunningServer {
    config: Config,
    clock: Clock,
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    admin_key: Option<AdminKey>,
    service: Arc<Service>,
    health: Arc<ProcessHealth>,
    guard: SharedEgressGuard,
    dns: DnsResolver,
    bus: Option<EventBus>,
    tokens: SharedAccessRules,
    failed: Arc<ThreadFailures>,
    listeners: http::ListenerThreads,
    manage: ManagementThreads,
    outbox: OutboxThread,
    commit: commit::CommitThreads,
    shards: dispatch::ShardThreads,
    settle: settle::SettleThread,
    registry: registry::RegistryThread,
}

/// The parts that exist before the stages start, and that several stages use.
pub(super) struct SharedResources {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) shards: Shards,
    pub(super) settle: SettleHandle,
}

impl RunningServer {
    /// Opens all files, recovers, starts the threads, and serves requests.
    #[expect(clippy::too_many_lines, reason = "one line for each part of the server, in the order of their start")]
    pub(super) fn start(setup: CompiledConfig, sockets: PassedSockets) -> Result<Self, StartError> {
        let config = &setup.config;
        let dir = config.server.data_dir.clone();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        disk.create_dir(&dir).map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
        let listeners = http::bind(&config.server, sockets)?;
        let tls = send::tls_config(config.egress.ca_file.as_deref())?;
        let metrics = Metrics::new()?;
        count_panics(&metrics);
        let Recovered { state, endpoint_states, log, clock } = recover(config, &disk)?;
        let (shards, inboxes) = Shards::channels(config.dispatch.shards);
        let (settle, messages, wakeups) = SettleHandle::channel();
        let memory = MemoryBudget::new(config.dispatch.memory_bytes);
        let resources = SharedResources { disk, clock, metrics, memory, shards, settle };

        let admin_key = admin_key(config)?;
        let registry_setup = RegistrySetup::of(&setup, admin_key.as_ref(), listeners.addresses());
        let registry = resources.registry(&config.server.data_dir, registry_setup)?;
        let (metrics, memory) = (Arc::clone(&resources.metrics), Arc::clone(&resources.memory));
        let commit = log.start(resources.settle.clone(), resources.shards.clone(), metrics, memory)?;
        let failed = Arc::new(ThreadFailures::default());
        let (state, outbox_wakeups) =
            resources.start_settle(state, (messages, wakeups), &dir, &registry, &commit, &failed)?;
        let guard: SharedEgressGuard = Arc::new(ArcSwap::from_pointee(startup::guard(config, &listeners)));
        let client = ClientSetup { guard: Arc::clone(&guard), tls: Arc::clone(&tls), clock: resources.clock.clone() };
        let dns =
            DnsResolver::start(&config.egress.dns_servers, resources.clock.clone(), Arc::clone(&resources.metrics))?;
        let mut bus = setup.bus.as_ref().map(|bus| EventBus::start(Arc::clone(bus), &tls)).transpose()?;
        let bus_handle = bus.as_ref().map(EventBus::handle);
        let transports = (client, dns.clone(), bus_handle.clone());
        let dispatch = resources.dispatch(config, &registry, &commit, (inboxes, endpoint_states), transports)?;
        commit.start_retention(Arc::new(settle::SettleRetentionRefs::new(state.handle.clone(), state.records.clone())));

        let health = resources.health(&dir, &state, &commit, (&failed, bus_handle));
        let (router, manage) = (Arc::new(routes::router()?), ManagementThreads::start()?);
        let (addresses, admin_address) = (listeners.addresses().to_vec(), listeners.admin_address());
        let tokens: SharedAccessRules = Arc::new(ArcSwap::new(setup.access));
        let RequestHandlers { service, ingest, admit } = build(AdapterParts {
            config,
            resources: &resources,
            registry: &registry,
            state: &state,
            commit: &commit,
            health: &health,
            guard: &guard,
            tls,
            dns: dns.clone(),
            bus: setup.bus.clone(),
            tokens: &tokens,
            router,
            manage: &manage,
        });
        let listeners = listeners.serve(&admit)?;
        if let Some(bus) = &mut bus {
            bus.start_consuming(Shared::clone(&registry.shared), admit);
        }
        let outbox = (state.records.clone(), state.handle.clone());
        let outbox = OutboxThread::start(ingest, resources.clock.clone(), outbox, outbox_wakeups)?;
        watchdog::watch_stages(Arc::clone(&resources.metrics), commit.handle())?;
        health.started();
        resources.log_ready(&state, &registry);
        Ok(Self {
            config: setup.config,
            clock: resources.clock,
            addresses,
            admin_address,
            admin_key,
            service,
            health,
            guard,
            dns,
            bus,
            tokens,
            failed,
            listeners,
            manage,
            outbox,
            commit,
            shards: dispatch,
            settle: state,
            registry,
        })
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The addresses of the listeners.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the management listener, if there is a separate one.
    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Submits events to the commit thread.
    pub(super) fn commit(&self) -> CommitHandle {
        self.commit.handle()
    }

    /// The clock of the server.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The first-start key, if it is in force.
    pub(super) fn admin_key(&self) -> Option<&AdminKey> {
        self.admin_key.as_ref()
    }

    /// Changes when the log is poisoned.
    pub(super) fn poisoned(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.commit.poisoned()
    }

    /// A permanent failure, if there is one.
    pub(super) fn failure(&self) -> Option<String> {
        if self.shards.has_ended() {
            self.failed.set_dispatch_ended();
            return Some("a dispatch thread ended".to_owned());
        }
        if !self.registry.is_running() {
            return Some("the registry cannot be written".to_owned());
        }
        let log = self.commit.poison().reason().map(|reason| format!("the log: {reason}"));
        log.or_else(|| self.failed.state().map(|reason| format!("the state: {reason}")))
    }

    /// Puts egress rules, keys, tenants, profiles, sources and event types of another configuration in force.
    pub(super) async fn apply(&self, setup: &CompiledConfig) -> Result<(), registry::ChangeError> {
        let own = self.addresses.iter().copied().chain(self.admin_address);
        self.guard.store(Arc::new(EgressGuard::new(&setup.config.egress, own)));
        self.dns.set_servers(&setup.config.egress.dns_servers).await;
        self.tokens.store(Arc::clone(&setup.access));
        let registry_setup = RegistrySetup::of(setup, self.admin_key.as_ref(), &self.addresses);
        let writer = self.registry.writer.for_config_file();
        writer.set_access(registry_setup.access).await?;
        writer.set_profiles(registry_setup.profiles).await?;
        writer.set_sources(registry_setup.sources).await?;
        writer.set_event_types(registry_setup.event_types).await
    }

    /// Applies the declared webhooks, if the configuration names a file.
    pub(super) async fn apply_declared_webhooks(&self, declared: Option<&DeclarationFile>) {
        if let Some(declared) = declared {
            apply_file::run(&self.service, declared).await;
        }
    }

    /// Stops in the order of the data: listeners, commit, shards, registry, settle, log. Returns whether every part
    /// stopped without an error.
    pub(super) fn stop(self) -> bool {
        let Self { config, clock, health, listeners, manage, outbox, mut commit, mut shards, mut bus, .. } = self;
        let Self { settle, registry, .. } = self;
        let deadline = clock.instant() + config.server.drain;
        let left = || deadline.saturating_duration_since(clock.instant());
        tracing::info!(within_seconds = left().as_secs(), "stopping");
        health.start_draining();
        if let Some(bus) = &mut bus {
            bus.stop_consuming();
        }
        // Deliveries continue while the last requests are answered.
        listeners.stop(left());
        listeners.join();
        // Requests whose clients stopped waiting are completed.
        manage.stop(left);
        outbox.stop();
        commit.drain();
        shards.stop(left());
        let mut clean = true;
        if let Err(error) = shards.join() {
            tracing::error!(%error, "stopping");
            clean = false;
        }
        if let Some(bus) = bus {
            bus.stop();
        }
        if let Err(error) = registry.stop() {
            tracing::error!(%error, "stopping: the registry");
            clean = false;
        }
        clean &= settle.stop();
        if let Err(error) = commit.stop() {
            tracing::error!(%error, "stopping: the log");
            clean = false;
        }
        tracing::info!(clean, "stopped");
        clean
    }
}

/// The parts of the configuration that the registry takes.
struct RegistrySetup {
    access: FileAccess,
    sources: SourceSetup,
    event_types: catalogue::CatalogueSetup,
    profiles: Profiles,
}

impl RegistrySetup {
    /// The parts for a server with this first-start key and these addresses.
    fn of(setup: &CompiledConfig, admin_key: Option<&AdminKey>, addresses: &[SocketAddr]) -> Self {
        let config = &setup.config;
        Self {
            access: access(config, admin_key),
            sources: SourceSetup {
                public_url: config.server.public_url_at(addresses.first().copied()).into(),
                max_body_bytes: config.source_body_bytes,
                files: setup.sources.clone(),
            },
            event_types: setup.event_types.clone(),
            profiles: setup.profiles.clone(),
        }
    }
}

/// The recovered state and log, before any thread runs.
struct Recovered {
    state: settle::OpenedStore,
    endpoint_states: dispatch::EndpointsAtStart,
    log: commit::OpenedLog,
    clock: Clock,
}

fn recover(config: &Config, disk: &Arc<dyn Disk>) -> Result<Recovered, StartError> {
    let dir = &config.server.data_dir;
    // Opens the state first, because it has the scheduling clock and the last event id of the previous run.
    let store = RedbDeliveryStore::open(StoreOptions {
        disk: Arc::clone(disk),
        dir: dir.clone(),
        two_phase_commit: config.log.two_phase_commit,
        history_retention: config.history.retention,
    });
    let store = store.map_err(|error| StartError::of_state(error, dir))?;
    let mut state = settle::open(Box::new(store), startup::settle_options(config))?;
    let clock = Clock::system(state.steady());
    let log = commit::open(commit::OpenLog {
        disk: Arc::clone(disk),
        dir,
        config: &config.log,
        dedup: &config.dedup,
        clock: clock.clone(),
        random: Random::system(),
        high_water: state.last_event(),
    })?;
    state.recover(&*log.log())?;
    let endpoint_states = Arc::new(state.endpoint_states());
    Ok(Recovered { state, endpoint_states, log, clock })
}

impl SharedResources {
    fn registry(
        &self,
        dir: &Path,
        registry_setup: RegistrySetup,
    ) -> Result<registry::RegistryThread, registry::RegistryStoreError> {
        let RegistrySetup { access, sources, event_types, profiles } = registry_setup;
        registry::start(registry::RegistryOptions {
            dir,
            disk: Arc::clone(&self.disk),
            access,
            sources,
            event_types,
            profiles,
            clock: self.clock.clone(),
            random: Random::system(),
            shards: self.shards.clone(),
            settle: self.settle.clone(),
            metrics: Arc::clone(&self.metrics),
        })
    }

    fn dispatch(
        &self,
        config: &Config,
        registry: &registry::RegistryThread,
        commit: &commit::CommitThreads,
        (inboxes, endpoint_states): (Vec<mpsc::Receiver<ToShard>>, dispatch::EndpointsAtStart),
        (client, dns, bus): (ClientSetup, DnsResolver, Option<EventBusHandle>),
    ) -> io::Result<dispatch::ShardThreads> {
        let setup = dispatch::DispatchSetup {
            webhooks: Shared::clone(&registry.shared),
            decide: settle::decide,
            delivery: config.delivery.clone(),
            breaker: config.breaker.clone(),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            memory: Arc::clone(&self.memory),
            // No event has been submitted yet.
            last_event: ReadLog::last(&*commit.log()),
            endpoint_states,
        };
        let ports = dispatch::Ports { settle: self.settle.clone(), body_requests: commit.body_requests() };
        let transport = move |_| ShardTransport::new(client.clone(), dns.clone(), bus.clone());
        dispatch::start(&setup, &ports, inboxes, transport)
    }
}
