//! The steps of jobs and expiries on rows, inside the transaction of a flush.

use redb::Error;

use super::pending::behind;
use super::table::{delivery, key};
use super::write::FlushTables;
use crate::model::{DeadReason, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{
    Expiry, Job, JobState, JobStep, NewDeadLetter, RECOVERY_RETRIES_PART, StepRows, WebhookBacklog,
};

/// The maximum number of rows that an expiry reads for each row that it may move in one step.
const LOOKED_AT_PER_ROW: usize = 16;

impl FlushTables<'_, '_> {
    /// Moves the rows of a step and returns the job after it. Sets the job's total to `total` if it has none.
    pub(super) fn step(&mut self, step: &JobStep, total: Option<u64>) -> Result<Job, Error> {
        let mut job = step.job.clone();
        job.total = job.total.or(total);
        match &step.rows {
            StepRows::None => {}
            StepRows::Wide { event, webhooks } => self.step_wide(*event, webhooks)?,
            StepRows::Redeliver(deliveries) => {
                for id in deliveries {
                    job.done += u64::from(self.redeliver(*id)?);
                }
            }
            StepRows::Recover { webhook, since, is_abandoned, under_way } => {
                let may_move = |event| !is_abandoned && under_way.binary_search(&event).is_err();
                let is_end = self.step_recover(&mut job, *webhook, *since, may_move)? || *is_abandoned;
                match (is_end, since) {
                    (false, _) => {}
                    (true, None) => job.state = JobState::Done,
                    (true, Some(_)) => (job.after, job.from) = (EventId::MIN, RECOVERY_RETRIES_PART),
                }
            }
            StepRows::RetryNow(webhook) => self.step_retry_now(&mut job, *webhook)?,
            StepRows::Abandon { webhook, reason } => self.step_abandon(&mut job, *webhook, *reason)?,
        }
        if !job.is_running() {
            job.ended_at = Some(self.wall);
        }
        Ok(job)
    }

    fn step_wide(&mut self, event: EventId, webhooks: &[(WebhookNo, Option<DeadReason>)]) -> Result<(), Error> {
        for (webhook, abandoned) in webhooks {
            match abandoned {
                None => {
                    self.rows.put_new(*webhook, event, PendingRow::READY)?;
                    self.flushed.waiting.push(WebhookBacklog { webhook: *webhook, ready: true, due: None });
                }
                Some(reason) => self.dead_letter(*webhook, event, 0, *reason)?,
            }
        }
        Ok(())
    }

    /// Redelivers the webhook's next dead letters. Returns whether none is left.
    fn step_recover(
        &mut self,
        job: &mut Job,
        webhook: WebhookNo,
        since: Option<Timestamp>,
        may_move: impl Fn(EventId) -> bool,
    ) -> Result<bool, Error> {
        let dead_letters = self.dead.of(webhook, job.after, self.rows_max)?;
        let is_end = dead_letters.len() < self.rows_max;
        for (event, at) in dead_letters {
            if since.is_none_or(|since| at >= since) && may_move(event) {
                job.done += u64::from(self.redeliver(DeliveryId { event, webhook })?);
            }
            job.after = event;
        }
        Ok(is_end)
    }

    /// The second part of a recovery: makes rows that wait for their next attempt due now. They keep their retry
    /// schedule.
    fn step_retry_now(&mut self, job: &mut Job, webhook: WebhookNo) -> Result<(), Error> {
        for (event, row) in self.next_rows(job, webhook)? {
            if row.due.is_some_and(|at| at > self.now) {
                self.rows.put(webhook, event, PendingRow { due: Some(self.now), ..row })?;
                self.flushed.waiting.push(WebhookBacklog { webhook, ready: false, due: Some(self.now) });
                job.done += 1;
            }
            job.after = event;
        }
        Ok(())
    }

    fn step_abandon(&mut self, job: &mut Job, webhook: WebhookNo, reason: DeadReason) -> Result<(), Error> {
        for (event, row) in self.next_rows(job, webhook)? {
            self.rows.remove(webhook, event)?;
            self.dead_letter(webhook, event, row.attempts, reason)?;
            job.done += 1;
            job.after = event;
        }
        Ok(())
    }

    /// Returns the webhook's next rows. Sets the job's state to done if they are the last ones.
    fn next_rows(&self, job: &mut Job, webhook: WebhookNo) -> Result<Vec<(EventId, PendingRow)>, Error> {
        let from = behind(webhook, job.after);
        let is_included = |id: DeliveryId| id.webhook == webhook && id.event <= job.last;
        let rows = self.rows.from(&from, self.rows_max, |key| is_included(delivery(key)))?;
        if rows.len() < self.rows_max {
            job.state = JobState::Done;
        }
        Ok(rows.into_iter().map(|(key, row)| (delivery(&key).event, row)).collect())
    }

    /// Creates a row that is due now, unless the delivery has one. Returns whether it did.
    fn redeliver(&mut self, id: DeliveryId) -> Result<bool, Error> {
        let DeliveryId { event, webhook } = id;
        if self.rows.get(webhook, event)?.is_some() {
            return Ok(false);
        }
        let attempts = match self.dead.remove(webhook, event)? {
            Some(attempts) => attempts,
            None => self.files.last_number(id)?,
        };
        self.rows.put(webhook, event, PendingRow::redelivery(attempts, self.now))?;
        self.flushed.waiting.push(WebhookBacklog { webhook, ready: false, due: Some(self.now) });
        Ok(true)
    }

    fn dead_letter(
        &mut self,
        webhook: WebhookNo,
        event: EventId,
        attempts: u16,
        reason: DeadReason,
    ) -> Result<(), Error> {
        let (at, steady) = (self.wall, self.now);
        self.flushed.dead_lettered.push(webhook);
        self.dead.put(
            webhook,
            event,
            &NewDeadLetter { reason, attempts, at, steady, http_status: None, error: "".into() },
        )
    }

    /// Dead-letters rows of events whose bodies are deleted, up to the step's limit. Returns the rest of the expiry, or
    /// `None` if it is finished.
    pub(super) fn expire(&mut self, expiry: &Expiry) -> Result<Option<Expiry>, Error> {
        let (Some(first), Some(last)) = (expiry.events.first(), expiry.events.last()) else { return Ok(None) };
        let (mut found, mut looked_at, mut stopped_at) = (Vec::new(), 0, None);
        let (from, rows_max) = (key(expiry.from.0, expiry.from.1), self.rows_max);
        self.rows.between(&from, *first, *last, |webhook, event| {
            if found.len() == rows_max || looked_at == rows_max * LOOKED_AT_PER_ROW {
                stopped_at = Some((webhook, event));
                return false;
            }
            looked_at += 1;
            if expiry.events.binary_search(&event).is_ok() {
                found.push((webhook, event));
            }
            true
        })?;
        for (webhook, event) in found {
            let attempts = self.rows.remove(webhook, event)?.map_or(0, |row| row.attempts);
            self.dead_letter(webhook, event, attempts, DeadReason::Expired)?;
        }
        Ok(stopped_at.map(|from| Expiry { from, ..expiry.clone() }))
    }
}
