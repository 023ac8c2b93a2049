//! The interface's view of what settle remembers.

use std::future::Future;

use crate::handoff::{ReplayFilter, Retried};
use crate::model::{Attempt, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::service::{Answered, DeadLetter, Delivery, DeliveryStore, Later, Part, Replay, StoreFailed, Work};
use crate::settle::{self, DeliveryRecord, JobKind, Page, Records, Wanted};
use crate::storage::delivery::LookupError;

/// Settle's records.
pub(super) struct Store(pub(super) Records);

impl DeliveryStore for Store {
    fn sync(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
        limit: usize,
    ) -> Later<'_, Answered<Vec<(EventId, WebhookNo)>>> {
        Box::pin(async move { Ok(self.0.sync(webhook, event, limit).await) })
    }

    fn delivery(&self, id: DeliveryId) -> Answered<Option<Delivery>> {
        self.0.delivery(id).map(|found| found.map(Delivery::from)).map_err(failed)
    }

    fn attempts(&self, id: DeliveryId) -> Answered<Vec<Attempt>> {
        self.0.attempts(id).map_err(failed)
    }

    fn deliveries(&self, wanted: &Wanted, limit: usize) -> Answered<Part<Delivery>> {
        self.0.deliveries(wanted, limit).map(part).map_err(failed)
    }

    fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> Answered<Vec<Delivery>> {
        self.0.of_event(event, webhooks).map(|found| found.into_iter().map(Delivery::from).collect()).map_err(failed)
    }

    fn dead_letters(&self, wanted: &Wanted, limit: usize) -> Answered<Part<DeadLetter>> {
        self.0.dead_letters(wanted, limit).map(part).map_err(failed)
    }

    fn dead_letter(&self, id: DeliveryId) -> Answered<Option<DeadLetter>> {
        self.0.dead_letter(id).map(|found| found.map(DeadLetter::from)).map_err(failed)
    }

    fn replay(&self, filter: ReplayFilter) -> Later<'_, Answered<u64>> {
        or_failed(self.0.replay(filter))
    }

    fn replay_dead(&self, webhook: WebhookNo, events: Option<Vec<EventId>>) -> Later<'_, Answered<u64>> {
        or_failed(self.0.replay_dead(webhook, events))
    }

    fn retry(&self, id: DeliveryId) -> Later<'_, Answered<Retried>> {
        or_failed(self.0.retry(id))
    }

    fn discard(&self, webhook: WebhookNo, events: Vec<EventId>) -> Later<'_, Answered<u64>> {
        or_failed(self.0.discard(webhook, events))
    }

    fn recover(&self, webhook: WebhookNo, since: Timestamp) -> Later<'_, Answered<u64>> {
        or_failed(self.0.recover(webhook, since))
    }

    fn cancel_replay(&self, no: u64) -> Later<'_, Answered<bool>> {
        or_failed(self.0.cancel_job(no))
    }

    fn replays(&self, before: Option<u64>, limit: usize) -> Answered<Vec<Replay>> {
        let jobs = self.0.jobs().map_err(failed)?;
        let earlier = jobs.into_iter().filter(|job| before.is_none_or(|before| job.no < before));
        Ok(earlier.filter_map(|job| Replay::try_from(job).ok()).take(limit).collect())
    }

    fn replay_job(&self, no: u64) -> Answered<Option<Replay>> {
        let jobs = self.0.jobs().map_err(failed)?;
        Ok(jobs.into_iter().find(|job| job.no == no).and_then(|job| Replay::try_from(job).ok()))
    }
}

fn part<R, T: From<R>>(page: Page<R>) -> Part<T> {
    Part { rows: page.rows.into_iter().map(T::from).collect(), next: page.next }
}

fn or_failed<'a, T>(answer: impl Future<Output = Option<T>> + Send + 'a) -> Later<'a, Answered<T>> {
    Box::pin(async move { answer.await.ok_or(StoreFailed) })
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn failed(error: LookupError) -> StoreFailed {
    tracing::error!(target: "hooktide::api", %error, "the state cannot be read");
    StoreFailed
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

impl From<settle::DeadLetter> for DeadLetter {
    fn from(letter: settle::DeadLetter) -> Self {
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
    /// It is a job of another kind.
    type Error = ();

    fn try_from(job: settle::Job) -> Result<Self, ()> {
        let work = match job.kind {
            JobKind::Replay(filter) => Work::Events(filter),
            JobKind::Recover { webhook, since } => Work::DeadLetters { webhook, since },
            JobKind::Wide { .. } | JobKind::Abandon { .. } => return Err(()),
        };
        Ok(Self {
            no: job.no,
            work,
            state: job.state,
            created_at: job.created_at,
            ended_at: job.ended_at,
            events: job.looked_at,
            deliveries: job.done,
            total: job.total,
        })
    }
}
