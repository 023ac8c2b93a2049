//! The interface's way to a webhook's shard for test deliveries.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::handoff::{Probe, ProbeRefused, Shards, ToShard};
use crate::ingest::{self, EventDraft, EventOrigin};
use crate::model::{DeliveryId, EventId, Webhooks};
use crate::outbound::Event;
use crate::runtime::{Clock, MemoryBudget, Random};
use crate::service::{Later, TestDelivery, TestRefused, Tested, Tester};

/// Makes the events of test deliveries, which the log never sees, and hands them to the shards.
pub(super) struct Prober {
    shards: Shards,
    clock: Clock,
    memory: Arc<MemoryBudget>,
    random: Mutex<Random>,
}

impl Prober {
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

impl Tester for Prober {
    fn test(&self, test: TestDelivery) -> Later<'_, Result<Tested, TestRefused>> {
        Box::pin(async move {
            let event = Arc::new(self.event(&test));
            let id = DeliveryId { event: event.id, webhook: test.webhook.no };
            let (reply, answer) = oneshot::channel();
            let shard = self.shards.of(id.webhook);
            let probe = Probe { webhook: test.webhook, event, reply };
            self.shards.try_tell(shard, ToShard::Probe(probe)).map_err(|_| TestRefused::Busy)?;
            match answer.await {
                Ok(Ok(probed)) => Ok(Tested { id, probed }),
                Ok(Err(ProbeRefused::WebhookBusy)) => Err(TestRefused::WebhookBusy),
                Ok(Err(ProbeRefused::Busy)) => Err(TestRefused::Busy),
                Err(_) => Err(TestRefused::Stopping),
            }
        })
    }
}
