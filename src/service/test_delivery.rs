//! Test deliveries: the seam to the webhook's shard, which a test fills with a receiver of its own.

use std::sync::Arc;

use bytes::Bytes;

use super::Later;
use crate::handoff::Probed;
use crate::model::DeliveryId;
use crate::outbound::Webhook;

/// What is sent to see what an endpoint makes of it.
#[derive(Debug)]
pub struct TestDelivery {
    /// To whom, whatever its status is.
    pub webhook: Arc<Webhook>,
    /// The event's type.
    pub event_type: Box<str>,
    /// Its payload, JSON.
    pub data: Bytes,
    /// Of the call.
    pub correlation_id: Box<str>,
}

/// A test delivery that was made.
#[derive(Debug)]
pub struct Tested {
    /// As the endpoint was told; nothing is found by it.
    pub id: DeliveryId,
    /// The attempt.
    pub probed: Probed,
}

/// Why none was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestRefused {
    /// Others of this webhook are under way.
    WebhookBusy,
    /// Too many are, of all webhooks.
    Busy,
    /// The server stops.
    Stopping,
}

/// Makes test deliveries: at once, by the webhook's own profile and client, counted by nobody.
pub trait Tester: Send + Sync + 'static {
    /// One attempt, within the webhook's timeout.
    fn test(&self, delivery: TestDelivery) -> Later<'_, Result<Tested, TestRefused>>;
}
