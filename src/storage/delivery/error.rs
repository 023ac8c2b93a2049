//! Why an operation of the store failed: one enum for each group of operations.
//!
//! What the store is made of stays behind these types. A cause is a boxed error, whose text is all that a caller can use.

use std::error::Error as StdError;

use crate::storage::FormatError;
use crate::storage::file::is_full;

/// What the store's files or their format said.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why the store could not be opened or loaded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the folder open.
    #[error("state.redb or the history cannot be opened: {0}")]
    InUse(#[source] Cause),
    /// The disk is full.
    #[error("state.redb or the history cannot be opened: {0}")]
    DiskFull(#[source] Cause),
    /// Anything else that the files or the disk said.
    #[error("state.redb or the history cannot be opened: {0}")]
    Storage(#[source] Cause),
    /// A newer program wrote a file.
    #[error(transparent)]
    Format(FormatError),
    /// The checkpoint is not one.
    #[error("the checkpoint in state.redb cannot be read")]
    Checkpoint,
}

impl OpenError {
    /// Whether another process has the folder open.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse(_))
    }

    /// Whether the disk is full, which passes.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

/// Why a flush did not become durable, or the files could not be opened again or closed.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// The disk is full: the same flush can be tried again after [`super::DeliveryStore::reopen`].
    #[error("{0}")]
    DiskFull(#[source] Cause),
    /// Anything else that the files or the disk said. What the disk holds is not known.
    #[error("{0}")]
    Storage(#[source] Cause),
}

impl FlushError {
    /// Whether the disk is full, which passes.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

/// Why the store could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The disk is full: opening a file again needed room.
    #[error("{0}")]
    DiskFull(#[source] Cause),
    /// Anything else that the files or the disk said.
    #[error("{0}")]
    Storage(#[source] Cause),
}

impl LookupError {
    /// Whether the disk is full, which passes.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

impl From<redb::Error> for OpenError {
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
    fn an_error_says_whether_the_disk_is_full_or_the_folder_in_use() {
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
        assert!(OpenError::from(io(ErrorKind::StorageFull)).is_disk_full());
        let in_use = OpenError::from(redb::Error::DatabaseAlreadyOpen);
        assert!(in_use.is_in_use() && !in_use.is_disk_full());
        assert!(!OpenError::from(io(ErrorKind::Other)).is_in_use());
    }
}
