//! Steps of jobs, except the parts for which the store reads its own tables.

use super::replay;
use super::state::SettleState;
use crate::filter::EventFields;
use crate::handoff::ReplayFilter;
use crate::model::{DeliveryId, EventHead, EventId, EventPattern, WebhookNo, Webhooks, data_of};
use crate::storage::ReadError;
use crate::storage::delivery::{Flush, Flushed, Job, JobKind, JobState, JobStep, LookupError, StepRows, WidePart};

/// Finished replays that are kept for the API.
const JOBS_KEPT: usize = 100;
/// Event heads that a replay reads in one step.
const HEADS_PER_STEP: usize = 1_024;
/// Events that a replay matches again in one step. The body of each of them is read.
const MATCHES_PER_STEP: usize = 128;

impl SettleState {
    /// The next step of the next running job, written with `flush`. `None` if no job is running.
    pub(super) fn next_step(&self, flush: &Flush) -> Result<Option<JobStep>, LookupError> {
        let Some(job) = self.job_to_step() else { return Ok(None) };
        let mut job = job.clone();
        let rows = match job.kind.clone() {
            JobKind::Wide { event } => self.step_wide(&mut job, event, flush)?,
            JobKind::Replay(filter) => self.step_replay(&mut job, &filter),
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

    fn step_replay(&self, job: &mut Job, filter: &ReplayFilter) -> StepRows {
        let mut deliveries = Vec::new();
        if let Err(error) = self.find_replayed(job, filter, &mut deliveries) {
            tracing::error!(job = job.no, %error, "a replay stops: the log cannot be read");
            job.state = JobState::Failed;
        }
        StepRows::Redeliver(deliveries)
    }

    /// Collects the next deliveries of a replay and moves the job's cursor past them. A read error of the log ends only
    /// the job.
    fn find_replayed(
        &self,
        job: &mut Job,
        filter: &ReplayFilter,
        deliveries: &mut Vec<DeliveryId>,
    ) -> Result<(), ReadError> {
        let patterns: Vec<_> = filter.types.iter().filter_map(|text| EventPattern::try_new(text).ok()).collect();
        let most = if filter.include_unmatched { MATCHES_PER_STEP } else { HEADS_PER_STEP };
        let heads = if job.after >= job.last { Vec::new() } else { self.log.heads_after(job.after, most)? };
        if heads.is_empty() {
            job.state = JobState::Done;
        }
        let wide = self.wide_events();
        let mut room = self.bounds.job_rows;
        for (event, bytes) in heads {
            if event > job.last {
                job.state = JobState::Done;
                break;
            }
            let head = EventHead::parse(&bytes).map_err(|_| ReadError::Damaged(event))?;
            if replay::takes(filter, &patterns, &head) {
                let is_wide = wide.iter().any(|(_, wide)| *wide == event);
                let replay_targets = self.replay_targets(filter, event, &bytes, &head)?;
                for webhook in replay_targets.into_iter().filter(|no| no.0 >= job.from) {
                    if room == 0 {
                        job.from = webhook.0;
                        return Ok(());
                    }
                    room -= 1;
                    let is_under_way = is_wide || self.outstanding.holds(webhook, event);
                    if !is_under_way && (self.callbacks.abandon_reason)(webhook).is_none() {
                        deliveries.push(DeliveryId { event, webhook });
                    }
                }
            }
            (job.after, job.from) = (event, 0);
            job.looked_at += 1;
        }
        Ok(())
    }

    /// The webhooks that a replay delivers an event to, ascending.
    fn replay_targets(
        &self,
        filter: &ReplayFilter,
        event: EventId,
        bytes: &[u8],
        head: &EventHead<'_>,
    ) -> Result<Webhooks, ReadError> {
        let replay_targets = &self.callbacks.replay_targets;
        let mut webhooks = head.webhooks();
        if filter.include_unmatched
            && let Some((_, body)) = self.log.read(&[event])?.pop().flatten()
        {
            let data = data_of(bytes, &body);
            webhooks.extend(replay_targets.matching(&EventFields::of(&head.event, &data)));
            webhooks.sort_unstable();
            webhooks.dedup();
        }
        match filter.webhook.map(WebhookNo) {
            // A request that names one event and one webhook always delivers it.
            Some(no) if filter.event.is_some() => webhooks = [no].into_iter().collect(),
            Some(no) => webhooks.retain(|webhook| *webhook == no),
            None => {}
        }
        if !filter.include_paused {
            webhooks.retain(|webhook| !replay_targets.is_held(*webhook));
        }
        Ok(webhooks)
    }

    /// Events whose delivery to the webhook is not settled and has no row, ascending.
    fn under_way(&self, webhook: WebhookNo) -> Vec<EventId> {
        let outstanding = self.outstanding.newest_first(Some(webhook), None).map(|(event, _)| event);
        let mut events: Vec<_> = outstanding.chain(self.wide_events().into_iter().map(|(_, event)| event)).collect();
        events.sort_unstable();
        events
    }
}
