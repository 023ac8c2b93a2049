//! Messages to settle: committed events, attempts, refill requests and commands.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::limits::{FLUSH_ITEMS, SETTLE_QUEUE};
use crate::model::{Attempt, DeadReason, Decision, DeliveryId, EndpointState, EventId, Timestamp, WebhookNo, Webhooks};
use crate::runtime::IngestPermit;
use crate::storage::delivery::{JobState, RefillKind, ReplayFilter, RetryResult};
use crate::storage::{IdempotencyKey, NumberedResponse};

/// An event that was just committed, and the deliveries that must be settled for it.
#[derive(Debug)]
pub struct AnnouncedEvent {
    /// The event.
    pub event: EventId,
    /// The webhooks of its deliveries, in ascending order.
    pub webhooks: Webhooks,
    /// The deliveries that are dead letters from the start. `None` for almost all events.
    pub too_costly: Option<Box<CostlyDeliveries>>,
    /// The request's ingest permits, dropped when each delivery has a durable outcome or row.
    pub permit: Arc<IngestPermit>,
}

/// The deliveries of an event whose filters were too costly to evaluate.
#[derive(Debug)]
pub struct CostlyDeliveries {
    /// The event's encoded head.
    pub head: Bytes,
    /// The webhooks, in ascending order.
    pub webhooks: Box<[WebhookNo]>,
}

/// An attempt and the decision after it, or a delivery that ended without an attempt.
#[derive(Debug)]
pub struct SettledDelivery {
    /// The webhook.
    pub webhook: WebhookNo,
    /// The event.
    pub event: EventId,
    /// The attempt. `None` if the delivery ended without one: its webhook was disabled or deleted, or its payload is gone.
    pub attempt: Option<Attempt>,
    /// Whether the delivery is delivered, retried or a dead letter.
    pub decision: Decision,
    /// The event's encoded head, for the statistics of its type. Empty if it is not in memory. It is never empty with an
    /// attempt.
    pub head: Bytes,
    /// The state of the endpoint after the attempt, if the attempt changed it.
    pub endpoint: Option<Box<EndpointState>>,
}

/// A message to settle. The channel is FIFO: settle answers a refill request after it has applied everything sent before.
#[derive(Debug)]
pub enum ToSettle {
    /// Committed events, from commit, before the shards receive them. The events are in ascending order, also across
    /// messages.
    Announce(Vec<AnnouncedEvent>),
    /// Attempts and their decisions, from a shard.
    Settled(Vec<SettledDelivery>),
    /// Deliveries that a shard does not keep in memory. Settle writes a row for each, which is ready to be delivered.
    Spill(Vec<(WebhookNo, EventId)>),
    /// A request for rows, from a shard.
    Refill(Refill),
    /// An evaluated step of a replay, from the replay thread.
    ReplayStep(ReplayStep),
    /// A command, from any thread.
    Command(SettleCommand),
}

/// The deliveries that the next step of a replay creates, and how far the replay is after the step.
#[derive(Debug)]
pub struct ReplayStep {
    /// The number of the replay's job.
    pub job: u64,
    /// The deliveries. Settle skips those that are in flight when it writes the step.
    pub deliveries: Vec<DeliveryId>,
    /// The last event that is done after the step.
    pub after: EventId,
    /// Webhooks below this number are done for the next event.
    pub from: u32,
    /// The number of events that the step has completed.
    pub events: u64,
    /// The state of the job after the step.
    pub state: JobState,
}

/// Sends messages to settle. Every thread can have a clone.
#[derive(Debug, Clone)]
pub struct SettleHandle {
    to: Sender<ToSettle>,
    wakeup: Sender<()>,
}

impl SettleHandle {
    /// Creates the channel. Returns the handle and the two receivers for settle: the messages, and the wakeups that start
    /// a flush early.
    pub fn channel() -> (Self, Receiver<ToSettle>, Receiver<()>) {
        let (to, messages) = bounded(SETTLE_QUEUE);
        let (wakeup, wakeups) = bounded(1);
        (Self { to, wakeup }, messages, wakeups)
    }

    /// Sends a message and blocks while the queue is full. Settle reads it within [`crate::limits::DRAIN_INTERVAL`] and
    /// flushes within [`crate::limits::FLUSH_INTERVAL`]. Refill requests, steps of replays and commands wake settle
    /// immediately.
    pub fn send(&self, message: ToSettle) {
        // The send fails only when the process ends. The next start continues from the state on disk.
        let is_urgent = self.is_urgent(&message);
        let _ = self.to.send(message);
        self.wake(is_urgent);
    }

    /// Sends a message without waiting. A message to a settle that has ended is dropped.
    ///
    /// # Errors
    /// Returns the message if the queue is full.
    pub fn try_send(&self, message: ToSettle) -> Result<(), ToSettle> {
        let is_urgent = self.is_urgent(&message);
        match self.to.try_send(message) {
            Ok(()) => self.wake(is_urgent),
            Err(TrySendError::Full(message)) => {
                self.wake(true);
                return Err(message);
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
        Ok(())
    }

    fn is_urgent(&self, message: &ToSettle) -> bool {
        let wakes = matches!(message, ToSettle::Refill(_) | ToSettle::ReplayStep(_) | ToSettle::Command(_));
        wakes || self.to.len() > FLUSH_ITEMS
    }

    fn wake(&self, is_urgent: bool) {
        if is_urgent {
            // A full channel already contains a wakeup.
            let _ = self.wakeup.try_send(());
        }
    }
}

/// A request for rows of a webhook. The reply is [`crate::handoff::ToShard::Refilled`], sent after a flush.
#[derive(Debug, Clone, Copy)]
pub struct Refill {
    /// The requesting shard.
    pub shard: usize,
    /// The webhook.
    pub webhook: WebhookNo,
    /// The rows to return.
    pub kind: RefillKind,
    /// The maximum number of rows.
    pub rows: usize,
}

/// A command to settle, apart from the regular flow of deliveries.
#[derive(Debug)]
pub enum SettleCommand {
    /// Flushes, then returns the announced deliveries that are neither settled nor have a row. A caller that reads the
    /// store afterwards therefore sees everything acknowledged before.
    Sync {
        /// Only deliveries of this webhook.
        webhook: Option<WebhookNo>,
        /// Only deliveries of this event.
        event: Option<EventId>,
        /// The maximum number of deliveries, newest first.
        limit: usize,
        /// Receives the deliveries.
        reply: tokio::sync::oneshot::Sender<Vec<(EventId, WebhookNo)>>,
    },
    /// Flushes, then calls a function on the settle thread with the number of the webhook's announced deliveries that
    /// are neither settled nor have a row. At that moment the store and the statistics in memory contain the same.
    Capture {
        /// The webhook.
        webhook: WebhookNo,
        /// Copies what the caller needs. It must be quick.
        capture: CaptureFn,
    },
    /// Starts a job that makes all waiting deliveries of the webhook dead letters.
    Abandon {
        /// The webhook.
        webhook: WebhookNo,
        /// The reason of the dead letters.
        reason: DeadReason,
    },
    /// Reports a change of a webhook's status, from the registry.
    StatusChanged {
        /// The webhook.
        webhook: WebhookNo,
        /// The change.
        change: StatusChange,
    },
    /// Reports that the operational events of the outbox are in the log, up to this row.
    Admitted {
        /// The last row, inclusive.
        through: u64,
    },
    /// Replays dead letters of a webhook.
    ReplayDead {
        /// The webhook.
        webhook: WebhookNo,
        /// The events of the dead letters, or `None` for all.
        events: Option<Vec<EventId>>,
        /// Receives how many became rows. For all dead letters: how many there are; a job moves them.
        reply: tokio::sync::oneshot::Sender<u64>,
    },
    /// Retries a delivery immediately.
    Retry {
        /// The delivery.
        id: DeliveryId,
        /// Receives the result.
        reply: tokio::sync::oneshot::Sender<RetryResult>,
    },
    /// Deletes dead letters of a webhook.
    Discard {
        /// The webhook.
        webhook: WebhookNo,
        /// The events of the dead letters.
        events: Vec<EventId>,
        /// Receives how many of them existed.
        reply: tokio::sync::oneshot::Sender<u64>,
    },
    /// Starts a job that replays the deliveries that failed since a time, and immediately retries the deliveries that
    /// wait for their next attempt.
    Recover {
        /// The webhook.
        webhook: WebhookNo,
        /// The time of the wall clock.
        since: Timestamp,
        /// Receives the job's number when the job is durable.
        reply: tokio::sync::oneshot::Sender<u64>,
    },
    /// Starts a job that replays events from the log.
    Replay {
        /// The events to replay.
        filter: ReplayFilter,
        /// Receives the job's number when the job is durable.
        reply: tokio::sync::oneshot::Sender<u64>,
    },
    /// Reports that the bodies of these events are gone. Deliveries that wait for one become dead letters (`expired`).
    Expire {
        /// The events, in ascending order.
        events: Vec<EventId>,
    },
    /// Cancels a replay job.
    CancelJob {
        /// The job's number.
        job: u64,
        /// Receives whether the job existed and could still be cancelled.
        reply: tokio::sync::oneshot::Sender<bool>,
    },
    /// Runs a command that a request with an idempotency key makes, and stores the response in the flush of its change.
    WithResponse {
        /// The command: `ReplayDead`, `Retry`, `Recover` or `Replay`.
        command: Box<SettleCommand>,
        /// The key of the request, and the response.
        response: Box<(IdempotencyKey, NumberedResponse)>,
    },
    /// Flushes everything and stops settle.
    Stop,
}

/// A function that settle calls between two batches of messages.
pub struct CaptureFn(pub Box<dyn FnOnce(usize) + Send>);

impl fmt::Debug for CaptureFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptureFn")
    }
}

/// The reason why a webhook is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisableReason {
    /// The receiver responded with 410 Gone. Dispatch requests the change, so that nothing more is sent.
    Gone,
    /// Every attempt failed for the configured time. Settle requests the change, because it counts across restarts.
    Failing,
}

/// A change of a webhook's status in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusChange {
    /// The webhook is disabled. The reason is `None` if it is unknown, which happens after a crash.
    Disabled(Option<DisableReason>),
    /// The webhook was disabled and is enabled again.
    Resumed,
    /// The webhook was paused or inactive and is active again, or it has another URL. It was not disabled.
    Restarted,
    /// The webhook was deleted.
    Removed,
}
