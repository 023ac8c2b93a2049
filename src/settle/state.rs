//! The state machine of settle: its state, and how each message changes it.
//!
//! There is no thread, clock, wait or write here. [`SettleState::step`] takes an input and returns the outputs that the
//! driver performs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::delivery_records::BacklogDepth;
use super::endpoint_states::EndpointStates;
use super::outstanding::Outstanding;
use super::pending_batch::{PendingBatch, RetryReply, SyncReply};
use super::replay::ReplayTurns;
use super::shared_stats::{LiveStats, SharedStats};
use super::step::{SettleInput, SettleOutput, SettleTime};
use super::webhook_health::HealthTable;
use super::{Callbacks, Options, SettleLimits};
use crate::handoff::{
    AnnouncedEvent, CostlyDeliveries, DisableReason, SettleCommand, SettledDelivery, Shards, ToSettle, ToShard,
    WebhookBacklog,
};
use crate::model::{DeadReason, Decision, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::runtime::Metrics;
use crate::storage::ReadLog;
use crate::storage::delivery::{
    ChangeKind, DeliveryReader, Expiry, Job, JobKind, LookupError, NewDeadLetter, Outbox, RecoveryTotal, RetryResult,
};

/// The state of settle in memory.
pub(super) struct SettleState {
    /// Both clocks at the last step.
    pub(super) now: SettleTime,
    pub(super) outstanding: Outstanding,
    pub(super) pending: PendingBatch,
    /// The batch of the current flush, with the replies that wait for it.
    pub(super) in_flush: Option<PendingBatch>,
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) next_job: u64,
    /// The number of the job that made the last step.
    pub(super) last_job: u64,
    pub(super) replays: ReplayTurns,
    pub(super) expiring: VecDeque<Expiry>,
    /// When the oldest dead letter was written, as of the last flush.
    pub(super) oldest_dead: Option<Timestamp>,
    /// Whether history has old files to remove, as of the last flush.
    pub(super) is_retiring: bool,
    pub(super) shared_stats: Arc<SharedStats>,
    pub(super) health: HealthTable,
    pub(super) endpoint_states: EndpointStates,
    pub(super) outbox: Outbox,
    pub(super) depth: Arc<BacklogDepth>,
    /// Backlogs to send to the shards, one entry for each webhook.
    pub(super) waiting: BTreeMap<WebhookNo, WebhookBacklog>,
    /// Messages that did not fit into their shard's queue.
    pub(super) unsent: VecDeque<(usize, ToShard)>,
    /// Webhooks to disable after the flush, or after the next one if the registry's queue was full.
    pub(super) disable: Vec<(WebhookNo, DisableReason)>,
    pub(super) options: Options,
    pub(super) bounds: SettleLimits,
    /// Maps webhooks to shards.
    pub(super) shards: Shards,
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) reader: Arc<dyn DeliveryReader>,
    pub(super) metrics: Arc<Metrics>,
    /// Only the callbacks that read the registry are called here. Those that change something are called for a
    /// [`SettleOutput`].
    pub(super) callbacks: Callbacks,
    pub(super) stopping: bool,
}

/// Dead letters stay this much longer than their retention, so that they are deleted in batches.
const DEAD_LETTER_GRACE: Duration = Duration::from_secs(60);

impl SettleState {
    /// Applies one input at the time `now` and returns the outputs, in the order in which they must be performed.
    pub(super) fn step(&mut self, now: SettleTime, input: SettleInput) -> Result<Vec<SettleOutput>, LookupError> {
        self.now = now;
        let mut outputs = Vec::new();
        match input {
            SettleInput::Messages(messages) => self.take_in(messages),
            SettleInput::Flush if self.is_dirty() => outputs.push(SettleOutput::Flush(self.make_flush(false)?)),
            SettleInput::Finish => outputs.push(SettleOutput::Flush(self.make_flush(true)?)),
            SettleInput::Flush => {
                let mut replies = std::mem::take(&mut self.pending.replies);
                self.send_replies(&mut replies, &mut outputs)?;
                self.pending.replies = replies;
            }
            SettleInput::Flushed(flush, flushed) => self.apply_flushed(flush, *flushed, &mut outputs)?,
            SettleInput::ShardFull(shard, message) => self.keep_unsent(shard, message),
            SettleInput::DisableRefused(webhook, reason) => self.disable.push((webhook, reason)),
        }
        Ok(outputs)
    }

    /// Applies messages. All of them are counted under one lock.
    fn take_in(&mut self, messages: Vec<ToSettle>) {
        debug_assert!(self.in_flush.is_none(), "nothing is taken in while a flush is under way");
        let shared_stats = Arc::clone(&self.shared_stats);
        let mut counts = shared_stats.lock();
        for message in messages {
            self.take(message, &mut counts);
        }
    }

    fn take(&mut self, message: ToSettle, counts: &mut LiveStats) {
        match message {
            ToSettle::Announce(events) => {
                for event in events {
                    self.announce(event, counts);
                }
            }
            ToSettle::Settled(outcomes) => self.settle(&outcomes, counts),
            ToSettle::Spill(deliveries) => {
                self.pending.items += deliveries.len();
                for (webhook, event) in deliveries {
                    // A delivery that has left the list has a row or is settled, and needs no new row.
                    if self.outstanding.settle(webhook, event) {
                        self.add_row(webhook, event);
                    }
                }
            }
            ToSettle::Refill(refill) => self.pending.replies.refills.push(refill),
            ToSettle::ReplayStep(step) => {
                self.pending.items += 1;
                self.replays.evaluated(step, &self.jobs);
            }
            ToSettle::Command(command) => self.command(command, counts),
        }
    }

    fn announce(&mut self, mut announced: AnnouncedEvent, counts: &mut LiveStats) {
        if let Some(too_costly) = announced.too_costly.take() {
            self.settle_too_costly(announced.event, *too_costly, counts);
        }
        self.pending.items += announced.webhooks.len().max(1);
        if announced.webhooks.len() <= self.bounds.wide_event_webhooks {
            self.outstanding.announce(announced);
            return;
        }
        let AnnouncedEvent { event, webhooks, permit, .. } = announced;
        let no = self.add_job(JobKind::Wide { event }, Some(webhooks.len() as u64));
        self.pending.flush.wide.push((no, webhooks));
        self.outstanding.skip_event(event, permit);
    }

    /// Makes dead letters of deliveries that no shard has. The flush that writes them also moves the checkpoint past
    /// their event, so a crash loses none.
    fn settle_too_costly(&mut self, event: EventId, deliveries: CostlyDeliveries, counts: &mut LiveStats) {
        let CostlyDeliveries { head, webhooks } = deliveries;
        let decision = Decision::Dead(DeadReason::FilterTooCostly);
        let outcome = |webhook| {
            let (attempt, head, endpoint) = (None, head.clone(), None);
            SettledDelivery { webhook, event, attempt, decision, head, endpoint }
        };
        let outcomes: Vec<_> = webhooks.iter().map(|webhook| outcome(*webhook)).collect();
        self.settle(&outcomes, counts);
        self.report_too_costly(&outcomes);
    }

    fn settle(&mut self, outcomes: &[SettledDelivery], counts: &mut LiveStats) {
        self.pending.items += outcomes.len();
        let disable_after = |no| (self.callbacks.disable_after)(no).unwrap_or(self.options.disable_after);
        let mut failing = Vec::new();
        counts.stats.count(outcomes, self.now.steady, disable_after, |webhook| failing.push(webhook));
        for webhook in failing {
            self.disable(webhook, DisableReason::Failing);
        }
        counts.hours.count(outcomes, self.now.wall);
        self.update_health(outcomes, &counts.stats);
        for outcome in outcomes {
            let (webhook, event) = (outcome.webhook, outcome.event);
            if let Some(attempt) = &outcome.attempt {
                self.pending.flush.attempts.push(webhook, event, attempt);
            }
            if let Some(endpoint) = &outcome.endpoint {
                self.endpoint_states.set(webhook, endpoint);
            }
            if outcome.decision == Decision::Dead(DeadReason::Gone) {
                self.disable(webhook, DisableReason::Gone);
            }
            let was_outstanding = self.outstanding.settle(webhook, event);
            match outcome.decision {
                Decision::Delivered if was_outstanding => {}
                Decision::Delivered => self.pending.flush.change(webhook, event, ChangeKind::Remove),
                Decision::Retry { at } => match (self.callbacks.abandon_reason)(webhook) {
                    None => {
                        let attempts = outcome.attempt.as_ref().map_or(0, |attempt| attempt.number);
                        self.pending.flush.change(webhook, event, ChangeKind::Retry { attempts, at, was_outstanding });
                    }
                    Some(reason) => self.dead_letter(outcome, reason),
                },
                Decision::Dead(reason) => self.dead_letter(outcome, reason),
            }
        }
    }

    /// Disables a webhook through the registry once the outcomes that cause it are durable. Only settle decides this.
    fn disable(&mut self, webhook: WebhookNo, reason: DisableReason) {
        if self.disable.iter().all(|(asked, _)| *asked != webhook) {
            tracing::warn!(webhook = webhook.0, ?reason, "webhook is to be disabled");
            self.disable.push((webhook, reason));
        }
    }

    fn dead_letter(&mut self, outcome: &SettledDelivery, reason: DeadReason) {
        let attempt = outcome.attempt.as_ref();
        let note = NewDeadLetter {
            reason,
            attempts: attempt.map_or(0, |attempt| attempt.number),
            at: self.now.wall,
            steady: self.now.steady,
            http_status: attempt.and_then(|attempt| attempt.http_status),
            error: attempt
                .and_then(|attempt| attempt.error.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default()
                .into(),
        };
        self.pending.flush.add_dead_letter(outcome.webhook, outcome.event, note);
    }

    /// Adds a row for a delivery that has just left the list, or a dead letter if its webhook takes no deliveries.
    pub(super) fn add_row(&mut self, webhook: WebhookNo, event: EventId) {
        match (self.callbacks.abandon_reason)(webhook) {
            None => self.pending.flush.change(webhook, event, ChangeKind::Ready),
            Some(reason) => {
                let outcome = SettledDelivery {
                    webhook,
                    event,
                    attempt: None,
                    decision: Decision::Dead(reason),
                    head: Bytes::new(),
                    endpoint: None,
                };
                self.dead_letter(&outcome, reason);
            }
        }
    }

    pub(super) fn command(&mut self, command: SettleCommand, counts: &mut LiveStats) {
        match command {
            SettleCommand::Sync { webhook, event, limit, reply } => {
                self.pending.replies.syncs.push(SyncReply { webhook, event, limit, reply });
            }
            SettleCommand::Capture { webhook, capture } => self.pending.replies.captures.push((webhook, capture)),
            SettleCommand::Abandon { webhook, reason } => {
                self.add_job(JobKind::Abandon { webhook, reason }, None);
            }
            SettleCommand::StatusChanged { webhook, change } => {
                self.registry_changed(webhook, change, &mut counts.stats);
            }
            SettleCommand::Admitted { through } => {
                let admitted = &mut self.pending.flush.admitted;
                *admitted = (*admitted).max(Some(through));
                self.pending.items += 1;
            }
            SettleCommand::ReplayDead { webhook, events: Some(events), reply } => {
                self.pending.replies.recovers.push(reply);
                let answer = self.pending.flush.answers.recovered;
                self.pending.flush.answers.recovered += 1;
                self.pending.items += events.len().max(1);
                // A webhook that takes no deliveries gets no replay.
                if (self.callbacks.abandon_reason)(webhook).is_none() {
                    self.change_all(webhook, &events, ChangeKind::Recover { answer });
                }
            }
            SettleCommand::Retry { id, reply } => self.retry(id, reply),
            SettleCommand::Discard { webhook, events, reply } => {
                self.pending.replies.discards.push(reply);
                let answer = self.pending.flush.answers.discarded;
                self.pending.flush.answers.discarded += 1;
                self.pending.items += events.len().max(1);
                self.change_all(webhook, &events, ChangeKind::Discard { answer });
            }
            SettleCommand::Recover { webhook, since, reply } => {
                let no = self.add_job(JobKind::Recover { webhook, since: Some(since) }, None);
                self.pending.replies.job_replies.push((reply, no));
            }
            SettleCommand::ReplayDead { webhook, events: None, reply } => {
                let job = self.add_job(JobKind::Recover { webhook, since: None }, None);
                self.pending.replies.recover_alls.push(reply);
                self.pending.flush.totals.push(RecoveryTotal { job, webhook });
            }
            SettleCommand::Replay { filter, reply } => {
                let no = self.add_job(JobKind::Replay(filter), None);
                self.pending.replies.job_replies.push((reply, no));
            }
            SettleCommand::CancelJob { job, reply } => {
                let found = self.jobs.get_mut(&job).filter(|job| job.can_be_cancelled());
                let is_cancelled = found.map(|job| job.cancel(self.now.wall)).is_some();
                if is_cancelled {
                    self.replays.take(job);
                    self.pending.items += 1;
                    self.pending.jobs.push(job);
                }
                self.pending.replies.cancel_replies.push((reply, is_cancelled));
            }
            SettleCommand::Expire { events } => {
                if let Some(first) = events.first() {
                    let from = (WebhookNo(0), *first);
                    self.expiring.push_back(Expiry { events: events.into(), from });
                }
            }
            SettleCommand::WithResponse { command, response } => {
                self.command_with_response(*command, *response, counts);
            }
            SettleCommand::Stop => self.stopping = true,
        }
    }

    fn change_all(&mut self, webhook: WebhookNo, events: &[EventId], what: ChangeKind) {
        for event in events {
            self.pending.flush.change(webhook, *event, what);
        }
    }

    /// Handles a manual retry. The flush finds out what to do, unless the answer is already known here.
    fn retry(&mut self, id: DeliveryId, reply: tokio::sync::oneshot::Sender<RetryResult>) {
        let DeliveryId { event, webhook } = id;
        let is_under_way =
            || self.outstanding.holds(webhook, event) || self.wide_events().iter().any(|(_, wide)| *wide == event);
        let answer = match (self.callbacks.abandon_reason)(webhook) {
            Some(reason) => Some(RetryResult::Abandoned(reason)),
            None if is_under_way() => Some(RetryResult::AlreadyPending),
            None => None,
        };
        if answer.is_none() {
            let answer = self.pending.flush.answers.retried;
            self.pending.flush.answers.retried += 1;
            self.pending.flush.change(webhook, event, ChangeKind::RetryNow { answer });
        }
        self.pending.replies.retries.push(RetryReply { reply, answer });
        self.pending.items += 1;
    }

    /// Creates a job and returns its number. The job is durable with the next flush.
    pub(super) fn add_job(&mut self, kind: JobKind, total: Option<u64>) -> u64 {
        let no = self.next_job;
        self.next_job += 1;
        self.pending.items += 1;
        self.pending.jobs.push(no);
        self.jobs.insert(no, Job::new(no, kind, total, self.log.last(), self.now.wall));
        no
    }

    /// The running job whose next step can be written. Jobs take turns by number. `None` if there is none.
    pub(super) fn job_to_step(&self) -> Option<&Job> {
        let running = |(_, job): (&u64, &'_ Job)| job.is_running() && self.replays.can_step(job);
        let later = self.jobs.range(self.last_job + 1..).find(|entry| running((entry.0, entry.1)));
        later
            .or_else(|| self.jobs.range(..=self.last_job).find(|entry| running((entry.0, entry.1))))
            .map(|(_, job)| job)
    }

    /// Whether a flush has something to write, as of the last step.
    fn is_dirty(&self) -> bool {
        self.pending.items > 0 || self.is_busy() || self.is_dead_letter_due(self.now.steady) || self.is_retiring
    }

    /// Whether there is work to continue without a new message.
    pub(super) fn is_busy(&self) -> bool {
        !self.expiring.is_empty() || self.job_to_step().is_some()
    }

    /// Whether everything is written and every reply is sent. `steady` is the scheduling clock's time.
    pub(super) fn is_idle(&self, steady: Timestamp) -> bool {
        let is_sent = self.unsent.is_empty() && self.waiting.is_empty() && self.disable.is_empty();
        let is_written = !self.is_dirty() && !self.is_dead_letter_due(steady);
        is_written && is_sent && !self.pending.replies.is_waited_for()
    }

    /// Whether the oldest dead letter is past its retention and the grace time.
    pub(super) fn is_dead_letter_due(&self, steady: Timestamp) -> bool {
        let retention = self.options.dead_letter_retention;
        self.oldest_dead.is_some_and(|at| steady.since(at) > retention + DEAD_LETTER_GRACE)
    }

    /// Events whose rows a job is still writing, each with the number of the job.
    pub(super) fn wide_events(&self) -> Vec<(u64, EventId)> {
        let running = self.jobs.values().filter(|job| job.is_running());
        running
            .filter_map(|job| match job.kind {
                JobKind::Wide { event } => Some((job.no, event)),
                _ => None,
            })
            .collect()
    }
}
