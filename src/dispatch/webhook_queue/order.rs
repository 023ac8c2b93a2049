//! Ordered delivery of a webhook: holds back deliveries until it is their turn, and moves entries to disk to read them
//! again in order.

use super::{WebhookQueue, send_limits};
use crate::dispatch::backlog::BacklogMode;
use crate::dispatch::ordered_queue::{NextInOrder, OrderGroup};
use crate::dispatch::queue::QueueEntry;
use crate::dispatch::rate_control::Gate;
use crate::dispatch::shard_state::ShardState;
use crate::handoff::LoadedBody;
use crate::model::EventId;
use crate::outbound::{DeliveryOrder, Event};
use crate::runtime::Instant;

impl WebhookQueue {
    /// Handles the commit of an event whose rows a job will write. All arrivals after this call are of later events.
    pub(in crate::dispatch) fn wide_event_accepted(&mut self) {
        if self.webhook.is_ordered() {
            self.backlog.start_spilling_after(self.last_held());
        }
    }

    /// The last event in memory of an ordered webhook, or [`EventId::MIN`].
    pub(super) fn last_held(&self) -> EventId {
        self.queue.last().map_or(EventId::MIN, |entry| entry.event)
    }

    /// Moves every entry that is not in flight to disk.
    pub(super) fn spill_all(&mut self, state: &mut ShardState) {
        self.backlog.hold();
        for entry in self.queue.take_all().filter(|entry| !entry.has_row) {
            state.spill(self.webhook.no, entry.event);
        }
    }

    /// Changes the order: moves the entries to disk, so that they are read again in the new order.
    pub(super) fn reorder(&mut self, order: &DeliveryOrder, state: &mut ShardState) {
        let is_held = self.backlog.mode() == BacklogMode::Held;
        self.spill_all(state);
        self.backlog.set_order(order);
        self.queue.set_by_field(order.field().is_some(), &self.in_flight);
        if !is_held {
            self.backlog.resume();
        }
    }

    /// Returns what holds back the next delivery of an ordered webhook: an earlier event that is not in memory yet, the
    /// delivery's own time, or a delivery in flight. Returns `None` if nothing does or the webhook is not ordered.
    pub(super) fn order_gate(&self, now: Instant, state: &ShardState) -> Option<Gate> {
        let first = self.queue.first().filter(|_| self.webhook.is_ordered())?;
        if self.is_overtaken(first, state) {
            return Some(Gate::Shut);
        }
        let at = first.not_before.map(|at| state.setup.clock.instant_of(at)).filter(|at| now < *at);
        at.map(Gate::Until).or_else(|| (!self.in_flight.is_empty()).then_some(Gate::Shut))
    }

    /// Whether a delivery of an event accepted before this entry may be missing from memory.
    fn is_overtaken(&self, entry: &QueueEntry, state: &ShardState) -> bool {
        // A row may come before its own arrival and the arrivals of earlier events. A row that waits for a time was in
        // memory before or comes from a replay.
        let is_early = entry.has_row && entry.not_before.is_none() && state.arrived_rows.is_ahead(entry.event);
        is_early || !self.backlog.has_reached(entry.event)
    }

    // --- by a field ------------------------------------------------------------------------------------------------

    /// Returns the order group of an event, or `None` if the webhook is not ordered by a field.
    pub(super) fn group_of(&self, event: &Event) -> Option<OrderGroup> {
        self.webhook.order.field().map(|field| OrderGroup::of(field, event))
    }

    /// Whether a delivery can begin, for a webhook in order by a field. Requests missing bodies even if every known
    /// delivery waits for its time, because an entry without a body may have another value.
    pub(super) fn gate_by_field(&mut self, now: Instant, state: &mut ShardState) -> Gate {
        let gate = self.rate_control.gate(self.in_flight.len(), send_limits(&self.webhook, state), now);
        if matches!(gate, Gate::Until(_)) {
            return gate;
        }
        let next_in_order = self.queue.next_in_order(|at| state.setup.clock.instant_of(at) <= now);
        let again = self.request_bodies(now, state);
        let at = match next_in_order {
            Some(NextInOrder::Ready(event)) => {
                let is_overtaken = self.queue.held(event).is_none_or(|entry| self.is_overtaken(entry, state));
                return if is_overtaken { Gate::Shut } else { gate };
            }
            Some(NextInOrder::NotBefore(at)) => Some(state.setup.clock.instant_of(at)),
            Some(NextInOrder::Blocked) | None => None,
        };
        [at, again].into_iter().flatten().min().map_or(Gate::Shut, Gate::Until)
    }

    /// Adds bodies to their entries. Removes and returns the entries whose events the log no longer has.
    pub(super) fn load_bodies(&mut self, events: &[LoadedBody], state: &ShardState) -> Vec<QueueEntry> {
        let mut gone = Vec::new();
        match self.webhook.order.field() {
            Some(field) => {
                let bytes_max = if state.setup.memory.is_over() { 0 } else { state.bounds.window_bytes };
                self.queue.load_bodies_by_field(events, |event| OrderGroup::of(field, event), bytes_max, &mut gone);
            }
            None => self.queue.bodies_loaded(events, &mut gone),
        }
        gone
    }

    /// Puts back a delivery that was dropped in a stop.
    pub(super) fn requeue(&mut self, entry: QueueEntry) {
        let group = entry.body.as_deref().and_then(|event| self.group_of(event));
        match group {
            Some(_) => self.queue.insert_in(group, entry),
            None => self.queue.push_front(entry),
        }
    }

    /// Whether entries that wait behind failed deliveries have filled the window, so that no rows of other values are
    /// read.
    pub(super) fn is_stuck(&self, state: &ShardState) -> bool {
        self.queue.is_stuck()
            && self.backlog.mode() == BacklogMode::Spilled
            && self.backlog.is_full(self.queue.len(), &state.bounds)
    }

    /// Logs that the webhook is stuck.
    pub(super) fn log_stuck(&self) {
        let held = self.queue.len();
        tracing::warn!(webhook = %self.webhook.id, held, "what waits behind failed deliveries is all that is held; the rest waits too");
    }
}
