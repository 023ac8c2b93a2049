//! Why settle has ended.

use crate::storage::delivery::{FlushError, LookupError};

/// Why settle could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// A flush did not become durable.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// What was asked for could not be read.
    #[error(transparent)]
    Lookup(#[from] LookupError),
}

impl SettleError {
    /// Whether the disk is full, which passes.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Flush(error) => error.is_disk_full(),
            Self::Lookup(error) => error.is_disk_full(),
        }
    }
}
