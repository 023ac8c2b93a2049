//! What goes into a step of [`super::keeper::Keeper`] and what comes out of it. Whoever drives the keeper, a thread or a
//! simulation, passes messages and the time in and performs what comes out, in its order.

use tokio::sync::oneshot;

use crate::handoff::{DisableReason, ToSettle, ToShard};
use crate::model::{EventId, Timestamp, WebhookNo};
use crate::storage::delivery::{Flush, Flushed, Retried};

/// What both clocks show at a step.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    /// The scheduling clock: for retries, due times, windows.
    pub(super) steady: Timestamp,
    /// The wall clock: for what people read.
    pub(super) wall: Timestamp,
}

/// What a step takes in.
#[derive(Debug)]
pub(super) enum Input {
    /// What settle was told. Not while a flush is under way.
    Messages(Vec<ToSettle>),
    /// It is time to write what has gathered, and to answer who waits.
    Flush,
    /// The same for an orderly stop: everything, whatever its number, and the mark of a clean end.
    Finish,
    /// A flush is durable.
    Flushed(Box<Flush>, Box<Flushed>),
    /// A shard had no room for this.
    Untold(usize, ToShard),
    /// The registry had no room for this.
    NotDisabled(WebhookNo, DisableReason),
}

/// What is to be done after a step.
#[derive(Debug)]
pub(super) enum Output {
    /// Make this durable, then say so by [`Input::Flushed`].
    Flush(Box<Flush>),
    /// Tell a shard; if it has no room, say so by [`Input::Untold`].
    Tell(usize, ToShard),
    /// Answer somebody.
    Answer(Answer),
    /// Ask the registry to disable a webhook; if it has no room, say so by [`Input::NotDisabled`].
    Disable(WebhookNo, DisableReason),
    /// Say that operational events wait in the outbox.
    RingOutbox,
}

/// An answer, and where it goes.
#[derive(Debug)]
pub(super) enum Answer {
    /// A count, or a job's number.
    Count(oneshot::Sender<u64>, u64),
    /// Whether a job was cancelled.
    Cancelled(oneshot::Sender<bool>, bool),
    /// What came of trying a delivery once more.
    Retried(oneshot::Sender<Retried>, Retried),
    /// Deliveries that are outstanding.
    Outstanding(oneshot::Sender<Vec<(EventId, WebhookNo)>>, Vec<(EventId, WebhookNo)>),
}

impl Answer {
    /// Sends it. Whoever asked may have gone meanwhile.
    pub(super) fn send(self) {
        match self {
            Self::Count(reply, count) => drop(reply.send(count)),
            Self::Cancelled(reply, is_cancelled) => drop(reply.send(is_cancelled)),
            Self::Retried(reply, retried) => drop(reply.send(retried)),
            Self::Outstanding(reply, deliveries) => drop(reply.send(deliveries)),
        }
    }
}
