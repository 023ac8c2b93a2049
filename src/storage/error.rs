//! The error of a data file, as the rest of the program sees it.

use std::fmt;

use redb::Error;

use super::file::is_full;
use super::format::FormatError;

/// A redb file could not be opened, read or written.
#[derive(Debug)]
pub struct FileError(Error);

impl FileError {
    /// Whether the disk is full: nothing was written, and a later write may succeed.
    pub fn is_disk_full(&self) -> bool {
        is_full(&self.0)
    }

    /// Whether another process has the file open.
    pub fn is_in_use(&self) -> bool {
        matches!(self.0, Error::DatabaseAlreadyOpen)
    }

    /// Whether the file was open in a crash and has not been repaired yet.
    pub fn is_unrepaired(&self) -> bool {
        matches!(self.0, Error::RepairAborted)
    }

    /// The reason, if the file has a format that this program does not know.
    pub fn format(&self) -> Option<&FormatError> {
        FormatError::of(&self.0)
    }

    /// Whether the handle was closed, or is unusable since an I/O error: a read from a new handle may succeed.
    pub(super) fn is_stale(&self) -> bool {
        matches!(self.0, Error::DatabaseClosed | Error::PreviousIo)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format() {
            Some(refused) => refused.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl<E: Into<Error>> From<E> for FileError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}
