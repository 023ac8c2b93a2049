//! Jobs: work on more rows than one transaction should hold.
//!
//! A job moves a bounded number of rows per transaction and its cursor in the same one, so a crash between two steps
//! neither repeats nor skips a row. It is stored as JSON.

use serde::{Deserialize, Serialize};

use super::job_text::{event_text, reason_number, webhook_number};
use crate::model::{DeadReason, EventId, Timestamp, WebhookNo};

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
    /// The last event that is done.
    #[serde(with = "event_text")]
    pub(crate) after: EventId,
    /// Within the event behind `after`: webhooks below this number are done. Of a recovery: which part it is at.
    pub(crate) from: u32,
    /// The last event it takes.
    #[serde(with = "event_text")]
    pub(crate) last: EventId,
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

/// Which events a replay takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayFilter {
    /// Only events of this tenant.
    pub tenant: Box<str>,
    /// Received at or after this time.
    pub since: Option<Timestamp>,
    /// Received before this time.
    pub until: Option<Timestamp>,
    /// Types to take, as patterns; empty: all.
    pub types: Vec<Box<str>>,
    /// Only for this webhook; `None`: each webhook that matched when the event was accepted.
    pub webhook: Option<u32>,
    /// Only this event; to a webhook that is named it goes whether it matched or not.
    pub event: Option<Box<str>>,
    /// To those as well that match today and did not when the event was accepted.
    #[serde(default)]
    pub include_unmatched: bool,
    /// To those as well that are paused or inactive, where they wait until the webhook is resumed.
    #[serde(default)]
    pub include_paused: bool,
}

/// [`Job::from`] of a recovery in its second part.
pub(crate) const HURRY: u32 = 1;

impl Job {
    /// A job that begins.
    pub(crate) fn new(no: u64, kind: JobKind, total: Option<u64>, last: EventId, created_at: Timestamp) -> Self {
        let (after, last) = match &kind {
            JobKind::Replay(filter) => match filter.event.as_deref().map(str::parse::<EventId>) {
                Some(Ok(event)) => (event.previous(), event),
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
        self.is_running() && self.is_kept()
    }

    /// Whether it is worth showing when it is done.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.kind, JobKind::Replay(_) | JobKind::Recover { .. })
    }

    /// Stops it, at this time of the wall clock.
    pub(crate) fn cancel(&mut self, now: Timestamp) {
        (self.state, self.ended_at) = (JobState::Cancelled, Some(now));
    }
}
