//! The audit log: builds its entries from changes, and reads them.
//!
//! The writer thread reads the log, because that thread owns the file. A page has some thousand rows at most, and few
//! callers may read the log.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::Registry;
use super::change::{ChangeError, ChangeReply, RegistryChange};
use super::writer::Writer;
use super::writer_state::{ChangeBatch, WriterState};
use crate::inbound::source::{ManagedBy, Source, SourceSettings};
use crate::model::{AuditId, Principal, SourceId, WebhookStatus};
use crate::outbound::tls::TlsSettings;
use crate::outbound::{Subscription, Webhook, WebhookSettings};
use crate::storage::registry::{AuditEntry, AuditPage, AuditQuery};

/// The actor of changes that no caller requested.
const SERVER: &str = "the server";

/// Who makes a change, and in which request.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    name: Arc<str>,
    request_id: Option<Arc<str>>,
}

impl Actor {
    pub(super) fn of(principal: &Principal) -> Self {
        Self { name: Arc::clone(&principal.name), request_id: principal.request_id.clone() }
    }
}

/// An audit entry without its id, time and actor.
#[derive(Debug)]
pub(super) struct AuditRecord {
    pub(super) action: &'static str,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) target: Box<str>,
    pub(super) target_name: Option<Box<str>>,
    pub(super) changed: Vec<Cow<'static, str>>,
}

impl AuditRecord {
    /// The record of a reload that changed these tables of the configuration.
    pub(super) fn reloaded(changed: Vec<Cow<'static, str>>) -> Self {
        let (action, target) = ("configuration.reloaded", "config.toml".into());
        Self { action, tenant: None, target, target_name: None, changed }
    }
}

impl ChangeBatch {
    /// The name of the actor whose change is being applied.
    pub(super) fn actor_name(&self) -> Arc<str> {
        self.actor.as_ref().map_or_else(|| SERVER.into(), |actor| Arc::clone(&actor.name))
    }

    /// Adds a record for the current actor.
    pub(super) fn audit(&mut self, record: AuditRecord) {
        self.audit_records.push((self.actor.clone(), record));
    }

    /// Adds a record about a webhook.
    pub(super) fn audit_webhook(&mut self, action: &'static str, webhook: &Webhook, changed: Vec<&'static str>) {
        self.audit(AuditRecord {
            action,
            tenant: Some(Arc::clone(&webhook.tenant)),
            target: webhook.id.to_string().into(),
            target_name: webhook.name.clone().or_else(|| webhook.uid.clone()),
            changed: changed.into_iter().map(Cow::Borrowed).collect(),
        });
    }

    /// Adds a record about a source.
    pub(super) fn audit_source(&mut self, action: &'static str, source: &Source, changed: Vec<Cow<'static, str>>) {
        self.audit(AuditRecord {
            action,
            tenant: Some(Arc::clone(&source.tenant)),
            target: source.id.to_string().into(),
            target_name: Some(source.name.clone()),
            changed,
        });
    }
}

impl Writer {
    /// A writer whose changes are recorded with this principal as their actor.
    #[must_use]
    pub fn on_behalf_of(&self, principal: &Principal) -> Self {
        Self { to: self.to.clone(), actor: Some(Actor::of(principal)), response: None }
    }

    /// A writer whose changes are recorded with the configuration file as their actor.
    #[must_use]
    pub fn for_config_file(&self) -> Self {
        let actor = Actor { name: "the configuration file".into(), request_id: None };
        Self { to: self.to.clone(), actor: Some(actor), response: None }
    }

    /// Reads entries of the audit log, newest first.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn audit(&self, query: AuditQuery) -> Result<AuditPage, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.send(RegistryChange::Audit(Box::new(query)), ChangeReply::Audit(reply))?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }
}

impl WriterState {
    /// Builds the entries of a batch. Each id is greater than all ids before it.
    pub(super) fn audit_entries(&mut self, records: Vec<(Option<Actor>, AuditRecord)>) -> Vec<AuditEntry> {
        let at = self.now;
        let mut entry = |(actor, record): (Option<Actor>, AuditRecord)| {
            let id = self.random.ulid(at).max(self.last_audit + 1);
            self.last_audit = id;
            let (actor, request_id) =
                actor.map_or_else(|| (SERVER.into(), None), |actor| (actor.name, actor.request_id));
            AuditEntry {
                id: AuditId::from_u128(id),
                at,
                actor,
                request_id,
                tenant: record.tenant,
                action: record.action.into(),
                target: record.target,
                target_name: record.target_name,
                changed: record.changed,
            }
        };
        records.into_iter().map(&mut entry).collect()
    }
}

/// The audit action for a change of a webhook's settings, and the names of the changed fields.
pub(super) fn change_of(old: &WebhookSettings, new: &WebhookSettings) -> (&'static str, Vec<&'static str>) {
    let changed = changed_fields(old, new);
    let action = match (&*changed, new.status) {
        (["secret"], _) => "secret.regenerated",
        (["status"], WebhookStatus::Active) => "webhook.resumed",
        (["status"], WebhookStatus::Paused) => "webhook.paused",
        (["status"], WebhookStatus::Inactive) => "webhook.deactivated",
        (["status"], WebhookStatus::Failed) => "webhook.failed",
        _ => "webhook.updated",
    };
    (action, changed)
}

/// The names of the fields that differ. A webhook never changes its tenant. The pattern names every field, so that the
/// compiler reports a new field that is missing here.
fn changed_fields(old: &WebhookSettings, new: &WebhookSettings) -> Vec<&'static str> {
    let WebhookSettings {
        tenant: _,
        uid,
        status,
        endpoint,
        events,
        subscriptions,
        filters: _,
        workspace_id,
        profile,
        keys,
        retry_policy,
        retry_on,
        timeout,
        max_in_flight,
        rate_limit,
        breaker,
        order,
        headers,
        auth,
        tls: _,
        name,
        description,
        user_id,
        metadata,
    } = new;
    let fields = [
        ("uid", old.uid != *uid),
        ("status", old.status != *status),
        ("url", old.endpoint != *endpoint),
        ("events", old.events != *events),
        ("subscriptions", !same_subscriptions(&old.subscriptions, subscriptions)),
        ("filters", filter_text(old) != filter_text(new)),
        ("workspace_id", old.workspace_id != *workspace_id),
        ("profile", old.profile.name() != profile.name()),
        ("secret", old.keys.current.secret != keys.current.secret),
        ("retry_policy", old.retry_policy != *retry_policy || old.retry_on != *retry_on),
        ("timeout_seconds", old.timeout != *timeout),
        ("max_in_flight", old.max_in_flight != *max_in_flight),
        ("rate_limit_rps", old.rate_limit != *rate_limit),
        ("breaker", old.breaker != *breaker),
        ("ordered", old.is_ordered() != new.is_ordered()),
        ("ordered_by", old.order.field() != order.field()),
        ("headers", old.headers != *headers),
        ("auth", old.auth != *auth),
        ("tls", tls_settings(old) != tls_settings(new)),
        ("name", old.name != *name),
        ("description", old.description != *description),
        ("user_id", old.user_id != *user_id),
        ("metadata", old.metadata != *metadata),
    ];
    fields.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

fn tls_settings(settings: &WebhookSettings) -> Option<&TlsSettings> {
    settings.tls.as_ref().map(|tls| tls.settings())
}

fn filter_text(settings: &WebhookSettings) -> Option<&str> {
    settings.filters.as_ref().map(|filter| filter.as_json().get())
}

/// Compares ids and times only, because each change of a subscription sets a new time.
fn same_subscriptions(old: &[Subscription], new: &[Subscription]) -> bool {
    let marks = |all: &[Subscription]| all.iter().map(|one| (one.id, one.updated_at)).collect::<Vec<_>>();
    marks(old) == marks(new)
}

/// The names of the settings of a source that differ.
pub(super) fn changed_settings(old: &SourceSettings, new: &SourceSettings) -> Vec<Cow<'static, str>> {
    let fields = |settings: &SourceSettings| match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        // Settings serialize to an object of texts, numbers and lists.
        _ => Map::new(),
    };
    let (before, after) = (fields(old), fields(new));
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let mut changed: Vec<Cow<'static, str>> =
        before.keys().chain(after.keys()).filter(differs).map(|name| name.clone().into()).collect();
    // Secrets are not serialized, so the comparison above does not see them.
    let values =
        |settings: &SourceSettings| settings.secrets.iter().map(|one| one.value().cloned()).collect::<Vec<_>>();
    if values(old) != values(new) {
        changed.push("secrets".into());
    }
    changed.sort_unstable();
    changed.dedup();
    changed
}

/// Records which sources of the configuration file were created, updated and deleted by a reload.
pub(super) fn audit_file_sources(before: &[Arc<Source>], next: &Registry, batch: &mut ChangeBatch) {
    let find = |all: &[Arc<Source>], id: SourceId| all.iter().find(|source| source.id == id).map(|found| found.version);
    let after = file_sources(next);
    for source in &after {
        match find(before, source.id) {
            None => batch.audit_source("source.created", source, Vec::new()),
            Some(version) if version != source.version => batch.audit_source("source.updated", source, Vec::new()),
            Some(_) => {}
        }
    }
    for source in before.iter().filter(|source| find(&after, source.id).is_none()) {
        batch.audit_source("source.deleted", source, Vec::new());
    }
}

/// The sources of the configuration file.
pub(super) fn file_sources(registry: &Registry) -> Vec<Arc<Source>> {
    registry.sources(None, false).filter(|source| source.managed_by == ManagedBy::File).cloned().collect()
}
