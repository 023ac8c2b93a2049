//! The error types of the log: one enum for each operation.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::EventId;
use crate::storage::file::{HasFileError, is_full_io};
use crate::storage::{FileError, FormatError};

/// The error of opening the log.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The file system returned an error for the folder or a file in it.
    #[error("{path}: {source}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The newest segment could not be opened for writing.
    #[error("{path}: {source}")]
    Segment {
        /// The segment's file.
        path: PathBuf,
        /// The error of the file.
        source: FileError,
    },
    /// A newer program wrote the file.
    #[error(transparent)]
    Format(FormatError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl OpenLogError {
    pub(super) fn of_segment(path: &Path, source: FileError) -> Self {
        match source.format() {
            Some(refused) => Self::Format(refused.clone()),
            None => Self::Segment { path: path.to_owned(), source },
        }
    }
}

/// The error of reading the log.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// redb or the disk returned an error.
    #[error("the log cannot be read: {0}")]
    Storage(#[from] FileError),
    /// A record or block is damaged. The id is that of the event, or of the first event in the block.
    #[error("the log holds a damaged record at {0}")]
    Damaged(EventId),
}

/// The error of appending a batch.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is full. The log is unchanged, and a later append may succeed.
    #[error(transparent)]
    DiskFull(FileError),
    /// The write failed. The content of the disk is unknown until a restart.
    #[error(transparent)]
    Failed(FileError),
    /// The write failed because the disk is full, and then the log could not be read.
    #[error(transparent)]
    Unknown(ReadError),
}

/// The error of retiring, sealing or preparing a segment.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// The segment could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// redb or the disk returned an error.
    #[error(transparent)]
    Storage(#[from] FileError),
    /// The file system returned an error.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AppendError {
    /// Returns whether the disk is full. In that case nothing was written, and a later append may succeed. Every other
    /// failure is final, because the content of the disk after a failed fsync is unknown until a restart.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

impl RetireError {
    /// Returns whether a later attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read(ReadError::Storage(error)) | Self::Storage(error) => error.is_disk_full(),
            Self::Read(ReadError::Damaged(_)) => true,
            Self::Io(error) => is_full_io(error),
        }
    }
}

impl HasFileError for ReadError {
    fn file_error(&self) -> Option<&FileError> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Damaged(_) => None,
        }
    }
}
