//! The handle that changes the registry: it sends changes to the writer thread and waits for the results.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::access::FileAccess;
use super::audit::Actor;
use super::change::{ChangeError, ChangeReply, ChangeRequest, RegistryChange};
use super::compile;
use super::source_setup::SourceSetup;
use super::stored_response::ResponseRenderer;
use super::versions::VersionCounter;
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
pub struct RegistryOptions<'a> {
    /// The data folder.
    pub dir: &'a Path,
    /// The disk with the data folder.
    pub disk: Arc<dyn Disk>,
    /// The keys and tenants of the configuration, and the first-start key.
    pub access: FileAccess,
    /// The sources of the configuration, and the defaults for all sources.
    pub sources: SourceSetup,
    /// The event types of the configuration.
    pub event_types: catalogue::CatalogueSetup,
    /// The profiles that webhooks can name.
    pub profiles: Profiles,
    /// Gives the times of changes.
    pub clock: Clock,
    /// Makes ids.
    pub random: Random,
    /// Receive the numbers of changed webhooks.
    pub shards: Shards,
    /// Receives the webhooks whose deliveries end, and their status changes.
    pub settle: SettleHandle,
    /// The registry sets the metric `webhooks_active`.
    pub metrics: Arc<Metrics>,
}

/// Reads registry.redb, which is created if it does not exist, and starts the writer thread.
pub fn start(start: RegistryOptions<'_>) -> Result<RegistryThread, RegistryStoreError> {
    let (writer_thread, shared, writer) = open(start)?;
    let thread = thread::Builder::new().name("registry".into()).spawn(move || writer_thread.run())?;
    Ok(RegistryThread { shared, writer, thread })
}

/// Builds everything except the thread.
pub(super) fn open(start: RegistryOptions<'_>) -> Result<(WriterThread, Shared, Writer), RegistryStoreError> {
    let mut store = RedbRegistry::open(start.dir, start.disk)?;
    let mut registry = compile::load(&mut store, &start.sources, &start.profiles)?;
    registry.set_access(&start.access);
    registry.profiles = start.profiles.clone();
    registry.set_sources(&start.sources, start.clock.now());
    registry.set_event_types(&start.event_types, start.clock.now());
    start.metrics.webhooks_active.set(registry.active() as i64);
    let shared: Shared = Arc::new(ArcSwap::from_pointee(registry));
    let (to, inbox) = mpsc::channel(REGISTRY_QUEUE);
    let current = shared.load_full();
    let state = WriterState {
        versions: VersionCounter::load(&store, &current)?,
        current,
        access: start.access,
        last_audit: store.last_audit()?,
        sources: start.sources,
        profiles: start.profiles,
        random: start.random,
        now: start.clock.now(),
        unwritten: None,
    };
    let writer_thread = WriterThread {
        state,
        inbox,
        store: Box::new(store),
        shared: Arc::clone(&shared),
        clock: start.clock,
        shards: start.shards,
        settle: start.settle,
        metrics: start.metrics,
    };
    Ok((writer_thread, shared, Writer { to, actor: None, response: None }))
}

/// A running registry.
#[derive(Debug)]
pub struct RegistryThread {
    /// The current snapshot.
    pub shared: Shared,
    /// The handle that changes the registry.
    pub writer: Writer,
    thread: JoinHandle<Result<(), RegistryStoreError>>,
}

impl RegistryThread {
    /// Whether the writer thread runs. The thread ends by itself only when registry.redb can no longer be written. The
    /// process must end then too; [`Self::stop`] returns the reason.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Lets the thread apply all changes that were sent before, and waits for its end.
    pub fn stop(self) -> Result<(), RegistryStoreError> {
        let stop =
            ChangeRequest { change: RegistryChange::Stop, actor: None, response: None, reply: ChangeReply::Discard };
        // The caller may be a thread of an async runtime, which must not block on a channel; so another thread sends
        // the request. A writer that has ended reads no more requests.
        thread::scope(|scope| scope.spawn(|| drop(self.writer.to.blocking_send(stop))).join()).unwrap_or_default();
        match self.thread.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// A handle that sends changes to the writer thread.
#[derive(Debug, Clone)]
pub struct Writer {
    /// A tokio channel: when the receiver is dropped, the queued requests are dropped too, and their callers get an
    /// error.
    pub(super) to: mpsc::Sender<ChangeRequest>,
    /// The actor for the audit log; `None`: the server itself.
    pub(super) actor: Option<Actor>,
    /// The response to store with each change.
    pub(super) response: Option<ResponseRenderer>,
}

impl Writer {
    /// Creates a webhook.
    pub async fn create(&self, settings: WebhookSettings) -> Result<Arc<Webhook>, ChangeError> {
        self.request_webhook(RegistryChange::Create(Box::new(settings))).await?.ok_or(ChangeError::Stopped)
    }

    /// Replaces the settings of a webhook that has this version.
    pub async fn replace(
        &self,
        no: WebhookNo,
        version: u64,
        settings: WebhookSettings,
    ) -> Result<Arc<Webhook>, ChangeError> {
        let settings = Box::new(settings);
        let change = RegistryChange::Replace { no, version, settings, lifts_pause: false };
        self.request_webhook(change).await?.ok_or(ChangeError::Stopped)
    }

    /// Like [`Self::replace`]. Also ends the pause and the circuit breaker of the endpoint.
    pub async fn resume(
        &self,
        no: WebhookNo,
        version: u64,
        settings: WebhookSettings,
    ) -> Result<Arc<Webhook>, ChangeError> {
        let settings = Box::new(settings);
        let change = RegistryChange::Replace { no, version, settings, lifts_pause: true };
        self.request_webhook(change).await?.ok_or(ChangeError::Stopped)
    }

    /// Stores the response to a request that changes nothing, if the webhook has this version.
    pub async fn keep(&self, no: WebhookNo, version: u64) -> Result<Arc<Webhook>, ChangeError> {
        self.request_webhook(RegistryChange::Keep { no, version }).await?.ok_or(ChangeError::Stopped)
    }

    /// Removes a webhook, if it has this version or no version is given.
    pub async fn remove(&self, no: WebhookNo, version: Option<u64>) -> Result<(), ChangeError> {
        self.request_webhook(RegistryChange::Remove { no, version }).await.map(drop)
    }

    /// Sets the status of a webhook to failed. Never waits. Returns `false` if the queue is full or closed; the caller
    /// has to try again later.
    #[must_use]
    pub fn disable(&self, no: WebhookNo, reason: DisableReason) -> bool {
        self.to
            .try_send(ChangeRequest {
                change: RegistryChange::Disable { no, reason },
                actor: None,
                response: None,
                reply: ChangeReply::Discard,
            })
            .is_ok()
    }

    pub(super) async fn request_webhook(&self, change: RegistryChange) -> Result<Option<Arc<Webhook>>, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.send(change, ChangeReply::Webhook(reply))?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }

    pub(super) fn send(&self, change: RegistryChange, reply: ChangeReply) -> Result<(), ChangeError> {
        let (actor, response) = (self.actor.clone(), self.response.clone());
        self.to.try_send(ChangeRequest { change, actor, response, reply }).map_err(|e| match e {
            TrySendError::Full(_) => ChangeError::Overloaded,
            TrySendError::Closed(_) => ChangeError::Stopped,
        })
    }
}
