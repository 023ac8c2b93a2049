//! registry.redb: a row for each webhook, and a tombstone for each that was removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::record::{RecordError, decode, decode_removed, encode, encode_removed};
use super::secret::{KeyFileError, Vault};
use super::snapshot::{Registry, Removed};
use crate::limits::REGISTRY_CACHE_BYTES;
use crate::model::{Webhook, WebhookNo};
use crate::runtime::Disk;

const WEBHOOKS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("webhooks");
const REMOVED: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("removed_webhooks");
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
    pub(super) fn load(&mut self) -> Result<Registry, StoreError> {
        let loaded = self.try_load();
        if loaded.is_err() {
            self.database = None;
        }
        loaded
    }

    fn try_load(&mut self) -> Result<Registry, StoreError> {
        let database = match &mut self.database {
            Some(database) => database,
            closed => closed.insert(open(&self.path, &*self.disk)?),
        };
        let read = database.begin_read().map_err(redb::Error::from)?;
        let mut registry = Registry::default();
        let webhooks = read.open_table(WEBHOOKS).map_err(redb::Error::from)?;
        for row in webhooks.iter().map_err(redb::Error::from)? {
            let (no, bytes) = row.map_err(redb::Error::from)?;
            let no = WebhookNo(no.value());
            let webhook = decode(no, bytes.value(), &self.vault, |name| registry.make_tenant(name))
                .map_err(|error| StoreError::Record { no: no.0, error })?;
            registry.put(Arc::new(webhook));
        }
        let removed = read.open_table(REMOVED).map_err(redb::Error::from)?;
        for row in removed.iter().map_err(redb::Error::from)? {
            let (no, bytes) = row.map_err(redb::Error::from)?;
            let no = WebhookNo(no.value());
            let tombstone = decode_removed(no, bytes.value(), |name| registry.make_tenant(name))
                .map_err(|error| StoreError::Record { no: no.0, error })?;
            registry.bury(Arc::new(tombstone));
        }
        Ok(registry)
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
    {
        let mut webhooks = write.open_table(WEBHOOKS).map_err(redb::Error::from)?;
        let mut removed = write.open_table(REMOVED).map_err(redb::Error::from)?;
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
            }
        }
    }
    write.commit().map_err(redb::Error::from)?;
    Ok(())
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
