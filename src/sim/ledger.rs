//! What was promised about each delivery, and the checks that it is kept.
//!
//! - An acknowledged event is never lost: each of its deliveries ends in exactly one final state, delivered, a dead
//!   letter or discarded, and until then it waits in exactly one place.
//! - What is stored as delivered was taken by its endpoint.
//! - A delivery is not in flight twice, and is not sent again after its outcome, except after a crash that came before
//!   the outcome was durable, and except for replays.
//! - An ordered webhook gets an event only after all earlier ones with the same key are delivered or dead.
//! - The same id submitted again is a duplicate of the first event.

use std::collections::{BTreeMap, BTreeSet};

use crate::handoff::SettleCommand;
use crate::model::{Decision, DeliveryId, DeliveryStatus, EventId, WebhookNo};
use crate::runtime::Instant;
use crate::settle::stepping::StoredDeliveries;
use crate::storage::delivery::DeliveryRecord;

/// Which earlier events an event of a webhook waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderPromise {
    None,
    Acceptance,
    /// Among the events with the same value of the field `k`.
    ByKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waits,
    InFlight,
    Ended { is_delivered: bool, is_durable: bool },
}

/// What is known of a delivery.
#[derive(Debug)]
pub(super) struct DeliveryEntry {
    progress: Progress,
    /// Whether its endpoint took the event at least once.
    is_taken: bool,
    /// Attempts that a replay may add after the end.
    replays: u32,
    /// Whether its order is no longer promised: it was replayed, or its webhook was disabled or removed.
    is_unordered: bool,
    /// Whether it may have been discarded.
    may_be_discarded: bool,
    /// When it was accepted.
    since: Instant,
}

/// All deliveries of all events.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    deliveries: BTreeMap<WebhookNo, BTreeMap<EventId, DeliveryEntry>>,
    /// The deliveries that have not ended.
    open: BTreeMap<WebhookNo, BTreeSet<EventId>>,
    keys: BTreeMap<EventId, Option<u64>>,
    orders: BTreeMap<WebhookNo, OrderPromise>,
    /// Deliveries whose final outcome settle has taken, and that is not durable yet.
    taken_in: Vec<DeliveryId>,
    /// Webhooks with jobs that deliver again what they find until they end.
    replays: BTreeMap<WebhookNo, u32>,
    pub(super) attempts: u64,
}

impl Ledger {
    pub(super) fn promise_order(&mut self, webhook: WebhookNo, order: OrderPromise) {
        self.orders.insert(webhook, order);
    }

    /// Events that are in the log, with the value of their field `k`.
    pub(super) fn accepted(&mut self, event: EventId, webhooks: &[WebhookNo], key: Option<u64>, now: Instant) {
        if self.keys.insert(event, key).is_some() {
            return;
        }
        for webhook in webhooks {
            let entry = DeliveryEntry {
                progress: Progress::Waits,
                is_taken: false,
                replays: self.replays.get(webhook).copied().unwrap_or(0),
                is_unordered: self.replays.contains_key(webhook),
                may_be_discarded: false,
                since: now,
            };
            self.deliveries.entry(*webhook).or_default().insert(event, entry);
            self.open.entry(*webhook).or_default().insert(event);
        }
    }

    pub(super) fn knows(&self, event: EventId) -> bool {
        self.keys.contains_key(&event)
    }

    pub(super) fn events(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = DeliveryId> {
        self.deliveries
            .iter()
            .flat_map(|(webhook, events)| events.keys().map(|event| DeliveryId { event: *event, webhook: *webhook }))
    }

    /// The number of an event's deliveries.
    pub(super) fn deliveries_of(&self, event: EventId) -> usize {
        self.deliveries.values().filter(|events| events.contains_key(&event)).count()
    }

    fn entry(&mut self, id: DeliveryId) -> &mut DeliveryEntry {
        let entry = self.deliveries.get_mut(&id.webhook).and_then(|events| events.get_mut(&id.event));
        entry.unwrap_or_else(|| panic!("{id:?} was never accepted"))
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, id: DeliveryId) {
        self.attempts += 1;
        self.check_order(id);
        let entry = self.entry(id);
        match entry.progress {
            Progress::Waits => {}
            Progress::InFlight => panic!("{id:?} is in flight twice"),
            Progress::Ended { .. } if entry.replays > 0 => entry.replays -= 1,
            Progress::Ended { .. } => panic!("{id:?} is sent again after its end: {entry:?}"),
        }
        entry.progress = Progress::InFlight;
        self.open.entry(id.webhook).or_default().insert(id.event);
    }

    fn check_order(&mut self, id: DeliveryId) {
        let order = self.orders.get(&id.webhook).copied().unwrap_or(OrderPromise::None);
        let key = self.keys[&id.event];
        if order == OrderPromise::None || self.entry(id).is_unordered || (order == OrderPromise::ByKey && key.is_none())
        {
            return;
        }
        let events = &self.deliveries[&id.webhook];
        let is_same = |event: &EventId| order == OrderPromise::Acceptance || self.keys[event] == key;
        let mut earlier = self.open.get(&id.webhook).into_iter().flat_map(|open| open.range(..id.event));
        let earlier = earlier.find(|event| is_same(event) && !events[*event].is_unordered);
        assert!(earlier.is_none(), "{id:?} is sent before {earlier:?}: {:?}", earlier.map(|event| &events[event]));
    }

    /// The endpoint took the event.
    pub(super) fn taken(&mut self, id: DeliveryId) {
        self.entry(id).is_taken = true;
    }

    /// A shard told settle the outcome of a delivery.
    pub(super) fn outcome(&mut self, id: DeliveryId, decision: Decision) {
        let entry = self.entry(id);
        match decision {
            Decision::Retry { .. } => entry.progress = Progress::Waits,
            Decision::Delivered => {
                assert!(entry.is_taken, "{id:?} is delivered, but its endpoint did not take it");
                self.end(id, true);
            }
            Decision::Dead(_) => self.end(id, false),
        }
    }

    fn end(&mut self, id: DeliveryId, is_delivered: bool) {
        self.entry(id).progress = Progress::Ended { is_delivered, is_durable: false };
        self.open.entry(id.webhook).or_default().remove(&id.event);
    }

    /// Settle took an outcome.
    pub(super) fn taken_in(&mut self, id: DeliveryId, decision: Decision) {
        if !matches!(decision, Decision::Retry { .. }) {
            self.taken_in.push(id);
        }
    }

    /// What settle had taken is durable.
    pub(super) fn flushed(&mut self) {
        for id in std::mem::take(&mut self.taken_in) {
            if let Progress::Ended { is_durable, .. } = &mut self.entry(id).progress {
                *is_durable = true;
            }
        }
    }

    /// Settle took a command.
    pub(super) fn commanded(&mut self, command: &SettleCommand) {
        match command {
            SettleCommand::ReplayDead { webhook, events: Some(events), .. } => {
                for event in events {
                    self.replayed(DeliveryId { event: *event, webhook: *webhook });
                }
            }
            SettleCommand::ReplayDead { webhook, .. } | SettleCommand::Recover { webhook, .. } => {
                self.replays(*webhook);
            }
            SettleCommand::Replay { filter, .. } => {
                if let Some(webhook) = filter.webhook {
                    self.replays(WebhookNo(webhook));
                }
            }
            SettleCommand::Retry { id, .. } => self.replayed(*id),
            SettleCommand::Discard { webhook, events, .. } => {
                for event in events {
                    self.entry(DeliveryId { event: *event, webhook: *webhook }).may_be_discarded = true;
                }
            }
            _ => {}
        }
    }

    /// A request to deliver one event again.
    fn replayed(&mut self, id: DeliveryId) {
        let entry = self.entry(id);
        entry.replays += 1;
        entry.is_unordered = true;
    }

    /// A job that delivers events of a webhook again.
    fn replays(&mut self, webhook: WebhookNo) {
        *self.replays.entry(webhook).or_default() += 1;
        for entry in self.deliveries.entry(webhook).or_default().values_mut() {
            entry.replays += 1;
            entry.is_unordered = true;
        }
    }

    /// No job of settle is left.
    pub(super) fn replays_end(&mut self) {
        self.replays.clear();
    }

    /// The webhook was disabled or removed, so that its waiting deliveries become dead letters.
    pub(super) fn abandoned(&mut self, webhook: WebhookNo) {
        for entry in self.deliveries.entry(webhook).or_default().values_mut() {
            entry.is_unordered = true;
        }
    }

    /// The process ended. Outcomes that were not durable may be lost.
    pub(super) fn crashed(&mut self) {
        self.taken_in.clear();
    }

    /// Compares with what a start finds. Each delivery waits, is a dead letter, or is finished.
    pub(super) fn restarted(
        &mut self,
        stored: &StoredDeliveries,
        record: impl Fn(DeliveryId) -> Option<DeliveryRecord>,
    ) {
        self.open.clear();
        for (no, events) in &mut self.deliveries {
            for (event, entry) in events.iter_mut() {
                let id = DeliveryId { event: *event, webhook: *no };
                let waits = stored.rows.contains_key(&id);
                let is_dead = stored.dead.contains(&id);
                assert!(!(waits && is_dead), "{id:?} waits and is a dead letter");
                if waits {
                    let is_over = matches!(entry.progress, Progress::Ended { is_durable: true, .. });
                    assert!(!is_over || entry.replays > 0, "{id:?} waits although its end was durable: {entry:?}");
                    if is_over {
                        entry.replays -= 1;
                    }
                    entry.progress = Progress::Waits;
                    self.open.entry(*no).or_default().insert(*event);
                    continue;
                }
                // What ended before is checked at the end.
                if let (Progress::Ended { is_durable: true, is_delivered }, false) = (entry.progress, is_dead)
                    && (is_delivered || entry.may_be_discarded)
                {
                    continue;
                }
                let is_delivered = !is_dead && entry.is_finished_as(record(id).as_ref(), id);
                entry.progress = Progress::Ended { is_delivered, is_durable: true };
            }
        }
    }

    /// Checks that every delivery has ended, in the state that the store has.
    pub(super) fn check_ends(&self, stored: &StoredDeliveries, record: impl Fn(DeliveryId) -> Option<DeliveryRecord>) {
        assert!(stored.rows.is_empty(), "these wait for ever: {:?}", stored.rows.iter().take(5).collect::<Vec<_>>());
        for (no, events) in &self.deliveries {
            for (event, entry) in events {
                let id = DeliveryId { event: *event, webhook: *no };
                if !stored.dead.contains(&id) {
                    entry.is_finished_as(record(id).as_ref(), id);
                }
            }
        }
    }

    /// The oldest delivery of a webhook that has not ended.
    pub(super) fn oldest(&self, webhook: WebhookNo) -> Option<(EventId, Instant)> {
        let event = *self.open.get(&webhook)?.first()?;
        Some((event, self.deliveries[&webhook][&event].since))
    }

    pub(super) fn open(&self) -> usize {
        self.open.values().map(BTreeSet::len).sum()
    }

    /// How many deliveries ended as delivered.
    pub(super) fn delivered(&self) -> usize {
        let entries = self.deliveries.values().flat_map(BTreeMap::values);
        entries.filter(|entry| matches!(entry.progress, Progress::Ended { is_delivered: true, .. })).count()
    }
}

impl DeliveryEntry {
    /// Checks a delivery that neither waits nor is a dead letter. Returns whether it was delivered.
    fn is_finished_as(&self, record: Option<&DeliveryRecord>, id: DeliveryId) -> bool {
        let status = record.map(|record| record.status);
        let is_delivered = status == Some(DeliveryStatus::Delivered);
        assert!(is_delivered || self.may_be_discarded, "{id:?} is lost: {status:?} {self:?}");
        assert!(!is_delivered || self.is_taken, "{id:?} is stored as delivered, but its endpoint did not take it");
        is_delivered
    }
}
