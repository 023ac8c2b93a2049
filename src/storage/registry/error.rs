//! The error type of the registry store.

use super::record::RecordError;
use super::vault::KeyFileError;
use crate::model::{AuditId, KeyId, SourceId};
use crate::storage::file::is_full_io;
use crate::storage::{FileError, FormatError};

/// The error of reading or writing registry.redb.
#[derive(Debug, thiserror::Error)]
pub enum RegistryStoreError {
    /// redb or the disk returned an error.
    #[error("registry.redb: {0}")]
    Storage(FileError),
    /// A newer program wrote the file.
    #[error(transparent)]
    Format(FormatError),
    /// The file system returned an error.
    #[error("registry.redb: {0}")]
    Io(#[from] std::io::Error),
    /// A key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The row of a webhook cannot be read. Rows are never skipped, because a missing webhook would lose its events.
    #[error("registry.redb: webhook number {no}: {error}")]
    Record {
        /// The webhook's number.
        no: u32,
        /// Why the row cannot be read.
        error: RecordError,
    },
    /// The row of a source cannot be read.
    #[error("registry.redb: source {id}: {error}")]
    Source {
        /// The id of the record.
        id: SourceId,
        /// Why the row cannot be read.
        error: RecordError,
    },
    /// The row of an event type cannot be read.
    #[error("registry.redb: event type {name}: {error}")]
    EventType {
        /// The name of the record.
        name: Box<str>,
        /// Why the row cannot be read.
        error: RecordError,
    },
    /// The row of a key cannot be read.
    #[error("registry.redb: key {id}: {error}")]
    Key {
        /// The id of the record.
        id: KeyId,
        /// Why the row cannot be read.
        error: RecordError,
    },
    /// The row of a tenant cannot be read.
    #[error("registry.redb: tenant {name}: {error}")]
    Tenant {
        /// The name of the record.
        name: Box<str>,
        /// Why the row cannot be read.
        error: RecordError,
    },
    /// An entry of the audit log cannot be read.
    #[error("registry.redb: audit entry {id}: {error}")]
    Audit {
        /// The id of the record.
        id: AuditId,
        /// Why the row cannot be read.
        error: RecordError,
    },
    /// A row cannot be encoded.
    #[error("registry.redb: {0}")]
    Encode(#[from] serde_json::Error),
}

impl RegistryStoreError {
    /// Returns whether the disk is full. In that case nothing was written, and a later write may succeed.
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
