//! The registry's store: webhooks, sources, event types, keys, tenants and the audit log as plain records.
//!
//! [`RegistryStore`] is the seam for another store. The store ([`RedbRegistry`]) is registry.redb: a row for each record, JSON
//! with a version, secrets sealed with the keys of secrets.key. Must never know: what a record is compiled to.

mod audit;
mod endpoint;
mod error;
mod event_type;
mod key;
pub(crate) mod record;
mod retry;
mod source;
mod store;
mod tenant;
mod vault;
mod webhook;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::model::{KeyId, Secret, SourceId};

pub use audit::{AuditEntry, AuditPage, AuditQuery};
pub use error::RegistryStoreError;
pub use event_type::EventTypeRecord;
pub use key::KeyRecord;
pub use record::RecordError;
pub use source::SourceRecord;
pub(crate) use source::same_settings;
pub use store::RedbRegistry;
pub use tenant::TenantRecord;
pub use vault::{KeyFileError, SealError, admin_key};
pub use webhook::{RemovedWebhook, SubscriptionRecord, WebhookRecord};

/// A part of what is stored, as [`RegistryStore::load`] hands it out.
#[derive(Debug)]
pub enum Stored {
    /// Some of the webhooks, in the order of their numbers.
    Webhooks(Vec<WebhookRecord>),
    /// The tombstone of a webhook.
    Removed(RemovedWebhook),
    /// A source.
    Source(Box<SourceRecord>),
    /// The secret that a handshake brought to a source of the configuration.
    Learned(SourceId, Secret),
    /// An event type.
    EventType(EventTypeRecord),
    /// A tenant.
    Tenant(Box<str>, TenantRecord),
    /// An API key.
    Key(KeyRecord),
}

/// A row that changes.
#[derive(Debug)]
pub enum Row {
    /// A webhook as it is now.
    Webhook(Box<WebhookRecord>),
    /// A webhook goes, its tombstone stays.
    Remove(Arc<RemovedWebhook>),
    /// A source as it is now.
    Source(Box<SourceRecord>),
    /// The secret that a handshake brought to a source of the configuration.
    Learned(SourceId, Secret),
    /// An event type as it is now.
    EventType(Box<EventTypeRecord>),
    /// An event type goes: its tenant and name.
    NoEventType(Arc<str>, Box<str>),
    /// A key as it is now.
    Key(Arc<KeyRecord>),
    /// A key goes.
    RevokedKey(KeyId),
    /// A tenant as it is now.
    Tenant(Box<str>, Arc<TenantRecord>),
    /// An entry of the audit log; the oldest entry goes when there are too many.
    Audit(AuditEntry),
}

/// Takes the parts of what is stored, one after the other.
pub type TakeStored<'a> = dyn FnMut(Stored) -> Result<(), RegistryStoreError> + 'a;

/// Where the registry's records are kept. One thread owns it.
pub trait RegistryStore: Send + 'static {
    /// Hands out everything stored: webhooks, tombstones, sources, learned secrets, event types, tenants, keys, each kind in
    /// order. After a failure, opens the store again.
    fn load(&mut self, take: &mut TakeStored<'_>) -> Result<(), RegistryStoreError>;

    /// Whether a failure closed the store, so that only [`RegistryStore::load`] tells what it holds.
    fn is_closed(&self) -> bool;

    /// Writes all rows, in order, in one durable transaction, or none.
    fn write(&mut self, rows: &[Row]) -> Result<(), RegistryStoreError>;

    /// The id of the newest entry of the audit log; 0 without one.
    fn last_audit(&self) -> Result<u128, RegistryStoreError>;

    /// What a query of the audit log finds.
    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, RegistryStoreError>;
}
