//! The queue of a webhook that is sent to in order by a field: its main lane alone, with [`OrderedQueue`] to say who goes.

use super::{Entry, Queue};
use crate::dispatch::ordered_queue::{Group, OrderedQueue, Turn};
use crate::handoff::Recalled;
use crate::model::{EventId, Timestamp};
use crate::outbound::Event;

impl Queue {
    /// From now on in order by a field, or no longer; nothing is held. These are under way.
    pub(in crate::dispatch) fn set_by_field(&mut self, by_field: bool, under_way: &[EventId]) {
        self.turns = by_field.then(|| Box::new(OrderedQueue::new(under_way)));
    }

    /// Puts an entry in its place by the order of acceptance; `group` is `None` as long as nobody has read its event.
    pub(in crate::dispatch) fn insert_in(&mut self, group: Option<Group>, entry: Entry) {
        if let Some(turns) = &mut self.turns {
            turns.insert(entry.event, group, entry.body.is_some(), entry.not_before);
        }
        self.insert(entry);
    }

    /// Whether one waits for its time that an arrival of this group would wait for as well.
    pub(in crate::dispatch) fn waits(&self, group: Option<Group>) -> bool {
        match &self.turns {
            Some(turns) => group.is_none_or(|group| turns.waits(group)),
            None => self.first().is_some_and(|entry| entry.not_before.is_some()),
        }
    }

    /// Whose turn it is now that these times have come, of a queue in order by a field.
    pub(in crate::dispatch) fn turn(&mut self, has_come: impl Fn(Timestamp) -> bool) -> Option<Turn> {
        let turns = self.turns.as_deref_mut()?;
        turns.wake(has_come);
        Some(turns.next())
    }

    /// An entry that is held.
    pub(in crate::dispatch) fn held(&self, event: EventId) -> Option<&Entry> {
        self.place(event).and_then(|at| self.main.get(at))
    }

    /// A delivery ended.
    pub(in crate::dispatch) fn landed(&mut self, event: EventId) {
        if let Some(turns) = &mut self.turns {
            turns.landed(event);
        }
    }

    /// Keeps ids only of what waits for its turn behind others of this group; without one, of all.
    pub(in crate::dispatch) fn shed_behind(&mut self, group: Option<Group>) {
        let Some((turns, group)) = self.turns.as_deref_mut().zip(group) else { return self.shed_bodies() };
        for event in turns.line(group) {
            turns.body_went(event);
            let Ok(at) = self.main.binary_search_by_key(&event, |entry| entry.event) else { continue };
            self.bytes -= self.main[at].bytes();
            self.main[at].body = None;
        }
    }

    /// Whether everything that is held waits for a time, or behind what does.
    pub(in crate::dispatch) fn is_stuck(&self) -> bool {
        self.turns.as_ref().is_some_and(|turns| turns.is_stuck())
    }

    /// Puts recalled events to their entries, as [`Queue::recalled`] does. What cannot go yet keeps its body only within
    /// `bytes_max` of all that is held, and not behind one that waits for a time.
    pub(in crate::dispatch) fn recalled_by_field(
        &mut self,
        events: &[Recalled],
        group_of: impl Fn(&Event) -> Group,
        bytes_max: usize,
        gone: &mut Vec<Entry>,
    ) {
        for (event, body) in events {
            let Some(at) = self.place(*event).filter(|at| self.main[*at].body.is_none()) else { continue };
            let Some(turns) = &mut self.turns else { return };
            let Some(body) = body else {
                turns.leave(*event);
                gone.extend(self.main.remove(at));
                continue;
            };
            turns.read(*event, || group_of(body));
            let fits = self.bytes + body.head.len() + body.body.len() <= bytes_max && !turns.waits_behind(*event);
            if fits || turns.is_wanted(*event) {
                turns.body_came(*event);
                let entry = &mut self.main[at];
                entry.body = Some(body.clone());
                entry.recalled = true;
                self.bytes += entry.bytes();
            }
        }
    }

    /// Takes the entry whose turn it is.
    pub(super) fn pop_in_turn(&mut self) -> Option<Entry> {
        let turns = self.turns.as_deref_mut()?;
        let Turn::Now(event) = turns.next() else { return None };
        turns.begin(event);
        let entry = self.place(event).and_then(|at| self.main.remove(at))?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    fn place(&self, event: EventId) -> Option<usize> {
        self.main.binary_search_by_key(&event, |entry| entry.event).ok()
    }
}
