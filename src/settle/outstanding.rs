//! The outstanding deliveries: announced, not settled, and without a row. The checkpoint lists them on the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::handoff::AnnouncedEvent;
use crate::model::{EventId, WebhookNo, Webhooks};
use crate::runtime::IngestPermit;
use crate::storage::delivery::Checkpoint;

/// The outstanding deliveries, by event in the order of acceptance.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    events: VecDeque<OutstandingEvent>,
    /// Entries of `events` that have no delivery left and are not yet removed.
    done: usize,
    deliveries: usize,
    head: EventId,
    /// Permits to release when the pending batch is durable.
    released: Vec<Arc<IngestPermit>>,
}

#[derive(Debug)]
struct OutstandingEvent {
    event: EventId,
    webhooks: Webhooks,
    permit: Option<Arc<IngestPermit>>,
}

/// The list is compacted only with at least this many finished entries.
const COMPACT_MIN: usize = 1_024;

impl Outstanding {
    /// An empty list. Every event up to `head` is settled or has rows.
    pub(super) fn new(head: EventId) -> Self {
        Self { head, ..Self::default() }
    }

    /// Adds an event. Its id must be greater than all earlier ones.
    pub(super) fn announce(&mut self, announced: AnnouncedEvent) {
        debug_assert!(announced.event > self.head, "events are announced in order");
        self.head = announced.event;
        if announced.webhooks.is_empty() {
            self.released.push(announced.permit);
            return;
        }
        self.deliveries += announced.webhooks.len();
        let AnnouncedEvent { event, webhooks, permit, .. } = announced;
        self.events.push_back(OutstandingEvent { event, webhooks, permit: Some(permit) });
    }

    /// Advances the head past an event that is handled elsewhere. Its permit is released with the next flush.
    pub(super) fn skip_event(&mut self, event: EventId, permit: Arc<IngestPermit>) {
        self.head = event;
        self.released.push(permit);
    }

    /// Removes a delivery. Returns whether it was outstanding.
    pub(super) fn settle(&mut self, webhook: WebhookNo, event: EventId) -> bool {
        let Ok(at) = self.events.binary_search_by_key(&event, |entry| entry.event) else { return false };
        let entry = &mut self.events[at];
        let Some(place) = entry.webhooks.iter().position(|no| *no == webhook) else { return false };
        entry.webhooks.remove(place);
        self.deliveries -= 1;
        if entry.webhooks.is_empty() {
            self.released.extend(entry.permit.take());
            self.done += 1;
            self.compact();
        }
        true
    }

    /// Whether a delivery is outstanding.
    pub(super) fn holds(&self, webhook: WebhookNo, event: EventId) -> bool {
        self.events
            .binary_search_by_key(&event, |entry| entry.event)
            .is_ok_and(|at| self.events[at].webhooks.contains(&webhook))
    }

    /// Removes the oldest deliveries until at most `most` are left, and passes each to `give`. They get rows instead.
    pub(super) fn overflow(&mut self, most: usize, mut give: impl FnMut(WebhookNo, EventId)) {
        while self.deliveries > most {
            let Some(entry) = self.events.pop_front() else { return };
            for webhook in &entry.webhooks {
                give(*webhook, entry.event);
            }
            self.deliveries -= entry.webhooks.len();
            if entry.webhooks.is_empty() {
                self.done -= 1;
            }
            self.released.extend(entry.permit);
        }
    }

    /// The number of outstanding deliveries.
    pub(super) fn len(&self) -> usize {
        self.deliveries
    }

    /// The oldest event with an outstanding delivery.
    pub(super) fn oldest(&self) -> Option<EventId> {
        self.events.iter().find(|entry| !entry.webhooks.is_empty()).map(|entry| entry.event)
    }

    /// The deliveries, newest first, filtered by webhook and by event if those are given.
    pub(super) fn newest_first(
        &self,
        webhook: Option<WebhookNo>,
        event: Option<EventId>,
    ) -> impl Iterator<Item = (EventId, WebhookNo)> {
        self.events.iter().rev().filter(move |entry| event.is_none_or(|event| entry.event == event)).flat_map(
            move |entry| {
                let query = entry.webhooks.iter().filter(move |no| webhook.is_none_or(|webhook| **no == webhook));
                query.map(|no| (entry.event, *no))
            },
        )
    }

    /// Takes the permits whose deliveries are all durable once the current flush is.
    pub(super) fn take_released(&mut self) -> Vec<Arc<IngestPermit>> {
        std::mem::take(&mut self.released)
    }

    /// Appends the encoded checkpoint to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        Checkpoint::begin(self.head, out);
        for entry in self.events.iter().filter(|entry| !entry.webhooks.is_empty()) {
            Checkpoint::append(entry.event, &entry.webhooks, out);
        }
    }

    fn compact(&mut self) {
        while self.events.front().is_some_and(|entry| entry.webhooks.is_empty()) {
            self.events.pop_front();
            self.done -= 1;
        }
        if self.done >= COMPACT_MIN && self.done * 2 > self.events.len() {
            self.events.retain(|entry| !entry.webhooks.is_empty());
            self.done = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::permit;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn announced(event: u128, webhooks: &[u32]) -> AnnouncedEvent {
        let webhooks = webhooks.iter().map(|no| WebhookNo(*no)).collect();
        AnnouncedEvent { event: EventId::from_u128(event), webhooks, too_costly: None, permit: permit() }
    }

    #[test]
    fn a_permit_is_released_with_the_last_delivery_of_its_event() {
        let mut outstanding = Outstanding::default();
        outstanding.announce(announced(1, &[1, 2]));
        outstanding.announce(announced(2, &[]));
        assert_eq!(outstanding.take_released().len(), 1, "nobody waits for an event without webhooks");
        assert!(outstanding.settle(WebhookNo(1), EventId::from_u128(1)));
        assert!(outstanding.take_released().is_empty());
        assert!(!outstanding.settle(WebhookNo(1), EventId::from_u128(1)), "settled once");
        assert!(outstanding.settle(WebhookNo(2), EventId::from_u128(1)));
        assert_eq!(outstanding.take_released().len(), 1);
        assert_eq!((outstanding.len(), outstanding.head), (0, EventId::from_u128(2)));
    }

    proptest! {
        #[test]
        fn outstanding_matches_a_set_of_deliveries(
            events in prop::collection::vec(prop::collection::btree_set(0u32..500, 0..6), 1..60),
            settled in prop::collection::vec((0usize..60, 0u32..500), 0..200),
            most in 0usize..100,
        ) {
            let mut outstanding = Outstanding::default();
            let mut model = BTreeSet::new();
            for (n, webhooks) in events.iter().enumerate() {
                let event = n as u128 + 1;
                outstanding.announce(announced(event, &webhooks.iter().copied().collect::<Vec<_>>()));
                model.extend(webhooks.iter().map(|no| (EventId::from_u128(event), WebhookNo(*no))));
            }
            for (n, no) in settled {
                let (event, webhook) = (EventId::from_u128(n as u128 + 1), WebhookNo(no));
                prop_assert_eq!(outstanding.holds(webhook, event), model.contains(&(event, webhook)));
                prop_assert_eq!(outstanding.settle(webhook, event), model.remove(&(event, webhook)));
            }
            outstanding.overflow(most, |webhook, event| assert!(model.remove(&(event, webhook))));
            prop_assert!(outstanding.len() <= most);
            prop_assert_eq!(outstanding.len(), model.len());
            prop_assert_eq!(outstanding.oldest(), model.first().map(|(event, _)| *event));
            prop_assert_eq!(outstanding.newest_first(None, None).collect::<BTreeSet<_>>(), model.clone());
            let mut bytes = Vec::new();
            outstanding.encode(&mut bytes);
            let read = Checkpoint::decode(&bytes).unwrap();
            prop_assert_eq!(read.head, EventId::from_u128(events.len() as u128));
            let list: BTreeSet<_> =
                read.list.into_iter().flat_map(|(event, nos)| nos.into_iter().map(move |no| (event, no))).collect();
            prop_assert_eq!(list, model);
        }
    }
}
