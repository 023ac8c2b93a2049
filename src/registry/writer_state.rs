//! The decisions of the registry's writer: the result of each change, the rows to write, and the stages to inform.
//!
//! A [`WriterState`] does no I/O. The writer thread ([`super::writer_loop`]) passes it the input and the time, and
//! carries out its output.

use std::sync::Arc;

use super::access::FileAccess;
use super::audit::{Actor, AuditRecord, change_of};
use super::change::{ChangeError, ChangeOutcome, ChangeReply, ChangeRequest, RegistryChange, WebhookResult};
use super::compile::{self, webhook_record};
use super::profiles::with_current_profile;
use super::snapshot::Registry;
use super::source_setup::SourceSetup;
use super::versions::VersionCounter;
use crate::handoff::{DisableReason, StatusChange};
use crate::model::{DeadReason, Timestamp, WebhookId, WebhookNo, WebhookStatus};
use crate::outbound::profile::Profiles;
use crate::outbound::{Webhook, WebhookSettings};
use crate::runtime::Random;
use crate::storage::registry::{RegistryRow, RegistryStore, RegistryStoreError, RemovedWebhook as Removed};

/// The state of the writer between two steps.
pub(super) struct WriterState {
    /// The snapshot in force.
    pub(super) current: Arc<Registry>,
    pub(super) access: FileAccess,
    /// The id of the newest entry of the audit log.
    pub(super) last_audit: u128,
    pub(super) sources: SourceSetup,
    pub(super) profiles: Profiles,
    pub(super) random: Random,
    pub(super) versions: VersionCounter,
    /// The time of the current step.
    pub(super) now: Timestamp,
    /// The batch whose rows are being written.
    pub(super) unwritten: Option<UnwrittenBatch>,
}

/// The input of a step.
pub(super) enum WriterInput {
    /// Changes to apply. No batch is being written.
    Requests(Vec<ChangeRequest>),
    /// The rows of [`WriterOutput::Write`] are durable.
    Written,
    /// No row of [`WriterOutput::Write`] was written.
    Refused(ChangeError),
}

/// What the writer thread has to do after a step.
pub(super) enum WriterOutput {
    /// Write these rows in one durable transaction, then call the next step with the result.
    Write(Vec<RegistryRow>),
    /// Publish the snapshot, then inform shards and settle, then send the results.
    Publish(AppliedBatch),
    /// Send this error to the callers; nothing was changed.
    Refuse(Vec<ChangeReply>, ChangeError),
}

/// A durable batch, with the messages to send in the order of the fields.
pub(super) struct AppliedBatch {
    pub(super) snapshot: Arc<Registry>,
    /// Webhooks that changed, for the shards.
    pub(super) changed: Vec<WebhookNo>,
    /// Webhooks whose waiting deliveries settle ends, with the reason.
    pub(super) abandon: Vec<(WebhookNo, DeadReason)>,
    /// Status changes that settle records.
    pub(super) status_changes: Vec<(WebhookNo, StatusChange)>,
    pub(super) replies: Vec<(ChangeReply, ChangeOutcome)>,
}

/// A batch whose rows are not durable yet.
pub(super) struct UnwrittenBatch {
    next: Registry,
    batch: ChangeBatch,
    replies: Vec<(ChangeReply, ChangeOutcome)>,
}

/// What the changes of a batch produce, before it is durable.
#[derive(Default)]
pub(super) struct ChangeBatch {
    pub(super) rows: Vec<RegistryRow>,
    /// The actor of the change that is being applied.
    pub(super) actor: Option<Actor>,
    pub(super) audit_records: Vec<(Option<Actor>, AuditRecord)>,
    /// Webhooks that changed, for the shards.
    changed: Vec<WebhookNo>,
    abandon: Vec<(WebhookNo, DeadReason)>,
    status_changes: Vec<(WebhookNo, StatusChange)>,
}

impl WriterState {
    /// Makes one step, at this time of the wall clock.
    pub(super) fn step(&mut self, now: Timestamp, input: WriterInput) -> WriterOutput {
        self.now = now;
        match input {
            WriterInput::Requests(requests) => {
                let mut unwritten = self.decide(requests);
                let rows = std::mem::take(&mut unwritten.batch.rows);
                if rows.is_empty() {
                    return self.end(unwritten);
                }
                self.unwritten = Some(unwritten);
                WriterOutput::Write(rows)
            }
            WriterInput::Written => match self.unwritten.take() {
                Some(unwritten) => self.end(unwritten),
                None => WriterOutput::Refuse(Vec::new(), ChangeError::Stopped),
            },
            WriterInput::Refused(refusal) => {
                let replies = self.unwritten.take().map_or_else(Vec::new, |unwritten| unwritten.replies);
                WriterOutput::Refuse(replies.into_iter().map(|(reply, _)| reply).collect(), refusal)
            }
        }
    }

    fn decide(&mut self, requests: Vec<ChangeRequest>) -> UnwrittenBatch {
        let mut batch = ChangeBatch::default();
        let mut replies = Vec::with_capacity(requests.len());
        let mut next = Registry::clone(&self.current);
        for ChangeRequest { change, actor, response, reply } in requests {
            batch.actor = actor;
            let outcome = match change {
                RegistryChange::Source(change) => {
                    ChangeOutcome::Source(self.apply_source(change, &mut next, &mut batch))
                }
                RegistryChange::EventType(change) => {
                    ChangeOutcome::EventType(self.apply_event_type(change, &mut next, &mut batch))
                }
                RegistryChange::KeyOrTenant(change) => {
                    ChangeOutcome::Access(self.apply_access(change, &mut next, &mut batch))
                }
                RegistryChange::Audit(query) => ChangeOutcome::Audit(query),
                RegistryChange::StoredResponse(hash) => ChangeOutcome::StoredResponse(hash, self.now),
                change => ChangeOutcome::Webhook(self.apply(change, &mut next, &mut batch)),
            };
            if let Some(response) = response {
                self.store_response(response, &outcome, &mut batch);
            }
            replies.push((reply, outcome));
        }
        let records = std::mem::take(&mut batch.audit_records);
        batch.rows.extend(self.audit_entries(records).into_iter().map(RegistryRow::Audit));
        if !batch.rows.is_empty() {
            batch.rows.extend(self.versions.unwritten().map(RegistryRow::LastVersion));
        }
        UnwrittenBatch { next, batch, replies }
    }

    fn end(&mut self, unwritten: UnwrittenBatch) -> WriterOutput {
        let UnwrittenBatch { next, batch: ChangeBatch { changed, abandon, status_changes, .. }, replies } = unwritten;
        self.current = Arc::new(next);
        WriterOutput::Publish(AppliedBatch {
            snapshot: Arc::clone(&self.current),
            changed,
            abandon,
            status_changes,
            replies,
        })
    }

    /// Loads the snapshot from the store again and adds what the configuration declares. After a full disk only the
    /// file itself shows what was written.
    pub(super) fn reload(&mut self, store: &mut dyn RegistryStore) -> Result<Arc<Registry>, RegistryStoreError> {
        let mut registry = compile::load(store, &self.sources, &self.profiles)?;
        registry.set_access(&self.access);
        registry.profiles = self.profiles.clone();
        registry.sources.copy_files(&self.current.sources);
        registry.event_types.copy_files(&self.current.event_types);
        self.current = Arc::new(registry);
        Ok(Arc::clone(&self.current))
    }

    fn apply(&mut self, change: RegistryChange, next: &mut Registry, batch: &mut ChangeBatch) -> WebhookResult {
        match change {
            RegistryChange::Create(settings) => {
                next.check_uid(&settings, None)?;
                next.check_size(&settings, None)?;
                let (now, id) = (self.now, WebhookId::from_u128(self.random.ulid(self.now)));
                let tenant = next.ensure_tenant(&settings.tenant);
                let settings = with_current_profile(WebhookSettings { tenant, ..*settings }, &self.profiles);
                let no = next.next_no();
                let version = self.versions.next();
                let (created_at, updated_at, address_version) = (now, now, version);
                let webhook = Webhook { no, id, settings, created_at, updated_at, version, address_version };
                batch.audit_webhook("webhook.created", &webhook, Vec::new());
                Ok(Some(batch.put(next, webhook)))
            }
            RegistryChange::Replace { no, version, settings, lifts_pause } => {
                self.replace_webhook((no, version), *settings, lifts_pause, next, batch)
            }
            RegistryChange::Keep { no, version } => current(next, no, Some(version)).map(Some),
            RegistryChange::Remove { no, version } => {
                let old = current(next, no, version)?;
                let (tenant, removed_at) = (Arc::clone(&old.tenant), self.now);
                let removed = Arc::new(Removed { no, id: old.id, tenant, removed_at });
                batch.audit_webhook("webhook.deleted", &old, Vec::new());
                next.put_removed(Arc::clone(&removed));
                batch.rows.push(RegistryRow::RemovedWebhook(removed));
                batch.changed.push(no);
                batch.abandon.push((no, DeadReason::Removed));
                batch.status_changes.push((no, StatusChange::Removed));
                Ok(None)
            }
            RegistryChange::Disable { no, reason } => self.disable_webhook(no, reason, next, batch),
            RegistryChange::Subscription { no, version, change } => {
                self.apply_subscription((no, version), change, next, batch)
            }
            RegistryChange::Access(access) => {
                self.apply_file_access(*access, next, batch);
                Ok(None)
            }
            RegistryChange::Sources(sources) => {
                self.apply_setup(*sources, next, batch);
                Ok(None)
            }
            RegistryChange::Profiles(profiles) => {
                self.apply_profiles(profiles, next, batch);
                Ok(None)
            }
            RegistryChange::EventTypes(setup) => {
                if next.set_event_types(&setup, self.now) {
                    batch.audit(AuditRecord::reloaded(vec!["event_types".into()]));
                }
                Ok(None)
            }
            RegistryChange::Source(_)
            | RegistryChange::EventType(_)
            | RegistryChange::KeyOrTenant(_)
            | RegistryChange::Audit(_)
            | RegistryChange::StoredResponse(_)
            | RegistryChange::Stop => Ok(None),
        }
    }

    /// Replaces the settings of a webhook that has this version.
    fn replace_webhook(
        &mut self,
        (no, version): (WebhookNo, u64),
        settings: WebhookSettings,
        lifts_pause: bool,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> WebhookResult {
        let old = current(next, no, Some(version))?;
        next.check_uid(&settings, Some(&old))?;
        let settings = WebhookSettings { tenant: Arc::clone(&old.tenant), ..settings };
        next.check_size(&settings, Some(&old))?;
        let mut webhook = self.changed(&old, with_current_profile(settings, &self.profiles));
        if lifts_pause {
            webhook.address_version = webhook.version;
        }
        if webhook.status == WebhookStatus::Failed && old.status != WebhookStatus::Failed {
            batch.abandon.push((no, DeadReason::Disabled));
        }
        if old.status == WebhookStatus::Failed && webhook.status != WebhookStatus::Failed {
            batch.status_changes.push((no, StatusChange::Resumed));
        } else if restarts_attempts(&old, &webhook) {
            batch.status_changes.push((no, StatusChange::Restarted));
        }
        let (action, changed) = match change_of(&old, &webhook) {
            (_, changed) if changed.is_empty() && lifts_pause => ("webhook.resumed", changed),
            other => other,
        };
        batch.audit_webhook(action, &webhook, changed);
        batch.changed.push(no);
        Ok(Some(batch.put(next, webhook)))
    }

    fn disable_webhook(
        &mut self,
        no: WebhookNo,
        reason: DisableReason,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> WebhookResult {
        let old = current(next, no, None)?;
        if old.status == WebhookStatus::Failed {
            return Ok(None);
        }
        tracing::warn!(target: "hooktide::registry", webhook_id = %old.id, ?reason, "webhook disabled");
        let webhook = self.changed(&old, WebhookSettings { status: WebhookStatus::Failed, ..old.settings.clone() });
        batch.audit_webhook("webhook.disabled", &webhook, vec!["status"]);
        batch.changed.push(no);
        batch.abandon.push((no, DeadReason::Disabled));
        batch.status_changes.push((no, StatusChange::Disabled(Some(reason))));
        Ok(Some(batch.put(next, webhook)))
    }

    /// The webhook with other settings, the next version and the current time.
    pub(super) fn changed(&mut self, old: &Webhook, mut settings: WebhookSettings) -> Webhook {
        let now = self.now;
        // A previous secret is dropped when its time is over.
        settings.keys.previous.retain(|(_, until)| now < *until);
        let version = self.versions.next();
        let is_new_address = restarts_attempts(old, &settings);
        Webhook {
            no: old.no,
            id: old.id,
            settings,
            created_at: old.created_at,
            updated_at: now,
            version,
            address_version: if is_new_address { version } else { old.address_version },
        }
    }
}

impl ChangeBatch {
    /// Has the webhook's shard informed of the change.
    pub(super) fn notify_shard(&mut self, no: WebhookNo) {
        self.changed.push(no);
    }

    pub(super) fn put(&mut self, next: &mut Registry, webhook: Webhook) -> Arc<Webhook> {
        let webhook = Arc::new(webhook);
        next.put(Arc::clone(&webhook));
        self.rows.push(RegistryRow::Webhook(Box::new(webhook_record(&webhook))));
        webhook
    }
}

/// Whether attempts begin again with a change: the webhook is active again, or has another URL.
fn restarts_attempts(old: &WebhookSettings, new: &WebhookSettings) -> bool {
    let is_active = |webhook: &WebhookSettings| webhook.status == WebhookStatus::Active;
    (is_active(new) && !is_active(old)) || old.endpoint.url != new.endpoint.url
}

/// The webhook, if it exists and has this version.
pub(super) fn current(next: &Registry, no: WebhookNo, version: Option<u64>) -> Result<Arc<Webhook>, ChangeError> {
    let old = next.webhook(no).ok_or(ChangeError::NotFound)?;
    if version.is_some_and(|version| version != old.version) {
        return Err(ChangeError::Changed);
    }
    Ok(Arc::clone(old))
}
