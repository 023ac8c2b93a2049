//! Chooses the transport of an attempt by the URL of the webhook.

use crate::bus::{BusTransport, EventBusHandle};
use crate::handoff::{AttemptOutcome, AttemptRequest, TestAttempt, Transport};
use crate::model::AttemptError;
use crate::runtime::Clock;
use crate::send::{ClientSetup, DeliveryClient, DnsResolver};

/// The transports of a shard.
pub(super) struct ShardTransport {
    http: DeliveryClient,
    /// `None`: the configuration has no event bus.
    bus: Option<BusTransport>,
    clock: Clock,
}

impl ShardTransport {
    /// The transports for one shard.
    pub(super) fn new(client: ClientSetup, dns: DnsResolver, bus: Option<EventBusHandle>) -> Self {
        let clock = client.clock.clone();
        let bus = bus.map(|bus| BusTransport::new(bus, clock.clone()));
        Self { http: DeliveryClient::new(client, dns), bus, clock }
    }

    /// The outcome for a webhook of the event bus if there is none any more. The delivery is attempted again.
    fn without_bus(&self, delivery: AttemptRequest<'_>) -> AttemptOutcome {
        AttemptOutcome {
            result: Err(AttemptError::Connect("the configuration has no section [nats]".into())),
            http_status: None,
            retry_after: None,
            response: Box::default(),
            latency: self.clock.instant().saturating_duration_since(delivery.began.instant),
            sent_at: None,
        }
    }
}

impl Transport for ShardTransport {
    async fn deliver(&self, delivery: AttemptRequest<'_>) -> AttemptOutcome {
        match (&delivery.webhook.endpoint.subject, &self.bus) {
            (None, _) => self.http.deliver(delivery).await,
            // Boxed, so that the future of an HTTP delivery does not grow.
            (Some(_), Some(bus)) => Box::pin(bus.deliver(delivery)).await,
            (Some(_), None) => self.without_bus(delivery),
        }
    }

    async fn deliver_test(&self, delivery: AttemptRequest<'_>) -> TestAttempt {
        match (&delivery.webhook.endpoint.subject, &self.bus) {
            (None, _) => self.http.deliver_test(delivery).await,
            (Some(_), Some(bus)) => Box::pin(bus.deliver_test(delivery)).await,
            (Some(_), None) => self.without_bus(delivery).into(),
        }
    }
}
