//! Sends test deliveries to the shards.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::handoff::{Shards, TestDeliveryRefused, TestDeliveryRequest, ToShard};
use crate::ingest::{self, EventDraft, EventOrigin};
use crate::model::{DeliveryId, EventId, Webhooks};
use crate::outbound::Event;
use crate::runtime::{Clock, MemoryBudget, Random};
use crate::service::{BoxFuture, TestDelivery, TestDeliveryResult, TestRefused, TestSender};

/// Builds the events of test deliveries and sends them to the shards. The log never has these events.
pub(super) struct TestDeliverySender {
    shards: Shards,
    clock: Clock,
    memory: Arc<MemoryBudget>,
    random: Mutex<Random>,
}

impl TestDeliverySender {
    pub(super) fn new(shards: &Shards, clock: &Clock, memory: &Arc<MemoryBudget>) -> Arc<Self> {
        let random = Mutex::new(Random::system());
        Arc::new(Self { shards: shards.clone(), clock: clock.clone(), memory: Arc::clone(memory), random })
    }

    fn event(&self, test: &TestDelivery) -> Event {
        let (webhook, now) = (&test.webhook, self.clock.now());
        let draft = EventDraft {
            correlation_id: &test.correlation_id,
            workspace_id: webhook.workspace_id.as_deref(),
            user_id: webhook.user_id.as_deref(),
            metadata: Some(r#"{"test":true}"#),
            ..EventDraft::new((&webhook.tenant, &test.event_type), EventOrigin::Gateway, now, &test.data)
        };
        let built = ingest::build_for(Webhooks::from_slice(&[webhook.no]), &draft, &test.data);
        let id = self.random.lock().unwrap_or_else(PoisonError::into_inner).ulid(now);
        Event {
            id: EventId::from_u128(id),
            head: built.head,
            lease: self.memory.lease(test.data.len()),
            body: built.body,
            committed_at: self.clock.instant(),
        }
    }
}

impl TestSender for TestDeliverySender {
    fn test(&self, test: TestDelivery) -> BoxFuture<'_, Result<TestDeliveryResult, TestRefused>> {
        Box::pin(async move {
            let event = Arc::new(self.event(&test));
            let id = DeliveryId { event: event.id, webhook: test.webhook.no };
            let (reply, answer) = oneshot::channel();
            let shard = self.shards.of(id.webhook);
            let request = TestDeliveryRequest { webhook: test.webhook, event, reply };
            self.shards.try_send(shard, ToShard::TestDelivery(request)).map_err(|_| TestRefused::Busy)?;
            match answer.await {
                Ok(Ok(attempt)) => Ok(TestDeliveryResult { id, attempt }),
                Ok(Err(TestDeliveryRefused::WebhookBusy)) => Err(TestRefused::WebhookBusy),
                Ok(Err(TestDeliveryRefused::TenantBusy)) => Err(TestRefused::TenantBusy),
                Ok(Err(TestDeliveryRefused::Busy)) => Err(TestRefused::Busy),
                Err(_) => Err(TestRefused::Stopping),
            }
        })
    }
}
