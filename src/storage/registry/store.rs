//! registry.redb: a row for each webhook, source, event type, key and tenant, a tombstone for each removed webhook, and
//! the audit log.
//!
//! All cores decode webhooks: a row costs some microseconds of JSON and AES-GCM, so one core would take most of a
//! second for 100,000 webhooks.

use std::path::Path;
use std::sync::Arc;

use redb::{Error, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError};

use super::vault::Vault;
use super::{
    AuditPage, AuditQuery, RegistryRecord, RegistryRow, RegistryStore, RegistryStoreError, TakeRecord, audit,
    event_type, key, source, tenant, webhook,
};
use crate::limits::{AUDIT_ENTRIES_MAX, LOAD_BATCH_ROWS, LOAD_THREADS_MAX, REGISTRY_CACHE_BYTES};
use crate::model::{AuditId, KeyId, SourceId, Timestamp, WebhookNo};
use crate::runtime::parallel_map;
use crate::storage::file::RedbFile;
use crate::storage::format::REGISTRY_FILE;
use crate::storage::idempotency::{self, ResponseTables};
use crate::storage::{Disk, FileError, StoredResponse};

const WEBHOOKS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("webhooks");
const REMOVED_WEBHOOKS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("removed_webhooks");
const SOURCES: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("sources");
const LEARNED_SECRETS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("learned_secrets");
const KEYS: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("keys");
const TENANTS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("tenants");
/// The key is tenant and name.
const EVENT_TYPES: TableDefinition<'static, (&str, &str), &[u8]> = TableDefinition::new("event_types");
const AUDIT: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("audit");
/// Single numbers, by name.
const NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("numbers");
/// The key of the last version in [`NUMBERS`].
const LAST_VERSION: &str = "last_version";
const FILE: &str = "registry.redb";

/// The registry store in registry.redb.
#[derive(Debug)]
pub struct RedbRegistry {
    /// Closed after a failure until the next load.
    file: RedbFile,
    vault: Vault,
}

impl RedbRegistry {
    /// Opens the store of a data folder, and creates it if it does not exist.
    pub fn open(dir: &Path, disk: Arc<dyn Disk>) -> Result<Self, RegistryStoreError> {
        disk.create_dir(dir)?;
        let path = dir.join(FILE);
        RedbFile::create_as(&disk, &path, &path.with_extension("redb.new"), REGISTRY_FILE, |write| {
            write.open_table(WEBHOOKS)?;
            write.open_table(REMOVED_WEBHOOKS)?;
            Ok(())
        })?;
        let vault = Vault::load(dir)?;
        let file = RedbFile::open(disk, &path, REGISTRY_CACHE_BYTES, REGISTRY_FILE)?;
        Ok(Self { file, vault })
    }

    fn try_load(&self, take: &mut TakeRecord<'_>) -> Result<(), RegistryStoreError> {
        if !self.file.is_writing() {
            self.file.reopen()?;
        }
        let (read, vault) = (self.file.begin_read()?, &self.vault);
        load_webhooks(&read, vault, take)?;
        each(&read, REMOVED_WEBHOOKS, |no, bytes| {
            let removed = webhook::decode_removed(WebhookNo(no), bytes);
            take(RegistryRecord::Removed(removed.map_err(|error| RegistryStoreError::Record { no, error })?))
        })?;
        each(&read, SOURCES, |id, bytes| {
            let id = SourceId::from_u128(id);
            let source = source::decode(id, bytes, vault);
            let source = source.map_err(|error| RegistryStoreError::Source { id, error })?;
            take(RegistryRecord::Source(Box::new(source)))
        })?;
        each(&read, LEARNED_SECRETS, |id, bytes| {
            let id = SourceId::from_u128(id);
            let secret = source::decode_learned(id, bytes, vault);
            take(RegistryRecord::LearnedSecret(id, secret.map_err(|error| RegistryStoreError::Source { id, error })?))
        })?;
        each(&read, EVENT_TYPES, |(tenant, name), bytes| {
            let found = event_type::decode(tenant, name, bytes);
            let failed = |error| RegistryStoreError::EventType { name: name.into(), error };
            take(RegistryRecord::EventType(found.map_err(failed)?))
        })?;
        each(&read, TENANTS, |name, bytes| {
            let failed = |error| RegistryStoreError::Tenant { name: name.into(), error };
            take(RegistryRecord::Tenant(name.into(), tenant::decode(bytes).map_err(failed)?))
        })?;
        each(&read, KEYS, |id, bytes| {
            let id = KeyId::from_u128(id);
            take(RegistryRecord::Key(key::decode(id, bytes).map_err(|error| RegistryStoreError::Key { id, error })?))
        })
    }

    fn commit(&self, rows: &[RegistryRow]) -> Result<(), RegistryStoreError> {
        let write = self.file.write(true)?;
        {
            let mut tables = RegistryTables::open(&write)?;
            for row in rows {
                match row {
                    RegistryRow::StoredResponse(answer, at) => ResponseTables::open(&write)?.put(answer, *at)?,
                    RegistryRow::LastVersion(last) => {
                        let mut numbers = write.open_table(NUMBERS).map_err(FileError::from)?;
                        numbers.insert(LAST_VERSION, last).map_err(FileError::from)?;
                    }
                    row => tables.put(row, &self.vault)?,
                }
            }
        }
        write.commit().map_err(FileError::from)?;
        Ok(())
    }
}

impl RegistryStore for RedbRegistry {
    /// Reopens the file after a failure, because redb refuses every operation after an I/O error.
    fn load(&mut self, take: &mut TakeRecord<'_>) -> Result<(), RegistryStoreError> {
        self.try_load(take).inspect_err(|_| self.file.abandon())
    }

    fn is_closed(&self) -> bool {
        !self.file.is_writing()
    }

    fn write(&mut self, rows: &[RegistryRow]) -> Result<(), RegistryStoreError> {
        self.commit(rows).inspect_err(|error| {
            if matches!(error, RegistryStoreError::Storage(_)) {
                self.file.abandon();
            }
        })
    }

    fn stored_response(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<StoredResponse>, RegistryStoreError> {
        Ok(idempotency::find(&self.file.begin_read()?, hash, now)?)
    }

    fn last_audit(&self) -> Result<u128, RegistryStoreError> {
        let read = self.file.begin_read()?;
        let Some(table) = table(&read, AUDIT)? else { return Ok(0) };
        let last = table.last().map_err(FileError::from)?;
        Ok(last.map_or(0, |(id, _)| id.value()))
    }

    fn last_version(&self) -> Result<Option<u64>, RegistryStoreError> {
        let read = self.file.begin_read()?;
        let Some(numbers) = table(&read, NUMBERS)? else { return Ok(None) };
        let last = numbers.get(LAST_VERSION).map_err(FileError::from)?;
        Ok(last.map(|last| last.value()))
    }

    fn audit(&self, query: &AuditQuery) -> Result<AuditPage, RegistryStoreError> {
        let read = self.file.begin_read()?;
        let mut page = AuditPage::default();
        let Some(table) = table(&read, AUDIT)? else { return Ok(page) };
        let end = query.before.map_or(u128::MAX, AuditId::as_u128);
        for (n, row) in table.range(..end).map_err(FileError::from)?.rev().enumerate() {
            let (id, bytes) = row.map_err(FileError::from)?;
            let id = AuditId::from_u128(id.value());
            let entry = audit::decode(id, bytes.value()).map_err(|error| RegistryStoreError::Audit { id, error })?;
            if query.matches(&entry) {
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

type RegistryTable<'t, K> = redb::Table<'t, K, &'static [u8]>;

/// All tables, open for one write transaction.
struct RegistryTables<'t> {
    webhooks: RegistryTable<'t, u32>,
    removed: RegistryTable<'t, u32>,
    sources: RegistryTable<'t, u128>,
    learned: RegistryTable<'t, u128>,
    keys: RegistryTable<'t, u128>,
    tenants: RegistryTable<'t, &'static str>,
    audit: RegistryTable<'t, u128>,
    event_types: RegistryTable<'t, (&'static str, &'static str)>,
}

impl<'t> RegistryTables<'t> {
    fn open(write: &'t redb::WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            webhooks: write.open_table(WEBHOOKS)?,
            removed: write.open_table(REMOVED_WEBHOOKS)?,
            sources: write.open_table(SOURCES)?,
            learned: write.open_table(LEARNED_SECRETS)?,
            keys: write.open_table(KEYS)?,
            tenants: write.open_table(TENANTS)?,
            audit: write.open_table(AUDIT)?,
            event_types: write.open_table(EVENT_TYPES)?,
        })
    }

    fn put(&mut self, row: &RegistryRow, vault: &Vault) -> Result<(), RegistryStoreError> {
        let done = match row {
            RegistryRow::Webhook(record) => {
                let bytes = webhook::encode(record, vault)?;
                self.webhooks.insert(record.no.0, &*bytes).map(drop)
            }
            RegistryRow::RemovedWebhook(removed) => {
                let bytes = webhook::encode_removed(removed)?;
                self.webhooks.remove(removed.no.0).map_err(FileError::from)?;
                self.removed.insert(removed.no.0, &*bytes).map(drop)
            }
            RegistryRow::Source(record) => {
                let bytes = source::encode(record, vault)?;
                self.sources.insert(record.identity.id.as_u128(), &*bytes).map(drop)
            }
            RegistryRow::LearnedSecret(id, secret) => {
                let bytes = source::encode_learned(*id, secret, vault);
                self.learned.insert(id.as_u128(), &*bytes).map(drop)
            }
            RegistryRow::ForgottenSecret(id) => self.learned.remove(id.as_u128()).map(drop),
            RegistryRow::Key(record) => {
                let bytes = key::encode(record)?;
                self.keys.insert(record.id.as_u128(), &*bytes).map(drop)
            }
            RegistryRow::RevokedKey(id) => self.keys.remove(id.as_u128()).map(drop),
            RegistryRow::Tenant(name, record) => {
                let bytes = tenant::encode(record)?;
                self.tenants.insert(&**name, &*bytes).map(drop)
            }
            RegistryRow::EventType(record) => {
                let bytes = event_type::encode(record)?;
                self.event_types.insert((&*record.tenant, &*record.name), &*bytes).map(drop)
            }
            RegistryRow::DeletedEventType(tenant, name) => self.event_types.remove((&**tenant, &**name)).map(drop),
            // They have tables of their own.
            RegistryRow::StoredResponse(..) | RegistryRow::LastVersion(_) => Ok(()),
            RegistryRow::Audit(entry) => {
                let bytes = audit::encode(entry)?;
                self.audit.insert(entry.id.as_u128(), &*bytes).map_err(FileError::from)?;
                if self.audit.len().map_err(FileError::from)? > AUDIT_ENTRIES_MAX as u64 {
                    self.audit.pop_first().map_err(FileError::from)?;
                }
                Ok(())
            }
        };
        Ok(done.map_err(FileError::from)?)
    }
}

fn load_webhooks(read: &ReadTransaction, vault: &Vault, take: &mut TakeRecord<'_>) -> Result<(), RegistryStoreError> {
    let table = read.open_table(WEBHOOKS).map_err(FileError::from)?;
    let mut rows = table.iter().map_err(FileError::from)?;
    loop {
        let mut encoded = Vec::new();
        for row in rows.by_ref().take(LOAD_BATCH_ROWS) {
            let (no, bytes) = row.map_err(FileError::from)?;
            encoded.push((no.value(), bytes.value().to_vec()));
        }
        if encoded.is_empty() {
            return Ok(());
        }
        let decode = |(no, bytes): (u32, Vec<u8>)| {
            webhook::decode(WebhookNo(no), &bytes, vault).map_err(|error| RegistryStoreError::Record { no, error })
        };
        let records = parallel_map(encoded, LOAD_THREADS_MAX, decode);
        take(RegistryRecord::Webhooks(records.into_iter().collect::<Result<_, _>>()?))?;
    }
}

/// Calls `row` for each row of a table, in order. Does nothing if the table does not exist.
fn each<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    of: TableDefinition<'static, K, V>,
    mut row: impl for<'a> FnMut(K::SelfType<'a>, V::SelfType<'a>) -> Result<(), RegistryStoreError>,
) -> Result<(), RegistryStoreError> {
    let Some(table) = table(read, of)? else { return Ok(()) };
    for entry in table.iter().map_err(FileError::from)? {
        let (key, value) = entry.map_err(FileError::from)?;
        row(key.value(), value.value())?;
    }
    Ok(())
}

/// Opens a table. Returns `None` if it does not exist, as in a file of an earlier program.
fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<'static, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, Error> {
    match read.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
