//! Test deliveries: sent at once by the webhook's own shard, with its client. They touch neither its queue nor its breaker,
//! and nothing remembers them.

use std::rc::Rc;

use super::worker_pool::WorkerPool;
use crate::handoff::{AttemptRequest, Probe, ProbeRefused, Transport};
use crate::limits::{PROBES_PER_SHARD, PROBES_PER_WEBHOOK};
use crate::model::WebhookNo;

impl<C: Transport> WorkerPool<C> {
    /// Makes a test delivery, if there is a place for it.
    pub(super) fn probe(self: &Rc<Self>, probe: Probe) {
        let Probe { webhook, event, mut reply } = probe;
        let Some((timeout, began)) = self.shard.borrow().probe_begins(&webhook, self.clock.instant()) else { return };
        let place = match Place::take(self, webhook.no) {
            Ok(place) => place,
            Err(why) => {
                // Whoever asked may have gone.
                let _ = reply.send(Err(why));
                return;
            }
        };
        tokio::task::spawn_local(async move {
            let parcel = AttemptRequest { webhook: &webhook, event: &event, attempt: 1, timeout, began };
            let probed = tokio::select! {
                biased;
                () = reply.closed() => None,
                probed = place.0.carrier.probe(parcel) => Some(probed),
            };
            if let Some(probed) = probed {
                let _ = reply.send(Ok(probed));
            }
        });
    }
}

/// A test delivery's place, given back when it is dropped.
struct Place<C: Transport>(Rc<WorkerPool<C>>, WebhookNo);

impl<C: Transport> Place<C> {
    fn take(crew: &Rc<WorkerPool<C>>, webhook: WebhookNo) -> Result<Self, ProbeRefused> {
        let mut probes = crew.probes.borrow_mut();
        if probes.iter().filter(|other| **other == webhook).count() >= PROBES_PER_WEBHOOK {
            return Err(ProbeRefused::WebhookBusy);
        }
        if probes.len() >= PROBES_PER_SHARD {
            return Err(ProbeRefused::Busy);
        }
        probes.push(webhook);
        Ok(Self(Rc::clone(crew), webhook))
    }
}

impl<C: Transport> Drop for Place<C> {
    fn drop(&mut self) {
        let mut probes = self.0.probes.borrow_mut();
        if let Some(at) = probes.iter().position(|webhook| *webhook == self.1) {
            probes.swap_remove(at);
        }
    }
}
