//! The common format of all rows of registry.redb: JSON with a version in each row.
//!
//! A field that is added later is absent in older rows, so each such field has a default. A row of a newer version is
//! refused and not read in part.

use serde::Deserialize;

use super::vault::SealError;

/// The version of every kind of row.
pub(super) const VERSION: u16 = 1;

/// The error of reading a row.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A newer program wrote the row.
    #[error("of version {0}; this program reads version {VERSION}: run the newer program, or restore a backup")]
    Version(u16),
    /// The row is damaged.
    #[error("damaged: {0}")]
    Damaged(Box<str>),
    /// The row's secrets cannot be decrypted.
    #[error("its secrets do not open: {0}")]
    Sealed(#[from] SealError),
}

/// A stored row with a version.
pub(super) trait Versioned {
    /// Returns the row's version.
    fn version(&self) -> u16;
}

/// Decodes a row. Fails if its version is not [`VERSION`].
pub(super) fn parse<'a, R: Deserialize<'a> + Versioned>(bytes: &'a [u8]) -> Result<R, RecordError> {
    let row: R = serde_json::from_slice(bytes).map_err(|error| version_or_damage(bytes, &error))?;
    if row.version() == VERSION { Ok(row) } else { Err(RecordError::Version(row.version())) }
}

/// Returns the error for a row that cannot be parsed. If the row has another version, that is the reason to report.
fn version_or_damage(bytes: &[u8], error: &serde_json::Error) -> RecordError {
    #[derive(Deserialize)]
    struct Version {
        v: u16,
    }
    match serde_json::from_slice::<Version>(bytes) {
        Ok(Version { v }) if v != VERSION => RecordError::Version(v),
        _ => damaged(error),
    }
}

pub(crate) fn damaged(error: impl std::fmt::Display) -> RecordError {
    RecordError::Damaged(error.to_string().into())
}

/// Implements [`Versioned`] with the field `v`.
macro_rules! versioned {
    ($($row:ty),+) => {
        $(impl $crate::storage::registry::record::Versioned for $row {
            fn version(&self) -> u16 {
                self.v
            }
        })+
    };
}
pub(super) use versioned;
