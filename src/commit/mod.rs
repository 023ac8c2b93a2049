//! commit: writes accepted events to the log in batches, and answers a request only after the fsync of its events.
//!
//! Invariants:
//! - A [`Committed`](crate::handoff::Committed) exists only after the fsync of its event.
//! - Event ids increase in the order of acceptance.
//! - An event with the same id or idempotency key is stored once within the dedup window.
//!
//! This folder must never know HTTP, and of webhooks only their numbers.
//!
//! Three threads share the [`crate::storage::EventLog`], which every thread may read, and its
//! [`crate::storage::Poison`]: after a failed fsync no event is acknowledged.
//! - `commit` owns a [`Committer`]. Only its [`GroupCommit`] assigns ids and detects duplicates.
//! - `recall` reads event bodies from the log for the shards.
//! - `retain` creates segments ahead, seals full ones, and deletes those that exceed the limits of the log.

mod batch;
mod committer;
mod group;
mod notifier;

mod dedup;
mod ids;

mod body_reader;
mod open;
mod retention;

#[cfg(test)]
pub(crate) mod stepping;
#[cfg(test)]
mod tests;

pub use committer::Committer;
pub use dedup::{DedupEntry, DedupLookup, DedupTable};
pub use group::{BatchOutcome, CommitTime, DedupWindow, GroupCommit, GroupInput, GroupOutput, ShardArrivals};
pub use open::{CommitThreads, OpenCommitError, OpenLog, OpenedLog, open};
