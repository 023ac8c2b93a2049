//! The one thread that changes the registry. What arrives while it writes gathers, and goes in the next transaction.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use smallvec::SmallVec;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::access::{AccessAnswer, AccessChange, AccessError, FileAccess};
use super::audit::{Actor, AuditPage, AuditQuery, Note, change_of};
use super::event_type_change::{EventTypeAnswer, EventTypeChange, EventTypeError};
use super::profiles::fitted;
use super::snapshot::{Registry, Removed};
use super::source_change::{SourceAnswer, SourceChange, SourceError};
use super::source_setup::SourceSetup;
use super::store::{Row, Store, StoreError};
use super::webhook_change::SubscriptionChange;
use crate::catalogue;
use crate::dispatch::{Shards, ToShard};
use crate::limits::{REGISTRY_BATCH, REGISTRY_QUEUE, SUBSCRIPTIONS_MAX};
use crate::model::{DeadReason, Webhook, WebhookId, WebhookNo, WebhookSettings, WebhookStatus};
use crate::profile::Profiles;
use crate::runtime::{Clock, Disk, Metrics, Random};
use crate::settle::{self, Command, DisableReason, Noted, ToSettle};

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
    pub settle: settle::Handle,
    /// Of which `webhooks_active` is the registry's.
    pub metrics: Arc<Metrics>,
}

/// A registry that runs.
#[derive(Debug)]
pub struct Running {
    /// The snapshot.
    pub shared: Shared,
    /// The way to change it.
    pub writer: Writer,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Running {
    /// Whether the thread is there; it ends by itself only when registry.redb cannot be written any more, and then the
    /// process must end too: [`Self::stop`] says why.
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Lets the thread do what was sent before, and waits for its end.
    pub fn stop(self) -> Result<(), StoreError> {
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

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The webhook is not there any more.
    #[error("there is no such webhook")]
    NotFound,
    /// It is not of the version that the change was made from.
    #[error("the webhook was changed meanwhile")]
    Changed,
    /// Another webhook of the tenant, or a source, is found by this uid.
    #[error("another webhook or a source of the tenant is found by this uid")]
    UidTaken,
    /// The webhook has no such subscription.
    #[error("there is no such subscription")]
    SubscriptionNotFound,
    /// It has as many subscriptions as it may.
    #[error("the webhook has {SUBSCRIPTIONS_MAX} subscriptions, as many as it may")]
    TooManySubscriptions,
    /// Too many changes wait.
    #[error("too many changes wait for the disk")]
    Overloaded,
    /// There is no room.
    #[error("the disk is full")]
    DiskFull,
    /// registry.redb cannot be written, or the server is stopping.
    #[error("the registry takes no more changes")]
    Stopped,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) change: Change,
    pub(super) actor: Option<Actor>,
    pub(super) reply: Reply,
}

/// Who waits for the end of a change.
#[derive(Debug)]
pub(super) enum Reply {
    Nobody,
    Webhook(oneshot::Sender<Answer>),
    Source(oneshot::Sender<SourceAnswer>),
    EventType(oneshot::Sender<EventTypeAnswer>),
    Access(oneshot::Sender<AccessAnswer>),
    Audit(oneshot::Sender<Result<AuditPage, ChangeError>>),
}

/// What a change came to.
enum Outcome {
    Webhook(Answer),
    Source(SourceAnswer),
    EventType(EventTypeAnswer),
    Access(AccessAnswer),
    /// Is answered when the batch is written.
    Audit(Box<AuditQuery>),
}

#[derive(Debug)]
pub(super) enum Change {
    Create(Box<WebhookSettings>),
    Replace { no: WebhookNo, version: u64, settings: Box<WebhookSettings> },
    Remove { no: WebhookNo, version: Option<u64> },
    Disable { no: WebhookNo, reason: DisableReason },
    Subscription { no: WebhookNo, version: Option<u64>, change: SubscriptionChange },
    Access(Box<FileAccess>),
    KeyOrTenant(AccessChange),
    Audit(Box<AuditQuery>),
    Source(SourceChange),
    Sources(Box<SourceSetup>),
    Profiles(Profiles),
    EventType(EventTypeChange),
    EventTypes(Box<catalogue::Setup>),
    Stop,
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

/// Reads registry.redb (made if it is not there) and starts the thread.
pub fn start(start: Start<'_>) -> Result<Running, StoreError> {
    let mut store = Store::open(start.dir, start.disk)?;
    let mut registry = store.load(&start.sources, &start.profiles)?;
    registry.set_access(&start.access);
    registry.profiles = start.profiles.clone();
    registry.set_sources(&start.sources, start.clock.now());
    registry.set_event_types(&start.event_types, start.clock.now());
    start.metrics.webhooks_active.set(registry.active() as i64);
    let shared: Shared = Arc::new(ArcSwap::from_pointee(registry));
    let (to, inbox) = mpsc::channel(REGISTRY_QUEUE);
    let work = Work {
        inbox,
        last_audit: store.last_audit()?,
        store,
        shared: Arc::clone(&shared),
        access: start.access,
        sources: start.sources,
        profiles: start.profiles,
        clock: start.clock,
        random: start.random,
        shards: start.shards,
        settle: start.settle,
        metrics: start.metrics,
    };
    let thread = thread::Builder::new().name("registry".into()).spawn(move || work.run())?;
    Ok(Running { shared, writer: Writer { to, actor: None }, thread })
}

pub(super) struct Work {
    inbox: mpsc::Receiver<Request>,
    store: Store,
    shared: Shared,
    pub(super) access: FileAccess,
    /// The id of the newest entry of the audit log.
    pub(super) last_audit: u128,
    pub(super) sources: SourceSetup,
    pub(super) profiles: Profiles,
    pub(super) clock: Clock,
    pub(super) random: Random,
    shards: Shards,
    settle: settle::Handle,
    metrics: Arc<Metrics>,
}

/// What a batch comes to, before it is durable.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    /// Whose change is being applied.
    pub(super) actor: Option<Actor>,
    pub(super) notes: Vec<(Option<Actor>, Note)>,
    /// Those that the shards must hear of.
    changed: Vec<WebhookNo>,
    abandon: Vec<(WebhookNo, DeadReason)>,
    noted: Vec<(WebhookNo, Noted)>,
}

pub(super) type Answer = Result<Option<Arc<Webhook>>, ChangeError>;

impl Work {
    fn run(mut self) -> Result<(), StoreError> {
        let mut requests = Vec::new();
        while let Some(first) = self.inbox.blocking_recv() {
            requests.push(first);
            requests.extend(std::iter::from_fn(|| self.inbox.try_recv().ok()).take(REGISTRY_BATCH - 1));
            let stop = requests.iter().position(|request| matches!(request.change, Change::Stop));
            if let Some(at) = stop {
                requests.truncate(at);
            }
            self.work_off(&mut requests)?;
            if stop.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// One transaction for all, then the snapshot, then whoever must know, then the answers. An error ends the thread.
    fn work_off(&mut self, requests: &mut Vec<Request>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let mut answers: SmallVec<[_; 4]> = SmallVec::new();
        let written = self.reopened().and_then(|()| {
            let mut next = Registry::clone(&self.shared.load());
            for Request { change, actor, reply } in requests.drain(..) {
                batch.actor = actor;
                let outcome = match change {
                    Change::Source(change) => Outcome::Source(self.apply_source(change, &mut next, &mut batch)),
                    Change::EventType(change) => {
                        Outcome::EventType(self.apply_event_type(change, &mut next, &mut batch))
                    }
                    Change::KeyOrTenant(change) => Outcome::Access(self.apply_access(change, &mut next, &mut batch)),
                    Change::Audit(query) => Outcome::Audit(query),
                    change => Outcome::Webhook(self.apply(change, &mut next, &mut batch)),
                };
                answers.push((reply, outcome));
            }
            let notes = std::mem::take(&mut batch.notes);
            batch.rows.extend(self.entries(notes).into_iter().map(Row::Audit));
            if !batch.rows.is_empty() {
                self.store.write(&batch.rows)?;
            }
            self.metrics.webhooks_active.set(next.active() as i64);
            self.shared.store(Arc::new(next));
            Ok(())
        });
        if let Err(error) = written {
            let full = error.is_disk_full();
            tracing::error!(target: "hooktide::registry", %error, "changes were not written");
            let refusal = if full { ChangeError::DiskFull } else { ChangeError::Stopped };
            for reply in requests.drain(..).map(|r| r.reply).chain(answers.into_iter().map(|(reply, _)| reply)) {
                reply.refuse(refusal);
            }
            return if full { Ok(()) } else { Err(error) };
        }
        self.announce(&batch);
        for (reply, outcome) in answers {
            reply.give(outcome, &self.store);
        }
        Ok(())
    }

    /// After a full disk only the file itself says what it holds.
    fn reopened(&mut self) -> Result<(), StoreError> {
        if self.store.is_closed() {
            let mut registry = self.store.load(&self.sources, &self.profiles)?;
            registry.set_access(&self.access);
            registry.profiles = self.profiles.clone();
            registry.sources.take_files(&self.shared.load().sources);
            registry.event_types.take_files(&self.shared.load().event_types);
            self.shared.store(Arc::new(registry));
        }
        Ok(())
    }

    fn apply(&mut self, change: Change, next: &mut Registry, batch: &mut Batch) -> Answer {
        match change {
            Change::Create(settings) => {
                next.check_uid(&settings, None)?;
                let now = self.clock.now();
                let id = WebhookId::from_u128(self.random.ulid(now));
                let tenant = next.make_tenant(&settings.tenant);
                let settings = fitted(WebhookSettings { tenant, ..*settings }, &self.profiles);
                let no = next.next_no();
                let webhook = Webhook { no, id, settings, created_at: now, updated_at: now, version: 1 };
                batch.note_webhook("webhook.created", &webhook, Vec::new());
                Ok(Some(batch.put(next, webhook)))
            }
            Change::Replace { no, version, settings } => {
                let old = current(next, no, Some(version))?;
                next.check_uid(&settings, Some(&old))?;
                let settings = WebhookSettings { tenant: Arc::clone(&old.tenant), ..*settings };
                let webhook = self.changed(&old, fitted(settings, &self.profiles));
                if webhook.status == WebhookStatus::Failed && old.status != WebhookStatus::Failed {
                    batch.abandon.push((no, DeadReason::Disabled));
                }
                if old.status == WebhookStatus::Failed && webhook.status != WebhookStatus::Failed {
                    batch.noted.push((no, Noted::Resumed));
                }
                let (action, changed) = change_of(&old, &webhook);
                batch.note_webhook(action, &webhook, changed);
                batch.changed.push(no);
                Ok(Some(batch.put(next, webhook)))
            }
            Change::Remove { no, version } => {
                let old = current(next, no, version)?;
                let (tenant, removed_at) = (Arc::clone(&old.tenant), self.clock.now());
                let removed = Arc::new(Removed { no, id: old.id, tenant, removed_at });
                batch.note_webhook("webhook.deleted", &old, Vec::new());
                next.bury(Arc::clone(&removed));
                batch.rows.push(Row::Bury(removed));
                batch.changed.push(no);
                batch.abandon.push((no, DeadReason::Removed));
                batch.noted.push((no, Noted::Removed));
                Ok(None)
            }
            Change::Disable { no, reason } => self.disable(no, reason, next, batch),
            Change::Subscription { no, version, change } => self.apply_subscription((no, version), change, next, batch),
            Change::Access(access) => {
                self.apply_file_access(*access, next, batch);
                Ok(None)
            }
            Change::Sources(sources) => {
                self.apply_setup(*sources, next, batch);
                Ok(None)
            }
            Change::Profiles(profiles) => {
                self.apply_profiles(profiles, next, batch);
                Ok(None)
            }
            Change::EventTypes(setup) => {
                next.set_event_types(&setup, self.clock.now());
                Ok(None)
            }
            Change::Source(_) | Change::EventType(_) | Change::KeyOrTenant(_) | Change::Audit(_) | Change::Stop => {
                Ok(None)
            }
        }
    }

    fn disable(&self, no: WebhookNo, reason: DisableReason, next: &mut Registry, batch: &mut Batch) -> Answer {
        let old = current(next, no, None)?;
        if old.status == WebhookStatus::Failed {
            return Ok(None);
        }
        tracing::warn!(target: "hooktide::registry", webhook_id = %old.id, ?reason, "webhook disabled");
        let webhook = self.changed(&old, WebhookSettings { status: WebhookStatus::Failed, ..old.settings.clone() });
        batch.note_webhook("webhook.disabled", &webhook, vec!["status"]);
        batch.changed.push(no);
        batch.abandon.push((no, DeadReason::Disabled));
        batch.noted.push((no, Noted::Disabled(Some(reason))));
        Ok(Some(batch.put(next, webhook)))
    }

    /// The webhook with other settings.
    pub(super) fn changed(&self, old: &Webhook, mut settings: WebhookSettings) -> Webhook {
        let now = self.clock.now();
        // A secret that has ended is nowhere any more.
        settings.keys.previous = settings.keys.previous.filter(|(_, until)| now < *until);
        Webhook {
            no: old.no,
            id: old.id,
            settings,
            created_at: old.created_at,
            updated_at: now,
            version: old.version + 1,
        }
    }

    /// Tells the shards first: what they settle from then on is of the new status, what waited before is settle's to end.
    fn announce(&self, batch: &Batch) {
        for shard in 0..self.shards.count() {
            let here: SmallVec<_> = batch.changed.iter().copied().filter(|no| self.shards.of(*no) == shard).collect();
            if !here.is_empty() {
                self.shards.tell(shard, ToShard::Changed(here));
            }
        }
        for (webhook, reason) in &batch.abandon {
            self.settle.tell(ToSettle::Command(Command::Abandon { webhook: *webhook, reason: *reason }));
        }
        for (webhook, noted) in &batch.noted {
            self.settle.tell(ToSettle::Command(Command::Note { webhook: *webhook, noted: *noted }));
        }
    }
}

impl Batch {
    /// The webhook's shard is to hear of its change.
    pub(super) fn tell(&mut self, no: WebhookNo) {
        self.changed.push(no);
    }

    pub(super) fn put(&mut self, next: &mut Registry, webhook: Webhook) -> Arc<Webhook> {
        let webhook = Arc::new(webhook);
        next.put(Arc::clone(&webhook));
        self.rows.push(Row::Put(Arc::clone(&webhook)));
        webhook
    }
}

pub(super) fn current(next: &Registry, no: WebhookNo, version: Option<u64>) -> Result<Arc<Webhook>, ChangeError> {
    let old = next.webhook(no).ok_or(ChangeError::NotFound)?;
    if version.is_some_and(|version| version != old.version) {
        return Err(ChangeError::Changed);
    }
    Ok(Arc::clone(old))
}

impl Reply {
    /// Whoever asked may have hung up; the change is made all the same.
    fn give(self, outcome: Outcome, store: &Store) {
        match (self, outcome) {
            (Self::Access(reply), Outcome::Access(answer)) => drop(reply.send(answer)),
            (Self::Audit(reply), Outcome::Audit(query)) => {
                let page = store.audit(&query).map_err(|error| {
                    tracing::error!(target: "hooktide::registry", %error, "the audit log cannot be read");
                    ChangeError::Stopped
                });
                drop(reply.send(page));
            }
            (Self::Webhook(reply), Outcome::Webhook(answer)) => drop(reply.send(answer)),
            (Self::Source(reply), Outcome::Source(answer)) => drop(reply.send(answer)),
            (Self::EventType(reply), Outcome::EventType(answer)) => drop(reply.send(answer)),
            _ => {}
        }
    }

    fn refuse(self, refusal: ChangeError) {
        match self {
            Self::Nobody => {}
            Self::Webhook(reply) => drop(reply.send(Err(refusal))),
            Self::Source(reply) => drop(reply.send(Err(SourceError::Unavailable(refusal)))),
            Self::EventType(reply) => drop(reply.send(Err(EventTypeError::Unavailable(refusal)))),
            Self::Access(reply) => drop(reply.send(Err(AccessError::Unavailable(refusal)))),
            Self::Audit(reply) => drop(reply.send(Err(refusal))),
        }
    }
}
