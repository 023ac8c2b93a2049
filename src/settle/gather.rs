//! What has come in since the last flush, in memory, until it is durable.

use tokio::sync::oneshot;

use super::again::AskedAgain;
use super::dead::Note;
use super::history_rows::Attempts;
use super::table::Key;
use crate::handoff::Refill;
use crate::model::{EventId, Timestamp, WebhookNo};

/// See the module. A flush that fails leaves all of it here, and the next one tries again.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// Items of any kind.
    pub(super) items: usize,
    pub(super) attempts: Attempts,
    pub(super) changes: Vec<Change>,
    /// Named by [`What::Dead`].
    pub(super) notes: Vec<Note>,
    pub(super) refills: Vec<Refill>,
    pub(super) syncs: Vec<Sync>,
    /// Jobs to write, by number: new or cancelled.
    pub(super) jobs: Vec<u64>,
    /// The webhooks of new jobs' wide events, encoded.
    pub(super) wide: Vec<(u64, Vec<u8>)>,
    pub(super) job_replies: Vec<(oneshot::Sender<u64>, u64)>,
    pub(super) cancel_replies: Vec<(oneshot::Sender<bool>, bool)>,
    /// Replays of named dead letters; [`What::Recover`] says which.
    pub(super) recovers: Vec<oneshot::Sender<u64>>,
    /// Deliveries to be tried once more; [`What::Again`] says which.
    pub(super) retries: Vec<AskedAgain>,
    /// Dead letters to forget; [`What::Discard`] says which.
    pub(super) discards: Vec<oneshot::Sender<u64>>,
    /// Operational events for the outbox.
    pub(super) outbox: Vec<Box<[u8]>>,
    /// Up to which of its rows the log has them.
    pub(super) admitted: Option<u64>,
    /// Replays of all of a webhook's.
    pub(super) recover_alls: Vec<(oneshot::Sender<u64>, WebhookNo, u64)>,
}

/// A change of one delivery's row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) webhook: WebhookNo,
    pub(super) event: EventId,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// A ready row for what was outstanding.
    Ready,
    /// A row that waits.
    Retry { attempts: u16, at: Timestamp, was_outstanding: bool },
    /// No row any more.
    Remove,
    /// A dead letter, its note's index.
    Dead { note: usize },
    /// From dead letter to row; the index of the reply that counts it.
    Recover { reply: usize },
    /// Once more now; the index of the reply.
    Again { reply: usize },
    /// No dead letter any more; the index of the reply that counts it.
    Discard { reply: usize },
}

/// Who waits for a [`crate::handoff::Command::Sync`].
#[derive(Debug)]
pub(super) struct Sync {
    pub(super) webhook: Option<WebhookNo>,
    pub(super) event: Option<EventId>,
    pub(super) limit: usize,
    pub(super) reply: oneshot::Sender<Vec<(EventId, WebhookNo)>>,
}

/// Events whose bodies are gone; what waits for one is buried a step at a time.
#[derive(Debug, Clone)]
pub(super) struct Expiring {
    /// Ascending.
    pub(super) events: Vec<EventId>,
    pub(super) from: Key,
}

impl Gathered {
    pub(super) fn change(&mut self, webhook: WebhookNo, event: EventId, what: What) {
        self.changes.push(Change { webhook, event, what });
    }

    pub(super) fn dead(&mut self, webhook: WebhookNo, event: EventId, note: Note) {
        self.notes.push(note);
        self.change(webhook, event, What::Dead { note: self.notes.len() - 1 });
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_asked(&self) -> bool {
        !self.refills.is_empty() || !self.syncs.is_empty()
    }

    /// Puts changes in the order of their keys, those of one key in the order they came.
    pub(super) fn sort(&mut self) {
        self.changes.sort_by_key(|change| (change.webhook, change.event));
    }

    /// Forgets what a flush made durable, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.items = 0;
        self.attempts.clear();
        self.changes.clear();
        self.notes.clear();
        self.jobs.clear();
        self.wide.clear();
        self.outbox.clear();
        self.admitted = None;
    }
}
