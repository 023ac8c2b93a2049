//! registry.redb: a row for each webhook, a tombstone for each that was removed, a row for each source, key and tenant,
//! and the audit log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use super::audit::{AuditEntry, AuditPage, AuditQuery, decode_entry, encode_entry};
use super::event_type_change::{EVENT_TYPES, encode_event_type};
use super::keys::{Key, encode_key};
use super::load::{load, table};
use super::record::{RecordError, encode, encode_removed};
use super::secret::{KeyFileError, Vault};
use super::snapshot::{Registry, Removed};
use super::source_record::{encode_learned, encode_source};
use super::source_setup::SourceSetup;
use super::tenants::{StoredTenant, encode_tenant};
use crate::inbound::source::Source;
use crate::limits::{AUDIT_ENTRIES_MAX, REGISTRY_CACHE_BYTES};
use crate::model::{AuditId, KeyId, Secret, SourceId, file};
use crate::outbound::Webhook;
use crate::outbound::profile::Profiles;
use crate::registry::catalogue::EventType;
use crate::storage::Disk;

pub(super) const WEBHOOKS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("webhooks");
pub(super) const REMOVED: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("removed_webhooks");
pub(super) const SOURCES: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("sources");
pub(super) const LEARNED: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("learned_secrets");
pub(super) const KEYS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("keys");
pub(super) const TENANTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("tenants");
const AUDIT: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("audit");

/// Why registry.redb cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// redb or the disk.
    #[error("registry.redb: {0}")]
    Storage(#[from] redb::Error),
    /// The file system.
    #[error("registry.redb: {0}")]
    Io(#[from] std::io::Error),
    /// A key file.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A record that cannot be read. Nothing is skipped: a webhook that is silently gone would lose its events.
    #[error("registry.redb: webhook number {no}: {error}")]
    Record {
        /// The row.
        no: u32,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The same of a source.
    #[error("registry.redb: source {id}: {error}")]
    Source {
        /// Its id.
        id: SourceId,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The same of an event type.
    #[error("registry.redb: event type {name}: {error}")]
    EventType {
        /// Its name.
        name: Box<str>,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The same of a key.
    #[error("registry.redb: key {id}: {error}")]
    Key {
        /// Its id.
        id: KeyId,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The same of a tenant.
    #[error("registry.redb: tenant {name}: {error}")]
    Tenant {
        /// Its name.
        name: Box<str>,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The same of an entry of the audit log.
    #[error("registry.redb: audit entry {id}: {error}")]
    Audit {
        /// Its id.
        id: AuditId,
        /// What is wrong with it.
        error: RecordError,
    },
    /// A record that cannot be written.
    #[error("registry.redb: {0}")]
    Encode(#[from] serde_json::Error),
}

impl StoreError {
    /// Whether there was no room: nothing was written, and it may go better later.
    pub fn is_disk_full(&self) -> bool {
        let (Self::Storage(redb::Error::Io(error)) | Self::Io(error)) = self else { return false };
        matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }
}

/// A row that changes.
#[derive(Debug)]
pub(super) enum Row {
    Put(Arc<Webhook>),
    Bury(Arc<Removed>),
    Source(Arc<Source>),
    Learned(SourceId, Secret),
    EventType(Arc<str>, Arc<EventType>),
    NoEventType(Arc<str>, Box<str>),
    Key(Arc<Key>),
    RevokedKey(KeyId),
    Tenant(Box<str>, Arc<StoredTenant>),
    Audit(AuditEntry),
}

#[derive(Debug)]
pub(super) struct Store {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Absent after a failure, until it is opened again.
    database: Option<Database>,
    vault: Vault,
}

impl Store {
    /// Opens the store of a data folder, made if it is not there.
    pub(super) fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        disk.create_dir(dir)?;
        let path = dir.join(file::REGISTRY);
        if !disk.list(dir)?.contains(&path) {
            make(dir, &path, &*disk)?;
        }
        let vault = Vault::load(dir)?;
        let database = Some(open(&path, &*disk)?);
        Ok(Self { disk, path, database, vault })
    }

    /// Everything stored, as a snapshot without keys. Opens the file again after a failure: redb refuses everything from
    /// the first I/O error on.
    pub(super) fn load(&mut self, setup: &SourceSetup, profiles: &Profiles) -> Result<Registry, StoreError> {
        let loaded = self.try_load(setup, profiles);
        if loaded.is_err() {
            self.database = None;
        }
        loaded
    }

    fn try_load(&mut self, setup: &SourceSetup, profiles: &Profiles) -> Result<Registry, StoreError> {
        let database = match &mut self.database {
            Some(database) => database,
            closed => closed.insert(open(&self.path, &*self.disk)?),
        };
        let read = database.begin_read().map_err(redb::Error::from)?;
        load(&read, &self.vault, setup, profiles)
    }

    /// Whether a failure closed the file, so that only [`Self::load`] tells what it holds.
    pub(super) fn is_closed(&self) -> bool {
        self.database.is_none()
    }

    /// Writes all rows, in order, in one durable transaction, or none.
    pub(super) fn write(&mut self, rows: &[Row]) -> Result<(), StoreError> {
        let Some(database) = &self.database else { return Err(StoreError::Storage(redb::Error::PreviousIo)) };
        let written = commit(database, rows, &self.vault);
        if matches!(written, Err(StoreError::Storage(_))) {
            self.database = None;
        }
        written
    }
}

fn commit(database: &Database, rows: &[Row], vault: &Vault) -> Result<(), StoreError> {
    let mut write = database.begin_write().map_err(redb::Error::from)?;
    write.set_durability(Durability::Immediate).map_err(redb::Error::from)?;
    write.set_two_phase_commit(true);
    insert(&write, rows, vault)?;
    write.commit().map_err(redb::Error::from)?;
    Ok(())
}

fn insert(write: &WriteTransaction, rows: &[Row], vault: &Vault) -> Result<(), StoreError> {
    let mut webhooks = write.open_table(WEBHOOKS).map_err(redb::Error::from)?;
    let mut removed = write.open_table(REMOVED).map_err(redb::Error::from)?;
    let mut sources = write.open_table(SOURCES).map_err(redb::Error::from)?;
    let mut learned = write.open_table(LEARNED).map_err(redb::Error::from)?;
    let mut keys = write.open_table(KEYS).map_err(redb::Error::from)?;
    let mut tenants = write.open_table(TENANTS).map_err(redb::Error::from)?;
    let mut audit = write.open_table(AUDIT).map_err(redb::Error::from)?;
    let mut event_types = write.open_table(EVENT_TYPES).map_err(redb::Error::from)?;
    for row in rows {
        match row {
            Row::Put(webhook) => {
                let bytes = encode(webhook, vault)?;
                webhooks.insert(webhook.no.0, &*bytes).map_err(redb::Error::from)?;
            }
            Row::Bury(tombstone) => {
                let bytes = encode_removed(tombstone)?;
                webhooks.remove(tombstone.no.0).map_err(redb::Error::from)?;
                removed.insert(tombstone.no.0, &*bytes).map_err(redb::Error::from)?;
            }
            Row::Source(source) => {
                let bytes = encode_source(source, vault)?;
                sources.insert(source.id.as_u128(), &*bytes).map_err(redb::Error::from)?;
            }
            Row::Learned(id, secret) => {
                let bytes = encode_learned(*id, secret, vault);
                learned.insert(id.as_u128(), &*bytes).map_err(redb::Error::from)?;
            }
            Row::Key(key) => {
                let bytes = encode_key(key)?;
                keys.insert(key.id.as_u128(), &*bytes).map_err(redb::Error::from)?;
            }
            Row::RevokedKey(id) => drop(keys.remove(id.as_u128()).map_err(redb::Error::from)?),
            Row::Tenant(name, tenant) => {
                let bytes = encode_tenant(tenant)?;
                tenants.insert(&**name, &*bytes).map_err(redb::Error::from)?;
            }
            Row::Audit(entry) => {
                let bytes = encode_entry(entry)?;
                audit.insert(entry.id.as_u128(), &*bytes).map_err(redb::Error::from)?;
                if audit.len().map_err(redb::Error::from)? > AUDIT_ENTRIES_MAX as u64 {
                    audit.pop_first().map_err(redb::Error::from)?;
                }
            }
            Row::EventType(tenant, event_type) => {
                let bytes = encode_event_type(event_type)?;
                let key = (&**tenant, event_type.name());
                event_types.insert(key, &*bytes).map_err(redb::Error::from)?;
            }
            Row::NoEventType(tenant, name) => {
                event_types.remove((&**tenant, &**name)).map_err(redb::Error::from)?;
            }
        }
    }
    Ok(())
}

impl Store {
    /// The id of the newest entry of the audit log.
    pub(super) fn last_audit(&self) -> Result<u128, StoreError> {
        let Some(database) = &self.database else { return Err(StoreError::Storage(redb::Error::PreviousIo)) };
        let read = database.begin_read().map_err(redb::Error::from)?;
        let Some(table) = table(&read, AUDIT)? else { return Ok(0) };
        let last = table.last().map_err(redb::Error::from)?;
        Ok(last.map_or(0, |(id, _)| id.value()))
    }

    /// What a query finds.
    pub(super) fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let Some(database) = &self.database else { return Err(StoreError::Storage(redb::Error::PreviousIo)) };
        let read = database.begin_read().map_err(redb::Error::from)?;
        let mut page = AuditPage::default();
        let Some(table) = table(&read, AUDIT)? else { return Ok(page) };
        let end = query.before.map_or(u128::MAX, AuditId::as_u128);
        for (n, row) in table.range(..end).map_err(redb::Error::from)?.rev().enumerate() {
            let (id, bytes) = row.map_err(redb::Error::from)?;
            let id = AuditId::from_u128(id.value());
            let entry = decode_entry(id, bytes.value()).map_err(|error| StoreError::Audit { id, error })?;
            if query.wants(&entry) {
                page.entries.push(entry);
            }
            if page.entries.len() >= query.limit || n + 1 >= query.scan {
                page.stopped_at = Some(id);
                break;
            }
        }
        Ok(page)
    }
}

/// Makes the file under another name first: redb cannot open one whose making was cut short.
fn make(dir: &Path, path: &Path, disk: &dyn Disk) -> Result<(), StoreError> {
    let unfinished = path.with_extension("redb.new");
    if disk.list(dir)?.contains(&unfinished) {
        disk.remove(&unfinished)?;
    }
    let database = open(&unfinished, disk)?;
    let write = database.begin_write().map_err(redb::Error::from)?;
    write.open_table(WEBHOOKS).map_err(redb::Error::from)?;
    write.open_table(REMOVED).map_err(redb::Error::from)?;
    write.commit().map_err(redb::Error::from)?;
    drop(database);
    disk.rename(&unfinished, path)?;
    disk.sync_dir(dir)?;
    Ok(())
}

fn open(path: &Path, disk: &dyn Disk) -> Result<Database, StoreError> {
    let backend = disk.open(path)?;
    let database = Database::builder()
        .set_cache_size(REGISTRY_CACHE_BYTES)
        .create_with_backend(backend)
        .map_err(redb::Error::from)?;
    Ok(database)
}
