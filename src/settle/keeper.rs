//! What settle knows, and how each message changes it. No thread and no waiting here: [`super::thread`] drives it, and so
//! do the tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::checkpoint::{Outstanding, encode_webhooks};
use super::dead::Note;
use super::gather::{Expiring, Gathered, Sync, What};
use super::history::History;
use super::job::{Job, JobKind, JobState};
use super::ledger::{Counts, Ledger};
use super::outbox::Outbox;
use super::records::Depth;
use super::table::key;
use super::watch::Watches;
use super::{Bounds, Hooks, Options};
use crate::handoff::{Announced, Command, DisableReason, Settled, Shards, ToSettle, ToShard, Waiting};
use crate::model::{DeadReason, Decision, EventId, Timestamp, WebhookNo};
use crate::runtime::{Clock, Metrics};
use crate::storage::ReadLog;
use crate::storage::file::Store;

/// See the module.
pub(super) struct Keeper {
    pub(super) state: Arc<Store>,
    pub(super) history: History,
    pub(super) outstanding: Outstanding,
    pub(super) gathered: Gathered,
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) next_job: u64,
    /// The job that had the last step.
    pub(super) turn: u64,
    pub(super) expiring: VecDeque<Expiring>,
    /// When the oldest dead letter ended, as of the last flush.
    pub(super) oldest_dead: Option<Timestamp>,
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
    /// Whether what was gathered is in history already (the state's transaction then failed).
    pub(super) history_written: bool,
    pub(super) scratch: Vec<u8>,
    pub(super) options: Options,
    pub(super) bounds: Bounds,
    pub(super) shards: Shards,
    pub(super) clock: Clock,
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) hooks: Hooks,
    pub(super) stopping: bool,
}

impl Keeper {
    /// Takes one message in.
    pub(super) fn apply(&mut self, message: ToSettle) {
        let mut message = Some(message);
        self.take_in(|_| message.take());
    }

    /// Takes messages in, as long as `next` has one. What they count is counted under one lock.
    pub(super) fn take_in(&mut self, mut next: impl FnMut(&Self) -> Option<ToSettle>) {
        let Some(first) = next(self) else { return };
        let ledger = Arc::clone(&self.ledger);
        let mut counts = ledger.lock();
        self.take(first, &mut counts);
        while let Some(message) = next(self) {
            self.take(message, &mut counts);
        }
    }

    fn take(&mut self, message: ToSettle, counts: &mut Counts) {
        match message {
            ToSettle::Announce(events) => events.into_iter().for_each(|event| self.announce(event)),
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
            ToSettle::Refill(refill) => self.gathered.refills.push(refill),
            ToSettle::Command(command) => self.command(command, counts),
        }
    }

    fn announce(&mut self, announced: Announced) {
        self.gathered.items += announced.webhooks.len().max(1);
        if announced.webhooks.len() <= self.bounds.wide_event_webhooks {
            self.outstanding.announce(announced);
            return;
        }
        let mut webhooks = Vec::with_capacity(announced.webhooks.len() * 2);
        encode_webhooks(&announced.webhooks, &mut webhooks);
        let total = announced.webhooks.len() as u64;
        let no = self.add_job(JobKind::Wide { event: announced.event }, Some(total));
        self.gathered.wide.push((no, webhooks));
        self.outstanding.pass(announced.event, announced.permit);
    }

    fn settle(&mut self, outcomes: &[Settled], counts: &mut Counts) {
        self.gathered.items += outcomes.len();
        let disable_after = |no| (self.hooks.disable_after)(no).unwrap_or(self.options.disable_after);
        let mut failing = Vec::new();
        counts.stats.count(outcomes, self.clock.steady(), disable_after, |webhook| failing.push(webhook));
        for webhook in failing {
            self.disable(webhook, DisableReason::Failing);
        }
        counts.hours.count(outcomes, self.clock.now());
        self.watch(outcomes, &counts.stats);
        for outcome in outcomes {
            let (webhook, event) = (outcome.webhook, outcome.event);
            if let Some(attempt) = &outcome.attempt {
                self.gathered.attempts.push(webhook, event, attempt);
            }
            if outcome.decision == Decision::Dead(DeadReason::Gone) {
                self.disable(webhook, DisableReason::Gone);
            }
            let was_outstanding = self.outstanding.settle(webhook, event);
            match outcome.decision {
                Decision::Delivered if was_outstanding => {}
                Decision::Delivered => self.gathered.change(webhook, event, What::Remove),
                Decision::Retry { at } => match (self.hooks.abandons)(webhook) {
                    None => {
                        let attempts = outcome.attempt.as_ref().map_or(0, |attempt| attempt.number);
                        self.gathered.change(webhook, event, What::Retry { attempts, at, was_outstanding });
                    }
                    Some(reason) => self.bury(outcome, reason),
                },
                Decision::Dead(reason) => self.bury(outcome, reason),
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

    fn bury(&mut self, outcome: &Settled, reason: DeadReason) {
        let attempt = outcome.attempt.as_ref();
        let note = Note {
            reason,
            attempts: attempt.map_or(0, |attempt| attempt.number),
            at: self.clock.now(),
            steady: self.clock.steady(),
            http_status: attempt.and_then(|attempt| attempt.http_status),
            error: attempt
                .and_then(|attempt| attempt.error.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default()
                .into(),
        };
        self.gathered.dead(outcome.webhook, outcome.event, note);
    }

    /// A row for a delivery that has just left the list; a dead letter if its webhook takes no more.
    pub(super) fn wait(&mut self, webhook: WebhookNo, event: EventId) {
        match (self.hooks.abandons)(webhook) {
            None => self.gathered.change(webhook, event, What::Ready),
            Some(reason) => {
                let outcome =
                    Settled { webhook, event, attempt: None, decision: Decision::Dead(reason), head: Bytes::new() };
                self.bury(&outcome, reason);
            }
        }
    }

    fn command(&mut self, command: Command, counts: &mut Counts) {
        match command {
            Command::Sync { webhook, event, limit, reply } => {
                self.gathered.syncs.push(Sync { webhook, event, limit, reply });
            }
            Command::Abandon { webhook, reason } => {
                self.add_job(JobKind::Abandon { webhook, reason }, None);
            }
            Command::Note { webhook, noted } => self.note(webhook, noted, &mut counts.stats),
            Command::Admitted { through } => {
                self.gathered.admitted = self.gathered.admitted.max(Some(through));
                self.gathered.items += 1;
            }
            Command::ReplayDead { webhook, events: Some(events), reply } => {
                let counter = self.gathered.recovers.len();
                self.gathered.recovers.push(reply);
                self.gathered.items += events.len().max(1);
                for event in events {
                    self.gathered.change(webhook, event, What::Recover { reply: counter });
                }
            }
            Command::Retry { id, reply } => self.retry(id, reply),
            Command::Discard { webhook, events, reply } => self.discard(webhook, events, reply),
            Command::Recover { webhook, since, reply } => {
                let no = self.add_job(JobKind::Recover { webhook, since: Some(since) }, None);
                self.gathered.job_replies.push((reply, no));
            }
            Command::ReplayDead { webhook, events: None, reply } => {
                let no = self.add_job(JobKind::Recover { webhook, since: None }, None);
                self.gathered.recover_alls.push((reply, webhook, no));
            }
            Command::Replay { filter, reply } => {
                let no = self.add_job(JobKind::Replay(filter), None);
                self.gathered.job_replies.push((reply, no));
            }
            Command::CancelJob { job, reply } => {
                let found = self.jobs.get_mut(&job).filter(|job| job.can_be_cancelled());
                let is_cancelled = found.map(|job| job.cancel(self.clock.now())).is_some();
                if is_cancelled {
                    self.gathered.items += 1;
                    self.gathered.jobs.push(job);
                }
                self.gathered.cancel_replies.push((reply, is_cancelled));
            }
            Command::Expire { events } => {
                if let Some(first) = events.first() {
                    let from = key(WebhookNo(0), *first);
                    self.expiring.push_back(Expiring { events, from });
                }
            }
            Command::Stop => self.stopping = true,
        }
    }

    /// Begins a job, which is durable with the next flush.
    pub(super) fn add_job(&mut self, kind: JobKind, total: Option<u64>) -> u64 {
        let no = self.next_job;
        self.next_job += 1;
        self.gathered.items += 1;
        self.gathered.jobs.push(no);
        self.jobs.insert(no, Job::new(no, kind, total, self.log.last(), self.clock.now()));
        no
    }

    /// The job whose turn it is.
    pub(super) fn next_turn(&self) -> Option<&Job> {
        let running = |(_, job): (&u64, &'_ Job)| job.state == JobState::Running;
        let later = self.jobs.range(self.turn + 1..).find(|entry| running((entry.0, entry.1)));
        later.or_else(|| self.jobs.range(..=self.turn).find(|entry| running((entry.0, entry.1)))).map(|(_, job)| job)
    }

    /// Whether a flush has something to write.
    pub(super) fn is_dirty(&self) -> bool {
        self.gathered.items > 0 || self.is_busy() || self.is_dead_letter_due() || self.history.is_retiring()
    }

    /// Whether there is work that needs no message to go on.
    pub(super) fn is_busy(&self) -> bool {
        !self.expiring.is_empty() || self.next_turn().is_some()
    }

    /// Whether everything is written and everybody answered.
    pub(super) fn is_idle(&self) -> bool {
        let is_told = self.kept.is_empty() && self.waiting.is_empty() && self.disable.is_empty();
        !self.is_dirty() && !self.gathered.is_asked() && is_told && self.gathered.cancel_replies.is_empty()
    }

    /// Whether the oldest dead letter has been kept for as long as it is to be.
    pub(super) fn is_dead_letter_due(&self) -> bool {
        let retention = self.options.dead_letter_retention;
        self.oldest_dead.is_some_and(|at| self.clock.steady().since(at) > retention + GRACE)
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

/// Dead letters past their retention are left to gather for this long, so that they go by the batch.
const GRACE: Duration = Duration::from_secs(60);
