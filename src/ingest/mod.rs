//! ingest: the only way to build events and to write them to the log.
//!
//! A caller describes an event in plain values ([`EventDraft`]) and receives an [`IngestResult`]. The HTTP API, sources
//! and operational events use the same two steps:
//!
//! 1. [`EventBuilder`] matches the webhooks, computes the dedup keys, encodes the heads and counts the bytes.
//! 2. [`Ingest::submit`] waits for an ingest permit, hands the events to the commit stage and waits for the fsync.
//!
//! Must never know: HTTP, and anything about an event's origin that its draft does not have.

mod builder;
mod draft;
mod key;
mod operational_events;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

pub use builder::{EventBatch, EventBuilder, build_for};
pub use draft::{EventDraft, EventOrigin};
pub use operational_events::OperationalEvent;

use crate::filter::EventFields;
use crate::handoff::{CommitError, CommitHandle, CommitReply, Committed, ReplyRouter, Submission};
use crate::model::{MatchedWebhooks, Timestamp};
use crate::registry::Shared;
use crate::runtime::{IngestPermits, MemoryBudget};

/// Finds the webhooks that an event goes to.
pub trait Matcher: Send + Sync + 'static {
    /// The webhooks. `now` is the time of the wall clock, at which the work of their filters is charged.
    fn matching(&self, event_fields: &EventFields<'_>, now: Timestamp) -> MatchedWebhooks;
}

impl Matcher for Shared {
    fn matching(&self, event_fields: &EventFields<'_>, now: Timestamp) -> MatchedWebhooks {
        self.load().matching(event_fields, now)
    }
}

/// Sends events to the commit thread.
pub trait Submit: Send + Sync + 'static {
    /// Sends the events of a request without waiting.
    ///
    /// # Errors
    /// The reason and the submission, if the queue is full or the commit thread has ended.
    #[expect(clippy::result_large_err, reason = "the submission comes back unboxed, as it went in")]
    fn submit(&self, submission: Submission) -> Result<(), (CommitError, Submission)>;
}

impl Submit for CommitHandle {
    fn submit(&self, submission: Submission) -> Result<(), (CommitError, Submission)> {
        Self::submit(self, submission)
    }
}

/// The result for one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestResult {
    /// The event is on the disk.
    Accepted {
        /// The event's id, and whether the event is a duplicate. This value exists only after a completed fsync.
        committed: Committed,
        /// The number of matched webhooks.
        webhooks: usize,
    },
    /// The event is not in the log.
    Refused(CommitError),
}

/// One result for each event, in the order of the batch.
pub type IngestResults = SmallVec<[IngestResult; 1]>;

/// A handle that ingests events. `M` finds their webhooks, and `S` sends them to the commit thread.
#[derive(Debug, Clone)]
pub struct Ingest<M, S> {
    matcher: M,
    submit: S,
    permits: Arc<IngestPermits>,
    memory: Arc<MemoryBudget>,
}

impl<M: Matcher, S: Submit> Ingest<M, S> {
    /// Creates a handle. `permits` bounds the deliveries without a durable outcome, and `memory` counts the
    /// bodies in memory.
    pub fn new(matcher: M, submit: S, permits: Arc<IngestPermits>, memory: Arc<MemoryBudget>) -> Self {
        Self { matcher, submit, permits, memory }
    }

    /// Ingests one event, which arrived in `request`. The event is built before this method returns. The future submits
    /// the event, and ends when the event is on the disk or refused.
    ///
    /// `reply_router` is the router of the waiting thread, if the thread has one.
    pub fn submit_event<'a>(
        &'a self,
        draft: &EventDraft<'_>,
        request: &Bytes,
        reply_router: Option<&'a ReplyRouter>,
    ) -> impl Future<Output = IngestResult> + use<'a, M, S> {
        let mut builder = self.builder(request, 1);
        builder.add(draft);
        let batch = builder.finish();
        async move {
            match self.submit(batch, reply_router).await {
                Ok(mut results) => results.pop().unwrap_or(IngestResult::Refused(COMMIT_THREAD_ENDED)),
                Err(why) => IngestResult::Refused(why),
            }
        }
    }

    /// A builder for about `events` events that arrived in `request`. [`Ingest::submit`] takes the built events.
    pub fn builder<'a>(&'a self, request: &'a Bytes, events: usize) -> EventBuilder<'a, M> {
        EventBuilder::new(&self.matcher, request, events)
    }

    /// Submits events and waits until they are on the disk. Returns one result for each event. Dropping the future does
    /// not cancel the submission.
    ///
    /// # Errors
    /// If there are no permits for the batch, the queue is full, or the log is poisoned.
    pub async fn submit(
        &self,
        batch: EventBatch,
        reply_router: Option<&ReplyRouter>,
    ) -> Result<IngestResults, CommitError> {
        let EventBatch { events, bytes } = batch;
        let counts: SmallVec<[usize; 1]> = events.iter().map(|event| event.matched.len()).collect();
        if counts.is_empty() {
            return Ok(IngestResults::new());
        }
        let permit = self.permits.acquire(counts.iter().sum(), bytes).await.ok_or(CommitError::Overloaded)?;
        let (reply, results) = reply_router.map_or_else(CommitReply::direct, ReplyRouter::reply);
        let submission = Submission { events, permit, lease: self.memory.lease(bytes), reply };
        self.submit.submit(submission).map_err(|(why, _)| why)?;
        let results = results.await.map_err(|_| COMMIT_THREAD_ENDED)?;
        if results.len() != counts.len() {
            return Err(COMMIT_THREAD_ENDED);
        }
        let results = results.into_iter().zip(counts).map(|(result, webhooks)| match result {
            Ok(committed) => IngestResult::Accepted { committed, webhooks },
            Err(why) => IngestResult::Refused(why),
        });
        Ok(results.collect())
    }

    /// The number of deliveries whose outcome is not durable yet.
    pub fn deliveries(&self) -> usize {
        self.permits.deliveries()
    }

    /// The bytes of bodies in memory.
    pub fn body_bytes(&self) -> usize {
        self.memory.used()
    }
}

/// The error when the commit thread ended without a result. Only the next start shows whether the event is on the disk,
/// so the sender has to try again. The event's id makes a second submission harmless.
const COMMIT_THREAD_ENDED: CommitError = CommitError::Poisoned;

#[cfg(test)]
mod tests;
