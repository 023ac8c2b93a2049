//! The error that ends settle.

use crate::storage::delivery::{FlushError, LookupError};

/// Why settle cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// A flush could not be made durable.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// The store could not be read.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

impl SettleError {
    /// Whether the disk is full. Such an error is temporary.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Flush(error) => error.is_disk_full(),
            Self::Lookup(error) => error.is_disk_full(),
        }
    }
}
