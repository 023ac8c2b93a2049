//! commit: puts events on the disk, a batch at a time, and only then lets anybody answer.
//!
//! Promises: a [`Committed`](crate::handoff::Committed) exists only after the fsync of its event; ids rise in the order of acceptance; an id or
//! idempotency key within the dedup window is stored once. Must never know: HTTP, webhooks beyond their numbers.
//!
//! Three threads: `commit` owns a [`Committer`], whose [`Group`] alone gives ids and decides duplicates; `recall` reads bodies
//! back for the shards; `retain` has segments made ahead and sealed, and decides which the log's limits take. All share the
//! [`crate::storage::EventLog`], which anybody may read, and its [`crate::storage::Poison`]: after a failed fsync nothing more
//! is acknowledged.

mod batch;
mod committer;
mod group;

mod dedup;
mod ids;

mod body_reader;
mod open;
mod retention;

#[cfg(test)]
mod tests;

pub use committer::Committer;
pub use dedup::{Dedup, Entry, Seen};
pub use group::{Arrivals, Group, Input, Now, Output, Told, Window};
pub use open::{OpenError, OpenLog, OpenedLog, Running, open};
