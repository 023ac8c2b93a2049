//! registry.redb: a row for each webhook, a tombstone for each that was removed, a row for each source, key and tenant,
//! and the audit log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, TableError, WriteTransaction,
};

use super::audit::{AuditEntry, AuditPage, AuditQuery, decode_entry, encode_entry};
use super::event_type_change::{EVENT_TYPES, decode_event_type, encode_event_type};
use super::keys::{Key, Keys, decode_key, encode_key};
use super::load::load_webhooks;
use super::record::{RecordError, decode_removed, encode, encode_removed};
use super::secret::{KeyFileError, Vault};
use super::snapshot::{Registry, Removed};
use super::source_record::{decode_learned, decode_source, encode_learned, encode_source};
use super::source_setup::SourceSetup;
use super::tenants::{StoredTenant, decode_tenant, encode_tenant};
use crate::catalogue::EventType;
use crate::limits::{AUDIT_ENTRIES_MAX, REGISTRY_CACHE_BYTES};
use crate::model::{AuditId, KeyId, Secret, SourceId, Webhook, WebhookNo};
use crate::profile::Profiles;
use crate::runtime::Disk;
use crate::source::Source;

pub(super) const WEBHOOKS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("webhooks");
const REMOVED: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("removed_webhooks");
const SOURCES: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("sources");
const LEARNED: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("learned_secrets");
const KEYS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("keys");
const TENANTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("tenants");
const AUDIT: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("audit");
const FILE: &str = "registry.redb";

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
        let path = dir.join(FILE);
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
        let mut registry = Registry::default();
        load_webhooks(&read, &self.vault, profiles, &mut registry)?;
        let removed = read.open_table(REMOVED).map_err(redb::Error::from)?;
        for row in removed.iter().map_err(redb::Error::from)? {
            let (no, bytes) = row.map_err(redb::Error::from)?;
            let no = WebhookNo(no.value());
            let tombstone = decode_removed(no, bytes.value(), |name| registry.make_tenant(name))
                .map_err(|error| StoreError::Record { no: no.0, error })?;
            registry.bury(Arc::new(tombstone));
        }
        self.load_sources(&read, setup, &mut registry)?;
        load_event_types(&read, &mut registry)?;
        load_access(&read, &mut registry)?;
        Ok(registry)
    }

    fn load_sources(
        &self,
        read: &ReadTransaction,
        setup: &SourceSetup,
        registry: &mut Registry,
    ) -> Result<(), StoreError> {
        let failed = |id, error| StoreError::Source { id, error };
        each(read, SOURCES, |id, bytes| {
            let (settings, identity) = decode_source(id, bytes, &self.vault, |name| registry.make_tenant(name))
                .map_err(|error| failed(id, error))?;
            if let Some(source) = setup.rebuild(settings, identity) {
                registry.sources.put(source);
            }
            Ok(())
        })?;
        each(read, LEARNED, |id, bytes| {
            let secret = decode_learned(id, bytes, &self.vault).map_err(|error| failed(id, error))?;
            registry.sources.learn(id, secret);
            Ok(())
        })
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

/// Keys and tenants that the interface made.
fn load_access(read: &ReadTransaction, registry: &mut Registry) -> Result<(), StoreError> {
    if let Some(table) = table(read, TENANTS)? {
        for row in table.iter().map_err(redb::Error::from)? {
            let (name, bytes) = row.map_err(redb::Error::from)?;
            let tenant = decode_tenant(bytes.value())
                .map_err(|error| StoreError::Tenant { name: name.value().into(), error })?;
            registry.put_stored_tenant(name.value(), Arc::new(tenant));
        }
    }
    let Some(table) = table(read, KEYS)? else { return Ok(()) };
    let mut keys = Keys::default();
    for row in table.iter().map_err(redb::Error::from)? {
        let (id, bytes) = row.map_err(redb::Error::from)?;
        let id = KeyId::from_u128(id.value());
        let key = decode_key(id, bytes.value(), |name| registry.make_tenant(name))
            .map_err(|error| StoreError::Key { id, error })?;
        keys.put(Arc::new(key));
    }
    registry.keys = Arc::new(keys);
    Ok(())
}

/// A table; `None` in a file that an earlier program made.
fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<'static, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
    match read.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(redb::Error::from(error).into()),
    }
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

/// Each row of a table by source; none if the table is not there, as in a file that an earlier program made.
fn each(
    read: &ReadTransaction,
    of: TableDefinition<'static, u128, &'static [u8]>,
    mut row: impl FnMut(SourceId, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let Some(table) = table(read, of)? else { return Ok(()) };
    for entry in table.iter().map_err(redb::Error::from)? {
        let (id, bytes) = entry.map_err(redb::Error::from)?;
        row(SourceId::from_u128(id.value()), bytes.value())?;
    }
    Ok(())
}

fn load_event_types(read: &ReadTransaction, registry: &mut Registry) -> Result<(), StoreError> {
    let table = match read.open_table(EVENT_TYPES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(redb::Error::from(error).into()),
    };
    for entry in table.iter().map_err(redb::Error::from)? {
        let (key, bytes) = entry.map_err(redb::Error::from)?;
        let (tenant, name) = key.value();
        let tenant = registry.make_tenant(tenant);
        let event_type = decode_event_type(&tenant, bytes.value())
            .map_err(|error| StoreError::EventType { name: name.into(), error })?;
        registry.event_types.put(&tenant, Arc::new(event_type));
    }
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
