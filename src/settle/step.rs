//! Inputs and outputs of [`SettleState::step`](super::state::SettleState::step).
//!
//! The driver, in a thread or in a simulation, passes messages and the time in, and performs the outputs in their
//! order.

use tokio::sync::oneshot;

use super::replay::ReplayStepRequest;
use crate::handoff::{CaptureFn, DisableReason, ToSettle, ToShard};
use crate::model::{EventId, Timestamp, WebhookNo};
use crate::storage::delivery::{Flush, Flushed, RetryResult};

/// The time of both clocks at a step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SettleTime {
    /// The scheduling clock, for retries, due times and windows.
    pub(super) steady: Timestamp,
    /// The wall clock, for times that users see.
    pub(super) wall: Timestamp,
}

/// The input of a step.
#[derive(Debug)]
pub(super) enum SettleInput {
    /// Messages to settle. Never passed during a flush.
    Messages(Vec<ToSettle>),
    /// Write the pending batch and send the waiting replies.
    Flush,
    /// Write everything, and the mark of a clean end, for an orderly stop.
    Finish,
    /// A flush is durable.
    Flushed(Box<Flush>, Box<Flushed>),
    /// The shard's queue was full for this message.
    ShardFull(usize, ToShard),
    /// The registry's queue was full for this request.
    DisableRefused(WebhookNo, DisableReason),
}

/// What the driver must do after a step.
#[derive(Debug)]
pub(super) enum SettleOutput {
    /// Make this flush durable, then pass [`SettleInput::Flushed`].
    Flush(Box<Flush>),
    /// Send a message to a shard. If its queue is full, pass [`SettleInput::ShardFull`].
    SendToShard(usize, ToShard),
    /// Send a reply.
    Reply(CommandReply),
    /// Ask the registry to disable a webhook. If its queue is full, pass [`SettleInput::DisableRefused`].
    Disable(WebhookNo, DisableReason),
    /// Evaluate the next step of a replay, then pass the result as a message. At most one step is evaluated at a time.
    EvaluateReplay(ReplayStepRequest),
    /// Notify the reader of the outbox that rows wait.
    NotifyOutbox,
}

/// A reply to a command, with its receiver.
#[derive(Debug)]
pub(super) enum CommandReply {
    /// A count, or the number of a job.
    Count(oneshot::Sender<u64>, u64),
    /// Whether a job was cancelled.
    Cancelled(oneshot::Sender<bool>, bool),
    /// The result of a manual retry.
    Retried(oneshot::Sender<RetryResult>, RetryResult),
    /// The number of outstanding deliveries of a webhook.
    Captured(CaptureFn, usize),
    /// The outstanding deliveries.
    Outstanding(oneshot::Sender<Vec<(EventId, WebhookNo)>>, Vec<(EventId, WebhookNo)>),
}

impl CommandReply {
    /// Sends the reply. The receiver may be gone already.
    pub(super) fn send(self) {
        match self {
            Self::Count(reply, count) => drop(reply.send(count)),
            Self::Cancelled(reply, is_cancelled) => drop(reply.send(is_cancelled)),
            Self::Retried(reply, retried) => drop(reply.send(retried)),
            Self::Captured(capture, outstanding) => (capture.0)(outstanding),
            Self::Outstanding(reply, deliveries) => drop(reply.send(deliveries)),
        }
    }
}
