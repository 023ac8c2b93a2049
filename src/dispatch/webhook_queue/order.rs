//! What order adds to a webhook: nothing goes before its turn, and what is held can be put down and read anew.

use super::{WebhookQueue, allowed};
use crate::dispatch::backlog::Mode;
use crate::dispatch::ordered_queue::{Group, Turn};
use crate::dispatch::queue::Entry;
use crate::dispatch::rate_control::Gate;
use crate::dispatch::shard_state::ShardState;
use crate::handoff::Recalled;
use crate::model::EventId;
use crate::outbound::{Event, Order};
use crate::runtime::Instant;

impl WebhookQueue {
    /// An event is accepted whose rows a job is going to write; what arrives from now on is later.
    pub(in crate::dispatch) fn wide(&mut self) {
        if self.webhook.is_ordered() {
            self.backlog.lag_behind(self.last_held());
        }
    }

    /// The last that is in memory, of an ordered webhook.
    pub(super) fn last_held(&self) -> EventId {
        self.queue.last().map_or(EventId::MIN, |entry| entry.event)
    }

    /// Everything that is not under way goes to disk.
    pub(super) fn put_down(&mut self, common: &mut ShardState) {
        self.backlog.hold();
        for entry in self.queue.take_all().filter(|entry| !entry.has_row) {
            common.spill(self.webhook.no, entry.event);
        }
    }

    /// Another order: what is held is put down, to be read anew by it.
    pub(super) fn reorder(&mut self, order: &Order, common: &mut ShardState) {
        let is_held = self.backlog.mode() == Mode::Held;
        self.put_down(common);
        self.backlog.set_order(order);
        self.queue.set_by_field(order.field().is_some(), &self.in_flight);
        if !is_held {
            self.backlog.resume();
        }
    }

    /// What keeps an ordered webhook's next delivery from its turn: one before it that is not read yet, its own time, or one
    /// that is under way.
    pub(super) fn held_back(&self, now: Instant, common: &ShardState) -> Option<Gate> {
        let first = self.queue.first().filter(|_| self.webhook.is_ordered())?;
        if self.is_overtaken(first, common) {
            return Some(Gate::Shut);
        }
        let at = first.not_before.map(|at| common.setup.clock.instant_of(at)).filter(|at| now < *at);
        at.map(Gate::Until).or_else(|| (!self.in_flight.is_empty()).then_some(Gate::Shut))
    }

    /// Whether something accepted before this entry may still be missing here.
    fn is_overtaken(&self, entry: &Entry, common: &ShardState) -> bool {
        // A row may have overtaken arrivals: its own and those of earlier events are still to come. One that waits for a time
        // has been here before, or is a replay's.
        let is_early = entry.has_row && entry.not_before.is_none() && common.early.is_ahead(entry.event);
        is_early || !self.backlog.has_reached(entry.event)
    }

    // --- by a field ------------------------------------------------------------------------------------------------

    /// What an event keeps order with, where the webhook is in order by a field.
    pub(super) fn group_of(&self, event: &Event) -> Option<Group> {
        self.webhook.order.field().map(|field| Group::of(field, event))
    }

    /// Whether something can be sent, in order by a field. Bodies are asked for also while all that may go waits for its
    /// time: what is behind it may be of another value.
    pub(super) fn gate_by_field(&mut self, now: Instant, common: &mut ShardState) -> Gate {
        let pace = self.pace.gate(self.in_flight.len(), allowed(&self.webhook, common), now);
        if matches!(pace, Gate::Until(_)) {
            return pace;
        }
        let turn = self.queue.turn(|at| common.setup.clock.instant_of(at) <= now);
        let again = self.want_bodies(now, common);
        let at = match turn {
            Some(Turn::Now(event)) => {
                let is_overtaken = self.queue.held(event).is_none_or(|entry| self.is_overtaken(entry, common));
                return if is_overtaken { Gate::Shut } else { pace };
            }
            Some(Turn::At(at)) => Some(common.setup.clock.instant_of(at)),
            Some(Turn::Nobody) | None => None,
        };
        [at, again].into_iter().flatten().min().map_or(Gate::Shut, Gate::Until)
    }

    /// Puts bodies to their entries; answers those whose events the log no longer has.
    pub(super) fn put_bodies(&mut self, events: &[Recalled], common: &ShardState) -> Vec<Entry> {
        let mut gone = Vec::new();
        match self.webhook.order.field() {
            Some(field) => {
                let bytes_max = if common.setup.memory.is_over() { 0 } else { common.bounds.window_bytes };
                self.queue.recalled_by_field(events, |event| Group::of(field, event), bytes_max, &mut gone);
            }
            None => self.queue.recalled(events, &mut gone),
        }
        gone
    }

    /// A delivery that never began, in a stop.
    pub(super) fn put_back(&mut self, entry: Entry) {
        let group = entry.body.as_deref().and_then(|event| self.group_of(event));
        match group {
            Some(_) => self.queue.insert_in(group, entry),
            None => self.queue.push_front(entry),
        }
    }

    /// Whether events behind those that fail have filled the window, so that none of other values are read.
    pub(super) fn is_stuck(&self, common: &ShardState) -> bool {
        self.queue.is_stuck()
            && self.backlog.mode() == Mode::Lagging
            && self.backlog.is_full(self.queue.len(), &common.bounds)
    }

    /// Says so in the log.
    pub(super) fn say_stuck(&self) {
        let held = self.queue.len();
        tracing::warn!(webhook = %self.webhook.id, held, "what waits behind failed deliveries is all that is held; the rest waits too");
    }
}
