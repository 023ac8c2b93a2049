//! The service's access to deliveries, dead letters and replays.

use std::future::Future;

use crate::handoff::{ReplayFilter, RetryResult};
use crate::model::{Attempt, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::service::{
    BackendFailed, BackendResult, BoxFuture, DeadLetter, Delivery, DeliveryBackend, Replay, ReplayScope, RowBatch,
};
use crate::settle::{self, DeliveryPage, DeliveryQuery, DeliveryRecord, DeliveryRecords, JobKind, ResponseToStore};
use crate::storage::StoredResponse;
use crate::storage::delivery::LookupError;

/// Reads and changes deliveries through settle's records.
pub(super) struct DeliveryAdapter(pub(super) DeliveryRecords);

impl DeliveryBackend for DeliveryAdapter {
    fn sync(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
        limit: usize,
    ) -> BoxFuture<'_, BackendResult<Vec<(EventId, WebhookNo)>>> {
        or_busy(self.0.sync(webhook, event, limit))
    }

    fn delivery(&self, id: DeliveryId) -> BackendResult<Option<Delivery>> {
        self.0.delivery(id).map(|found| found.map(Delivery::from)).map_err(failed)
    }

    fn attempts(&self, id: DeliveryId) -> BackendResult<Vec<Attempt>> {
        self.0.attempts(id).map_err(failed)
    }

    fn deliveries(&self, query: &DeliveryQuery, limit: usize) -> BackendResult<RowBatch<Delivery>> {
        self.0.deliveries(query, limit).map(part).map_err(failed)
    }

    fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> BackendResult<Vec<Delivery>> {
        self.0.of_event(event, webhooks).map(|found| found.into_iter().map(Delivery::from).collect()).map_err(failed)
    }

    fn dead_letters(&self, query: &DeliveryQuery, limit: usize) -> BackendResult<RowBatch<DeadLetter>> {
        self.0.dead_letters(query, limit).map(part).map_err(failed)
    }

    fn dead_letter(&self, id: DeliveryId) -> BackendResult<Option<DeadLetter>> {
        self.0.dead_letter(id).map(|found| found.map(DeadLetter::from)).map_err(failed)
    }

    fn stored_response(&self, hash: &[u8; 32], now: Timestamp) -> BackendResult<Option<StoredResponse>> {
        self.0.stored_response(hash, now).map_err(failed)
    }

    fn replay(&self, filter: ReplayFilter, answer: Option<ResponseToStore>) -> BoxFuture<'_, BackendResult<u64>> {
        or_busy(self.0.replay(filter, answer))
    }

    fn replay_dead(
        &self,
        webhook: WebhookNo,
        events: Option<Vec<EventId>>,
        answer: Option<ResponseToStore>,
    ) -> BoxFuture<'_, BackendResult<u64>> {
        or_busy(self.0.replay_dead(webhook, events, answer))
    }

    fn retry(&self, id: DeliveryId, answer: Option<ResponseToStore>) -> BoxFuture<'_, BackendResult<RetryResult>> {
        or_busy(self.0.retry(id, answer))
    }

    fn discard(&self, webhook: WebhookNo, events: Vec<EventId>) -> BoxFuture<'_, BackendResult<u64>> {
        or_busy(self.0.discard(webhook, events))
    }

    fn recover(
        &self,
        webhook: WebhookNo,
        since: Timestamp,
        answer: Option<ResponseToStore>,
    ) -> BoxFuture<'_, BackendResult<u64>> {
        or_busy(self.0.recover(webhook, since, answer))
    }

    fn cancel_replay(&self, no: u64) -> BoxFuture<'_, BackendResult<bool>> {
        or_busy(self.0.cancel_job(no))
    }

    fn replays(&self, before: Option<u64>, limit: usize) -> BackendResult<Vec<Replay>> {
        let jobs = self.0.jobs().map_err(failed)?;
        let earlier = jobs.into_iter().filter(|job| before.is_none_or(|before| job.no < before));
        Ok(earlier.filter_map(|job| Replay::try_from(job).ok()).take(limit).collect())
    }

    fn replay_job(&self, no: u64) -> BackendResult<Option<Replay>> {
        let jobs = self.0.jobs().map_err(failed)?;
        Ok(jobs.into_iter().find(|job| job.no == no).and_then(|job| Replay::try_from(job).ok()))
    }
}

fn part<R, T: From<R>>(page: DeliveryPage<R>) -> RowBatch<T> {
    RowBatch { rows: page.rows.into_iter().map(T::from).collect(), next: page.next }
}

fn or_busy<'a, T>(answer: impl Future<Output = Option<T>> + Send + 'a) -> BoxFuture<'a, BackendResult<T>> {
    Box::pin(async move { answer.await.ok_or(BackendFailed::Busy) })
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn failed(error: LookupError) -> BackendFailed {
    tracing::error!(target: "hooktide::api", %error, "the state cannot be read");
    BackendFailed::Unreadable
}

impl From<DeliveryRecord> for Delivery {
    fn from(record: DeliveryRecord) -> Self {
        Self {
            id: record.id,
            status: record.status,
            attempts: record.attempt_count,
            next_at: record.next_retry_at,
            dead_at: record.dead.as_ref().map(|letter| letter.at),
            reason: record.dead.map(|letter| letter.reason),
            last: record.last,
        }
    }
}

impl From<settle::DeadLetterRecord> for DeadLetter {
    fn from(letter: settle::DeadLetterRecord) -> Self {
        Self {
            id: letter.id,
            reason: letter.reason,
            error: Some(letter.error),
            attempts: letter.attempts,
            at: letter.at,
        }
    }
}

impl TryFrom<settle::Job> for Replay {
    /// The job is not a replay.
    type Error = ();

    fn try_from(job: settle::Job) -> Result<Self, ()> {
        let scope = match job.kind {
            JobKind::Replay(filter) => ReplayScope::Events(filter),
            JobKind::Recover { webhook, since } => ReplayScope::DeadLetters { webhook, since },
            JobKind::Wide { .. } | JobKind::Abandon { .. } => return Err(()),
        };
        Ok(Self {
            no: job.no,
            scope,
            state: job.state,
            created_at: job.created_at,
            ended_at: job.ended_at,
            events: job.looked_at,
            deliveries: job.done,
            total: job.total,
        })
    }
}
