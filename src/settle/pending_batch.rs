//! What has come in since the last flush, and who waits for the next one.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::step::Answer;
use crate::handoff::Refill;
use crate::model::{EventId, WebhookNo};
use crate::runtime::Permit;
use crate::storage::delivery::{Flush, Flushed, Retried};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PendingBatch {
    /// Items of any kind.
    pub(super) items: usize,
    /// What the next flush writes.
    pub(super) flush: Box<Flush>,
    /// Jobs to write, by number: new or cancelled.
    pub(super) jobs: Vec<u64>,
    /// Who waits for it.
    pub(super) asked: Asked,
}

/// Who waits for a flush, and what is done when it is durable.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) refills: Vec<Refill>,
    pub(super) syncs: Vec<Sync>,
    pub(super) job_replies: Vec<(oneshot::Sender<u64>, u64)>,
    pub(super) cancel_replies: Vec<(oneshot::Sender<bool>, bool)>,
    /// Replays of named dead letters, in the order of [`Flushed::recovered`].
    pub(super) recovers: Vec<oneshot::Sender<u64>>,
    /// Deliveries to be tried once more.
    pub(super) retries: Vec<AskedAgain>,
    /// Dead letters to forget, in the order of [`Flushed::discarded`].
    pub(super) discards: Vec<oneshot::Sender<u64>>,
    /// Replays of all of a webhook's, in the order of [`Flushed::totals`].
    pub(super) recover_alls: Vec<oneshot::Sender<u64>>,
    /// Permits to give back.
    pub(super) permits: Vec<Arc<Permit>>,
}

/// Who asked for a delivery once more.
#[derive(Debug)]
pub(super) struct AskedAgain {
    pub(super) reply: oneshot::Sender<Retried>,
    /// What came of it, if no row has to be looked at; the next of [`Flushed::retried`] otherwise.
    pub(super) answer: Option<Retried>,
}

/// Who waits for a [`crate::handoff::Command::Sync`].
#[derive(Debug)]
pub(super) struct Sync {
    pub(super) webhook: Option<WebhookNo>,
    pub(super) event: Option<EventId>,
    pub(super) limit: usize,
    pub(super) reply: oneshot::Sender<Vec<(EventId, WebhookNo)>>,
}

impl Asked {
    /// Whether somebody waits for an answer that needs no write.
    pub(super) fn is_waited_for(&self) -> bool {
        !self.refills.is_empty() || !self.syncs.is_empty() || !self.cancel_replies.is_empty()
    }

    /// The answers that a flush gives.
    pub(super) fn take_answers(&mut self, flushed: &Flushed, mut give: impl FnMut(Answer)) {
        for (reply, rows) in self.recovers.drain(..).zip(&flushed.recovered) {
            give(Answer::Count(reply, *rows));
        }
        let mut retried = flushed.retried.iter().copied();
        for AskedAgain { reply, answer } in self.retries.drain(..) {
            let answer = answer.or_else(|| retried.next()).unwrap_or_default();
            give(Answer::Retried(reply, answer));
        }
        for (reply, letters) in self.discards.drain(..).zip(&flushed.discarded) {
            give(Answer::Count(reply, *letters));
        }
        for (reply, letters) in self.recover_alls.drain(..).zip(&flushed.totals) {
            give(Answer::Count(reply, *letters));
        }
        for (reply, job) in self.job_replies.drain(..) {
            give(Answer::Count(reply, job));
        }
    }
}
