//! Flushes: builds a flush from the pending batch, and applies its result when it is durable.
//!
//! The result updates memory, the replies and the messages to the shards. A flush holds everything that it writes until
//! it is durable, so a flush that fails can be tried again.

use super::pending_batch::{PendingBatch, PendingReplies};
use super::state::SettleState;
use super::step::{CommandReply, SettleOutput};
use crate::handoff::{ToShard, WebhookBacklog};
use crate::model::Timestamp;
use crate::runtime::IngestPermit;
use crate::storage::delivery::{Flush, Flushed, LookupError, RefillRequest};

impl SettleState {
    /// Moves the pending batch into a flush. `is_last`: the flush of an orderly stop, which writes all statistics.
    pub(super) fn make_flush(&mut self, is_last: bool) -> Result<Box<Flush>, LookupError> {
        self.overflow();
        let mut pending = std::mem::take(&mut self.pending);
        let mut flush = std::mem::take(&mut pending.flush);
        flush.now = self.now.steady;
        flush.wall = self.now.wall;
        flush.is_last = is_last;
        flush.rows_max = self.bounds.job_rows;
        flush.next_job = self.next_job;
        flush.outbox_first = self.outbox.next;
        flush.jobs.extend(pending.jobs.drain(..).filter_map(|no| self.jobs.get(&no).cloned()));
        if !is_last {
            flush.step = self.next_step(&flush)?;
            if flush.step.is_some() {
                flush.forgotten_jobs = self.finished_jobs_to_delete();
            }
            flush.expiry = self.expiring.front().cloned();
        }
        if self.is_dead_letter_due(self.now.steady) {
            let age = i64::try_from(self.options.dead_letter_retention.as_millis()).unwrap_or(i64::MAX);
            let before = Timestamp::from_millis(self.now.steady.as_millis().saturating_sub(age));
            flush.dead_forgotten_before = Some(before);
        }
        {
            let mut counts = self.shared_stats.lock();
            counts.stats.take_changed(&mut flush.stats, self.now.steady, is_last);
            flush.hourly_stats = counts.hours.take(self.now.steady, self.now.wall, is_last);
        }
        self.health.take_changed(&mut flush.webhook_health);
        self.endpoint_states.take_changed(&mut flush.endpoint_states);
        self.outstanding.encode(&mut flush.checkpoint);
        pending.replies.permits = self.outstanding.take_released();
        self.in_flush = Some(pending);
        Ok(flush)
    }

    fn overflow(&mut self) {
        let mut oldest = Vec::new();
        self.outstanding.overflow(self.bounds.checkpoint_list_max, |webhook, event| oldest.push((webhook, event)));
        for (webhook, event) in oldest {
            self.add_row(webhook, event);
        }
    }

    /// Applies a durable flush: memory drops what was written, and the waiting replies are sent.
    pub(super) fn apply_flushed(
        &mut self,
        mut flush: Box<Flush>,
        mut flushed: Flushed,
        outputs: &mut Vec<SettleOutput>,
    ) -> Result<(), LookupError> {
        let now = flush.now;
        let PendingBatch { items, mut replies, jobs, .. } = self.in_flush.take().unwrap_or_default();
        // Released permits let new requests in.
        IngestPermit::release_all(std::mem::take(&mut replies.permits));
        self.metrics.flush_items.observe(items as f64);
        {
            let mut counts = self.shared_stats.lock();
            if flush.hourly_stats.is_some() {
                counts.hours.flushed();
            }
            counts.stats.count_dead(&flushed.dead_lettered);
        }
        if flushed.outbox.next > self.outbox.next {
            outputs.push(SettleOutput::NotifyOutbox);
        }
        self.outbox = flushed.outbox;
        self.metrics.outbox_waiting.set(flushed.outbox.rows as i64);
        self.apply_flushed_jobs(&flush, &mut flushed);
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
            self.notify_shard(waiting);
        }
        replies.take_replies(&flushed, |answer| outputs.push(SettleOutput::Reply(answer)));
        // The next batch reuses the memory of this one.
        flush.clear();
        self.pending = PendingBatch { items: 0, flush, jobs, replies: PendingReplies::default() };
        outputs.extend(self.replays.next_request(&self.jobs, self.bounds.job_rows).map(SettleOutput::EvaluateReplay));
        self.send_replies_at(now, &mut replies, outputs)?;
        self.pending.replies = replies;
        Ok(())
    }

    /// Sends the replies that wait for no write.
    pub(super) fn send_replies(
        &mut self,
        replies: &mut PendingReplies,
        outputs: &mut Vec<SettleOutput>,
    ) -> Result<(), LookupError> {
        self.send_replies_at(self.now.steady, replies, outputs)
    }

    /// Sends the replies that waited for the flush made at `now`, and the messages to the shards.
    fn send_replies_at(
        &mut self,
        now: Timestamp,
        replies: &mut PendingReplies,
        outputs: &mut Vec<SettleOutput>,
    ) -> Result<(), LookupError> {
        outputs.extend(self.disable.drain(..).map(|(webhook, reason)| SettleOutput::Disable(webhook, reason)));
        for (reply, is_cancelled) in replies.cancel_replies.drain(..) {
            outputs.push(SettleOutput::Reply(CommandReply::Cancelled(reply, is_cancelled)));
        }
        for sync in replies.syncs.drain(..) {
            let newest = self.outstanding.newest_first(sync.webhook, sync.event);
            let deliveries = newest.take(sync.limit).collect();
            outputs.push(SettleOutput::Reply(CommandReply::Outstanding(sync.reply, deliveries)));
        }
        for (webhook, capture) in replies.captures.drain(..) {
            let outstanding = self.outstanding.newest_first(Some(webhook), None).count();
            outputs.push(SettleOutput::Reply(CommandReply::Captured(capture, outstanding)));
        }
        if !replies.refills.is_empty() {
            let unwritten = self.wide_events().into_iter().map(|(_, event)| event).min();
            let query = replies.refills.iter();
            let query: Vec<_> = query
                .map(|refill| RefillRequest { webhook: refill.webhook, kind: refill.kind, rows: refill.rows })
                .collect();
            let answers = self.reader.refill(&query, now, unwritten)?;
            let answers = replies.refills.drain(..).zip(answers);
            self.unsent.extend(answers.map(|(refill, answer)| (refill.shard, ToShard::Refilled(answer))));
        }
        self.send_to_shards(outputs);
        Ok(())
    }

    /// Adds a webhook's backlog to the messages for the shards, merged with the webhook's earlier entry.
    pub(super) fn notify_shard(&mut self, waiting: WebhookBacklog) {
        let entry = self.waiting.entry(waiting.webhook).or_insert(waiting);
        entry.ready |= waiting.ready;
        entry.due = match (entry.due, waiting.due) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    /// Sends the unsent messages and the backlogs to the shards.
    fn send_to_shards(&mut self, outputs: &mut Vec<SettleOutput>) {
        outputs.extend(self.unsent.drain(..).map(|(shard, message)| SettleOutput::SendToShard(shard, message)));
        if self.waiting.is_empty() {
            return;
        }
        let mut per_shard = vec![Vec::new(); self.shards.count()];
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            per_shard[self.shards.of(waiting.webhook)].push(waiting);
        }
        for (shard, waiting) in per_shard.into_iter().enumerate().filter(|(_, waiting)| !waiting.is_empty()) {
            outputs.push(SettleOutput::SendToShard(shard, ToShard::Waiting(waiting)));
        }
    }

    /// Keeps a message that did not fit into its shard's queue until the next round.
    pub(super) fn keep_unsent(&mut self, shard: usize, message: ToShard) {
        match message {
            ToShard::Waiting(waiting) => waiting.into_iter().for_each(|waiting| self.notify_shard(waiting)),
            message => self.unsent.push_back((shard, message)),
        }
    }
}
