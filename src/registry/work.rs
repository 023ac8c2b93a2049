//! The one thread that changes the registry. What arrives while it writes gathers, and goes in the next transaction.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc;

use super::Shared;
use super::access::FileAccess;
use super::audit::{Actor, Note, change_of};
use super::change::{Answer, Change, ChangeError, Outcome, Request};
use super::profiles::fitted;
use super::snapshot::{Registry, Removed};
use super::source_setup::SourceSetup;
use super::store::{Row, Store, StoreError};
use crate::handoff::{Command, DisableReason, Noted, SettleHandle, Shards, ToSettle, ToShard};
use crate::limits::REGISTRY_BATCH;
use crate::model::{DeadReason, WebhookId, WebhookNo, WebhookStatus};
use crate::outbound::profile::Profiles;
use crate::outbound::{Webhook, WebhookSettings};
use crate::runtime::{Clock, Metrics, Random};

/// All that the thread has.
pub(super) struct Work {
    pub(super) inbox: mpsc::Receiver<Request>,
    pub(super) store: Store,
    pub(super) shared: Shared,
    pub(super) access: FileAccess,
    /// The id of the newest entry of the audit log.
    pub(super) last_audit: u128,
    pub(super) sources: SourceSetup,
    pub(super) profiles: Profiles,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) shards: Shards,
    pub(super) settle: SettleHandle,
    pub(super) metrics: Arc<Metrics>,
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

impl Work {
    /// Until [`Change::Stop`], or nobody is left to ask.
    pub(super) fn run(mut self) -> Result<(), StoreError> {
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
                if next.set_event_types(&setup, self.clock.now()) {
                    batch.note(Note::reloaded(vec!["event_types".into()]));
                }
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

/// The webhook, if it is there and of this version.
pub(super) fn current(next: &Registry, no: WebhookNo, version: Option<u64>) -> Result<Arc<Webhook>, ChangeError> {
    let old = next.webhook(no).ok_or(ChangeError::NotFound)?;
    if version.is_some_and(|version| version != old.version) {
        return Err(ChangeError::Changed);
    }
    Ok(Arc::clone(old))
}
