//! The changes since the last flush, and the replies that wait for the next one.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::step::CommandReply;
use crate::handoff::{CaptureFn, Refill};
use crate::model::{EventId, WebhookNo};
use crate::runtime::IngestPermit;
use crate::storage::delivery::{Flush, Flushed, RetryResult};

/// The batch that the next flush writes.
#[derive(Debug, Default)]
pub(super) struct PendingBatch {
    /// The number of items of all kinds.
    pub(super) items: usize,
    /// The changes that the next flush writes.
    pub(super) flush: Box<Flush>,
    /// Numbers of new and cancelled jobs to write.
    pub(super) jobs: Vec<u64>,
    /// Replies that wait for the flush.
    pub(super) replies: PendingReplies,
}

/// Replies to send and permits to release when a flush is durable.
#[derive(Debug, Default)]
pub(super) struct PendingReplies {
    pub(super) refills: Vec<Refill>,
    pub(super) syncs: Vec<SyncReply>,
    pub(super) captures: Vec<(WebhookNo, CaptureFn)>,
    pub(super) job_replies: Vec<(oneshot::Sender<u64>, u64)>,
    pub(super) cancel_replies: Vec<(oneshot::Sender<bool>, bool)>,
    /// Replays of named dead letters, in the order of [`Flushed::recovered`].
    pub(super) recovers: Vec<oneshot::Sender<u64>>,
    /// Manual retries.
    pub(super) retries: Vec<RetryReply>,
    /// Deletions of dead letters, in the order of [`Flushed::discarded`].
    pub(super) discards: Vec<oneshot::Sender<u64>>,
    /// Replays of all dead letters of a webhook, in the order of [`Flushed::totals`].
    pub(super) recover_alls: Vec<oneshot::Sender<u64>>,
    /// Permits to release.
    pub(super) permits: Vec<Arc<IngestPermit>>,
}

/// The reply to a manual retry.
#[derive(Debug)]
pub(super) struct RetryReply {
    pub(super) reply: oneshot::Sender<RetryResult>,
    /// The result, if it is known without a look at the row. `None`: the next of [`Flushed::retried`].
    pub(super) answer: Option<RetryResult>,
}

/// The reply to a [`crate::handoff::SettleCommand::Sync`].
#[derive(Debug)]
pub(super) struct SyncReply {
    pub(super) webhook: Option<WebhookNo>,
    pub(super) event: Option<EventId>,
    pub(super) limit: usize,
    pub(super) reply: oneshot::Sender<Vec<(EventId, WebhookNo)>>,
}

impl PendingReplies {
    /// Whether a reply waits that needs no write.
    pub(super) fn is_waited_for(&self) -> bool {
        let is_asked = !self.syncs.is_empty() || !self.captures.is_empty();
        is_asked || !self.refills.is_empty() || !self.cancel_replies.is_empty()
    }

    /// Passes the replies that a durable flush answers to `give`.
    pub(super) fn take_replies(&mut self, flushed: &Flushed, mut give: impl FnMut(CommandReply)) {
        for (reply, rows) in self.recovers.drain(..).zip(&flushed.recovered) {
            give(CommandReply::Count(reply, *rows));
        }
        let mut retried = flushed.retried.iter().copied();
        for RetryReply { reply, answer } in self.retries.drain(..) {
            let answer = answer.or_else(|| retried.next()).unwrap_or_default();
            give(CommandReply::Retried(reply, answer));
        }
        for (reply, letters) in self.discards.drain(..).zip(&flushed.discarded) {
            give(CommandReply::Count(reply, *letters));
        }
        for (reply, letters) in self.recover_alls.drain(..).zip(&flushed.totals) {
            give(CommandReply::Count(reply, *letters));
        }
        for (reply, job) in self.job_replies.drain(..) {
            give(CommandReply::Count(reply, job));
        }
    }
}
