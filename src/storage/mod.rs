//! storage: every file of the data folder, and the one lifecycle of redb files.

pub mod delivery;

mod disk;
mod event_log;
pub(crate) mod file;
mod poison;

#[cfg(test)]
pub(crate) mod sim;

pub use disk::{Backend, Disk, FileSize, RealDisk};
pub use event_log::{ReadError, ReadLog, Stored};
pub use poison::Poison;
