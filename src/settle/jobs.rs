//! Steps of jobs, except the parts for which the store reads its own tables.

use super::state::SettleState;
use crate::model::{DeliveryId, EventId, WebhookNo};
use crate::storage::delivery::{Flush, Flushed, Job, JobKind, JobState, JobStep, LookupError, StepRows, WidePart};

/// Finished replays that are kept for the API.
const JOBS_KEPT: usize = 100;

impl SettleState {
    /// The next step of the next job, written with `flush`. `None` if no job can make a step.
    pub(super) fn next_step(&mut self, flush: &Flush) -> Result<Option<JobStep>, LookupError> {
        let Some(job) = self.job_to_step() else { return Ok(None) };
        let mut job = job.clone();
        let rows = match job.kind.clone() {
            JobKind::Wide { event } => self.step_wide(&mut job, event, flush)?,
            JobKind::Replay(_) => self.step_replay(&mut job),
            JobKind::Recover { webhook, since } if job.from == 0 => {
                let is_abandoned = (self.callbacks.abandon_reason)(webhook).is_some();
                StepRows::Recover { webhook, since, is_abandoned, under_way: self.under_way(webhook) }
            }
            JobKind::Recover { webhook, .. } => StepRows::RetryNow(webhook),
            // A wide event that was accepted earlier may still add rows of the webhook.
            JobKind::Abandon { .. } if self.wide_events().iter().any(|(no, _)| *no < job.no) => StepRows::None,
            JobKind::Abandon { webhook, reason } => StepRows::Abandon { webhook, reason },
        };
        Ok(Some(JobStep { job, rows }))
    }

    /// Finished jobs beyond [`JOBS_KEPT`], oldest first.
    pub(super) fn finished_jobs_to_delete(&self) -> Vec<u64> {
        let finished: Vec<u64> = self.jobs.values().filter(|job| !job.is_running()).map(|job| job.no).collect();
        let count = finished.len().saturating_sub(JOBS_KEPT);
        finished.into_iter().take(count).collect()
    }

    /// Applies the job progress of a durable flush.
    pub(super) fn apply_flushed_jobs(&mut self, flush: &Flush, flushed: &mut Flushed) {
        if let Some(job) = flushed.job.take() {
            self.last_job = job.no;
            if job.is_running() || job.is_kept() {
                self.jobs.insert(job.no, job);
            } else {
                self.jobs.remove(&job.no);
            }
        }
        for no in &flush.forgotten_jobs {
            self.jobs.remove(no);
        }
        for (total, letters) in flush.totals.iter().zip(&flushed.totals) {
            if let Some(job) = self.jobs.get_mut(&total.job) {
                job.total = job.total.or(Some(*letters));
            }
        }
    }

    fn step_wide(&self, job: &mut Job, event: EventId, flush: &Flush) -> Result<StepRows, LookupError> {
        let of_this_flush = flush.wide.iter().find(|(no, _)| *no == job.no);
        let part = match of_this_flush {
            Some((_, webhooks)) => WidePart::of(webhooks, job.from, self.bounds.job_rows),
            None => self.reader.wide(job.no, job.from, self.bounds.job_rows)?,
        };
        job.done += part.webhooks.len() as u64;
        job.from = part.webhooks.last().map_or(job.from, |no| no.0.saturating_add(1));
        if part.is_end {
            job.state = JobState::Done;
        }
        let webhooks =
            part.webhooks.into_iter().map(|webhook| (webhook, (self.callbacks.abandon_reason)(webhook))).collect();
        Ok(StepRows::Wide { event, webhooks })
    }

    /// Moves a replay past its evaluated step.
    fn step_replay(&mut self, job: &mut Job) -> StepRows {
        let Some(step) = self.replays.take(job.no) else { return StepRows::None };
        (job.after, job.from, job.state) = (step.after, step.from, step.state);
        job.looked_at += step.events;
        let wide = self.wide_events();
        let mut deliveries = step.deliveries;
        deliveries.retain(|DeliveryId { event, webhook }| {
            let is_under_way = self.outstanding.holds(*webhook, *event) || wide.iter().any(|(_, wide)| wide == event);
            !is_under_way && (self.callbacks.abandon_reason)(*webhook).is_none()
        });
        StepRows::Redeliver(deliveries)
    }

    /// Events whose delivery to the webhook is not settled and has no row, ascending.
    fn under_way(&self, webhook: WebhookNo) -> Vec<EventId> {
        let outstanding = self.outstanding.newest_first(Some(webhook), None).map(|(event, _)| event);
        let mut events: Vec<_> = outstanding.chain(self.wide_events().into_iter().map(|(_, event)| event)).collect();
        events.sort_unstable();
        events
    }
}
