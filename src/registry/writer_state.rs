//! The decisions of the registry's one writer: what a change comes to, which rows it writes, and who must hear of it.
//!
//! A [`WriterState`] owns its state and does no I/O. Its thread ([`super::thread`]) hands it what happened and the time, and carries
//! out what it says.

use std::sync::Arc;

use super::access::FileAccess;
use super::audit::{Actor, AuditRecord, change_of};
use super::change::{Answer, Change, ChangeError, Outcome, Reply, Request};
use super::compile::{self, webhook_record};
use super::profiles::fitted;
use super::snapshot::Registry;
use super::source_setup::SourceSetup;
use crate::handoff::{DisableReason, Noted};
use crate::model::{DeadReason, Timestamp, WebhookId, WebhookNo, WebhookStatus};
use crate::outbound::profile::Profiles;
use crate::outbound::{Webhook, WebhookSettings};
use crate::runtime::Random;
use crate::storage::registry::{RegistryStore, RegistryStoreError, RemovedWebhook as Removed, Row};

/// See the module.
pub(super) struct WriterState {
    /// The snapshot in force.
    pub(super) current: Arc<Registry>,
    pub(super) access: FileAccess,
    /// The id of the newest entry of the audit log.
    pub(super) last_audit: u128,
    pub(super) sources: SourceSetup,
    pub(super) profiles: Profiles,
    pub(super) random: Random,
    /// The time of the step under way.
    pub(super) now: Timestamp,
    /// The batch whose rows are being written.
    pub(super) under_way: Option<UnderWay>,
}

/// What happened.
pub(super) enum Input {
    /// These changes are asked for. No batch is under way.
    Requests(Vec<Request>),
    /// The rows of [`Output::Write`] are durable.
    Written,
    /// None of them was written.
    Refused(ChangeError),
}

/// What is to be done.
pub(super) enum Output {
    /// Write these rows in one durable transaction, then say what became of it.
    Write(Vec<Row>),
    /// Put the snapshot in force, then tell who must know, then answer.
    Done(Done),
    /// Answer these requests with the reason why nothing was changed.
    Refuse(Vec<Reply>, ChangeError),
}

/// What a batch came to. To be told in the order of the fields.
pub(super) struct Done {
    pub(super) snapshot: Arc<Registry>,
    /// Webhooks that the shards must hear of.
    pub(super) changed: Vec<WebhookNo>,
    /// Webhooks whose deliveries are settle's to end.
    pub(super) abandon: Vec<(WebhookNo, DeadReason)>,
    /// What settle must note of webhooks.
    pub(super) noted: Vec<(WebhookNo, Noted)>,
    pub(super) answers: Vec<(Reply, Outcome)>,
}

/// A batch whose rows are being written.
pub(super) struct UnderWay {
    next: Registry,
    batch: Batch,
    answers: Vec<(Reply, Outcome)>,
}

/// What a batch comes to, before it is durable.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    /// Whose change is being applied.
    pub(super) actor: Option<Actor>,
    pub(super) notes: Vec<(Option<Actor>, AuditRecord)>,
    /// Those that the shards must hear of.
    changed: Vec<WebhookNo>,
    abandon: Vec<(WebhookNo, DeadReason)>,
    noted: Vec<(WebhookNo, Noted)>,
}

impl WriterState {
    /// One step at this time of the wall clock.
    pub(super) fn step(&mut self, now: Timestamp, input: Input) -> Output {
        self.now = now;
        match input {
            Input::Requests(requests) => {
                let mut under_way = self.decide(requests);
                let rows = std::mem::take(&mut under_way.batch.rows);
                if rows.is_empty() {
                    return self.end(under_way);
                }
                self.under_way = Some(under_way);
                Output::Write(rows)
            }
            Input::Written => match self.under_way.take() {
                Some(under_way) => self.end(under_way),
                None => Output::Refuse(Vec::new(), ChangeError::Stopped),
            },
            Input::Refused(refusal) => {
                let answers = self.under_way.take().map_or_else(Vec::new, |under_way| under_way.answers);
                Output::Refuse(answers.into_iter().map(|(reply, _)| reply).collect(), refusal)
            }
        }
    }

    fn decide(&mut self, requests: Vec<Request>) -> UnderWay {
        let mut batch = Batch::default();
        let mut answers = Vec::with_capacity(requests.len());
        let mut next = Registry::clone(&self.current);
        for Request { change, actor, reply } in requests {
            batch.actor = actor;
            let outcome = match change {
                Change::Source(change) => Outcome::Source(self.apply_source(change, &mut next, &mut batch)),
                Change::EventType(change) => Outcome::EventType(self.apply_event_type(change, &mut next, &mut batch)),
                Change::KeyOrTenant(change) => Outcome::Access(self.apply_access(change, &mut next, &mut batch)),
                Change::Audit(query) => Outcome::Audit(query),
                change => Outcome::Webhook(self.apply(change, &mut next, &mut batch)),
            };
            answers.push((reply, outcome));
        }
        let notes = std::mem::take(&mut batch.notes);
        batch.rows.extend(self.entries(notes).into_iter().map(Row::Audit));
        UnderWay { next, batch, answers }
    }

    fn end(&mut self, under_way: UnderWay) -> Output {
        let UnderWay { next, batch: Batch { changed, abandon, noted, .. }, answers } = under_way;
        self.current = Arc::new(next);
        Output::Done(Done { snapshot: Arc::clone(&self.current), changed, abandon, noted, answers })
    }

    /// What the store holds, with what the configuration adds: after a full disk only the file itself says what it holds.
    pub(super) fn reload(&mut self, store: &mut dyn RegistryStore) -> Result<Arc<Registry>, RegistryStoreError> {
        let mut registry = compile::load(store, &self.sources, &self.profiles)?;
        registry.set_access(&self.access);
        registry.profiles = self.profiles.clone();
        registry.sources.take_files(&self.current.sources);
        registry.event_types.take_files(&self.current.event_types);
        self.current = Arc::new(registry);
        Ok(Arc::clone(&self.current))
    }

    fn apply(&mut self, change: Change, next: &mut Registry, batch: &mut Batch) -> Answer {
        match change {
            Change::Create(settings) => {
                next.check_uid(&settings, None)?;
                let now = self.now;
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
                let (tenant, removed_at) = (Arc::clone(&old.tenant), self.now);
                let removed = Arc::new(Removed { no, id: old.id, tenant, removed_at });
                batch.note_webhook("webhook.deleted", &old, Vec::new());
                next.bury(Arc::clone(&removed));
                batch.rows.push(Row::Remove(removed));
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
                if next.set_event_types(&setup, self.now) {
                    batch.note(AuditRecord::reloaded(vec!["event_types".into()]));
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
        let now = self.now;
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
}

impl Batch {
    /// The webhook's shard is to hear of its change.
    pub(super) fn tell(&mut self, no: WebhookNo) {
        self.changed.push(no);
    }

    pub(super) fn put(&mut self, next: &mut Registry, webhook: Webhook) -> Arc<Webhook> {
        let webhook = Arc::new(webhook);
        next.put(Arc::clone(&webhook));
        self.rows.push(Row::Webhook(Box::new(webhook_record(&webhook))));
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
