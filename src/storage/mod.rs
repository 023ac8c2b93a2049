//! storage: every file of the data folder, and the one lifecycle of redb files.

pub mod delivery;

mod disk;
mod error;
pub(crate) mod file;
pub(crate) mod format;

mod disk_space;
pub mod log;
mod poison;
pub mod registry;

#[cfg(test)]
pub(crate) mod sim;

pub use disk::{Backend, Disk, FileSize, RealDisk};
pub use disk_space::{Ballast, Room, disk_reserve};
pub use error::FileError;
pub use format::FormatError;
pub use log::{
    AppendError, Appended, Durable, DurableEvent, EventLog, LogPosition, NewRecord, OpenLogError, ReadError, ReadLog,
    RedbLog, RetireError, Stored,
};
pub use poison::Poison;
