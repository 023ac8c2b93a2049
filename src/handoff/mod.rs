//! handoff: the messages that the stages exchange, and the handles that carry them.
//!
//! Stages do not import each other; each imports this folder. Every channel is bounded by a limit of [`crate::limits`].
//! Must never know: how a stage does its work.

mod attempt;
mod commit;
mod reply;
mod settle;
mod shard;

pub use crate::storage::delivery::{Lane, Refilled, ReplayFilter, Retried, Row, Waiting};
pub use attempt::{AttemptRequest, Outcome, Probed, Transport, Verdict};
pub use commit::{Admitted, CommitHandle, Committed, Needs, RecallRequest, Recalled, Refused, Submission, Verdicts};
pub use reply::{Clerk, Reply, ReplyRouter, Round};
pub use settle::{Announced, Command, DisableReason, Noted, Refill, SettleHandle, Settled, ToSettle};
pub use shard::{Arrival, Probe, ProbeRefused, Shards, ToShard, shard_of};
