//! ingest: the one way to make an event and to bring it into the log.
//!
//! A caller describes an event in plain values ([`EventDraft`]) and receives a [`Verdict`]. The HTTP API, sources and
//! the gateway's own events use the same two steps:
//!
//! 1. [`EventBuilder`] matches the webhooks, computes the dedup keys, encodes the heads and counts the bytes.
//! 2. [`Ingest::submit`] waits for a permit, hands the events to the commit stage and waits for the fsync.
//!
//! Must never know: HTTP, and where an event came from beyond what its draft says.

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

use crate::filter::Facts;
use crate::handoff::{CommitHandle, Committed, Refused, Reply, ReplyRouter, Submission};
use crate::model::Webhooks;
use crate::registry::Shared;
use crate::runtime::{IngestPermits, MemoryBudget};

/// Finds the webhooks that an event goes to.
pub trait Matcher: Send + Sync + 'static {
    /// The numbers of the webhooks, ascending.
    fn matching(&self, facts: &Facts<'_>) -> Webhooks;
}

impl Matcher for Shared {
    fn matching(&self, facts: &Facts<'_>) -> Webhooks {
        self.load().matching(facts)
    }
}

/// The way to the commit thread.
pub trait Submit: Send + Sync + 'static {
    /// Hands a request's events over without waiting, or returns them.
    ///
    /// # Errors
    /// The reason and the submission, if there is no room for it or no commit thread.
    #[expect(clippy::result_large_err, reason = "the submission comes back unboxed, as it went in")]
    fn submit(&self, submission: Submission) -> Result<(), (Refused, Submission)>;
}

impl Submit for CommitHandle {
    fn submit(&self, submission: Submission) -> Result<(), (Refused, Submission)> {
        Self::submit(self, submission)
    }
}

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The event is on the disk.
    Taken {
        /// The event's id, and whether the event is a duplicate. Only a completed fsync makes this value.
        committed: Committed,
        /// How many webhooks the event matched.
        webhooks: usize,
    },
    /// The event is not in the log.
    Refused(Refused),
}

/// One verdict for each event, in the order of the batch.
pub type Verdicts = SmallVec<[Verdict; 1]>;

/// A handle that takes events. `M` finds their webhooks, and `S` leads to the commit thread.
#[derive(Debug, Clone)]
pub struct Ingest<M, S> {
    matcher: M,
    submit: S,
    ingest_permits: Arc<IngestPermits>,
    memory: Arc<MemoryBudget>,
}

impl<M: Matcher, S: Submit> Ingest<M, S> {
    /// A handle. `ingest_permits` bounds the deliveries without a durable outcome; `memory` counts the bodies in memory.
    pub fn new(matcher: M, submit: S, ingest_permits: Arc<IngestPermits>, memory: Arc<MemoryBudget>) -> Self {
        Self { matcher, submit, ingest_permits, memory }
    }

    /// Takes one event, which arrived in `request`. The event is built before this method returns; the future submits
    /// the event and ends when the event is on the disk or refused.
    ///
    /// `desk` is that of the thread that waits, if the thread has one.
    pub fn take<'a>(
        &'a self,
        draft: &EventDraft<'_>,
        request: &Bytes,
        desk: Option<&'a ReplyRouter>,
    ) -> impl Future<Output = Verdict> + use<'a, M, S> {
        let mut builder = self.builder(request, 1);
        builder.add(draft);
        let batch = builder.finish();
        async move {
            match self.submit(batch, desk).await {
                Ok(mut verdicts) => verdicts.pop().unwrap_or(Verdict::Refused(LOST)),
                Err(why) => Verdict::Refused(why),
            }
        }
    }

    /// A builder for about `events` events that arrived in `request`. [`Ingest::submit`] takes what it builds.
    pub fn builder<'a>(&'a self, request: &'a Bytes, events: usize) -> EventBuilder<'a, M> {
        EventBuilder::new(&self.matcher, request, events)
    }

    /// Submits events, and waits until they are on the disk: one verdict for each event. A caller that drops the future
    /// does not take back what was submitted.
    ///
    /// # Errors
    /// If the batch as a whole finds no room, or the log is gone.
    pub async fn submit(&self, batch: EventBatch, desk: Option<&ReplyRouter>) -> Result<Verdicts, Refused> {
        let EventBatch { events, bytes } = batch;
        let counts: SmallVec<[usize; 1]> = events.iter().map(|event| event.webhooks.len()).collect();
        if counts.is_empty() {
            return Ok(Verdicts::new());
        }
        let permit = self.ingest_permits.acquire(counts.iter().sum(), bytes).await.ok_or(Refused::Overloaded)?;
        let (reply, verdicts) = desk.map_or_else(Reply::direct, ReplyRouter::reply);
        let submission = Submission { events, permit, lease: self.memory.lease(bytes), reply };
        self.submit.submit(submission).map_err(|(why, _)| why)?;
        let verdicts = verdicts.await.map_err(|_| LOST)?;
        if verdicts.len() != counts.len() {
            return Err(LOST);
        }
        let told = verdicts.into_iter().zip(counts).map(|(verdict, webhooks)| match verdict {
            Ok(committed) => Verdict::Taken { committed, webhooks },
            Err(why) => Verdict::Refused(why),
        });
        Ok(told.collect())
    }

    /// Deliveries whose outcome is not durable yet.
    pub fn deliveries(&self) -> usize {
        self.ingest_permits.deliveries()
    }

    /// Bytes of bodies in memory.
    pub fn body_bytes(&self) -> usize {
        self.memory.used()
    }
}

/// The commit thread ended without a verdict. The next start shows whether the event is on the disk, so the sender has to
/// try again; the event's id makes that harmless.
const LOST: Refused = Refused::Poisoned;

#[cfg(test)]
mod tests;
