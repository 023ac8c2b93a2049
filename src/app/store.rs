//! The interface's view of what settle remembers.

use std::future::Future;

use crate::api::{Answered, DeadLetter, Delivery, DeliveryStore, Later, Replay, StoreFailed};
use crate::model::{Attempt, DeliveryId, EventId, WebhookNo};
use crate::settle::{self, DeliveryRecord, JobKind, JobState, Page, Records, ReplayFilter};

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

    fn deliveries_of(&self, webhook: WebhookNo, before: Option<EventId>, limit: usize) -> Answered<Vec<Delivery>> {
        fill(before, limit, |before, limit| self.0.deliveries_of(webhook, before, limit))
    }

    fn of_event(&self, event: EventId, webhooks: &[WebhookNo]) -> Answered<Vec<Delivery>> {
        self.0.of_event(event, webhooks).map(|found| found.into_iter().map(Delivery::from).collect()).map_err(failed)
    }

    fn dead_letters(&self, webhook: WebhookNo, before: Option<EventId>, limit: usize) -> Answered<Vec<DeadLetter>> {
        fill(before, limit, |before, limit| self.0.dead_letters(webhook, before, limit))
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

/// Pages of the records until `limit` rows are there, or all: a page may be short although more follows.
fn fill<R, T: From<R>>(
    before: Option<EventId>,
    limit: usize,
    page: impl Fn(Option<EventId>, usize) -> Result<Page<R>, redb::Error>,
) -> Answered<Vec<T>> {
    let (mut rows, mut before) = (Vec::new(), before);
    loop {
        let Page { rows: found, next } = page(before, limit - rows.len()).map_err(failed)?;
        rows.extend(found.into_iter().map(T::from));
        match next {
            Some(next) if rows.len() < limit => before = Some(next),
            _ => return Ok(rows),
        }
    }
}

fn or_failed<'a, T>(answer: impl Future<Output = Option<T>> + Send + 'a) -> Later<'a, Answered<T>> {
    Box::pin(async move { answer.await.ok_or(StoreFailed) })
}

#[expect(clippy::needless_pass_by_value, reason = "used by map_err")]
fn failed(error: redb::Error) -> StoreFailed {
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
            dead_at: record.dead.map(|letter| letter.at),
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
        let JobKind::Replay(filter) = job.kind else { return Err(()) };
        let done = job.state != JobState::Running;
        Ok(Self { no: job.no, filter, created_at: job.created_at, deliveries: job.done, done })
    }
}

/// What settle is told of the configuration.
pub(super) fn settle_options(config: &crate::config::Config) -> settle::Options {
    settle::Options {
        two_phase_commit: config.log.two_phase_commit,
        history_retention: config.history.retention,
        dead_letter_retention: config.dead_letters.retention,
        disable_after: config.breaker.disable_after,
    }
}
