//! A flush: made of what was gathered; and, when it is durable, what memory learns of it, the answers, and what the shards
//! are told. Until then the flush holds everything that it writes, so one that fails can be tried again.

use super::pending_batch::{Asked, PendingBatch};
use super::state::SettleState;
use super::step::{Answer, Output};
use crate::handoff::{ToShard, Waiting};
use crate::model::Timestamp;
use crate::runtime::Permit;
use crate::storage::delivery::{Flush, Flushed, LookupError, RowsWanted};

impl SettleState {
    /// Moves what was gathered into a flush.
    pub(super) fn make_flush(&mut self, is_last: bool) -> Result<Box<Flush>, LookupError> {
        self.overflow();
        let mut gathered = std::mem::take(&mut self.gathered);
        let mut flush = std::mem::take(&mut gathered.flush);
        flush.now = self.now.steady;
        flush.wall = self.now.wall;
        flush.is_last = is_last;
        flush.rows_max = self.bounds.job_rows;
        flush.next_job = self.next_job;
        flush.outbox_first = self.outbox.next;
        flush.jobs.extend(gathered.jobs.drain(..).filter_map(|no| self.jobs.get(&no).cloned()));
        if !is_last {
            flush.step = self.next_step(&flush)?;
            if flush.step.is_some() {
                flush.forgotten_jobs = self.jobs_shown_no_longer();
            }
            flush.expiry = self.expiring.front().cloned();
        }
        if self.is_dead_letter_due(self.now.steady) {
            let age = i64::try_from(self.options.dead_letter_retention.as_millis()).unwrap_or(i64::MAX);
            let before = Timestamp::from_millis(self.now.steady.as_millis().saturating_sub(age));
            flush.dead_forgotten_before = Some(before);
        }
        {
            let mut counts = self.ledger.lock();
            counts.stats.take_changed(&mut flush.stats, self.now.steady, is_last);
            flush.figures = counts.hours.take(self.now.steady, self.now.wall, is_last);
        }
        self.watches.take_changed(&mut flush.standings);
        self.outstanding.encode(&mut flush.checkpoint);
        gathered.asked.permits = self.outstanding.take_released();
        self.in_flush = Some(gathered);
        Ok(flush)
    }

    fn overflow(&mut self) {
        let mut oldest = Vec::new();
        self.outstanding.overflow(self.bounds.checkpoint_list_max, |webhook, event| oldest.push((webhook, event)));
        for (webhook, event) in oldest {
            self.wait(webhook, event);
        }
    }

    /// What was written is durable: memory may forget it, and those who wait may know.
    pub(super) fn learn(
        &mut self,
        mut flush: Box<Flush>,
        mut flushed: Flushed,
        outputs: &mut Vec<Output>,
    ) -> Result<(), LookupError> {
        let now = flush.now;
        let PendingBatch { items, mut asked, jobs, .. } = self.in_flush.take().unwrap_or_default();
        // Permits go here, and so new work comes in.
        Permit::give_back(std::mem::take(&mut asked.permits));
        self.metrics.flush_items.observe(items as f64);
        {
            let mut counts = self.ledger.lock();
            if flush.figures.is_some() {
                counts.hours.flushed();
            }
            counts.stats.count_dead(&flushed.died);
        }
        if flushed.outbox.next > self.outbox.next {
            outputs.push(Output::RingOutbox);
        }
        self.outbox = flushed.outbox;
        self.metrics.outbox_waiting.set(flushed.outbox.rows as i64);
        self.learn_jobs(&flush, &mut flushed);
        if flush.expiry.is_some() {
            self.expiring.pop_front();
            if let Some(rest) = flushed.expiry.take() {
                self.expiring.push_front(rest);
            }
        }
        self.oldest_dead = flushed.oldest_dead;
        self.is_retiring = flushed.is_retiring;
        self.metrics.dead_letters.set(flushed.dead as i64);
        self.depth.set(flushed.rows, self.outstanding.len() as u64, self.outstanding.oldest());
        self.metrics.queue_depth.set(self.depth.get() as i64);
        for waiting in flushed.waiting.drain(..) {
            self.nudge(waiting);
        }
        asked.take_answers(&flushed, |answer| outputs.push(Output::Answer(answer)));
        // Their memory is used again.
        flush.clear();
        self.gathered = PendingBatch { items: 0, flush, jobs, asked: Asked::default() };
        self.answer_at(now, &mut asked, outputs)?;
        self.gathered.asked = asked;
        Ok(())
    }

    /// Answers who waits for no write.
    pub(super) fn answer(&mut self, asked: &mut Asked, outputs: &mut Vec<Output>) -> Result<(), LookupError> {
        self.answer_at(self.now.steady, asked, outputs)
    }

    /// Answers who waited for the flush of this time, and tells the shards.
    fn answer_at(&mut self, now: Timestamp, asked: &mut Asked, outputs: &mut Vec<Output>) -> Result<(), LookupError> {
        outputs.extend(self.disable.drain(..).map(|(webhook, reason)| Output::Disable(webhook, reason)));
        for (reply, is_cancelled) in asked.cancel_replies.drain(..) {
            outputs.push(Output::Answer(Answer::Cancelled(reply, is_cancelled)));
        }
        for sync in asked.syncs.drain(..) {
            let newest = self.outstanding.newest_first(sync.webhook, sync.event);
            let deliveries = newest.take(sync.limit).collect();
            outputs.push(Output::Answer(Answer::Outstanding(sync.reply, deliveries)));
        }
        if !asked.refills.is_empty() {
            let unwritten = self.wide_events().into_iter().map(|(_, event)| event).min();
            let wanted = asked.refills.iter();
            let wanted: Vec<_> = wanted
                .map(|refill| RowsWanted { webhook: refill.webhook, lane: refill.lane, rows: refill.rows })
                .collect();
            let answers = self.reader.refill(&wanted, now, unwritten)?;
            let answers = asked.refills.drain(..).zip(answers);
            self.kept.extend(answers.map(|(refill, answer)| (refill.shard, ToShard::Refilled(answer))));
        }
        self.tell_shards(outputs);
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

    /// Tells the shards everything they must know.
    fn tell_shards(&mut self, outputs: &mut Vec<Output>) {
        outputs.extend(self.kept.drain(..).map(|(shard, message)| Output::Tell(shard, message)));
        if self.waiting.is_empty() {
            return;
        }
        let mut per_shard = vec![Vec::new(); self.shards.count()];
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            per_shard[self.shards.of(waiting.webhook)].push(waiting);
        }
        for (shard, waiting) in per_shard.into_iter().enumerate().filter(|(_, waiting)| !waiting.is_empty()) {
            outputs.push(Output::Tell(shard, ToShard::Waiting(waiting)));
        }
    }

    /// Keeps what a shard had no room for until the next round.
    pub(super) fn keep(&mut self, shard: usize, message: ToShard) {
        match message {
            ToShard::Waiting(waiting) => waiting.into_iter().for_each(|waiting| self.nudge(waiting)),
            message => self.kept.push_back((shard, message)),
        }
    }
}
