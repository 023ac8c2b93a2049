//! Every stage, built in the order in which each needs the one before, and stopped in the order of the data.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::adapters::{AdapterParts, Answering, build};
use super::callbacks::Failures;
use super::keys::{AdminKey, access, first_key};
use super::operational::Courier;
use super::{Setup, declare};
use crate::admit::Health;
use crate::api::routes;
use crate::auth::SharedAccess;
use crate::commit;
use crate::config::Config;
use crate::dispatch;
use crate::handoff::{SettleHandle, Shards, ToShard};
use crate::http::{self, Listeners, ManageThreads};
use crate::outbound::profile::Profiles;
use crate::outbound::{Guard, SharedGuard};
use crate::registry::{self, FileAccess, Shared, SourceSetup, catalogue};
use crate::runtime::{Clock, MemoryBudget, Metrics, Random};
use crate::send::{self, Client, ClientSetup};
use crate::service::Service;
use crate::service::apply::Declared;
use crate::settle;
use crate::storage::delivery::{self, RedbDeliveryStore, StoreOptions};
use crate::storage::{Disk, ReadLog, RealDisk};

/// A server that runs.
pub(super) struct Server {
    config: Config,
    clock: Clock,
    addresses: Vec<SocketAddr>,
    admin_address: Option<SocketAddr>,
    admin_key: Option<AdminKey>,
    service: Arc<Service>,
    health: Arc<Health>,
    guard: SharedGuard,
    tokens: SharedAccess,
    failed: Arc<Failures>,
    listeners: http::Running,
    manage: ManageThreads,
    courier: Courier,
    commit: commit::Running,
    shards: dispatch::Running,
    settle: settle::Running,
    registry: registry::Running,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// Anything of the operating system's.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The data folder.
    #[error("the data folder {path}: {source}")]
    DataDir {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two servers on one folder.
    #[error("another server has the data folder {path} open")]
    InUse {
        /// Which.
        path: std::path::PathBuf,
    },
    /// state.redb or the history.
    #[error(transparent)]
    State(#[from] settle::OpenError),
    /// The log.
    #[error("the log: {0}")]
    Log(#[from] commit::OpenError),
    /// registry.redb or a key file.
    #[error("the registry: {0}")]
    Registry(#[from] registry::RegistryStoreError),
    /// admin.key.
    #[error("the admin key: {0}")]
    AdminKey(#[from] registry::KeyFileError),
    /// `egress.ca_file`.
    #[error("egress.ca_file: {0}")]
    Tls(#[from] send::TlsError),
    /// A listening address.
    #[error(transparent)]
    Bind(#[from] http::BindError),
    /// The table of routes.
    #[error("the routes: {0}")]
    Routes(#[from] http::router::RouteError),
    /// Two figures of one name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl StartError {
    /// state.redb is the first file that is opened and locked.
    fn of_state(error: delivery::OpenError, dir: &Path) -> Self {
        if error.is_in_use() { Self::InUse { path: dir.to_owned() } } else { Self::State(error.into()) }
    }
}

/// The stages that are there before anything runs.
pub(super) struct Foundation {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Clock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) shards: Shards,
    pub(super) settle: SettleHandle,
}

impl Server {
    /// Opens everything, recovers, starts the threads, and serves.
    pub(super) fn start(setup: Setup) -> Result<Self, StartError> {
        let config = &setup.config;
        let dir = config.server.data_dir.clone();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        disk.create_dir(&dir).map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
        let listeners = http::bind(&config.server)?;
        let tls = send::tls_config(config.egress.ca_file.as_deref())?;
        let metrics = Metrics::new()?;

        let Recovered { state, log, clock } = recover(config, &disk)?;

        let (shards, inboxes) = Shards::channels(config.dispatch.shards);
        let (settle, messages, bell) = SettleHandle::channel();
        let memory = MemoryBudget::new(config.dispatch.memory_bytes);
        let foundation = Foundation { disk, clock, metrics, memory, shards, settle };

        let admin_key = first_key(config)?;
        let registry_setup = RegistrySetup::of(&setup, admin_key.as_ref(), listeners.addresses());
        let registry = foundation.registry(&config.server.data_dir, registry_setup)?;
        let (metrics, memory) = (Arc::clone(&foundation.metrics), Arc::clone(&foundation.memory));
        let commit = log.start(foundation.settle.clone(), foundation.shards.clone(), metrics, memory)?;
        let failed = Arc::new(Failures::default());
        let (state, rung) = foundation.state(state, (messages, bell), &dir, &registry, &commit, &failed)?;
        let guard: SharedGuard = Arc::new(ArcSwap::from_pointee(guard(config, &listeners)));
        let client = ClientSetup { guard: Arc::clone(&guard), tls: Arc::clone(&tls), clock: foundation.clock.clone() };
        let dispatch = foundation.dispatch(config, &registry, &commit, inboxes, client)?;
        commit.retain(Arc::new(settle::SettleNeeds::new(state.handle.clone(), state.records.clone())));

        let health = foundation.health(&dir, &state, &commit, &failed);
        let (router, manage) = (Arc::new(routes::router()?), ManageThreads::start()?);
        let (addresses, admin_address) = (listeners.addresses().to_vec(), listeners.admin_address());
        let tokens: SharedAccess = Arc::new(ArcSwap::new(setup.access));
        let Answering { service, ingest, admit } = build(AdapterParts {
            config,
            foundation: &foundation,
            registry: &registry,
            state: &state,
            commit: &commit,
            health: &health,
            guard: &guard,
            tls,
            tokens: &tokens,
            router,
            manage: &manage,
        });
        let listeners = listeners.serve(&admit)?;
        let outbox = (state.records.clone(), state.handle.clone());
        let courier = Courier::start(ingest, foundation.clock.clone(), outbox, rung)?;
        health.started();
        foundation.log_ready(&state, &registry);
        Ok(Self {
            config: setup.config,
            clock: foundation.clock,
            addresses,
            admin_address,
            admin_key,
            service,
            health,
            guard,
            tokens,
            failed,
            listeners,
            manage,
            courier,
            commit,
            shards: dispatch,
            settle: state,
            registry,
        })
    }

    /// What is in force.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Where it listens.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where management listens, if that is elsewhere.
    pub(super) fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The key of the first start, if one is in force.
    pub(super) fn admin_key(&self) -> Option<&AdminKey> {
        self.admin_key.as_ref()
    }

    /// Turns when the log is poisoned.
    pub(super) fn poisoned(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.commit.poisoned()
    }

    /// What has failed for good, if anything.
    pub(super) fn failure(&self) -> Option<String> {
        if self.shards.has_ended() {
            self.failed.end_dispatch();
            return Some("a dispatch thread ended".to_owned());
        }
        if !self.registry.is_running() {
            return Some("the registry cannot be written".to_owned());
        }
        let log = self.commit.poison().reason().map(|reason| format!("the log: {reason}"));
        log.or_else(|| self.failed.state().map(|reason| format!("the state: {reason}")))
    }

    /// Puts egress rules, keys, profiles, sources and event types of another configuration in force.
    pub(super) async fn apply(&self, setup: &Setup) -> Result<(), registry::ChangeError> {
        let own = self.addresses.iter().copied().chain(self.admin_address);
        self.guard.store(Arc::new(Guard::new(&setup.config.egress, own)));
        self.tokens.store(Arc::clone(&setup.access));
        let registry_setup = RegistrySetup::of(setup, self.admin_key.as_ref(), &self.addresses);
        let writer = self.registry.writer.by_file();
        writer.set_access(registry_setup.access).await?;
        writer.set_profiles(registry_setup.profiles).await?;
        writer.set_sources(registry_setup.sources).await?;
        writer.set_event_types(registry_setup.event_types).await
    }

    /// Makes the webhooks that the file of `apply` declares, if there is one.
    pub(super) async fn declare(&self, declared: Option<&Declared>) {
        if let Some(declared) = declared {
            declare::run(&self.service, declared).await;
        }
    }

    /// Stops in the order of the data: listeners, commit, shards, registry, settle, log. Whether all of it was clean.
    pub(super) fn stop(self) -> bool {
        let Self {
            config, clock, health, listeners, manage, courier, mut commit, mut shards, settle, registry, ..
        } = self;
        let deadline = clock.instant() + config.server.drain;
        let left = || deadline.saturating_duration_since(clock.instant());
        tracing::info!(within_seconds = left().as_secs(), "stopping");
        health.drains();
        // Deliveries go on while requests are still being answered.
        listeners.stop(left());
        listeners.join();
        // What clients began and did not wait for is completed.
        manage.stop(left);
        courier.stop();
        commit.drain();
        shards.stop(left());
        let mut clean = true;
        if let Err(error) = shards.join() {
            tracing::error!(%error, "stopping");
            clean = false;
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

/// What the registry takes from the configuration.
struct RegistrySetup {
    access: FileAccess,
    sources: SourceSetup,
    event_types: catalogue::Setup,
    profiles: Profiles,
}

impl RegistrySetup {
    /// As configured, for a server that has this first key and listens on these addresses.
    fn of(setup: &Setup, admin_key: Option<&AdminKey>, addresses: &[SocketAddr]) -> Self {
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

/// State and log, with everything acknowledged earlier known again; nothing runs yet.
struct Recovered {
    state: settle::Opened,
    log: commit::OpenedLog,
    clock: Clock,
}

fn recover(config: &Config, disk: &Arc<dyn Disk>) -> Result<Recovered, StartError> {
    let dir = &config.server.data_dir;
    // The state first: it knows where the scheduling clock and the ids of the last run were.
    let store = RedbDeliveryStore::open(StoreOptions {
        disk: Arc::clone(disk),
        dir: dir.clone(),
        two_phase_commit: config.log.two_phase_commit,
        history_retention: config.history.retention,
    });
    let store = store.map_err(|error| StartError::of_state(error, dir))?;
    let mut state = settle::open(Box::new(store), settle_options(config))?;
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
    Ok(Recovered { state, log, clock })
}

impl Foundation {
    fn registry(
        &self,
        dir: &Path,
        registry_setup: RegistrySetup,
    ) -> Result<registry::Running, registry::RegistryStoreError> {
        let RegistrySetup { access, sources, event_types, profiles } = registry_setup;
        registry::start(registry::Start {
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
        registry: &registry::Running,
        commit: &commit::Running,
        inboxes: Vec<tokio::sync::mpsc::Receiver<ToShard>>,
        client: ClientSetup,
    ) -> io::Result<dispatch::Running> {
        let setup = dispatch::Setup {
            webhooks: Shared::clone(&registry.shared),
            decide: settle::decide,
            delivery: config.delivery.clone(),
            breaker: config.breaker.clone(),
            clock: self.clock.clone(),
            metrics: Arc::clone(&self.metrics),
            memory: Arc::clone(&self.memory),
            // No submission can have come yet.
            last_event: ReadLog::last(&*commit.log()),
        };
        let ports = dispatch::Ports { settle: self.settle.clone(), recall: commit.recall() };
        dispatch::start(&setup, &ports, inboxes, move |_| Client::new(client.clone()))
    }
}

fn settle_options(config: &Config) -> settle::Options {
    settle::Options {
        dead_letter_retention: config.dead_letters.retention,
        disable_after: config.breaker.disable_after,
    }
}

/// The rules for where deliveries may go: never to this server itself.
fn guard(config: &Config, listeners: &Listeners) -> Guard {
    Guard::new(&config.egress, listeners.addresses().iter().copied().chain(listeners.admin_address()))
}
