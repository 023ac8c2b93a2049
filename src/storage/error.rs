//! The error type of the redb data files.

use std::fmt;

use redb::Error;

use super::file::is_full;
use super::format::FormatError;

/// The error of opening, reading or writing a redb file.
#[derive(Debug)]
pub struct FileError(Error);

impl FileError {
    /// Returns whether the disk is full. In that case nothing was written, and a later write may succeed.
    pub fn is_disk_full(&self) -> bool {
        is_full(&self.0)
    }

    /// Returns whether another process has the file open.
    pub fn is_in_use(&self) -> bool {
        matches!(self.0, Error::DatabaseAlreadyOpen)
    }

    /// Returns whether the file was open during a crash and has not been repaired yet.
    pub fn is_unrepaired(&self) -> bool {
        matches!(self.0, Error::RepairAborted)
    }

    /// Returns the format error if this program does not know the file's format, and `None` for other errors.
    pub fn format(&self) -> Option<&FormatError> {
        FormatError::of(&self.0)
    }

    /// Returns whether the handle was closed, or is unusable because of an earlier I/O error. A read from a new handle
    /// may succeed.
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
