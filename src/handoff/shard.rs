//! Messages to the shards: events, rows, bodies and changes.

use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use super::{LoadedBody, TestAttempt};
use crate::limits::{SHARD_QUEUE, TEST_DELIVERIES_PER_WEBHOOK};
use crate::model::{EventId, WebhookNo, Webhooks};
use crate::outbound::{Event, Webhook};
use crate::storage::delivery::{RefillReply, WebhookBacklog};

/// A committed event and those of its webhooks that belong to one shard.
#[derive(Debug, Clone)]
pub struct EventArrival {
    /// The event.
    pub event: Arc<Event>,
    /// The webhooks, in ascending order.
    pub webhooks: Webhooks,
}

/// A message to a shard, which has a queue of [`SHARD_QUEUE`] messages.
#[derive(Debug)]
pub enum ToShard {
    /// Events that were just committed, in order of acceptance. They were announced to settle before.
    Arrivals(Vec<EventArrival>),
    /// An event with more webhooks than fit into a message. A job of settle writes their rows. In order with the
    /// arrivals.
    WideEvent(EventId),
    /// The reply to a [`crate::handoff::ToSettle::Refill`].
    Refilled(RefillReply),
    /// The reply to a [`crate::handoff::BodyRequest`].
    BodiesLoaded {
        /// The webhook of the request.
        webhook: WebhookNo,
        /// The events, in the order of the request. Empty if the log could not be read.
        events: Vec<LoadedBody>,
    },
    /// Rows that the shard does not know of are ready or due for these webhooks (start, replay, recover). The shard marks
    /// the webhooks as spilled or sets their timers.
    Waiting(Vec<WebhookBacklog>),
    /// The registry's snapshot changed for these webhooks: pause, resume, limits, deletion.
    Changed(SmallVec<[WebhookNo; 4]>),
    /// A test delivery, which does not wait behind other deliveries.
    TestDelivery(TestDeliveryRequest),
}

/// Returns the index of a webhook's shard, for a number of shards.
pub fn shard_of(webhook: WebhookNo, shards: usize) -> usize {
    webhook.0 as usize % shards
}

/// Sends messages to the shards.
#[derive(Debug, Clone)]
pub struct Shards(Arc<[mpsc::Sender<ToShard>]>);

impl Shards {
    /// Creates the channels of `count` shards (at least one). Returns the sender and the receiver of each shard.
    pub fn channels(count: usize) -> (Self, Vec<mpsc::Receiver<ToShard>>) {
        let (to, from): (Vec<_>, Vec<_>) = (0..count.max(1)).map(|_| mpsc::channel(SHARD_QUEUE)).unzip();
        (Self(to.into()), from)
    }

    /// The number of shards.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the index of a webhook's shard.
    pub fn of(&self, webhook: WebhookNo) -> usize {
        shard_of(webhook, self.0.len())
    }

    /// Sends a message to a shard and blocks while its queue is full. For threads that no event waits for: registry and
    /// body reader.
    pub fn send(&self, shard: usize, message: ToShard) {
        // The send fails if the shard has stopped. Its unfinished deliveries are in settle's state for the next start.
        let _ = self.0[shard].blocking_send(message);
    }

    /// Sends a message to a shard without blocking. For commit and settle, which must not wait for a shard. A message to a stopped
    /// shard is dropped.
    ///
    /// # Errors
    /// Returns the message if the shard's queue is full.
    pub fn try_send(&self, shard: usize, message: ToShard) -> Result<(), ToShard> {
        match self.0[shard].try_send(message) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(message)) => Err(message),
        }
    }
}

/// A request for a test delivery.
#[derive(Debug)]
pub struct TestDeliveryRequest {
    /// The webhook. Its status may be any.
    pub webhook: Arc<Webhook>,
    /// The event.
    pub event: Arc<Event>,
    /// Receives the attempt. Dropped without a message if the shard stops. Closing the receiver cancels the attempt.
    pub reply: oneshot::Sender<Result<TestAttempt, TestDeliveryRefused>>,
}

/// The reason why a test delivery is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TestDeliveryRefused {
    /// [`TEST_DELIVERIES_PER_WEBHOOK`] test deliveries of this webhook are in flight.
    #[error("{TEST_DELIVERIES_PER_WEBHOOK} test deliveries of this webhook are under way already")]
    WebhookBusy,
    /// The tenant has as many of the shard's test deliveries as are left for all other tenants.
    #[error("too many test deliveries of this tenant are under way")]
    TenantBusy,
    /// [`TEST_DELIVERIES_PER_SHARD`](crate::limits::TEST_DELIVERIES_PER_SHARD) test deliveries of the shard are in flight.
    #[error("too many test deliveries are under way")]
    Busy,
}
