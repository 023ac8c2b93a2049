//! A flush: history first, then one transaction of state.redb with everything that was gathered and the checkpoint, then
//! the answers. Until the transaction is durable nothing in memory forgets what it writes, so a flush that fails can be
//! tried again.

use redb::{Error, WriteTransaction};

use super::checkpoint::{CHECKPOINT, MARKS, Marks};
use super::dead::{DeadLetters, Note};
use super::expiry::Progress;
use super::gather::{Change, What};
use super::job::{Ground, Job};
use super::keeper::Keeper;
use super::outbox::Told;
use super::pending::{self, PendingRow, Rows};
use super::table::META;
use crate::handoff::{Retried, ToShard, Waiting};
use crate::model::{DeliveryId, Timestamp, WebhookNo};
use crate::runtime::Permit;

/// Finished replays that are still shown.
const JOBS_KEPT: usize = 100;

/// What a transaction did that memory must learn once it is durable.
#[derive(Debug, Default)]
pub(super) struct Written {
    rows: u64,
    dead: u64,
    oldest_dead: Option<Timestamp>,
    job: Option<Job>,
    forgotten: Vec<u64>,
    /// How far the oldest expiry is, if there is one.
    pub(super) expiring: Progress,
    pub(super) waiting: Vec<Waiting>,
    pub(super) died: Vec<WebhookNo>,
    /// Rows made for each replay of named dead letters.
    recovered: Vec<u64>,
    recover_alls: Vec<u64>,
    /// What came of each wish for a delivery once more.
    pub(super) retried: Vec<Retried>,
    discarded: Vec<u64>,
    stats: bool,
    told: Told,
}

impl Keeper {
    /// Makes everything gathered durable, then answers. On an error all of it is still there.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let now = self.clock.steady();
        if self.is_dirty() {
            let begun = self.clock.instant();
            let items = self.gathered.items;
            self.overflow();
            self.gathered.sort();
            if !self.history_written && !self.gathered.attempts.is_empty() {
                self.history.write(&mut self.gathered.attempts, now)?;
                self.history_written = true;
            }
            self.outstanding.encode(&mut self.scratch);
            let written = self.write_state(now, false)?;
            self.learn(written, now);
            self.history.retain(now, self.options.history_retention)?;
            self.metrics.flush_items.observe(items as f64);
            self.metrics.flush_seconds.observe((self.clock.instant() - begun).as_secs_f64());
        }
        self.disable.retain(|(webhook, reason)| !(self.hooks.disable)(*webhook, *reason));
        self.answer(now)?;
        self.tell_shards();
        Ok(())
    }

    /// The last write: a flush, the statistics whatever their number, and the mark of a clean stop.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.flush()?;
        let now = self.clock.steady();
        self.outstanding.encode(&mut self.scratch);
        let written = self.write_state(now, true)?;
        self.learn(written, now);
        self.history.close()?;
        self.state.close(crate::limits::STATE_CACHE_BYTES)
    }

    fn overflow(&mut self) {
        let mut oldest = Vec::new();
        self.outstanding.overflow(self.bounds.checkpoint_list_max, |webhook, event| oldest.push((webhook, event)));
        for (webhook, event) in oldest {
            self.wait(webhook, event);
        }
    }

    fn write_state(&self, now: Timestamp, is_last: bool) -> Result<Written, Error> {
        let txn = self.state.write(self.options.two_phase_commit)?;
        let mut written = Written {
            recovered: vec![0; self.gathered.recovers.len()],
            retried: vec![Retried::default(); self.gathered.retries.len()],
            discarded: vec![0; self.gathered.discards.len()],
            ..Written::default()
        };
        {
            let (mut rows, mut dead) = (Rows::open(&txn)?, DeadLetters::open(&txn)?);
            for change in &self.gathered.changes {
                self.write_change(*change, now, &mut rows, &mut dead, &mut written)?;
            }
            for (_, webhook, _) in &self.gathered.recover_alls {
                written.recover_alls.push(dead.count(*webhook)?);
            }
            self.write_jobs(&txn, &written)?;
            if !is_last {
                self.step_job(&txn, now, &mut rows, &mut dead, &mut written)?;
                self.step_expiry(now, &mut rows, &mut dead, &mut written)?;
            }
            if self.is_dead_letter_due() {
                let age = i64::try_from(self.options.dead_letter_retention.as_millis()).unwrap_or(i64::MAX);
                let before = Timestamp::from_millis(now.as_millis().saturating_sub(age));
                dead.forget(before, self.bounds.job_rows)?;
            }
            (written.rows, written.dead, written.oldest_dead) = (rows.len()?, dead.len()?, dead.oldest()?);
        }
        self.history.note(&txn)?;
        {
            let mut counts = self.ledger.lock();
            written.stats = counts.stats.write(&txn, now, is_last)?;
            written.told = self.write_told(&txn, &counts.hours, now, is_last)?;
        }
        let marks = Marks { steady: now, next_job: self.next_job, clean: is_last };
        {
            let mut meta = txn.open_table(META)?;
            meta.insert(CHECKPOINT, self.scratch.as_slice())?;
            meta.insert(MARKS, marks.encode().as_slice())?;
        }
        txn.commit()?;
        Ok(written)
    }

    fn write_change(
        &self,
        change: Change,
        now: Timestamp,
        rows: &mut Rows<'_>,
        dead: &mut DeadLetters<'_>,
        written: &mut Written,
    ) -> Result<(), Error> {
        let Change { webhook, event, what } = change;
        match what {
            What::Ready => {
                rows.put_new(webhook, event, PendingRow::READY)?;
            }
            What::Retry { attempts, at, was_outstanding } => {
                // An attempt that was under way while its row was abandoned or expired does not bring it back.
                let row = if was_outstanding { None } else { rows.get(webhook, event)? };
                if was_outstanding || row.is_some() || !dead.holds(webhook, event)? {
                    let base = row.map_or(0, |row| row.base);
                    rows.put(webhook, event, PendingRow { attempts, base, due: Some(at) })?;
                }
            }
            What::Remove => {
                if rows.remove(webhook, event)?.is_none() {
                    // Abandoned while it was under way, and delivered all the same.
                    dead.remove(webhook, event)?;
                }
            }
            What::Dead { note } => {
                let note = &self.gathered.notes[note];
                match rows.remove(webhook, event)? {
                    // It ended without an attempt, but not without those before.
                    Some(row) if row.attempts > note.attempts => {
                        dead.put(webhook, event, &Note { attempts: row.attempts, ..note.clone() })?;
                    }
                    _ => dead.put(webhook, event, note)?,
                }
            }
            What::Again { reply } => self.again(DeliveryId { event, webhook }, reply, now, rows, dead, written)?,
            What::Discard { reply } => {
                written.discarded[reply] += u64::from(dead.remove(webhook, event)?.is_some());
            }
            What::Recover { reply } => {
                if (self.hooks.abandons)(webhook).is_none()
                    && let Some(attempts) = dead.remove(webhook, event)?
                {
                    let row = PendingRow::again(attempts, now);
                    written.recovered[reply] += u64::from(rows.put_new(webhook, event, row)?);
                    written.waiting.push(Waiting { webhook, ready: false, due: Some(now) });
                }
            }
        }
        Ok(())
    }

    fn write_jobs(&self, txn: &WriteTransaction, written: &Written) -> Result<(), Error> {
        for no in &self.gathered.jobs {
            if let Some(mut job) = self.jobs.get(no).cloned() {
                job.total = job.total.or(self.total_of(*no, written));
                job.store(txn)?;
            }
        }
        let mut wide = txn.open_table(super::table::WIDE)?;
        for (no, webhooks) in &self.gathered.wide {
            wide.insert(no, webhooks.as_slice())?;
        }
        Ok(())
    }

    /// What a recovery that is new in this flush was counted to have before it.
    fn total_of(&self, no: u64, written: &Written) -> Option<u64> {
        let mut counted = self.gathered.recover_alls.iter().zip(&written.recover_alls);
        counted.find(|((.., of), _)| *of == no).map(|(_, total)| *total)
    }

    fn step_job<'txn>(
        &self,
        txn: &'txn WriteTransaction,
        now: Timestamp,
        rows: &mut Rows<'txn>,
        dead: &mut DeadLetters<'txn>,
        written: &mut Written,
    ) -> Result<(), Error> {
        let Some(mut job) = self.next_turn().cloned() else { return Ok(()) };
        job.total = job.total.or(self.total_of(job.no, written));
        job.step(&mut Ground {
            txn,
            rows,
            dead,
            outstanding: &self.outstanding,
            wide: &self.wide_events(),
            log: &*self.log,
            history: &self.history.files(),
            abandons: &self.hooks.abandons,
            targets: &*self.hooks.targets,
            now,
            wall: self.clock.now(),
            rows_max: self.bounds.job_rows,
            waiting: &mut written.waiting,
            died: &mut written.died,
        })?;
        if job.is_running() || job.is_kept() {
            job.store(txn)?;
        } else {
            written.forgotten.push(job.no);
        }
        let finished: Vec<u64> = self.jobs.values().filter(|job| !job.is_running()).map(|job| job.no).collect();
        written.forgotten.extend(finished.iter().take(finished.len().saturating_sub(JOBS_KEPT)));
        for no in &written.forgotten {
            Job::forget(*no, txn)?;
        }
        written.job = Some(job);
        Ok(())
    }

    /// What was written is durable: memory may forget it, and those who wait may know.
    fn learn(&mut self, written: Written, now: Timestamp) {
        self.history_written = false;
        self.learn_counts(&written, now);
        self.learn_told(written.told);
        self.gathered.clear();
        // Permits go here, and so new work comes in.
        Permit::give_back(self.outstanding.take_released());
        if let Some(job) = written.job {
            self.turn = job.no;
            self.jobs.insert(job.no, job);
        }
        for no in written.forgotten {
            self.jobs.remove(&no);
        }
        match written.expiring {
            Progress::NoneToDo => {}
            Progress::Done => _ = self.expiring.pop_front(),
            Progress::Rest(rest) => {
                self.expiring.pop_front();
                self.expiring.push_front(rest);
            }
        }
        self.oldest_dead = written.oldest_dead;
        self.metrics.dead_letters.set(written.dead as i64);
        self.depth.set(written.rows, self.outstanding.len() as u64, self.outstanding.oldest());
        self.metrics.queue_depth.set(self.depth.get() as i64);
        for waiting in written.waiting {
            self.nudge(waiting);
        }
        // Whoever asked may have gone meanwhile.
        for (reply, rows) in self.gathered.recovers.drain(..).zip(written.recovered) {
            let _ = reply.send(rows);
        }
        for (asked, retried) in self.gathered.retries.drain(..).zip(written.retried) {
            let _ = asked.reply.send(retried);
        }
        for (reply, letters) in self.gathered.discards.drain(..).zip(written.discarded) {
            let _ = reply.send(letters);
        }
        for ((reply, _, no), rows) in self.gathered.recover_alls.drain(..).zip(written.recover_alls) {
            if let Some(job) = self.jobs.get_mut(&no) {
                job.total = job.total.or(Some(rows));
            }
            let _ = reply.send(rows);
        }
        for (reply, no) in self.gathered.job_replies.drain(..) {
            let _ = reply.send(no);
        }
    }

    fn learn_counts(&self, written: &Written, now: Timestamp) {
        let mut counts = self.ledger.lock();
        if written.stats {
            counts.stats.written(now);
        }
        if written.told.hours {
            counts.hours.written(now);
        }
        counts.stats.count_dead(&written.died);
    }

    fn answer(&mut self, now: Timestamp) -> Result<(), Error> {
        for (reply, is_cancelled) in self.gathered.cancel_replies.drain(..) {
            let _ = reply.send(is_cancelled);
        }
        for sync in self.gathered.syncs.drain(..) {
            let newest = self.outstanding.newest_first(sync.webhook, sync.event);
            let _ = sync.reply.send(newest.take(sync.limit).collect());
        }
        if self.gathered.refills.is_empty() {
            return Ok(());
        }
        let refills = &self.gathered.refills;
        let unwritten = self.wide_events().into_iter().map(|(_, event)| event).min();
        let answers = self.state.read(|txn| {
            refills
                .iter()
                .map(|refill| Ok((refill.shard, pending::refill(txn, refill, now, unwritten)?)))
                .collect::<Result<Vec<_>, Error>>()
        })?;
        self.gathered.refills.clear();
        self.kept.extend(answers.into_iter().map(|(shard, answer)| (shard, ToShard::Refilled(answer))));
        Ok(())
    }

    /// Adds to what the shards must be told, one entry a webhook.
    pub(super) fn nudge(&mut self, waiting: Waiting) {
        let entry = self.waiting.entry(waiting.webhook).or_insert(waiting);
        entry.ready |= waiting.ready;
        entry.due = match (entry.due, waiting.due) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// Tells the shards what they can take; the rest is kept for the next round.
    fn tell_shards(&mut self) {
        for _ in 0..self.kept.len() {
            if let Some((shard, message)) = self.kept.pop_front()
                && let Err(message) = self.shards.try_tell(shard, message)
            {
                self.kept.push_back((shard, message));
            }
        }
        if self.waiting.is_empty() {
            return;
        }
        let mut per_shard = vec![Vec::new(); self.shards.count()];
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            per_shard[self.shards.of(waiting.webhook)].push(waiting);
        }
        for (shard, waiting) in per_shard.into_iter().enumerate().filter(|(_, waiting)| !waiting.is_empty()) {
            if let Err(ToShard::Waiting(waiting)) = self.shards.try_tell(shard, ToShard::Waiting(waiting)) {
                for waiting in waiting {
                    self.nudge(waiting);
                }
            }
        }
    }

    /// After a full disk: every file anew, nothing gathered lost.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        self.state.reopen()?;
        self.history.reopen()
    }
}
