//! What order adds to a webhook: nothing goes before its turn, and what is held can be put down and read anew.

use super::Target;
use crate::dispatch::common::Common;
use crate::dispatch::pace::Gate;
use crate::model::EventId;
use crate::runtime::Instant;

impl Target {
    /// An event is accepted whose rows a job is going to write; what arrives from now on is later.
    pub(in crate::dispatch) fn wide(&mut self) {
        if self.webhook.ordered {
            self.backlog.lag_behind(self.last_held());
        }
    }

    /// The last that is in memory, of an ordered webhook.
    pub(super) fn last_held(&self) -> EventId {
        self.queue.last().map_or(EventId::MIN, |entry| entry.event)
    }

    /// Everything that is not under way goes to disk.
    pub(super) fn put_down(&mut self, common: &mut Common) {
        self.backlog.hold();
        for entry in self.queue.take_all().filter(|entry| !entry.has_row) {
            common.spill(self.webhook.no, entry.event);
        }
    }

    /// What keeps an ordered webhook's next delivery from its turn: one before it that is not read yet, its own time, or one
    /// that is under way.
    pub(super) fn held_back(&self, now: Instant, common: &Common) -> Option<Gate> {
        let first = self.queue.first().filter(|_| self.webhook.ordered)?;
        // A row may have overtaken arrivals: its own and those of earlier events are still to come. One that waits for a time
        // has been here before, or is a replay's.
        let is_early = first.has_row && first.not_before.is_none() && common.early.is_ahead(first.event);
        if is_early || !self.backlog.has_reached(first.event) {
            return Some(Gate::Shut);
        }
        let at = first.not_before.map(|at| common.setup.clock.instant_of(at)).filter(|at| now < *at);
        at.map(Gate::Until).or_else(|| (!self.in_flight.is_empty()).then_some(Gate::Shut))
    }
}
