//! The way to change the registry: asks the one thread that does, and waits for its answer.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::access::FileAccess;
use super::audit::Actor;
use super::change::{Change, ChangeError, Reply, Request};
use super::compile;
use super::source_setup::SourceSetup;
use super::writer_loop::WriterThread;
use super::writer_state::WriterState;
use crate::handoff::{DisableReason, SettleHandle, Shards};
use crate::limits::REGISTRY_QUEUE;
use crate::model::WebhookNo;
use crate::outbound::profile::Profiles;
use crate::outbound::{Webhook, WebhookSettings};
use crate::registry::catalogue;
use crate::runtime::{Clock, Metrics, Random};
use crate::storage::Disk;
use crate::storage::registry::{RedbRegistry, RegistryStore, RegistryStoreError};

/// What the registry needs to start.
#[derive(Debug)]
pub struct Start<'a> {
    /// The data folder.
    pub dir: &'a Path,
    /// Where it is.
    pub disk: Arc<dyn Disk>,
    /// Keys and tenants of the configuration, and the first-start key.
    pub access: FileAccess,
    /// The sources of the configuration, and what those of registry.redb are built with.
    pub sources: SourceSetup,
    /// The event types of the configuration.
    pub event_types: catalogue::Setup,
    /// The forms of deliveries that webhooks name.
    pub profiles: Profiles,
    /// For the times of changes.
    pub clock: Clock,
    /// For ids.
    pub random: Random,
    /// Told of changes.
    pub shards: Shards,
    /// Told of what is to be abandoned.
    pub settle: SettleHandle,
    /// Of which `webhooks_active` is the registry's.
    pub metrics: Arc<Metrics>,
}

/// Reads registry.redb (made if it is not there) and starts the thread.
pub fn start(start: Start<'_>) -> Result<Running, RegistryStoreError> {
    let mut store = RedbRegistry::open(start.dir, start.disk)?;
    let mut registry = compile::load(&mut store, &start.sources, &start.profiles)?;
    registry.set_access(&start.access);
    registry.profiles = start.profiles.clone();
    registry.set_sources(&start.sources, start.clock.now());
    registry.set_event_types(&start.event_types, start.clock.now());
    start.metrics.webhooks_active.set(registry.active() as i64);
    let shared: Shared = Arc::new(ArcSwap::from_pointee(registry));
    let (to, inbox) = mpsc::channel(REGISTRY_QUEUE);
    let work = WriterState {
        current: shared.load_full(),
        access: start.access,
        last_audit: store.last_audit()?,
        sources: start.sources,
        profiles: start.profiles,
        random: start.random,
        now: start.clock.now(),
        under_way: None,
    };
    let writer = WriterThread {
        work,
        inbox,
        store: Box::new(store),
        shared: Arc::clone(&shared),
        clock: start.clock,
        shards: start.shards,
        settle: start.settle,
        metrics: start.metrics,
    };
    let thread = thread::Builder::new().name("registry".into()).spawn(move || writer.run())?;
    Ok(Running { shared, writer: Writer { to, actor: None }, thread })
}

/// A registry that runs.
#[derive(Debug)]
pub struct Running {
    /// The snapshot.
    pub shared: Shared,
    /// The way to change it.
    pub writer: Writer,
    thread: JoinHandle<Result<(), RegistryStoreError>>,
}

impl Running {
    /// Whether the thread is there; it ends by itself only when registry.redb cannot be written any more, and then the
    /// process must end too: [`Self::stop`] says why.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Lets the thread do what was sent before, and waits for its end.
    pub fn stop(self) -> Result<(), RegistryStoreError> {
        let stop = Request { change: Change::Stop, actor: None, reply: Reply::Nobody };
        // On a thread of its own, as the caller may be a runtime's, which may not block on a channel. A writer that has ended
        // reads nothing more.
        thread::scope(|scope| scope.spawn(|| drop(self.writer.to.blocking_send(stop))).join()).unwrap_or_default();
        match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The way to the thread, for whoever changes something.
#[derive(Debug, Clone)]
pub struct Writer {
    /// tokio's channel: when its receiver goes, so do the requests in it, and whoever waits for an answer hears of it.
    pub(super) to: mpsc::Sender<Request>,
    /// Who changes something, for the audit log; `None`: the server itself.
    pub(super) actor: Option<Actor>,
}

impl Writer {
    /// Makes a webhook.
    pub async fn create(&self, settings: WebhookSettings) -> Result<Arc<Webhook>, ChangeError> {
        self.ask(Change::Create(Box::new(settings))).await?.ok_or(ChangeError::Stopped)
    }

    /// Gives a webhook of this version other settings.
    pub async fn replace(
        &self,
        no: WebhookNo,
        version: u64,
        settings: WebhookSettings,
    ) -> Result<Arc<Webhook>, ChangeError> {
        self.ask(Change::Replace { no, version, settings: Box::new(settings) }).await?.ok_or(ChangeError::Stopped)
    }

    /// Removes a webhook: of this version only, if one is given.
    pub async fn remove(&self, no: WebhookNo, version: Option<u64>) -> Result<(), ChangeError> {
        self.ask(Change::Remove { no, version }).await.map(drop)
    }

    /// Sets a webhook's status to failed. Never waits; `false`: there was no room, so try again at the next occasion.
    #[must_use]
    pub fn disable(&self, no: WebhookNo, reason: DisableReason) -> bool {
        self.to.try_send(Request { change: Change::Disable { no, reason }, actor: None, reply: Reply::Nobody }).is_ok()
    }

    pub(super) async fn ask(&self, change: Change) -> Result<Option<Arc<Webhook>>, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.send(change, Reply::Webhook(reply))?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }

    pub(super) fn send(&self, change: Change, reply: Reply) -> Result<(), ChangeError> {
        self.to.try_send(Request { change, actor: self.actor.clone(), reply }).map_err(|e| match e {
            TrySendError::Full(_) => ChangeError::Overloaded,
            TrySendError::Closed(_) => ChangeError::Stopped,
        })
    }
}
