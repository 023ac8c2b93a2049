//! commit: puts events on the disk, a batch at a time, and only then lets anybody answer.
//!
//! Promises: a [`Committed`] exists only after the fsync of its event; ids rise in the order of acceptance; an id or
//! idempotency key within the dedup window is stored once. Must never know: HTTP, webhooks beyond their numbers.
//!
//! Three threads: `commit` owns a [`Group`] and alone gives ids, decides duplicates and writes; `recall` reads bodies back for
//! the shards; `retain` makes segments ahead, seals those that are full, and retires what the log's limits take. All share
//! the [`Log`], which anybody may read, and its [`Poison`]: after a failed fsync nothing more is acknowledged.

mod gather;
mod group;

mod dedup;
mod ids;
mod record;
mod room;
mod segment;

mod log;
mod recall;
mod recover;
mod retain;
mod verify;

#[cfg(test)]
mod tests;

pub use dedup::{Dedup, Entry, Seen};
pub use group::Group;
pub use log::Log;
pub use record::{BadBlock, Packer, Records};
pub use recover::{OpenError, OpenLog, OpenedLog, Running, open};
pub use room::{Ballast, disk_reserve};
pub use segment::Span;
pub use verify::{LogStat, SegmentStat, SegmentState, stat, verify};
