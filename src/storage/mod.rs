//! storage: reads and writes every file of the data folder.
//!
//! - [`log`] is the log of accepted events.
//! - [`delivery`] holds backlog rows, dead letters, jobs, statistics, the checkpoint and the attempt history.
//! - [`registry`] holds webhooks, sources, event types, tenants, API keys and the audit log.
//! - [`Disk`] is the file system as a parameter. [`RealDisk`] is the operating system's; tests use a simulated disk.
//! - Every redb file goes through one type (`file::RedbFile`), which opens, closes and reopens it.

pub mod delivery;

mod disk;
mod error;
pub(crate) mod file;
pub(crate) mod format;

mod disk_space;
mod idempotency;
pub mod log;
mod poison;
pub mod registry;

#[cfg(test)]
pub(crate) mod sim;

pub use disk::{Backend, Disk, FileSize, RealDisk};
pub use disk_space::{Ballast, DiskSpace, disk_reserve};
pub use error::FileError;
pub use format::FormatError;
pub use idempotency::{IdempotencyKey, NewStoredResponse, NumberedResponse, StoredResponse};
pub use log::{
    AppendError, Appended, Durable, DurableEvent, EventLog, LogPosition, LogRecord, NewRecord, OpenLogError, ReadError,
    ReadLog, RedbLog, RetireError,
};
pub use poison::Poison;
