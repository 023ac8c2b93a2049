//! Clients: they publish events, and create and change webhooks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::endpoint::ModelEndpoint;
use super::ledger::OrderPromise;
use super::world::World;
use crate::filter::EventField;
use crate::handoff::CommitError;
use crate::ingest::{EventDraft, EventOrigin, IngestResult, IngestResults};
use crate::model::{DedupBy, EventId, EventPattern, WebhookNo, WebhookStatus};
use crate::outbound::{DeliveryOrder, WebhookSettings};
use crate::registry::tests::draft;
use crate::storage::ReadLog;

/// The types of events; a webhook subscribes to some of them.
const TYPES: [&str; 3] = ["order.created", "order.paid", "user.changed"];
/// A request of a client that waits for its answer.
pub(super) struct PendingPublish {
    answer: Pin<Box<dyn Future<Output = Result<IngestResults, CommitError>>>>,
    /// The ids that the client gave to its events.
    names: Vec<Option<u64>>,
}

impl World {
    /// A client publishes some events in one request.
    pub(super) fn publish(&mut self) {
        let (mut names, mut bodies) = (Vec::new(), Vec::new());
        for _ in 0..self.random.between(1..=3) {
            let key = self.random.between(0..=3);
            let size = if self.chance(3) { 9_000 } else { self.random.between(0..=400) };
            let name = match self.random.between(0..=9) {
                0..=5 => None,
                6 | 7 if self.next_name > 0 => Some(self.random.between(0..=self.next_name - 1)),
                _ => {
                    self.next_name += 1;
                    Some(self.next_name - 1)
                }
            };
            names.push(name);
            // Some events have no value to be ordered by.
            let key = if key == 0 { String::new() } else { format!("\"k\":{key},") };
            bodies.push(format!("{{{key}\"fill\":\"{}\"}}", "x".repeat(size as usize)));
        }
        let types: Vec<_> = names.iter().map(|name| name.unwrap_or(self.random.between(0..=2)) % 3).collect();
        let node = self.node();
        let request = Bytes::new();
        let ingest = node.ingest.clone();
        let mut builder = ingest.builder(&request, names.len());
        for ((name, body), event_type) in names.iter().zip(&bodies).zip(types) {
            let name = name.map(|name| format!("msg-{name}"));
            let origin = EventOrigin::Application;
            let to = ("default", TYPES[event_type as usize]);
            let mut event = EventDraft::new(to, origin, node.clock.now(), body.as_bytes());
            event.dedup_by = name.as_deref().map(DedupBy::Id);
            builder.add(&event);
        }
        let batch = builder.finish();
        let ingest = ingest.clone();
        let answer = Box::pin(async move { ingest.submit(batch, None).await });
        self.publishes.push(PendingPublish { answer, names });
        self.poll_publishes();
    }

    pub(super) fn publishes_waiting(&self) -> usize {
        self.publishes.len()
    }

    /// Looks which requests have their answer.
    pub(super) fn poll_publishes(&mut self) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut answered = Vec::new();
        self.publishes.retain_mut(|publish| match publish.answer.as_mut().poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                answered.push((answer, std::mem::take(&mut publish.names)));
                false
            }
        });
        for (answer, names) in answered {
            let Ok(results) = answer else {
                self.counts.refused += 1;
                continue;
            };
            for (result, name) in results.into_iter().zip(names) {
                match result {
                    IngestResult::Accepted { committed, webhooks } => {
                        self.acknowledged(committed.id(), committed.is_duplicate(), webhooks, name);
                    }
                    IngestResult::Refused(_) => self.counts.refused += 1,
                }
            }
        }
    }

    fn acknowledged(&mut self, event: EventId, is_duplicate: bool, webhooks: usize, name: Option<u64>) {
        self.counts.acknowledged += 1;
        if !is_duplicate {
            // An event without webhooks is not always announced.
            let now = self.now();
            if webhooks == 0 {
                self.ledger.accepted(event, &[], None, now);
            }
            assert_eq!(self.ledger.deliveries_of(event), webhooks, "the deliveries of {event} are announced");
        }
        self.counts.duplicates += u64::from(is_duplicate);
        let Some(name) = name else { return };
        match self.names.get(&name).copied() {
            Some(first) if first == event => assert!(is_duplicate, "{event} is accepted twice"),
            Some(first) => {
                let heads = self.node().log.log.heads_after(first.previous(), 1).unwrap_or_default();
                let is_kept = heads.first().is_some_and(|(id, _)| *id == first);
                assert!(!is_kept, "{first} was acknowledged with this id, and now {event} is");
                self.names.insert(name, event);
            }
            None => {
                self.names.insert(name, event);
            }
        }
    }

    /// Sends a change to the registry's writer, which processes it at once.
    pub(super) fn change<T>(&mut self, change: impl Future<Output = T>) -> Option<T> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut change = std::pin::pin!(change);
        if let Poll::Ready(done) = change.as_mut().poll(&mut context) {
            return Some(done);
        }
        self.process_registry();
        match change.poll(&mut context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    pub(super) fn process_registry(&mut self) {
        // Settle ends the deliveries of a webhook that is disabled or removed, without a word of its shard.
        let over = |world: &mut Self| -> Vec<WebhookNo> {
            let registry = world.node().registry.shared.load_full();
            world.endpoints.keys().copied().filter(|no| registry.abandon_reason(*no).is_some()).collect()
        };
        let before = over(self);
        let done = self.node().registry.process();
        for no in before.into_iter().chain(over(self)) {
            self.ledger.abandoned(no);
        }
        self.collect();
        if done.is_err() {
            self.kill();
        }
    }

    /// Creates a webhook. The first ones are healthy and are not changed.
    pub(super) fn create_webhook(&mut self, is_healthy: bool) {
        let order = match self.random.between(0..=9) {
            0..=4 => OrderPromise::None,
            5..=7 => OrderPromise::Acceptance,
            _ => OrderPromise::ByKey,
        };
        let mut settings = draft("default", &TYPES[..], WebhookStatus::Active);
        if !is_healthy && self.chance(40) {
            settings.events = vec![EventPattern::try_new(TYPES[self.pick(TYPES.len())]).unwrap()];
        }
        settings.order = match order {
            OrderPromise::None => DeliveryOrder::Any,
            OrderPromise::Acceptance => DeliveryOrder::Acceptance,
            OrderPromise::ByKey => DeliveryOrder::ByField(Arc::new(EventField::try_new("k").unwrap())),
        };
        if self.chance(20) {
            settings.max_in_flight = Some(self.random.between(1..=3) as u16);
        }
        let writer = self.node().registry.writer.clone();
        let created = self.change(async move { writer.create(settings).await });
        if let Some(Ok(webhook)) = created {
            self.endpoints.insert(webhook.no, ModelEndpoint::new(is_healthy, &mut self.random));
            self.ledger.promise_order(webhook.no, order);
        }
    }

    /// Changes the settings of a webhook.
    pub(super) fn change_webhook(&mut self, no: WebhookNo, change: impl FnOnce(&mut WebhookSettings)) {
        let Some(webhook) = self.node().webhook(no) else { return };
        let mut settings = webhook.settings.clone();
        change(&mut settings);
        let (writer, version) = (self.node().registry.writer.clone(), webhook.version);
        self.change(async move { writer.replace(no, version, settings).await });
    }
}
