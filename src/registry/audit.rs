//! The audit log: a row for each change, written in the transaction of the change; bounded, the oldest go first.
//!
//! It is read by the writer's thread, whose file it is: a page is some thousand rows at the most, and who may read it is few.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::Registry;
use super::change::{Change, ChangeError, Reply};
use super::record::{RecordError, version_or_damage};
use super::work::{Batch, Work};
use super::writer::Writer;
use crate::inbound::source::{ManagedBy, Settings, Source};
use crate::model::{AuditId, Principal, SourceId, Timestamp, WebhookStatus};
use crate::outbound::tls::TlsSettings;
use crate::outbound::{Subscription, Webhook, WebhookSettings};

const VERSION: u16 = 1;
/// Who changes what nobody asked for.
const SERVER: &str = "the server";

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Rises with each entry.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// Who: `key_…`, `user 42`, `the first key`, `the configuration file`, `the server`.
    pub actor: Arc<str>,
    /// In which request, if it was one.
    pub request_id: Option<Arc<str>>,
    /// Whose thing was changed; `None`: it is of no one tenant.
    pub tenant: Option<Arc<str>>,
    /// What: `webhook.created`.
    pub action: Cow<'static, str>,
    /// The id of what was changed, or its name where it has no other.
    pub target: Box<str>,
    /// Its name for people.
    pub target_name: Option<Box<str>>,
    /// The fields that have another value than before.
    pub changed: Vec<Cow<'static, str>>,
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Of this tenant alone.
    pub tenant: Option<Box<str>>,
    /// By this actor.
    pub actor: Option<Box<str>>,
    /// Of this action; `webhook.*` for all of a kind.
    pub action: Option<Box<str>>,
    /// Of the thing with this id or name.
    pub target: Option<Box<str>>,
    /// Not earlier.
    pub since: Option<Timestamp>,
    /// Earlier.
    pub until: Option<Timestamp>,
    /// Entries before this one.
    pub before: Option<AuditId>,
    /// So many at most.
    pub limit: usize,
    /// So many are looked at.
    pub scan: usize,
}

/// What a query found.
#[derive(Debug, Clone, Default)]
pub struct AuditPage {
    /// Newest first.
    pub entries: Vec<AuditEntry>,
    /// Where it stopped looking, if more may follow.
    pub stopped_at: Option<AuditId>,
}

impl AuditQuery {
    /// Whether an entry is asked for, its place aside.
    pub(super) fn wants(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<Box<str>>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        let is_action = self.action.as_deref().is_none_or(|wanted| match wanted.strip_suffix('*') {
            Some(prefix) => entry.action.starts_with(prefix),
            None => entry.action == wanted,
        });
        self.tenant.as_deref().is_none_or(|tenant| entry.tenant.as_deref() == Some(tenant))
            && is(&self.actor, &entry.actor)
            && is_action
            && (is(&self.target, &entry.target) || self.target.as_deref() == entry.target_name.as_deref())
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
    }
}

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
pub(super) struct Note {
    pub(super) action: &'static str,
    pub(super) tenant: Option<Arc<str>>,
    pub(super) target: Box<str>,
    pub(super) target_name: Option<Box<str>>,
    pub(super) changed: Vec<Cow<'static, str>>,
}

impl Note {
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
    pub(super) fn note(&mut self, note: Note) {
        self.notes.push((self.actor.clone(), note));
    }

    /// The same of a webhook.
    pub(super) fn note_webhook(&mut self, action: &'static str, webhook: &Webhook, changed: Vec<&'static str>) {
        self.note(Note {
            action,
            tenant: Some(Arc::clone(&webhook.tenant)),
            target: webhook.id.to_string().into(),
            target_name: webhook.name.clone().or_else(|| webhook.uid.clone()),
            changed: changed.into_iter().map(Cow::Borrowed).collect(),
        });
    }

    /// The same of a source.
    pub(super) fn note_source(&mut self, action: &'static str, source: &Source, changed: Vec<Cow<'static, str>>) {
        self.note(Note {
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

impl Work {
    /// The entries for what was noted, each with an id above all before it.
    pub(super) fn entries(&mut self, notes: Vec<(Option<Actor>, Note)>) -> Vec<AuditEntry> {
        let at = self.clock.now();
        let mut entry = |(actor, note): (Option<Actor>, Note)| {
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

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    v: u16,
    at_ms: i64,
    #[serde(borrow)]
    actor: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    request: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    tenant: Option<Cow<'a, str>>,
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed: Vec<Cow<'a, str>>,
}

pub(super) fn encode_entry(entry: &AuditEntry) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Record {
        v: VERSION,
        at_ms: entry.at.as_millis(),
        actor: (&*entry.actor).into(),
        request: entry.request_id.as_deref().map(Into::into),
        tenant: entry.tenant.as_deref().map(Into::into),
        action: (&*entry.action).into(),
        target: (&*entry.target).into(),
        name: entry.target_name.as_deref().map(Into::into),
        changed: entry.changed.iter().map(|field| (&**field).into()).collect(),
    })
}

pub(super) fn decode_entry(id: AuditId, bytes: &[u8]) -> Result<AuditEntry, RecordError> {
    let record: Record<'_> = serde_json::from_slice(bytes).map_err(|error| version_or_damage(bytes, &error))?;
    if record.v != VERSION {
        return Err(RecordError::Version(record.v));
    }
    Ok(AuditEntry {
        id,
        at: Timestamp::from_millis(record.at_ms),
        actor: (*record.actor).into(),
        request_id: record.request.as_deref().map(Into::into),
        tenant: record.tenant.as_deref().map(Into::into),
        action: record.action.into_owned().into(),
        target: (*record.target).into(),
        target_name: record.name.as_deref().map(Into::into),
        changed: record.changed.into_iter().map(|field| field.into_owned().into()).collect(),
    })
}
