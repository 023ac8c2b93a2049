//! The queue of a webhook that is ordered by a field. It uses the main lane only, and [`OrderedQueue`] selects the next
//! entry.

use super::{Queue, QueueEntry};
use crate::dispatch::ordered_queue::{NextInOrder, OrderGroup, OrderedQueue};
use crate::handoff::LoadedBody;
use crate::model::{EventId, Timestamp};
use crate::outbound::Event;

impl Queue {
    /// Switches order by a field on or off. The queue must be empty. `in_flight` are the deliveries in flight.
    pub(in crate::dispatch) fn set_by_field(&mut self, by_field: bool, in_flight: &[EventId]) {
        self.ordered = by_field.then(|| Box::new(OrderedQueue::new(in_flight)));
    }

    /// Inserts an entry in order of acceptance. `group` is `None` if the event has not been read.
    pub(in crate::dispatch) fn insert_in(&mut self, group: Option<OrderGroup>, entry: QueueEntry) {
        if let Some(ordered) = &mut self.ordered {
            ordered.insert(entry.event, group, entry.body.is_some(), entry.not_before);
        }
        self.insert(entry);
    }

    /// Whether an arrival of this group would wait behind an entry that waits for a time.
    pub(in crate::dispatch) fn is_delayed(&self, group: Option<OrderGroup>) -> bool {
        match &self.ordered {
            Some(ordered) => group.is_none_or(|group| ordered.is_delayed(group)),
            None => self.first().is_some_and(|entry| entry.not_before.is_some()),
        }
    }

    /// Returns the next entry of a queue that is ordered by a field, after releasing entries whose time is reached.
    /// Returns `None` for other queues.
    pub(in crate::dispatch) fn next_in_order(&mut self, has_come: impl Fn(Timestamp) -> bool) -> Option<NextInOrder> {
        let ordered = self.ordered.as_deref_mut()?;
        ordered.wake(has_come);
        Some(ordered.next())
    }

    /// Returns the entry of an event. The main lane must be in order of acceptance.
    pub(in crate::dispatch) fn held(&self, event: EventId) -> Option<&QueueEntry> {
        self.place(event).and_then(|at| self.main.get(at))
    }

    /// Records that a delivery is not in flight any more.
    pub(in crate::dispatch) fn delivery_finished(&mut self, event: EventId) {
        if let Some(ordered) = &mut self.ordered {
            ordered.delivery_finished(event);
        }
    }

    /// Drops the bodies of this group's entries, or of all entries if there is no group.
    pub(in crate::dispatch) fn evict_bodies_behind(&mut self, group: Option<OrderGroup>) {
        let Some((ordered, group)) = self.ordered.as_deref_mut().zip(group) else { return self.evict_bodies() };
        for event in ordered.events_of(group) {
            ordered.body_dropped(event);
            let Ok(at) = self.main.binary_search_by_key(&event, |entry| entry.event) else { continue };
            self.bytes -= self.main[at].bytes();
            self.main[at].body = None;
        }
    }

    /// Whether every entry waits for a time or behind an entry that waits for a time. Always `false` for queues that are
    /// not ordered by a field.
    pub(in crate::dispatch) fn is_stuck(&self) -> bool {
        self.ordered.as_ref().is_some_and(|ordered| ordered.is_stuck())
    }

    /// Adds bodies from the log to their entries, as [`Queue::bodies_loaded`] does. An entry that cannot be delivered yet
    /// keeps its body only if the queue stays within `bytes_max` and the entry is not behind one that waits for a time.
    pub(in crate::dispatch) fn load_bodies_by_field(
        &mut self,
        events: &[LoadedBody],
        group_of: impl Fn(&Event) -> OrderGroup,
        bytes_max: usize,
        gone: &mut Vec<QueueEntry>,
    ) {
        for (event, body) in events {
            let Some(at) = self.place(*event).filter(|at| self.main[*at].body.is_none()) else { continue };
            let Some(ordered) = &mut self.ordered else { return };
            let Some(body) = body else {
                ordered.remove(*event);
                gone.extend(self.main.remove(at));
                continue;
            };
            ordered.set_group(*event, || group_of(body));
            let fits =
                self.bytes + body.head.len() + body.body.len() <= bytes_max && !ordered.is_behind_delayed(*event);
            if fits || ordered.needs_body(*event) {
                ordered.body_loaded(*event);
                let entry = &mut self.main[at];
                entry.body = Some(body.clone());
                entry.from_log = true;
                self.bytes += entry.bytes();
            }
        }
    }

    /// Removes the next entry in order.
    pub(super) fn pop_in_order(&mut self) -> Option<QueueEntry> {
        let ordered = self.ordered.as_deref_mut()?;
        let NextInOrder::Ready(event) = ordered.next() else { return None };
        ordered.begin(event);
        let entry = self.place(event).and_then(|at| self.main.remove(at))?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    fn place(&self, event: EventId) -> Option<usize> {
        self.main.binary_search_by_key(&event, |entry| entry.event).ok()
    }
}
