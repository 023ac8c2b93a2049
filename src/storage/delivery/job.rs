//! Jobs: work on more rows than one transaction should change.
//!
//! A step of a job moves a bounded number of rows, and the job's cursor, in one transaction. So a crash between two
//! steps neither repeats nor skips a row. A job is stored as JSON.

use serde::{Deserialize, Serialize};

use super::job_text::{event_text, reason_number, webhook_number};
use crate::model::{DeadReason, EventId, Timestamp, WebhookNo};

/// A job, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The job's number. Numbers are never reused.
    #[serde(skip)]
    pub no: u64,
    /// What the job does.
    pub kind: JobKind,
    /// The job's state.
    pub state: JobState,
    /// When the job was created, by the wall clock.
    pub created_at: Timestamp,
    /// The number of deliveries moved so far.
    pub done: u64,
    /// The number of events that a replay has checked so far.
    #[serde(default)]
    pub looked_at: u64,
    /// When the job ended, by the wall clock.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// The total number of deliveries to move, if it is known in advance.
    pub total: Option<u64>,
    /// The last event that is done.
    #[serde(with = "event_text")]
    pub(crate) after: EventId,
    /// Webhooks below this number are done for the event after `after`. For a recovery: its current part.
    pub(crate) from: u32,
    /// The last event that the job includes.
    #[serde(with = "event_text")]
    pub(crate) last: EventId,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// Writes the rows of a wide event, that is, an event that matches very many webhooks.
    Wide {
        /// The event.
        #[serde(with = "event_text")]
        event: EventId,
    },
    /// Redelivers events of the log.
    Replay(ReplayFilter),
    /// Redelivers a webhook's dead letters.
    Recover {
        /// The webhook.
        #[serde(with = "webhook_number")]
        webhook: WebhookNo,
        /// With a time: dead letters that ended at or after it (wall clock); then deliveries that wait for their next
        /// attempt are retried at once. `None`: all dead letters, and no other deliveries.
        #[serde(default)]
        since: Option<Timestamp>,
    },
    /// Turns all rows of a webhook into dead letters.
    Abandon {
        /// The webhook.
        #[serde(with = "webhook_number")]
        webhook: WebhookNo,
        /// The reason of the dead letters.
        #[serde(with = "reason_number")]
        reason: DeadReason,
    },
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Rows are being moved. The job continues after a restart.
    Running,
    /// All rows are moved.
    Done,
    /// The job was cancelled.
    Cancelled,
    /// The log could not be read.
    Failed,
}

/// Selects the events and webhooks of a replay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayFilter {
    /// Only events of this tenant.
    pub tenant: Box<str>,
    /// Only events received at or after this time.
    pub since: Option<Timestamp>,
    /// Only events received before this time.
    pub until: Option<Timestamp>,
    /// Only events whose type matches one of these patterns. Empty: all types.
    pub types: Vec<Box<str>>,
    /// Only to this webhook. `None`: to each webhook that matched when the event was accepted.
    pub webhook: Option<u32>,
    /// Only this event. If `webhook` is set, it is delivered whether or not it matches.
    pub event: Option<Box<str>>,
    /// Also to webhooks that match now and did not match when the event was accepted.
    #[serde(default)]
    pub include_unmatched: bool,
    /// Also to webhooks that are paused or inactive. The deliveries wait until the webhook is resumed.
    #[serde(default)]
    pub include_paused: bool,
}

/// The value of [`Job::from`] in the second part of a recovery, which retries waiting deliveries at once.
pub(crate) const RECOVERY_RETRIES_PART: u32 = 1;

impl Job {
    /// Creates a running job.
    pub(crate) fn new(no: u64, kind: JobKind, total: Option<u64>, last: EventId, created_at: Timestamp) -> Self {
        let (after, last) = match &kind {
            JobKind::Replay(filter) => match filter.event.as_deref().map(str::parse::<EventId>) {
                Some(Ok(event)) => (event.previous(), event),
                // No event has such an id, so the replay includes no event.
                Some(Err(_)) => (EventId::MAX, EventId::MIN),
                None => (EventId::MIN, last),
            },
            // Events that are accepted later, after the webhook was resumed, are not its concern.
            JobKind::Abandon { .. } => (EventId::MIN, last),
            _ => (EventId::MIN, EventId::MAX),
        };
        let (state, ended_at) = (JobState::Running, None);
        Self { no, kind, state, created_at, done: 0, looked_at: 0, ended_at, total, after, from: 0, last }
    }

    /// Returns whether the job is running.
    pub fn is_running(&self) -> bool {
        self.state == JobState::Running
    }

    /// Returns whether the job can be cancelled. A job whose cancellation would lose deliveries cannot be cancelled.
    pub fn can_be_cancelled(&self) -> bool {
        self.is_running() && self.is_kept()
    }

    /// Returns whether the job is kept after its end: a replay or a recovery.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.kind, JobKind::Replay(_) | JobKind::Recover { .. })
    }

    /// Cancels the job. `now` is the wall clock.
    pub(crate) fn cancel(&mut self, now: Timestamp) {
        (self.state, self.ended_at) = (JobState::Cancelled, Some(now));
    }
}
