//! What jobs and expiries do to rows inside a flush's transaction.

use redb::Error;

use super::pending::behind;
use super::table::{delivery, key};
use super::write::Batch;
use crate::model::{DeadReason, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{Expiry, HURRY, Job, JobState, JobStep, Note, StepRows, Waiting};

/// Rows looked at for each row that an expiry may move in one step.
const LOOKED_AT_PER_ROW: usize = 16;

impl Batch<'_, '_> {
    /// Moves the rows of a step; the job after it, whose `total` is this one if it has none.
    pub(super) fn step(&mut self, step: &JobStep, total: Option<u64>) -> Result<Job, Error> {
        let mut job = step.job.clone();
        job.total = job.total.or(total);
        match &step.rows {
            StepRows::None => {}
            StepRows::Wide { event, webhooks } => self.step_wide(*event, webhooks)?,
            StepRows::Again(deliveries) => {
                for id in deliveries {
                    job.done += u64::from(self.deliver_again(*id)?);
                }
            }
            StepRows::Recover { webhook, since, is_abandoned, under_way } => {
                let may_move = |event| !is_abandoned && under_way.binary_search(&event).is_err();
                let is_end = self.step_recover(&mut job, *webhook, *since, may_move)? || *is_abandoned;
                match (is_end, since) {
                    (false, _) => {}
                    (true, None) => job.state = JobState::Done,
                    (true, Some(_)) => (job.after, job.from) = (EventId::MIN, HURRY),
                }
            }
            StepRows::Hurry(webhook) => self.step_hurry(&mut job, *webhook)?,
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
                    self.flushed.waiting.push(Waiting { webhook: *webhook, ready: true, due: None });
                }
                Some(reason) => self.bury(*webhook, event, 0, *reason)?,
            }
        }
        Ok(())
    }

    /// Delivers the webhook's next dead letters again; whether it has no more.
    fn step_recover(
        &mut self,
        job: &mut Job,
        webhook: WebhookNo,
        since: Option<Timestamp>,
        may_move: impl Fn(EventId) -> bool,
    ) -> Result<bool, Error> {
        let letters = self.dead.of(webhook, job.after, self.rows_max)?;
        let is_end = letters.len() < self.rows_max;
        for (event, at) in letters {
            if since.is_none_or(|since| at >= since) && may_move(event) {
                job.done += u64::from(self.deliver_again(DeliveryId { event, webhook })?);
            }
            job.after = event;
        }
        Ok(is_end)
    }

    /// The second part of a recovery: what waits for its next attempt is due now, and goes on in its schedule.
    fn step_hurry(&mut self, job: &mut Job, webhook: WebhookNo) -> Result<(), Error> {
        for (event, row) in self.next_rows(job, webhook)? {
            if row.due.is_some_and(|at| at > self.now) {
                self.rows.put(webhook, event, PendingRow { due: Some(self.now), ..row })?;
                self.flushed.waiting.push(Waiting { webhook, ready: false, due: Some(self.now) });
                job.done += 1;
            }
            job.after = event;
        }
        Ok(())
    }

    fn step_abandon(&mut self, job: &mut Job, webhook: WebhookNo, reason: DeadReason) -> Result<(), Error> {
        for (event, row) in self.next_rows(job, webhook)? {
            self.rows.remove(webhook, event)?;
            self.bury(webhook, event, row.attempts, reason)?;
            job.done += 1;
            job.after = event;
        }
        Ok(())
    }

    /// The webhook's next rows; without more behind them, the job is done with them.
    fn next_rows(&self, job: &mut Job, webhook: WebhookNo) -> Result<Vec<(EventId, PendingRow)>, Error> {
        let from = behind(webhook, job.after);
        let rows = self.rows.from(&from, self.rows_max, |key| delivery(key).webhook == webhook)?;
        if rows.len() < self.rows_max {
            job.state = JobState::Done;
        }
        Ok(rows.into_iter().map(|(key, row)| (delivery(&key).event, row)).collect())
    }

    /// Makes a row that is due now, unless the delivery has one; whether it did.
    fn deliver_again(&mut self, id: DeliveryId) -> Result<bool, Error> {
        let DeliveryId { event, webhook } = id;
        if self.rows.get(webhook, event)?.is_some() {
            return Ok(false);
        }
        let attempts = match self.dead.remove(webhook, event)? {
            Some(attempts) => attempts,
            None => self.files.last_number(id)?,
        };
        self.rows.put(webhook, event, PendingRow::again(attempts, self.now))?;
        self.flushed.waiting.push(Waiting { webhook, ready: false, due: Some(self.now) });
        Ok(true)
    }

    fn bury(&mut self, webhook: WebhookNo, event: EventId, attempts: u16, reason: DeadReason) -> Result<(), Error> {
        let (at, steady) = (self.wall, self.now);
        self.flushed.died.push(webhook);
        self.dead.put(webhook, event, &Note { reason, attempts, at, steady, http_status: None, error: "".into() })
    }

    /// Buries some of what waits for a body that is gone; where it goes on.
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
            self.bury(webhook, event, attempts, DeadReason::Expired)?;
        }
        Ok(stopped_at.map(|from| Expiry { from, ..expiry.clone() }))
    }
}
