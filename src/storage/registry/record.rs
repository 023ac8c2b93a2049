//! What all rows of registry.redb have in common: JSON with a version of its own.
//!
//! A field that is added later is absent in what was written before, so each such field has a default; a row of a later
//! version is refused rather than read in part.

use serde::Deserialize;

use super::vault::SealError;

/// The version of every kind of row.
pub(super) const VERSION: u16 = 1;

/// Why a row cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A later program wrote it.
    #[error("of version {0}; this program reads version {VERSION}: run the newer program, or restore a backup")]
    Version(u16),
    /// It is not such a row.
    #[error("damaged: {0}")]
    Damaged(Box<str>),
    /// Its secrets do not open.
    #[error("its secrets do not open: {0}")]
    Sealed(#[from] SealError),
}

/// A row as it stands in the file, which says its version.
pub(super) trait Versioned {
    /// Its version.
    fn version(&self) -> u16;
}

/// Reads a row of this program's version.
pub(super) fn parse<'a, R: Deserialize<'a> + Versioned>(bytes: &'a [u8]) -> Result<R, RecordError> {
    let row: R = serde_json::from_slice(bytes).map_err(|error| version_or_damage(bytes, &error))?;
    if row.version() == VERSION { Ok(row) } else { Err(RecordError::Version(row.version())) }
}

/// A later version may not even parse as ours; its number says so better than the parser.
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

/// Implements [`Versioned`] by the field `v`.
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
