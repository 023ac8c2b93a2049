//! handoff: the messages between the stages, and the handles that send them.
//!
//! # Invariants
//! - Stages do not import each other. Each stage imports this folder.
//! - Every channel is bounded by a constant of [`crate::limits`].
//!
//! # Boundaries
//! This folder must never know how a stage works.

mod attempt;
mod commit;
mod commit_reply;
mod settle;
mod shard;

pub use crate::storage::delivery::{BacklogRow, RefillKind, RefillReply, ReplayFilter, RetryResult, WebhookBacklog};
pub use attempt::{AttemptOutcome, AttemptRequest, RetryDecision, TestAttempt, Transport};
pub use commit::{
    AdmittedEvent, BodyRequest, CommitError, CommitHandle, CommitPing, CommitResults, Committed, HandoverState,
    LoadedBody, RetentionRefs, Submission,
};
pub use commit_reply::{CommitReply, ReplyBatch, ReplyReceiver, ReplyRouter};
pub use settle::{
    AnnouncedEvent, CaptureFn, CostlyDeliveries, DisableReason, Refill, ReplayStep, SettleCommand, SettleHandle,
    SettledDelivery, StatusChange, ToSettle,
};
pub use shard::{EventArrival, Shards, TestDeliveryRefused, TestDeliveryRequest, ToShard, shard_of};
