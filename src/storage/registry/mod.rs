//! The registry's store: webhooks, sources, event types, API keys, tenants and the audit log as plain records.
//!
//! [`RegistryStore`] can have another implementation. [`RedbRegistry`] stores the records in registry.redb: one row for
//! each record, as JSON with a version. Secrets are encrypted with the keys in `secrets.key`.
//!
//! Must never know: how records are compiled into webhooks, sources and event types.

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

use crate::model::{KeyId, Secret, SourceId, Timestamp};
use crate::storage::{NewStoredResponse, StoredResponse};

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

/// A stored record, as [`RegistryStore::load`] returns it.
#[derive(Debug)]
pub enum RegistryRecord {
    /// A batch of webhooks, in the order of their numbers.
    Webhooks(Vec<WebhookRecord>),
    /// The tombstone of a removed webhook.
    Removed(RemovedWebhook),
    /// A source.
    Source(Box<SourceRecord>),
    /// The secret that a source of the configuration file received in a handshake.
    LearnedSecret(SourceId, Secret),
    /// An event type.
    EventType(EventTypeRecord),
    /// A tenant.
    Tenant(Box<str>, TenantRecord),
    /// An API key.
    Key(KeyRecord),
}

/// A row to write or delete.
#[derive(Debug)]
pub enum RegistryRow {
    /// Writes the last version that was given.
    LastVersion(u64),
    /// Writes a webhook.
    Webhook(Box<WebhookRecord>),
    /// Deletes a webhook and writes its tombstone.
    RemovedWebhook(Arc<RemovedWebhook>),
    /// Writes a source.
    Source(Box<SourceRecord>),
    /// Writes the secret that a source of the configuration file received in a handshake.
    LearnedSecret(SourceId, Secret),
    /// Deletes the secret that a source of the configuration file received in a handshake.
    ForgottenSecret(SourceId),
    /// Writes an event type.
    EventType(Box<EventTypeRecord>),
    /// Deletes an event type, given its tenant and name.
    DeletedEventType(Arc<str>, Box<str>),
    /// Writes a key.
    Key(Arc<KeyRecord>),
    /// Deletes a key.
    RevokedKey(KeyId),
    /// Writes a tenant.
    Tenant(Box<str>, Arc<TenantRecord>),
    /// Adds an entry to the audit log. Deletes the oldest entry if there are too many.
    Audit(AuditEntry),
    /// Keeps the answer to a request with an idempotency key, from this time on.
    StoredResponse(Box<NewStoredResponse>, Timestamp),
}

/// A callback that receives the stored records one after the other. An error stops the load.
pub type TakeRecord<'a> = dyn FnMut(RegistryRecord) -> Result<(), RegistryStoreError> + 'a;

/// Stores the registry's records. One thread owns it.
pub trait RegistryStore: Send + 'static {
    /// Passes all records to `take`: webhooks, tombstones, sources, learned secrets, event types, tenants, keys, each
    /// kind in order. Reopens the store after a failure.
    fn load(&mut self, take: &mut TakeRecord<'_>) -> Result<(), RegistryStoreError>;

    /// Returns whether a failure closed the store. [`RegistryStore::load`] reopens it and returns its contents.
    fn is_closed(&self) -> bool;

    /// Writes all rows in order in one durable transaction, or none of them.
    fn write(&mut self, rows: &[RegistryRow]) -> Result<(), RegistryStoreError>;

    /// Returns the stored response of an idempotency key, unless it has expired at `now`.
    fn stored_response(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<StoredResponse>, RegistryStoreError>;

    /// Returns the id of the newest entry of the audit log, or 0 if it is empty.
    fn last_audit(&self) -> Result<u128, RegistryStoreError>;

    /// Returns the last version that was given. `None` for a file of a program that stored none.
    fn last_version(&self) -> Result<Option<u64>, RegistryStoreError>;

    /// Returns the entries of the audit log that match a query.
    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, RegistryStoreError>;
}
