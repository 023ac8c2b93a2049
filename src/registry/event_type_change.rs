//! Changes of the catalogue: event types made, replaced and removed by the interface.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Registry;
use super::audit::AuditRecord;
use super::change::{Change, ChangeError, Reply};
use super::compile::event_type_record;
use super::writer::Writer;
use super::writer_state::{Batch, WriterState};
use crate::inbound::source::ManagedBy;
use crate::limits::EVENT_TYPES_PER_TENANT_MAX;
use crate::registry::catalogue::{Definition, EventType, Setup};
use crate::storage::registry::Row;

/// Why a change of the catalogue was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// It is not there.
    #[error("there is no such event type")]
    NotFound,
    /// It is not of the version that the change was made from.
    #[error("the event type was changed meanwhile")]
    Changed,
    /// The tenant has one of this name.
    #[error("there is an event type of this name")]
    NameTaken,
    /// The configuration names it; only there can it be changed.
    #[error("the event type is managed by the configuration file")]
    ManagedByFile,
    /// The tenant has as many as it may.
    #[error("a tenant has at most {EVENT_TYPES_PER_TENANT_MAX} event types")]
    TooMany,
    /// The registry cannot take it now.
    #[error(transparent)]
    Unavailable(#[from] ChangeError),
}

/// What a change of the catalogue came to.
#[derive(Debug, Clone)]
pub struct ChangedType {
    /// As it is now; of one that was removed, as it was.
    pub event_type: Arc<EventType>,
    /// Whether it was not there before.
    pub is_new: bool,
}

pub(super) type EventTypeAnswer = Result<ChangedType, EventTypeError>;

/// What a new definition may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaces {
    /// Nothing: the name must be free.
    Nothing,
    /// Whatever is there: of this version only, if one is given.
    Any(Option<u64>),
}

#[derive(Debug)]
pub(super) enum EventTypeChange {
    Put { tenant: Box<str>, definition: Arc<Definition>, replaces: Replaces },
    Remove { tenant: Box<str>, name: Box<str>, version: Option<u64> },
}

impl Writer {
    /// Makes or replaces an event type of a tenant.
    ///
    /// # Errors
    /// If the name is taken, or the configuration's.
    pub async fn put_event_type(
        &self,
        tenant: &str,
        definition: Arc<Definition>,
        replaces: Replaces,
    ) -> EventTypeAnswer {
        self.ask_event_type(EventTypeChange::Put { tenant: tenant.into(), definition, replaces }).await
    }

    /// Removes an event type of a tenant: of this version only, if one is given.
    ///
    /// # Errors
    /// If it is not there, not of this version, or the configuration's.
    pub async fn remove_event_type(&self, tenant: &str, name: &str, version: Option<u64>) -> EventTypeAnswer {
        self.ask_event_type(EventTypeChange::Remove { tenant: tenant.into(), name: name.into(), version }).await
    }

    /// The types of the configuration in place of those before (a reload).
    ///
    /// # Errors
    /// If the registry takes no more changes.
    pub async fn set_event_types(&self, setup: Setup) -> Result<(), ChangeError> {
        self.ask(Change::EventTypes(Box::new(setup))).await.map(drop)
    }

    async fn ask_event_type(&self, change: EventTypeChange) -> EventTypeAnswer {
        let (reply, answer) = oneshot::channel();
        self.send(Change::EventType(change), Reply::EventType(reply))?;
        answer.await.unwrap_or(Err(EventTypeError::Unavailable(ChangeError::Stopped)))
    }
}

impl WriterState {
    pub(super) fn apply_event_type(
        &self,
        change: EventTypeChange,
        next: &mut Registry,
        batch: &mut Batch,
    ) -> EventTypeAnswer {
        match change {
            EventTypeChange::Put { tenant, definition, replaces } => {
                let old = changeable(next, &tenant, &definition.settings.name)?;
                match (&old, replaces) {
                    (Some(_), Replaces::Nothing) => return Err(EventTypeError::NameTaken),
                    (Some(old), Replaces::Any(Some(version))) if old.version != version => {
                        return Err(EventTypeError::Changed);
                    }
                    (None, Replaces::Any(Some(_))) => return Err(EventTypeError::Changed),
                    (None, _) if next.event_types.count(&tenant) >= EVENT_TYPES_PER_TENANT_MAX => {
                        return Err(EventTypeError::TooMany);
                    }
                    _ => {}
                }
                let (now, tenant) = (self.now, next.make_tenant(&tenant));
                let event_type = Arc::new(EventType {
                    definition,
                    tenant: Some(Arc::clone(&tenant)),
                    managed_by: ManagedBy::Api,
                    created_at: old.as_ref().map_or(now, |old| old.created_at),
                    updated_at: now,
                    version: old.as_ref().map_or(1, |old| old.version + 1),
                });
                let record = event_type_record(&tenant, &event_type).map_err(|_| ChangeError::Stopped)?;
                next.event_types.put(&tenant, Arc::clone(&event_type));
                let (action, fields) = match &old {
                    None => ("event_type.created", Vec::new()),
                    Some(old) => ("event_type.updated", changed_fields(old, &event_type)),
                };
                note(batch, action, &tenant, &event_type, fields);
                batch.rows.push(Row::EventType(Box::new(record)));
                Ok(ChangedType { event_type, is_new: old.is_none() })
            }
            EventTypeChange::Remove { tenant, name, version } => {
                let old = changeable(next, &tenant, &name)?.ok_or(EventTypeError::NotFound)?;
                if version.is_some_and(|version| version != old.version) {
                    return Err(EventTypeError::Changed);
                }
                let tenant = next.make_tenant(&tenant);
                next.event_types.remove(&tenant, &name);
                note(batch, "event_type.deleted", &tenant, &old, Vec::new());
                batch.rows.push(Row::NoEventType(tenant, name));
                Ok(ChangedType { event_type: old, is_new: false })
            }
        }
    }
}

fn note(
    batch: &mut Batch,
    action: &'static str,
    tenant: &Arc<str>,
    event_type: &EventType,
    changed: Vec<Cow<'static, str>>,
) {
    let tenant = Some(Arc::clone(tenant));
    batch.note(AuditRecord { action, tenant, target: event_type.name().into(), target_name: None, changed });
}

fn changed_fields(old: &EventType, new: &EventType) -> Vec<Cow<'static, str>> {
    let (old, new) = (&old.definition.settings, &new.definition.settings);
    let fields = [
        ("category", old.category != new.category),
        ("description", old.description != new.description),
        ("schema", old.schema != new.schema),
        ("example", old.example != new.example),
        ("deprecated", old.deprecated != new.deprecated),
        ("replaced_by", old.replaced_by != new.replaced_by),
        ("validate", old.validate != new.validate),
    ];
    fields.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name.into()).collect()
}

/// The tenant's own type of this name, if there is one; not while one of the configuration stands before it.
fn changeable(next: &Registry, tenant: &str, name: &str) -> Result<Option<Arc<EventType>>, EventTypeError> {
    match next.event_type(tenant, name) {
        Some(found) if found.managed_by == ManagedBy::File => Err(EventTypeError::ManagedByFile),
        _ => Ok(next.event_types.of_store(tenant, name).cloned()),
    }
}
