//! Writes a flush in one transaction of state.redb.

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::dead_letters::DeadLetterTables;
use super::history::HistoryFiles;
use super::pending::PendingTables;
use super::table::{ENDPOINT_STATES, JOBS, META, OUTBOX, STATS, WEBHOOK_HEALTH, WIDE};
use super::{CHECKPOINT, DOWNTIMES, MARKS, hourly_stats, jobs};
use crate::model::{DeliveryId, Timestamp};
use crate::storage::delivery::checkpoint::encode_webhooks;
use crate::storage::delivery::endpoint_state;
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{
    ChangeKind, Flush, Flushed, HighWaterMarks, Job, NewDeadLetter, Outbox, RetryResult, RowChange, WebhookBacklog,
};
use crate::storage::idempotency::ResponseTables;

/// The tables of rows and dead letters, open for one flush, and the result so far.
pub(super) struct FlushTables<'a, 'txn> {
    pub(super) rows: PendingTables<'txn>,
    pub(super) dead: DeadLetterTables<'txn>,
    pub(super) files: &'a HistoryFiles,
    pub(super) now: Timestamp,
    pub(super) wall: Timestamp,
    pub(super) rows_max: usize,
    pub(super) flushed: Flushed,
}

/// Writes everything of a flush except its attempts, and returns the result.
pub(super) fn apply(txn: &WriteTransaction, files: &HistoryFiles, flush: &Flush) -> Result<Flushed, Error> {
    let flushed = apply_to_rows(txn, files, flush)?;
    if !flush.stats.is_empty() {
        let mut table = txn.open_table(STATS)?;
        for (webhook, stats) in &flush.stats {
            table.insert(webhook.0, &stats.encode())?;
        }
    }
    if let Some(update) = &flush.hourly_stats {
        hourly_stats::add(txn, update)?;
    }
    if !flush.webhook_health.is_empty() {
        let mut table = txn.open_table(WEBHOOK_HEALTH)?;
        for (webhook, health) in &flush.webhook_health {
            match health {
                None => drop(table.remove(webhook.0)?),
                Some(health) => drop(table.insert(webhook.0, health.encode())?),
            }
        }
    }
    if !flush.endpoint_states.is_empty() {
        let mut table = txn.open_table(ENDPOINT_STATES)?;
        for (webhook, state) in &flush.endpoint_states {
            match state {
                None => drop(table.remove(webhook.0)?),
                Some(state) => drop(table.insert(webhook.0, endpoint_state::encode(state).as_slice())?),
            }
        }
    }
    if !flush.responses.is_empty() {
        let mut tables = ResponseTables::open(txn)?;
        for answer in flush.responses.iter().filter_map(|kept| kept.fill(&flushed)) {
            tables.put(&answer, flush.now)?;
        }
    }
    let outbox = write_outbox(txn, flush)?;
    let marks = HighWaterMarks { steady: flush.now, next_job: flush.next_job, clean: flush.is_last };
    let mut meta = txn.open_table(META)?;
    meta.insert(CHECKPOINT, flush.checkpoint.as_slice())?;
    meta.insert(MARKS, marks.encode().as_slice())?;
    if let Some(downtimes) = &flush.downtimes {
        meta.insert(DOWNTIMES, downtimes.encode().as_slice())?;
    }
    Ok(Flushed { outbox, ..flushed })
}

fn apply_to_rows(txn: &WriteTransaction, files: &HistoryFiles, flush: &Flush) -> Result<Flushed, Error> {
    let flushed = Flushed {
        recovered: vec![0; flush.answers.recovered],
        retried: vec![RetryResult::default(); flush.answers.retried],
        discarded: vec![0; flush.answers.discarded],
        ..Flushed::default()
    };
    let (rows, dead) = (PendingTables::open(txn)?, DeadLetterTables::open(txn)?);
    let (now, wall, rows_max) = (flush.now, flush.wall, flush.rows_max);
    let mut batch = FlushTables { rows, dead, files, now, wall, rows_max, flushed };
    for change in &flush.changes {
        batch.change(*change, &flush.dead_letters)?;
    }
    for total in &flush.totals {
        let dead_letters = batch.dead.count(total.webhook)?;
        batch.flushed.totals.push(dead_letters);
    }
    batch.jobs(txn, flush)?;
    if let Some(expiry) = &flush.expiry {
        batch.flushed.expiry = batch.expire(expiry)?;
    }
    if let Some(before) = flush.dead_forgotten_before {
        batch.dead.forget(before, rows_max)?;
    }
    let FlushTables { rows, dead, flushed, .. } = batch;
    Ok(Flushed { rows: rows.len()?, dead: dead.len()?, oldest_dead: dead.oldest()?, ..flushed })
}

impl FlushTables<'_, '_> {
    fn change(&mut self, change: RowChange, dead_letters: &[NewDeadLetter]) -> Result<(), Error> {
        let RowChange { webhook, event, kind } = change;
        match kind {
            ChangeKind::Ready => {
                self.rows.put_new(webhook, event, PendingRow::READY)?;
            }
            ChangeKind::Retry { attempts, at, was_outstanding } => {
                // If the row became a dead letter during the attempt, the retry must not create it again.
                let row = if was_outstanding { None } else { self.rows.get(webhook, event)? };
                if was_outstanding || row.is_some() || !self.dead.holds(webhook, event)? {
                    let base = row.map_or(0, |row| row.base);
                    self.rows.put(webhook, event, PendingRow { attempts, base, due: Some(at) })?;
                }
            }
            ChangeKind::Remove => {
                if self.rows.remove(webhook, event)?.is_none() {
                    // The row became a dead letter during the attempt, and the attempt succeeded.
                    self.dead.remove(webhook, event)?;
                }
            }
            ChangeKind::Dead { index } => {
                let dead_letter = &dead_letters[index];
                match self.rows.remove(webhook, event)? {
                    // The delivery ended without a new attempt. Keep the number of its earlier attempts.
                    Some(row) if row.attempts > dead_letter.attempts => {
                        self.dead.put(
                            webhook,
                            event,
                            &NewDeadLetter { attempts: row.attempts, ..dead_letter.clone() },
                        )?;
                    }
                    _ => self.dead.put(webhook, event, dead_letter)?,
                }
            }
            ChangeKind::RetryNow { answer } => {
                self.flushed.retried[answer] = self.retry_now(DeliveryId { event, webhook })?;
            }
            ChangeKind::Discard { answer } => {
                self.flushed.discarded[answer] += u64::from(self.dead.remove(webhook, event)?.is_some());
            }
            ChangeKind::Recover { answer } => {
                if let Some(attempts) = self.dead.remove(webhook, event)? {
                    let row = PendingRow::redelivery(attempts, self.now);
                    self.flushed.recovered[answer] += u64::from(self.rows.put_new(webhook, event, row)?);
                    self.flushed.waiting.push(WebhookBacklog { webhook, ready: false, due: Some(self.now) });
                }
            }
        }
        Ok(())
    }

    /// Makes a delivery due now. A delivery that waits for a retry keeps its retry schedule; one that has ended begins
    /// a new one.
    fn retry_now(&mut self, id: DeliveryId) -> Result<RetryResult, Error> {
        let DeliveryId { event, webhook } = id;
        let row = match self.rows.get(webhook, event)? {
            Some(row) if row.due.is_some_and(|at| at > self.now) => PendingRow { due: Some(self.now), ..row },
            Some(_) => return Ok(RetryResult::AlreadyPending),
            None => {
                let attempts = match self.dead.remove(webhook, event)? {
                    Some(attempts) => attempts,
                    None => match self.files.last_number(id)? {
                        0 => return Ok(RetryResult::NotFound),
                        number => number,
                    },
                };
                PendingRow::redelivery(attempts, self.now)
            }
        };
        self.rows.put(webhook, event, row)?;
        self.flushed.waiting.push(WebhookBacklog { webhook, ready: false, due: Some(self.now) });
        Ok(RetryResult::Scheduled)
    }

    fn jobs(&mut self, txn: &WriteTransaction, flush: &Flush) -> Result<(), Error> {
        // The number of dead letters before the step, if the job is a recovery that is new in this flush.
        let total_of = |no: u64, counted: &[u64]| {
            let mut totals = flush.totals.iter().zip(counted);
            totals.find(|(total, _)| total.job == no).map(|(_, dead_letters)| *dead_letters)
        };
        if flush.jobs.is_empty() && flush.wide.is_empty() && flush.step.is_none() {
            return Ok(());
        }
        let (mut table, mut wide) = (txn.open_table(JOBS)?, txn.open_table(WIDE)?);
        for job in &flush.jobs {
            let total = job.total.or(total_of(job.no, &self.flushed.totals));
            jobs::put(&mut table, &Job { total, ..job.clone() })?;
        }
        let mut encoded = Vec::new();
        for (no, webhooks) in &flush.wide {
            encoded.clear();
            encode_webhooks(webhooks, &mut encoded);
            wide.insert(no, encoded.as_slice())?;
        }
        let Some(step) = &flush.step else { return Ok(()) };
        let total = total_of(step.job.no, &self.flushed.totals);
        let job = self.step(step, total)?;
        let is_over = !job.is_running() && !job.is_kept();
        if !is_over {
            jobs::put(&mut table, &job)?;
        }
        for no in flush.forgotten_jobs.iter().copied().chain(is_over.then_some(job.no)) {
            table.remove(no)?;
            wide.remove(no)?;
        }
        self.flushed.job = Some(job);
        Ok(())
    }
}

/// Adds rows to the outbox, and deletes rows of events that are in the log.
fn write_outbox(txn: &WriteTransaction, flush: &Flush) -> Result<Outbox, Error> {
    let mut next = flush.outbox_first;
    let mut table = txn.open_table(OUTBOX)?;
    for row in &flush.outbox {
        table.insert(next, &**row)?;
        next += 1;
    }
    if let Some(admitted) = flush.admitted {
        while table.first()?.is_some_and(|(no, _)| no.value() <= admitted) {
            table.pop_first()?;
        }
    }
    Ok(Outbox { next, rows: table.len()? })
}

/// Returns the state of the outbox at a start.
pub(super) fn load_outbox(txn: &ReadTransaction) -> Result<Outbox, Error> {
    let table = txn.open_table(OUTBOX)?;
    Ok(Outbox { next: table.last()?.map_or(0, |(no, _)| no.value() + 1), rows: table.len()? })
}
