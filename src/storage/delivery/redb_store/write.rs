//! A flush's transaction of state.redb.

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::dead_letters::DeadLetters;
use super::history::Files;
use super::pending::Rows;
use super::table::{JOBS, META, OUTBOX, STATS, WATCH, WIDE};
use super::{CHECKPOINT, MARKS, hourly_stats, jobs};
use crate::model::{DeliveryId, Timestamp};
use crate::storage::delivery::checkpoint::encode_webhooks;
use crate::storage::delivery::rows::PendingRow;
use crate::storage::delivery::{Change, Flush, Flushed, Job, Marks, Note, Outbox, Retried, Waiting, What};

/// The tables of rows and dead letters, open for one flush, and what it has done.
pub(super) struct Batch<'a, 'txn> {
    pub(super) rows: Rows<'txn>,
    pub(super) dead: DeadLetters<'txn>,
    pub(super) files: &'a Files,
    pub(super) now: Timestamp,
    pub(super) wall: Timestamp,
    pub(super) rows_max: usize,
    pub(super) flushed: Flushed,
}

/// Writes a flush but for its attempts, and answers it.
pub(super) fn apply(txn: &WriteTransaction, files: &Files, flush: &Flush) -> Result<Flushed, Error> {
    let flushed = apply_to_rows(txn, files, flush)?;
    if !flush.stats.is_empty() {
        let mut table = txn.open_table(STATS)?;
        for (webhook, stats) in &flush.stats {
            table.insert(webhook.0, &stats.encode())?;
        }
    }
    if let Some(figures) = &flush.figures {
        hourly_stats::add(txn, figures)?;
    }
    if !flush.standings.is_empty() {
        let mut table = txn.open_table(WATCH)?;
        for (webhook, standing) in &flush.standings {
            match standing {
                None => drop(table.remove(webhook.0)?),
                Some(standing) => drop(table.insert(webhook.0, standing.encode())?),
            }
        }
    }
    let outbox = write_outbox(txn, flush)?;
    let marks = Marks { steady: flush.now, next_job: flush.next_job, clean: flush.is_last };
    let mut meta = txn.open_table(META)?;
    meta.insert(CHECKPOINT, flush.checkpoint.as_slice())?;
    meta.insert(MARKS, marks.encode().as_slice())?;
    Ok(Flushed { outbox, ..flushed })
}

fn apply_to_rows(txn: &WriteTransaction, files: &Files, flush: &Flush) -> Result<Flushed, Error> {
    let flushed = Flushed {
        recovered: vec![0; flush.answers.recovered],
        retried: vec![Retried::default(); flush.answers.retried],
        discarded: vec![0; flush.answers.discarded],
        ..Flushed::default()
    };
    let (rows, dead) = (Rows::open(txn)?, DeadLetters::open(txn)?);
    let (now, wall, rows_max) = (flush.now, flush.wall, flush.rows_max);
    let mut batch = Batch { rows, dead, files, now, wall, rows_max, flushed };
    for change in &flush.changes {
        batch.change(*change, &flush.notes)?;
    }
    for total in &flush.totals {
        let letters = batch.dead.count(total.webhook)?;
        batch.flushed.totals.push(letters);
    }
    batch.jobs(txn, flush)?;
    if let Some(expiry) = &flush.expiry {
        batch.flushed.expiry = batch.expire(expiry)?;
    }
    if let Some(before) = flush.dead_forgotten_before {
        batch.dead.forget(before, rows_max)?;
    }
    let Batch { rows, dead, flushed, .. } = batch;
    Ok(Flushed { rows: rows.len()?, dead: dead.len()?, oldest_dead: dead.oldest()?, ..flushed })
}

impl Batch<'_, '_> {
    fn change(&mut self, change: Change, notes: &[Note]) -> Result<(), Error> {
        let Change { webhook, event, what } = change;
        match what {
            What::Ready => {
                self.rows.put_new(webhook, event, PendingRow::READY)?;
            }
            What::Retry { attempts, at, was_outstanding } => {
                // An attempt that was under way while its row was abandoned or expired does not bring it back.
                let row = if was_outstanding { None } else { self.rows.get(webhook, event)? };
                if was_outstanding || row.is_some() || !self.dead.holds(webhook, event)? {
                    let base = row.map_or(0, |row| row.base);
                    self.rows.put(webhook, event, PendingRow { attempts, base, due: Some(at) })?;
                }
            }
            What::Remove => {
                if self.rows.remove(webhook, event)?.is_none() {
                    // Abandoned while it was under way, and delivered all the same.
                    self.dead.remove(webhook, event)?;
                }
            }
            What::Dead { note } => {
                let note = &notes[note];
                match self.rows.remove(webhook, event)? {
                    // It ended without an attempt, but not without those before.
                    Some(row) if row.attempts > note.attempts => {
                        self.dead.put(webhook, event, &Note { attempts: row.attempts, ..note.clone() })?;
                    }
                    _ => self.dead.put(webhook, event, note)?,
                }
            }
            What::Again { answer } => self.flushed.retried[answer] = self.again(DeliveryId { event, webhook })?,
            What::Discard { answer } => {
                self.flushed.discarded[answer] += u64::from(self.dead.remove(webhook, event)?.is_some());
            }
            What::Recover { answer } => {
                if let Some(attempts) = self.dead.remove(webhook, event)? {
                    let row = PendingRow::again(attempts, self.now);
                    self.flushed.recovered[answer] += u64::from(self.rows.put_new(webhook, event, row)?);
                    self.flushed.waiting.push(Waiting { webhook, ready: false, due: Some(self.now) });
                }
            }
        }
        Ok(())
    }

    /// Makes a delivery due now. A retry is hurried and goes on in its schedule; what had ended begins a new one.
    fn again(&mut self, id: DeliveryId) -> Result<Retried, Error> {
        let DeliveryId { event, webhook } = id;
        let row = match self.rows.get(webhook, event)? {
            Some(row) if row.due.is_some_and(|at| at > self.now) => PendingRow { due: Some(self.now), ..row },
            Some(_) => return Ok(Retried::Waits),
            None => {
                let attempts = match self.dead.remove(webhook, event)? {
                    Some(attempts) => attempts,
                    None => match self.files.last_number(id)? {
                        0 => return Ok(Retried::Unknown),
                        number => number,
                    },
                };
                PendingRow::again(attempts, self.now)
            }
        };
        self.rows.put(webhook, event, row)?;
        self.flushed.waiting.push(Waiting { webhook, ready: false, due: Some(self.now) });
        Ok(Retried::Again)
    }

    fn jobs(&mut self, txn: &WriteTransaction, flush: &Flush) -> Result<(), Error> {
        // What a recovery that is new in this flush was counted to have before it.
        let total_of = |no: u64, counted: &[u64]| {
            let mut totals = flush.totals.iter().zip(counted);
            totals.find(|(total, _)| total.job == no).map(|(_, letters)| *letters)
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

/// Adds rows, and removes those that the log has.
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

/// What is known of the outbox at a start.
pub(super) fn load_outbox(txn: &ReadTransaction) -> Result<Outbox, Error> {
    let table = txn.open_table(OUTBOX)?;
    Ok(Outbox { next: table.last()?.map_or(0, |(no, _)| no.value() + 1), rows: table.len()? })
}
