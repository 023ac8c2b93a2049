//! Test deliveries: the interface through which the service sends them to the shard of a webhook. Tests implement it
//! with an endpoint of their own.

use std::sync::Arc;

use bytes::Bytes;

use super::BoxFuture;
use crate::handoff::TestAttempt;
use crate::model::DeliveryId;
use crate::outbound::Webhook;

/// A test delivery to send.
#[derive(Debug)]
pub struct TestDelivery {
    /// The webhook that receives the delivery. Its status does not matter.
    pub webhook: Arc<Webhook>,
    /// The type of the event.
    pub event_type: Box<str>,
    /// The payload of the event, JSON.
    pub data: Bytes,
    /// The correlation id of the API call.
    pub correlation_id: Box<str>,
}

/// The result of a test delivery that was sent.
#[derive(Debug)]
pub struct TestDeliveryResult {
    /// The delivery id that the endpoint received. The id cannot be looked up later.
    pub id: DeliveryId,
    /// The attempt.
    pub attempt: TestAttempt,
}

/// Why a test delivery was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestRefused {
    /// Other test deliveries of this webhook are in progress.
    WebhookBusy,
    /// Too many test deliveries of the tenant are in progress.
    TenantBusy,
    /// Too many test deliveries of all webhooks are in progress.
    Busy,
    /// The server is stopping.
    Stopping,
}

/// Sends test deliveries: at once, with the webhook's own profile and HTTP client. Test deliveries are not counted in
/// statistics.
pub trait TestSender: Send + Sync + 'static {
    /// Makes one attempt within the timeout of the webhook.
    fn test(&self, delivery: TestDelivery) -> BoxFuture<'_, Result<TestDeliveryResult, TestRefused>>;
}
