//! Why an operation of the log failed: one enum for each operation.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::EventId;
use crate::storage::file::{OfFile, is_full_io};
use crate::storage::{FileError, FormatError};

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The folder or a file in it.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The segment that was written last.
    #[error("{path}: {source}")]
    Segment {
        /// Which.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// A file of a newer program.
    #[error(transparent)]
    Format(FormatError),
    /// What is in it.
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

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// redb or the disk.
    #[error("the log cannot be read: {0}")]
    Storage(#[from] FileError),
    /// A record that this program does not understand.
    #[error("the log holds a damaged record at {0}")]
    Damaged(EventId),
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There was no room. The log is as it was before, and a later append may succeed.
    #[error(transparent)]
    DiskFull(FileError),
    /// The write failed. What is on the disk is not known before a restart.
    #[error(transparent)]
    Failed(FileError),
    /// The write failed for want of room, and afterwards the log could not be read.
    #[error(transparent)]
    Unknown(ReadError),
}

/// Why a segment could not be retired, sealed or made ahead now.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// What is in it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file.
    #[error(transparent)]
    Storage(#[from] FileError),
    /// The file system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AppendError {
    /// Whether the disk is full: nothing was written, and a later append may succeed. Any other failure is final, because
    /// what a failed fsync left behind cannot be known without a restart.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull(_))
    }
}

impl RetireError {
    /// Whether it may work another time.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Read(ReadError::Storage(error)) | Self::Storage(error) => error.is_disk_full(),
            Self::Read(ReadError::Damaged(_)) => true,
            Self::Io(error) => is_full_io(error),
        }
    }
}

impl OfFile for ReadError {
    fn of_file(&self) -> Option<&FileError> {
        match self {
            Self::Storage(error) => Some(error),
            Self::Damaged(_) => None,
        }
    }
}
