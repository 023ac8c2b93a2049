//! Changes of the event type catalogue that the API makes: creates, replaces and removes event types.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Registry;
use super::audit::AuditRecord;
use super::change::{ChangeError, ChangeReply, RegistryChange};
use super::compile::event_type_record;
use super::writer::Writer;
use super::writer_state::{ChangeBatch, WriterState};
use crate::inbound::source::ManagedBy;
use crate::limits::EVENT_TYPES_PER_TENANT_MAX;
use crate::registry::catalogue::{CatalogueSetup, EventType, EventTypeDefinition};
use crate::storage::registry::RegistryRow;

/// Why a change of the catalogue was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventTypeError {
    /// The event type does not exist.
    #[error("there is no such event type")]
    NotFound,
    /// The event type has another version than the change expects.
    #[error("the event type was changed meanwhile")]
    Changed,
    /// The tenant has an event type of this name.
    #[error("there is an event type of this name")]
    NameTaken,
    /// The event type is declared in the configuration and can be changed only there.
    #[error("the event type is managed by the configuration file")]
    ManagedByFile,
    /// The tenant has the maximum number of event types.
    #[error("a tenant has at most {EVENT_TYPES_PER_TENANT_MAX} event types")]
    TooMany,
    /// The registry cannot take changes now.
    #[error(transparent)]
    Unavailable(#[from] ChangeError),
}

/// The result of a change of the catalogue.
#[derive(Debug, Clone)]
pub struct ChangedEventType {
    /// The event type after the change; for a removed one, its last state.
    pub event_type: Arc<EventType>,
    /// Whether the event type did not exist before.
    pub is_new: bool,
}

pub(super) type EventTypeResult = Result<ChangedEventType, EventTypeError>;

/// Whether a definition may replace an existing event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// The name must be free.
    CreateOnly,
    /// An existing event type is replaced. With a version, the event type must exist and have this version.
    CreateOrReplace(Option<u64>),
}

#[derive(Debug)]
pub(super) enum EventTypeChange {
    Put { tenant: Box<str>, definition: Arc<EventTypeDefinition>, mode: PutMode },
    Remove { tenant: Box<str>, name: Box<str>, version: Option<u64> },
}

impl Writer {
    /// Creates or replaces an event type of a tenant.
    ///
    /// # Errors
    /// If the name is taken, the version differs, the configuration declares the event type, the tenant has too many
    /// event types, or the registry cannot take changes.
    pub async fn put_event_type(
        &self,
        tenant: &str,
        definition: Arc<EventTypeDefinition>,
        mode: PutMode,
    ) -> EventTypeResult {
        self.request_event_type(EventTypeChange::Put { tenant: tenant.into(), definition, mode }).await
    }

    /// Removes an event type of a tenant, if it has this version or no version is given.
    ///
    /// # Errors
    /// If the event type does not exist, has another version, or is declared in the configuration.
    pub async fn remove_event_type(&self, tenant: &str, name: &str, version: Option<u64>) -> EventTypeResult {
        self.request_event_type(EventTypeChange::Remove { tenant: tenant.into(), name: name.into(), version }).await
    }

    /// Replaces the event types of the configuration, at a reload.
    ///
    /// # Errors
    /// If the registry cannot take changes.
    pub async fn set_event_types(&self, setup: CatalogueSetup) -> Result<(), ChangeError> {
        self.request_webhook(RegistryChange::EventTypes(Box::new(setup))).await.map(drop)
    }

    async fn request_event_type(&self, change: EventTypeChange) -> EventTypeResult {
        let (reply, answer) = oneshot::channel();
        self.send(RegistryChange::EventType(change), ChangeReply::EventType(reply))?;
        answer.await.unwrap_or(Err(EventTypeError::Unavailable(ChangeError::Stopped)))
    }
}

impl WriterState {
    pub(super) fn apply_event_type(
        &mut self,
        change: EventTypeChange,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> EventTypeResult {
        match change {
            EventTypeChange::Put { tenant, definition, mode } => {
                let old = changeable(next, &tenant, &definition.settings.name)?;
                match (&old, mode) {
                    (Some(_), PutMode::CreateOnly) => return Err(EventTypeError::NameTaken),
                    (Some(old), PutMode::CreateOrReplace(Some(version))) if old.version != version => {
                        return Err(EventTypeError::Changed);
                    }
                    (None, PutMode::CreateOrReplace(Some(_))) => return Err(EventTypeError::Changed),
                    (None, _) if next.event_types.count(&tenant) >= EVENT_TYPES_PER_TENANT_MAX => {
                        return Err(EventTypeError::TooMany);
                    }
                    _ => {}
                }
                let before = next.stored_event_type_bytes(&tenant, &definition.settings.name);
                next.check_memory(&tenant, before, definition.memory_bytes())?;
                let (now, tenant) = (self.now, next.ensure_tenant(&tenant));
                let event_type = Arc::new(EventType {
                    definition,
                    tenant: Some(Arc::clone(&tenant)),
                    managed_by: ManagedBy::Api,
                    created_at: old.as_ref().map_or(now, |old| old.created_at),
                    updated_at: now,
                    version: self.versions.next(),
                });
                let record = event_type_record(&tenant, &event_type).map_err(|_| ChangeError::Stopped)?;
                next.put_event_type(&tenant, Arc::clone(&event_type));
                let (action, fields) = match &old {
                    None => ("event_type.created", Vec::new()),
                    Some(old) => ("event_type.updated", changed_fields(old, &event_type)),
                };
                audit_event_type(batch, action, &tenant, &event_type, fields);
                batch.rows.push(RegistryRow::EventType(Box::new(record)));
                Ok(ChangedEventType { event_type, is_new: old.is_none() })
            }
            EventTypeChange::Remove { tenant, name, version } => {
                let old = changeable(next, &tenant, &name)?.ok_or(EventTypeError::NotFound)?;
                if version.is_some_and(|version| version != old.version) {
                    return Err(EventTypeError::Changed);
                }
                let tenant = next.ensure_tenant(&tenant);
                next.remove_event_type(&tenant, &name);
                audit_event_type(batch, "event_type.deleted", &tenant, &old, Vec::new());
                batch.rows.push(RegistryRow::DeletedEventType(tenant, name));
                Ok(ChangedEventType { event_type: old, is_new: false })
            }
        }
    }
}

fn audit_event_type(
    batch: &mut ChangeBatch,
    action: &'static str,
    tenant: &Arc<str>,
    event_type: &EventType,
    changed: Vec<Cow<'static, str>>,
) {
    let tenant = Some(Arc::clone(tenant));
    batch.audit(AuditRecord { action, tenant, target: event_type.name().into(), target_name: None, changed });
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

/// The tenant's own event type of this name, if there is one. An event type of the configuration hides it, which is an
/// error.
fn changeable(next: &Registry, tenant: &str, name: &str) -> Result<Option<Arc<EventType>>, EventTypeError> {
    match next.event_type(tenant, name) {
        Some(found) if found.managed_by == ManagedBy::File => Err(EventTypeError::ManagedByFile),
        _ => Ok(next.event_types.of_store(tenant, name).cloned()),
    }
}
