//! Jobs: work on more rows than one transaction should hold.
//!
//! A job moves a bounded number of rows per transaction and its cursor in the same one, so a crash between two steps
//! neither repeats nor skips a row. It is a row of `jobs` (JSON); the webhooks of a wide event stand in `wide`.

use redb::{Error, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::checkpoint::{Outstanding, decode_webhooks};
use super::dead::{DeadLetters, Note};
use super::history::Files;
use super::job_text::{event_text, reason_number, webhook_number};
use super::pending::{PendingRow, Rows, behind};
use super::replay;
use super::table::{JOBS, WIDE, delivery, previous};
use super::{Abandons, Targets};
use crate::handoff::{ReplayFilter, Waiting};
use crate::model::{DeadReason, DeliveryId, EventHead, EventId, EventPattern, Timestamp, WebhookNo};
use crate::storage::{ReadError, ReadLog};

/// A job, as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number, never used again.
    #[serde(skip)]
    pub no: u64,
    /// What it does.
    pub kind: JobKind,
    /// How far it is.
    pub state: JobState,
    /// When it was asked for, by the wall clock.
    pub created_at: Timestamp,
    /// Deliveries moved so far.
    pub done: u64,
    /// Events that a replay has looked at so far.
    #[serde(default)]
    pub looked_at: u64,
    /// When it came to its end, by the wall clock.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// Deliveries to move in all, where that is known beforehand.
    pub total: Option<u64>,
    #[serde(with = "event_text")]
    after: EventId,
    /// Within the event behind `after`: webhooks below this number are done. Of a recovery: which part it is at.
    from: u32,
    /// The last event it takes.
    #[serde(with = "event_text")]
    last: EventId,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// Writes the rows of an event that matches very many webhooks.
    Wide {
        /// The event.
        #[serde(with = "event_text")]
        event: EventId,
    },
    /// Delivers again what the log holds.
    Replay(ReplayFilter),
    /// Delivers a webhook's dead letters again.
    Recover {
        /// The webhook.
        #[serde(with = "webhook_number")]
        webhook: WebhookNo,
        /// Only those that ended since, by the wall clock, and then what waits for its next attempt; `None`: all, and
        /// nothing else.
        #[serde(default)]
        since: Option<Timestamp>,
    },
    /// Makes dead letters of all that waits for a webhook.
    Abandon {
        /// The webhook.
        #[serde(with = "webhook_number")]
        webhook: WebhookNo,
        /// Why.
        #[serde(with = "reason_number")]
        reason: DeadReason,
    },
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Rows are being moved, restarts included.
    Running,
    /// All rows are moved.
    Done,
    /// Somebody stopped it.
    Cancelled,
    /// The log could not be read.
    Failed,
}

/// What a step works on.
pub(super) struct Ground<'a, 'txn> {
    pub(super) txn: &'txn WriteTransaction,
    pub(super) rows: &'a mut Rows<'txn>,
    pub(super) dead: &'a mut DeadLetters<'txn>,
    pub(super) outstanding: &'a Outstanding,
    /// Wide events whose rows are not all written, with their jobs.
    pub(super) wide: &'a [(u64, EventId)],
    pub(super) log: &'a dyn ReadLog,
    pub(super) history: &'a Files,
    pub(super) abandons: &'a Abandons,
    pub(super) targets: &'a dyn Targets,
    pub(super) now: Timestamp,
    pub(super) wall: Timestamp,
    pub(super) rows_max: usize,
    /// What the shards are to be told once it is durable.
    pub(super) waiting: &'a mut Vec<Waiting>,
    /// Webhooks for each dead letter made.
    pub(super) died: &'a mut Vec<WebhookNo>,
}

/// [`Job::from`] of a recovery in its second part.
const HURRY: u32 = 1;
/// Heads that a replay looks at in one step.
const HEADS_PER_STEP: usize = 1_024;
/// Events that it matches anew in one step, for which each body is read.
const MATCHES_PER_STEP: usize = 128;

impl Job {
    /// A job that begins.
    pub(super) fn new(no: u64, kind: JobKind, total: Option<u64>, last: EventId, created_at: Timestamp) -> Self {
        let (after, last) = match &kind {
            JobKind::Replay(filter) => match filter.event.as_deref().map(str::parse::<EventId>) {
                Some(Ok(event)) => (previous(event), event),
                // No event has such an id: nothing is taken.
                Some(Err(_)) => (EventId::MAX, EventId::MIN),
                None => (EventId::MIN, last),
            },
            _ => (EventId::MIN, EventId::MAX),
        };
        let (state, ended_at) = (JobState::Running, None);
        Self { no, kind, state, created_at, done: 0, looked_at: 0, ended_at, total, after, from: 0, last }
    }

    /// Whether it has more to do.
    pub fn is_running(&self) -> bool {
        self.state == JobState::Running
    }

    /// Whether somebody may stop it: not where that would lose deliveries.
    pub fn can_be_cancelled(&self) -> bool {
        self.is_running() && matches!(self.kind, JobKind::Replay(_) | JobKind::Recover { .. })
    }

    /// Whether it is worth showing when it is done.
    pub(super) fn is_kept(&self) -> bool {
        matches!(self.kind, JobKind::Replay(_) | JobKind::Recover { .. })
    }

    /// Stops it, at this time of the wall clock.
    pub(super) fn cancel(&mut self, now: Timestamp) {
        (self.state, self.ended_at) = (JobState::Cancelled, Some(now));
    }

    /// Writes it.
    pub(super) fn store(&self, txn: &WriteTransaction) -> Result<(), Error> {
        let json = serde_json::to_vec(self).map_err(|error| Error::Corrupted(format!("job {}: {error}", self.no)))?;
        txn.open_table(JOBS)?.insert(self.no, json.as_slice())?;
        Ok(())
    }

    /// Removes it.
    pub(super) fn forget(no: u64, txn: &WriteTransaction) -> Result<(), Error> {
        txn.open_table(JOBS)?.remove(no)?;
        txn.open_table(WIDE)?.remove(no)?;
        Ok(())
    }

    /// All jobs of the table, in order of their numbers.
    pub(super) fn load(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Vec<Self>, Error> {
        table
            .iter()?
            .map(|entry| {
                let (no, json) = entry?;
                let job: Self = serde_json::from_slice(json.value())
                    .map_err(|error| Error::Corrupted(format!("job {}: {error}", no.value())))?;
                Ok(Self { no: no.value(), ..job })
            })
            .collect()
    }

    /// Moves rows, and its own cursor behind them.
    pub(super) fn step(&mut self, ground: &mut Ground<'_, '_>) -> Result<(), Error> {
        let stepped = self.step_kind(ground);
        if !self.is_running() {
            self.ended_at = Some(ground.wall);
        }
        stepped
    }

    fn step_kind(&mut self, ground: &mut Ground<'_, '_>) -> Result<(), Error> {
        match self.kind.clone() {
            JobKind::Wide { event } => self.step_wide(event, ground),
            JobKind::Replay(filter) => match self.step_replay(&filter, ground) {
                Err(StepError::State(error)) => Err(error),
                Err(StepError::Log(error)) => {
                    tracing::error!(job = self.no, %error, "a replay stops: the log cannot be read");
                    self.state = JobState::Failed;
                    Ok(())
                }
                Ok(()) => Ok(()),
            },
            JobKind::Recover { webhook, since } if self.from == 0 => self.step_recover(webhook, since, ground),
            JobKind::Recover { webhook, .. } => self.step_hurry(webhook, ground),
            JobKind::Abandon { webhook, reason } => self.step_abandon(webhook, reason, ground),
        }
    }

    fn step_wide(&mut self, event: EventId, ground: &mut Ground<'_, '_>) -> Result<(), Error> {
        let webhooks = {
            let table = ground.txn.open_table(WIDE)?;
            let row = table.get(self.no)?;
            row.and_then(|row| decode_webhooks(row.value()).map(|(webhooks, _)| webhooks)).unwrap_or_default()
        };
        let start = webhooks.partition_point(|no| no.0 < self.from);
        let part = &webhooks[start..webhooks.len().min(start + ground.rows_max)];
        for webhook in part {
            match (ground.abandons)(*webhook) {
                None => {
                    ground.rows.put_new(*webhook, event, PendingRow::READY)?;
                    ground.waiting.push(Waiting { webhook: *webhook, ready: true, due: None });
                }
                Some(reason) => ground.bury(*webhook, event, 0, reason)?,
            }
        }
        self.done += part.len() as u64;
        self.from = part.last().map_or(self.from, |no| no.0.saturating_add(1));
        if start + part.len() == webhooks.len() {
            self.state = JobState::Done;
        }
        Ok(())
    }

    fn step_replay(&mut self, filter: &ReplayFilter, ground: &mut Ground<'_, '_>) -> Result<(), StepError> {
        let patterns: Vec<_> = filter.types.iter().filter_map(|text| EventPattern::try_new(text).ok()).collect();
        let most = if filter.include_unmatched { MATCHES_PER_STEP } else { HEADS_PER_STEP };
        let heads = if self.after >= self.last { Vec::new() } else { ground.log.heads_after(self.after, most)? };
        if heads.is_empty() {
            self.state = JobState::Done;
        }
        let mut room = ground.rows_max;
        for (event, bytes) in heads {
            if event > self.last {
                self.state = JobState::Done;
                break;
            }
            let head = EventHead::parse(&bytes).map_err(|_| ReadError::Damaged(event))?;
            if replay::takes(filter, &patterns, &head) {
                let webhooks = replay::targets(filter, event, &bytes, &head, ground)?;
                for webhook in webhooks.into_iter().filter(|no| no.0 >= self.from) {
                    if room == 0 {
                        self.from = webhook.0;
                        return Ok(());
                    }
                    room -= 1;
                    self.done += u64::from(ground.deliver_again(webhook, event)?);
                }
            }
            (self.after, self.from) = (event, 0);
            self.looked_at += 1;
        }
        Ok(())
    }

    fn step_recover(
        &mut self,
        webhook: WebhookNo,
        since: Option<Timestamp>,
        ground: &mut Ground<'_, '_>,
    ) -> Result<(), Error> {
        let letters = ground.dead.of(webhook, self.after, ground.rows_max)?;
        let is_end = (ground.abandons)(webhook).is_some() || letters.len() < ground.rows_max;
        for (event, at) in letters {
            if since.is_none_or(|since| at >= since) {
                self.done += u64::from(ground.deliver_again(webhook, event)?);
            }
            self.after = event;
        }
        match (is_end, since) {
            (false, _) => {}
            (true, None) => self.state = JobState::Done,
            (true, Some(_)) => (self.after, self.from) = (EventId::MIN, HURRY),
        }
        Ok(())
    }

    /// The second part of a recovery: what waits for its next attempt is due now, and goes on in its schedule.
    fn step_hurry(&mut self, webhook: WebhookNo, ground: &mut Ground<'_, '_>) -> Result<(), Error> {
        for (event, row) in self.next_rows(webhook, ground)? {
            if row.due.is_some_and(|at| at > ground.now) {
                ground.rows.put(webhook, event, PendingRow { due: Some(ground.now), ..row })?;
                ground.waiting.push(Waiting { webhook, ready: false, due: Some(ground.now) });
                self.done += 1;
            }
            self.after = event;
        }
        Ok(())
    }

    /// The webhook's next rows; without more behind them, the job is done with them.
    fn next_rows(&mut self, webhook: WebhookNo, ground: &Ground<'_, '_>) -> Result<Vec<(EventId, PendingRow)>, Error> {
        let from = behind(webhook, self.after);
        let rows = ground.rows.from(&from, ground.rows_max, |key| delivery(key).webhook == webhook)?;
        if rows.len() < ground.rows_max {
            self.state = JobState::Done;
        }
        Ok(rows.into_iter().map(|(key, row)| (delivery(&key).event, row)).collect())
    }

    fn step_abandon(
        &mut self,
        webhook: WebhookNo,
        reason: DeadReason,
        ground: &mut Ground<'_, '_>,
    ) -> Result<(), Error> {
        if ground.wide.iter().any(|(no, _)| *no < self.no) {
            // Rows of the webhook are still to come from an event that was accepted before.
            return Ok(());
        }
        for (event, row) in self.next_rows(webhook, ground)? {
            ground.rows.remove(webhook, event)?;
            ground.bury(webhook, event, row.attempts, reason)?;
            self.done += 1;
            self.after = event;
        }
        Ok(())
    }
}

impl Ground<'_, '_> {
    /// Makes a row that is due now, unless the delivery waits already; whether it did.
    fn deliver_again(&mut self, webhook: WebhookNo, event: EventId) -> Result<bool, Error> {
        let waits = self.outstanding.holds(webhook, event) || self.wide.iter().any(|(_, wide)| *wide == event);
        if waits || (self.abandons)(webhook).is_some() {
            return Ok(false);
        }
        if self.rows.get(webhook, event)?.is_some() {
            return Ok(false);
        }
        let attempts = match self.dead.remove(webhook, event)? {
            Some(attempts) => attempts,
            None => self.history.last_number(DeliveryId { event, webhook })?,
        };
        self.rows.put(webhook, event, PendingRow::again(attempts, self.now))?;
        self.waiting.push(Waiting { webhook, ready: false, due: Some(self.now) });
        Ok(true)
    }

    fn bury(&mut self, webhook: WebhookNo, event: EventId, attempts: u16, reason: DeadReason) -> Result<(), Error> {
        let (at, steady) = (self.wall, self.now);
        self.died.push(webhook);
        self.dead.put(webhook, event, &Note { reason, attempts, at, steady, http_status: None, error: "".into() })
    }
}

/// What stops a step: the state is settle's own and ends it; the log only ends the job.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    State(#[from] Error),
    #[error(transparent)]
    Log(#[from] ReadError),
}
