//! The error types of the delivery store: one enum for each group of operations.
//!
//! The types do not expose how the store is implemented. A cause is a boxed error; callers can only use its text.

use std::error::Error as StdError;

use crate::storage::FormatError;
use crate::storage::file::is_full;

/// The underlying error of the store's files.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// The error of opening or loading the store.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Another process has the data folder open.
    #[error("state.redb or the history cannot be opened: {0}")]
    InUse(#[source] Cause),
    /// The disk is full.
    #[error("state.redb or the history cannot be opened: {0}")]
    DiskFull(#[source] Cause),
    /// Any other error of the files or the disk.
    #[error("state.redb or the history cannot be opened: {0}")]
    Storage(#[source] Cause),
    /// A newer program wrote a file.
    #[error(transparent)]
    Format(FormatError),
    /// The checkpoint is damaged.
    #[error("the checkpoint in state.redb cannot be read")]
    Checkpoint,
}

impl OpenStoreError {
    /// Returns whether another process has the data folder open.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse(_))
    }

    /// Returns whether the disk is full, which is temporary.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

/// The error of a flush, or of reopening or closing the files.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The disk is full. The same flush can be retried after [`super::DeliveryStore::reopen`].
    #[error("{0}")]
    DiskFull(#[source] Cause),
    /// Any other error of the files or the disk. The content of the disk is unknown.
    #[error("{0}")]
    Storage(#[source] Cause),
}

impl FlushError {
    /// Returns whether the disk is full, which is temporary.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

/// The error of reading the store.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The disk is full. Reopening a file needed space.
    #[error("{0}")]
    DiskFull(#[source] Cause),
    /// Any other error of the files or the disk.
    #[error("{0}")]
    Storage(#[source] Cause),
}

impl LookupError {
    /// Returns whether the disk is full, which is temporary.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

impl From<redb::Error> for OpenStoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse(error.into()),
            error if is_full(&error) => Self::DiskFull(error.into()),
            error => match FormatError::of(&error) {
                Some(refused) => Self::Format(refused.clone()),
                None => Self::Storage(error.into()),
            },
        }
    }
}

impl From<redb::Error> for FlushError {
    fn from(error: redb::Error) -> Self {
        if is_full(&error) { Self::DiskFull(error.into()) } else { Self::Storage(error.into()) }
    }
}

impl From<redb::Error> for LookupError {
    fn from(error: redb::Error) -> Self {
        if is_full(&error) { Self::DiskFull(error.into()) } else { Self::Storage(error.into()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::*;

    #[test]
    fn errors_tell_whether_the_disk_is_full_or_the_folder_is_in_use() {
        let io = |kind: ErrorKind| redb::Error::Io(io::Error::from(kind));
        for (error, is_full) in [
            (io(ErrorKind::StorageFull), true),
            (io(ErrorKind::QuotaExceeded), true),
            (io(ErrorKind::Other), false),
            (redb::Error::DatabaseClosed, false),
        ] {
            assert_eq!(FlushError::from(error).is_disk_full(), is_full);
        }
        assert!(LookupError::from(io(ErrorKind::StorageFull)).is_disk_full());
        assert!(OpenStoreError::from(io(ErrorKind::StorageFull)).is_disk_full());
        let in_use = OpenStoreError::from(redb::Error::DatabaseAlreadyOpen);
        assert!(in_use.is_in_use() && !in_use.is_disk_full());
        assert!(!OpenStoreError::from(io(ErrorKind::Other)).is_in_use());
    }
}
