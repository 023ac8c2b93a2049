//! Test deliveries.
//!
//! The webhook's own shard sends a test delivery immediately, with the shard's HTTP client. A test delivery uses neither
//! the webhook's queue nor its circuit breaker, and is not recorded.

use std::rc::Rc;
use std::sync::Arc;

use super::worker_pool::WorkerPool;
use crate::handoff::{AttemptRequest, TestDeliveryRefused, TestDeliveryRequest, Transport};
use crate::limits::{TEST_DELIVERIES_PER_SHARD, TEST_DELIVERIES_PER_WEBHOOK};
use crate::outbound::Webhook;

impl<C: Transport> WorkerPool<C> {
    /// Starts a test delivery. Replies with an error if too many test deliveries are in flight. Drops the reply channel if
    /// the shard stops. If the caller closes the reply channel, the attempt is cancelled.
    pub(super) fn send_test(self: &Rc<Self>, request: TestDeliveryRequest) {
        let TestDeliveryRequest { webhook, event, mut reply } = request;
        let Some((timeout, began)) = self.shard.borrow().begin_test_delivery(&webhook, self.clock.instant()) else {
            return;
        };
        let slot = match TestSlot::take(self, &webhook) {
            Ok(slot) => slot,
            Err(why) => {
                // The send fails if the caller has closed the channel.
                let _ = reply.send(Err(why));
                return;
            }
        };
        tokio::task::spawn_local(async move {
            let attempt = AttemptRequest { webhook: &webhook, event: &event, attempt: 1, timeout, began };
            let result = tokio::select! {
                biased;
                () = reply.closed() => None,
                result = slot.0.transport.deliver_test(attempt) => Some(result),
            };
            if let Some(result) = result {
                let _ = reply.send(Ok(result));
            }
        });
    }
}

/// The place of one test delivery among those in flight. Dropping it frees the place.
struct TestSlot<C: Transport>(Rc<WorkerPool<C>>, Arc<Webhook>);

impl<C: Transport> TestSlot<C> {
    /// Takes a place. A tenant gets another place only while more places are free than it has itself. So one tenant
    /// has half of the places at most, and a place is left for a tenant that has none.
    fn take(pool: &Rc<WorkerPool<C>>, webhook: &Arc<Webhook>) -> Result<Self, TestDeliveryRefused> {
        let mut test_deliveries = pool.test_deliveries.borrow_mut();
        let count = |is_counted: &dyn Fn(&Webhook) -> bool| test_deliveries.iter().filter(|of| is_counted(of)).count();
        let free = TEST_DELIVERIES_PER_SHARD.saturating_sub(test_deliveries.len());
        if count(&|other| other.no == webhook.no) >= TEST_DELIVERIES_PER_WEBHOOK {
            return Err(TestDeliveryRefused::WebhookBusy);
        }
        if free == 0 {
            return Err(TestDeliveryRefused::Busy);
        }
        if count(&|other| other.tenant == webhook.tenant) >= free {
            return Err(TestDeliveryRefused::TenantBusy);
        }
        test_deliveries.push(Arc::clone(webhook));
        Ok(Self(Rc::clone(pool), Arc::clone(webhook)))
    }
}

impl<C: Transport> Drop for TestSlot<C> {
    fn drop(&mut self) {
        let mut test_deliveries = self.0.test_deliveries.borrow_mut();
        if let Some(at) = test_deliveries.iter().position(|webhook| webhook.no == self.1.no) {
            test_deliveries.swap_remove(at);
        }
    }
}
