//! Why registry.redb cannot be used.

use super::record::RecordError;
use super::vault::KeyFileError;
use crate::model::{AuditId, KeyId, SourceId};
use crate::storage::file::is_full_io;
use crate::storage::{FileError, FormatError};

/// Why registry.redb cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryStoreError {
    /// redb or the disk.
    #[error("registry.redb: {0}")]
    Storage(FileError),
    /// A newer program wrote the file.
    #[error(transparent)]
    Format(FormatError),
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

impl RegistryStoreError {
    /// Whether there was no room: nothing was written, and it may go better later.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_disk_full(),
            Self::Io(error) => is_full_io(error),
            _ => false,
        }
    }
}

impl From<FileError> for RegistryStoreError {
    fn from(error: FileError) -> Self {
        match error.format() {
            Some(refused) => Self::Format(refused.clone()),
            None => Self::Storage(error),
        }
    }
}

impl From<redb::Error> for RegistryStoreError {
    fn from(error: redb::Error) -> Self {
        FileError::from(error).into()
    }
}
