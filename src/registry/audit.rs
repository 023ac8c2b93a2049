//! The audit log: what of a change becomes an entry, and how entries are asked for.
//!
//! It is read by the writer's thread, whose file it is: a page is some thousand rows at the most, and who may read it is few.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::Registry;
use super::change::{Change, ChangeError, Reply};
use super::writer::Writer;
use super::writer_state::{Batch, WriterState};
use crate::inbound::source::{ManagedBy, Settings, Source};
use crate::model::{AuditId, Principal, SourceId, WebhookStatus};
use crate::outbound::tls::TlsSettings;
use crate::outbound::{Subscription, Webhook, WebhookSettings};
use crate::storage::registry::{AuditEntry, AuditPage, AuditQuery};

/// Who changes what nobody asked for.
const SERVER: &str = "the server";

/// Who changes something, and in which request.
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

/// A change before it has its place in the log.
#[derive(Debug)]
pub(super) struct AuditRecord {
    pub(super) action: &'static str,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) target: Box<str>,
    pub(super) target_name: Option<Box<str>>,
    pub(super) changed: Vec<Cow<'static, str>>,
}

impl AuditRecord {
    /// The configuration was read again, and these tables of it have other values.
    pub(super) fn reloaded(changed: Vec<Cow<'static, str>>) -> Self {
        let (action, target) = ("configuration.reloaded", "config.toml".into());
        Self { action, tenant: None, target, target_name: None, changed }
    }
}

impl Batch {
    /// Whose change is being applied.
    pub(super) fn actor_name(&self) -> Arc<str> {
        self.actor.as_ref().map_or_else(|| SERVER.into(), |actor| Arc::clone(&actor.name))
    }

    /// Notes a change of whoever asked for it.
    pub(super) fn note(&mut self, note: AuditRecord) {
        self.notes.push((self.actor.clone(), note));
    }

    /// The same of a webhook.
    pub(super) fn note_webhook(&mut self, action: &'static str, webhook: &Webhook, changed: Vec<&'static str>) {
        self.note(AuditRecord {
            action,
            tenant: Some(Arc::clone(&webhook.tenant)),
            target: webhook.id.to_string().into(),
            target_name: webhook.name.clone().or_else(|| webhook.uid.clone()),
            changed: changed.into_iter().map(Cow::Borrowed).collect(),
        });
    }

    /// The same of a source.
    pub(super) fn note_source(&mut self, action: &'static str, source: &Source, changed: Vec<Cow<'static, str>>) {
        self.note(AuditRecord {
            action,
            tenant: Some(Arc::clone(&source.tenant)),
            target: source.id.to_string().into(),
            target_name: Some(source.name.clone()),
            changed,
        });
    }
}

impl Writer {
    /// The same, for changes that this caller makes.
    #[must_use]
    pub fn by(&self, principal: &Principal) -> Self {
        Self { to: self.to.clone(), actor: Some(Actor::of(principal)) }
    }

    /// The same, for what the configuration file changes.
    #[must_use]
    pub fn by_file(&self) -> Self {
        Self { to: self.to.clone(), actor: Some(Actor { name: "the configuration file".into(), request_id: None }) }
    }

    /// Entries of the audit log, newest first.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub async fn audit(&self, query: AuditQuery) -> Result<AuditPage, ChangeError> {
        let (reply, answer) = oneshot::channel();
        self.send(Change::Audit(Box::new(query)), Reply::Audit(reply))?;
        answer.await.unwrap_or(Err(ChangeError::Stopped))
    }
}

impl WriterState {
    /// The entries for what was noted, each with an id above all before it.
    pub(super) fn entries(&mut self, notes: Vec<(Option<Actor>, AuditRecord)>) -> Vec<AuditEntry> {
        let at = self.now;
        let mut entry = |(actor, note): (Option<Actor>, AuditRecord)| {
            let id = self.random.ulid(at).max(self.last_audit + 1);
            self.last_audit = id;
            let (actor, request_id) =
                actor.map_or_else(|| (SERVER.into(), None), |actor| (actor.name, actor.request_id));
            AuditEntry {
                id: AuditId::from_u128(id),
                at,
                actor,
                request_id,
                tenant: note.tenant,
                action: note.action.into(),
                target: note.target,
                target_name: note.target_name,
                changed: note.changed,
            }
        };
        notes.into_iter().map(&mut entry).collect()
    }
}

/// What a change of a webhook is called, and the fields that it gave another value.
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

/// A webhook never changes its tenant. The pattern names every field, so that a new one cannot be forgotten here.
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

/// A change of a subscription is a new time of its own.
fn same_subscriptions(old: &[Subscription], new: &[Subscription]) -> bool {
    let marks = |all: &[Subscription]| all.iter().map(|one| (one.id, one.updated_at)).collect::<Vec<_>>();
    marks(old) == marks(new)
}

/// The settings of a source that have another value.
pub(super) fn changed_settings(old: &Settings, new: &Settings) -> Vec<Cow<'static, str>> {
    let fields = |settings: &Settings| match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        // Settings are an object of text, numbers and lists.
        _ => Map::new(),
    };
    let (before, after) = (fields(old), fields(new));
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let mut changed: Vec<Cow<'static, str>> =
        before.keys().chain(after.keys()).filter(differs).map(|name| name.clone().into()).collect();
    // They are not shown, so they cannot differ there.
    let values = |settings: &Settings| settings.secrets.iter().map(|one| one.value().cloned()).collect::<Vec<_>>();
    if values(old) != values(new) {
        changed.push("secrets".into());
    }
    changed.sort_unstable();
    changed.dedup();
    changed
}

/// Notes what became of the sources of the file when another one was read.
pub(super) fn note_file_sources(before: &[Arc<Source>], next: &Registry, batch: &mut Batch) {
    let find = |all: &[Arc<Source>], id: SourceId| all.iter().find(|source| source.id == id).map(|found| found.version);
    let after = file_sources(next);
    for source in &after {
        match find(before, source.id) {
            None => batch.note_source("source.created", source, Vec::new()),
            Some(version) if version != source.version => batch.note_source("source.updated", source, Vec::new()),
            Some(_) => {}
        }
    }
    for source in before.iter().filter(|source| find(&after, source.id).is_none()) {
        batch.note_source("source.deleted", source, Vec::new());
    }
}

/// The sources of the configuration file.
pub(super) fn file_sources(registry: &Registry) -> Vec<Arc<Source>> {
    registry.sources(None, false).filter(|source| source.managed_by == ManagedBy::File).cloned().collect()
}
