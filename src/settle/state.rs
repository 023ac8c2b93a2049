//! What settle knows, and how each message changes it. No thread, no clock, no waiting and no write here: a
//! [`SettleState::step`] takes an input in and says what is to be done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::delivery_records::Depth;
use super::ledger::{Counts, Ledger};
use super::outstanding::Outstanding;
use super::pending_batch::{AskedAgain, PendingBatch, Sync};
use super::step::{Input, Now, Output};
use super::webhook_health::Watches;
use super::{Bounds, Callbacks, Options};
use crate::handoff::{Announced, Command, DisableReason, Settled, Shards, ToSettle, ToShard, Waiting};
use crate::model::{DeadReason, Decision, DeliveryId, EventId, Timestamp, WebhookNo};
use crate::runtime::Metrics;
use crate::storage::ReadLog;
use crate::storage::delivery::{
    DeliveryReader, Expiry, Job, JobKind, JobState, LookupError, Note, Outbox, Retried, Total, What,
};

/// See the module.
pub(super) struct SettleState {
    /// What both clocks showed at the last step.
    pub(super) now: Now,
    pub(super) outstanding: Outstanding,
    pub(super) gathered: PendingBatch,
    /// Who waits for the flush that is under way, if one is, with its items.
    pub(super) in_flush: Option<PendingBatch>,
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) next_job: u64,
    /// The job that had the last step.
    pub(super) turn: u64,
    pub(super) expiring: VecDeque<Expiry>,
    /// When the oldest dead letter ended, as of the last flush.
    pub(super) oldest_dead: Option<Timestamp>,
    /// Whether history has old files to remove, as of the last flush.
    pub(super) is_retiring: bool,
    pub(super) ledger: Arc<Ledger>,
    pub(super) watches: Watches,
    pub(super) outbox: Outbox,
    pub(super) depth: Arc<Depth>,
    /// Webhooks to tell the shards about, coalesced.
    pub(super) waiting: BTreeMap<WebhookNo, Waiting>,
    /// Answers that found their shard's queue full.
    pub(super) kept: VecDeque<(usize, ToShard)>,
    /// Webhooks to disable after the flush, or at the next one if the registry had no room.
    pub(super) disable: Vec<(WebhookNo, DisableReason)>,
    pub(super) options: Options,
    pub(super) bounds: Bounds,
    /// Where webhooks live.
    pub(super) shards: Shards,
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) reader: Arc<dyn DeliveryReader>,
    pub(super) metrics: Arc<Metrics>,
    /// Asked for what the registry says; what changes something is an output.
    pub(super) hooks: Callbacks,
    pub(super) stopping: bool,
}

/// Dead letters past their retention are left to gather for this long, so that they go by the batch.
const GRACE: Duration = Duration::from_secs(60);

impl SettleState {
    /// Takes one input in, at this time; what is to be done.
    pub(super) fn step(&mut self, now: Now, input: Input) -> Result<Vec<Output>, LookupError> {
        self.now = now;
        let mut outputs = Vec::new();
        match input {
            Input::Messages(messages) => self.take_in(messages),
            Input::Flush if self.is_dirty() => outputs.push(Output::Flush(self.make_flush(false)?)),
            Input::Finish => outputs.push(Output::Flush(self.make_flush(true)?)),
            Input::Flush => {
                let mut asked = std::mem::take(&mut self.gathered.asked);
                self.answer(&mut asked, &mut outputs)?;
                self.gathered.asked = asked;
            }
            Input::Flushed(flush, flushed) => self.learn(flush, *flushed, &mut outputs)?,
            Input::Untold(shard, message) => self.keep(shard, message),
            Input::NotDisabled(webhook, reason) => self.disable.push((webhook, reason)),
        }
        Ok(outputs)
    }

    /// Takes messages in. What they count is counted under one lock.
    fn take_in(&mut self, messages: Vec<ToSettle>) {
        debug_assert!(self.in_flush.is_none(), "nothing is taken in while a flush is under way");
        let ledger = Arc::clone(&self.ledger);
        let mut counts = ledger.lock();
        for message in messages {
            self.take(message, &mut counts);
        }
    }

    fn take(&mut self, message: ToSettle, counts: &mut Counts) {
        match message {
            ToSettle::Announce(events) => {
                for event in events {
                    self.announce(event);
                }
            }
            ToSettle::Settled(outcomes) => self.settle(&outcomes, counts),
            ToSettle::Spill(deliveries) => {
                self.gathered.items += deliveries.len();
                for (webhook, event) in deliveries {
                    // What has a row, as the list gave it one, or is settled needs none.
                    if self.outstanding.settle(webhook, event) {
                        self.wait(webhook, event);
                    }
                }
            }
            ToSettle::Refill(refill) => self.gathered.asked.refills.push(refill),
            ToSettle::Command(command) => self.command(command, counts),
        }
    }

    fn announce(&mut self, announced: Announced) {
        self.gathered.items += announced.webhooks.len().max(1);
        if announced.webhooks.len() <= self.bounds.wide_event_webhooks {
            self.outstanding.announce(announced);
            return;
        }
        let Announced { event, webhooks, permit } = announced;
        let no = self.add_job(JobKind::Wide { event }, Some(webhooks.len() as u64));
        self.gathered.flush.wide.push((no, webhooks));
        self.outstanding.pass(event, permit);
    }

    fn settle(&mut self, outcomes: &[Settled], counts: &mut Counts) {
        self.gathered.items += outcomes.len();
        let disable_after = |no| (self.hooks.disable_after)(no).unwrap_or(self.options.disable_after);
        let mut failing = Vec::new();
        counts.stats.count(outcomes, self.now.steady, disable_after, |webhook| failing.push(webhook));
        for webhook in failing {
            self.disable(webhook, DisableReason::Failing);
        }
        counts.hours.count(outcomes, self.now.wall);
        self.watch(outcomes, &counts.stats);
        for outcome in outcomes {
            let (webhook, event) = (outcome.webhook, outcome.event);
            if let Some(attempt) = &outcome.attempt {
                self.gathered.flush.attempts.push(webhook, event, attempt);
            }
            if outcome.decision == Decision::Dead(DeadReason::Gone) {
                self.disable(webhook, DisableReason::Gone);
            }
            let was_outstanding = self.outstanding.settle(webhook, event);
            match outcome.decision {
                Decision::Delivered if was_outstanding => {}
                Decision::Delivered => self.gathered.flush.change(webhook, event, What::Remove),
                Decision::Retry { at } => match (self.hooks.abandons)(webhook) {
                    None => {
                        let attempts = outcome.attempt.as_ref().map_or(0, |attempt| attempt.number);
                        self.gathered.flush.change(webhook, event, What::Retry { attempts, at, was_outstanding });
                    }
                    Some(reason) => self.dead_letter(outcome, reason),
                },
                Decision::Dead(reason) => self.dead_letter(outcome, reason),
            }
        }
    }

    /// Has the registry disable a webhook once the outcomes that say so are durable. Settle alone decides this.
    fn disable(&mut self, webhook: WebhookNo, reason: DisableReason) {
        if self.disable.iter().all(|(asked, _)| *asked != webhook) {
            tracing::warn!(webhook = webhook.0, ?reason, "webhook is to be disabled");
            self.disable.push((webhook, reason));
        }
    }

    fn dead_letter(&mut self, outcome: &Settled, reason: DeadReason) {
        let attempt = outcome.attempt.as_ref();
        let note = Note {
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
        self.gathered.flush.dead(outcome.webhook, outcome.event, note);
    }

    /// A row for a delivery that has just left the list; a dead letter if its webhook takes no more.
    pub(super) fn wait(&mut self, webhook: WebhookNo, event: EventId) {
        match (self.hooks.abandons)(webhook) {
            None => self.gathered.flush.change(webhook, event, What::Ready),
            Some(reason) => {
                let outcome =
                    Settled { webhook, event, attempt: None, decision: Decision::Dead(reason), head: Bytes::new() };
                self.dead_letter(&outcome, reason);
            }
        }
    }

    fn command(&mut self, command: Command, counts: &mut Counts) {
        match command {
            Command::Sync { webhook, event, limit, reply } => {
                self.gathered.asked.syncs.push(Sync { webhook, event, limit, reply });
            }
            Command::Abandon { webhook, reason } => {
                self.add_job(JobKind::Abandon { webhook, reason }, None);
            }
            Command::Note { webhook, noted } => self.note(webhook, noted, &mut counts.stats),
            Command::Admitted { through } => {
                let admitted = &mut self.gathered.flush.admitted;
                *admitted = (*admitted).max(Some(through));
                self.gathered.items += 1;
            }
            Command::ReplayDead { webhook, events: Some(events), reply } => {
                self.gathered.asked.recovers.push(reply);
                let answer = self.gathered.flush.answers.recovered;
                self.gathered.flush.answers.recovered += 1;
                self.gathered.items += events.len().max(1);
                // To a webhook that takes no more nothing goes again.
                if (self.hooks.abandons)(webhook).is_none() {
                    self.change_all(webhook, &events, What::Recover { answer });
                }
            }
            Command::Retry { id, reply } => self.retry(id, reply),
            Command::Discard { webhook, events, reply } => {
                self.gathered.asked.discards.push(reply);
                let answer = self.gathered.flush.answers.discarded;
                self.gathered.flush.answers.discarded += 1;
                self.gathered.items += events.len().max(1);
                self.change_all(webhook, &events, What::Discard { answer });
            }
            Command::Recover { webhook, since, reply } => {
                let no = self.add_job(JobKind::Recover { webhook, since: Some(since) }, None);
                self.gathered.asked.job_replies.push((reply, no));
            }
            Command::ReplayDead { webhook, events: None, reply } => {
                let job = self.add_job(JobKind::Recover { webhook, since: None }, None);
                self.gathered.asked.recover_alls.push(reply);
                self.gathered.flush.totals.push(Total { job, webhook });
            }
            Command::Replay { filter, reply } => {
                let no = self.add_job(JobKind::Replay(filter), None);
                self.gathered.asked.job_replies.push((reply, no));
            }
            Command::CancelJob { job, reply } => {
                let found = self.jobs.get_mut(&job).filter(|job| job.can_be_cancelled());
                let is_cancelled = found.map(|job| job.cancel(self.now.wall)).is_some();
                if is_cancelled {
                    self.gathered.items += 1;
                    self.gathered.jobs.push(job);
                }
                self.gathered.asked.cancel_replies.push((reply, is_cancelled));
            }
            Command::Expire { events } => {
                if let Some(first) = events.first() {
                    let from = (WebhookNo(0), *first);
                    self.expiring.push_back(Expiry { events: events.into(), from });
                }
            }
            Command::Stop => self.stopping = true,
        }
    }

    fn change_all(&mut self, webhook: WebhookNo, events: &[EventId], what: What) {
        for event in events {
            self.gathered.flush.change(webhook, *event, what);
        }
    }

    /// Takes in the wish for a delivery once more. The flush looks for what there is to do, unless that is known.
    fn retry(&mut self, id: DeliveryId, reply: tokio::sync::oneshot::Sender<Retried>) {
        let DeliveryId { event, webhook } = id;
        let is_under_way =
            || self.outstanding.holds(webhook, event) || self.wide_events().iter().any(|(_, wide)| *wide == event);
        let answer = match (self.hooks.abandons)(webhook) {
            Some(reason) => Some(Retried::Abandoned(reason)),
            None if is_under_way() => Some(Retried::Waits),
            None => None,
        };
        if answer.is_none() {
            let answer = self.gathered.flush.answers.retried;
            self.gathered.flush.answers.retried += 1;
            self.gathered.flush.change(webhook, event, What::Again { answer });
        }
        self.gathered.asked.retries.push(AskedAgain { reply, answer });
        self.gathered.items += 1;
    }

    /// Begins a job, which is durable with the next flush.
    pub(super) fn add_job(&mut self, kind: JobKind, total: Option<u64>) -> u64 {
        let no = self.next_job;
        self.next_job += 1;
        self.gathered.items += 1;
        self.gathered.jobs.push(no);
        self.jobs.insert(no, Job::new(no, kind, total, self.log.last(), self.now.wall));
        no
    }

    /// The job whose turn it is.
    pub(super) fn next_turn(&self) -> Option<&Job> {
        let running = |(_, job): (&u64, &'_ Job)| job.state == JobState::Running;
        let later = self.jobs.range(self.turn + 1..).find(|entry| running((entry.0, entry.1)));
        later.or_else(|| self.jobs.range(..=self.turn).find(|entry| running((entry.0, entry.1)))).map(|(_, job)| job)
    }

    /// Whether a flush has something to write, as of the last step.
    fn is_dirty(&self) -> bool {
        self.gathered.items > 0 || self.is_busy() || self.is_dead_letter_due(self.now.steady) || self.is_retiring
    }

    /// Whether there is work that needs no message to go on.
    pub(super) fn is_busy(&self) -> bool {
        !self.expiring.is_empty() || self.next_turn().is_some()
    }

    /// Whether everything is written and everybody answered, at this time of the scheduling clock.
    pub(super) fn is_idle(&self, steady: Timestamp) -> bool {
        let is_told = self.kept.is_empty() && self.waiting.is_empty() && self.disable.is_empty();
        let is_written = !self.is_dirty() && !self.is_dead_letter_due(steady);
        is_written && is_told && !self.gathered.asked.is_waited_for()
    }

    /// Whether the oldest dead letter has been kept for as long as it is to be.
    pub(super) fn is_dead_letter_due(&self, steady: Timestamp) -> bool {
        let retention = self.options.dead_letter_retention;
        self.oldest_dead.is_some_and(|at| steady.since(at) > retention + GRACE)
    }

    /// Events whose rows a job is still writing, with its number.
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
