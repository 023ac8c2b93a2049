//! Selects the next delivery of a webhook that is ordered by a field.
//!
//! - Entries whose events have the same value in the field form a *group*. A group's entries are delivered in order of
//!   acceptance, one at a time. An entry that waits for a time holds back the later entries of its group.
//! - Entries whose events have no value are *ungrouped*. They wait for no other entry.
//! - An entry whose event has not been read from the log yet is *unread*. It may belong to any group, so no entry behind
//!   it is delivered.
//!
//! This module stores event ids only, each id in one place. [`super::queue::Queue`] has the entries. Selecting the next
//! entry costs the logarithm of the number of entries.
//!
//! ```text
//!     unread ── event is read ──► in its group ── first of the group, and none of the group in flight ──► waiting
//!                                                                                                            │ time reached
//!                                       in flight ◄── delivery begins ── ready ◄── body loaded ── needs body ◄┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

use crate::filter::{EventField, EventFields};
use crate::model::{EventId, Timestamp};
use crate::outbound::Event;

/// The group of events with which an event is kept in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderGroup {
    /// None: the event has no value in the field.
    Ungrouped,
    /// The events with the same value, by the value's hash. Two values with the same hash share a group and wait for each
    /// other unnecessarily.
    Value(u64),
}

impl OrderGroup {
    /// Returns the group of an event by its value in `field`.
    pub(super) fn of(field: &EventField, event: &Event) -> Self {
        let data = event.data();
        field.text(&EventFields::of(&event.head().event, &data)).map_or(Self::Ungrouped, |value| {
            let mut hasher = DefaultHasher::new();
            hasher.write(value.as_bytes());
            Self::Value(hasher.finish())
        })
    }
}

/// What this module knows of an entry in memory.
#[derive(Debug, Clone, Copy)]
struct HeldEntry {
    /// `None` if the entry is unread.
    group: Option<OrderGroup>,
    has_body: bool,
    /// The time that the entry waits for, until it is reached.
    not_before: Option<Timestamp>,
}

/// The entries of one group.
#[derive(Debug, Default)]
struct GroupQueue {
    has_in_flight: bool,
    held: BTreeSet<EventId>,
}

/// The order of one webhook's entries in memory.
#[derive(Debug, Default)]
pub(super) struct OrderedQueue {
    held: BTreeMap<EventId, HeldEntry>,
    /// Groups with an entry in memory or in flight.
    groups: BTreeMap<u64, GroupQueue>,
    unread: BTreeSet<EventId>,
    waiting: BTreeSet<(Timestamp, EventId)>,
    needs_body: BTreeSet<EventId>,
    ready: BTreeSet<EventId>,
    in_flight: BTreeMap<EventId, OrderGroup>,
    /// Deliveries that began before the webhook was ordered by the field. Their groups are unknown.
    unknown_in_flight: Vec<EventId>,
}

/// Which entry may be delivered next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextInOrder {
    /// This entry.
    Ready(EventId),
    /// No entry before this time.
    NotBefore(Timestamp),
    /// No entry before another input: a body is loaded, a delivery ends.
    Blocked,
}

impl OrderedQueue {
    /// Creates an empty queue. `in_flight` are the deliveries in flight.
    pub(super) fn new(in_flight: &[EventId]) -> Self {
        Self { unknown_in_flight: in_flight.to_vec(), ..Self::default() }
    }

    /// Returns the first entry, in order of acceptance, that may be delivered.
    pub(super) fn next(&self) -> NextInOrder {
        let first = self.ready.first().filter(|first| self.is_before_unread(first));
        match (first, self.waiting.first()) {
            _ if !self.unknown_in_flight.is_empty() => NextInOrder::Blocked,
            (Some(first), _) => NextInOrder::Ready(*first),
            (None, Some((at, _))) => NextInOrder::NotBefore(*at),
            (None, None) => NextInOrder::Blocked,
        }
    }

    fn is_before_unread(&self, event: &EventId) -> bool {
        self.unread.first().is_none_or(|unread| event < unread)
    }

    /// Releases the entries whose time is reached. `has_come` says whether a time is reached.
    pub(super) fn wake(&mut self, has_come: impl Fn(Timestamp) -> bool) {
        while let Some((at, event)) = self.waiting.first().copied()
            && has_come(at)
        {
            self.waiting.pop_first();
            if let Some(held) = self.held.get_mut(&event) {
                held.not_before = None;
            }
            self.enqueue(event);
        }
    }

    // --- entries come in -------------------------------------------------------------------------------------------

    /// Adds an entry. Without a group the entry is unread.
    pub(super) fn insert(
        &mut self,
        event: EventId,
        group: Option<OrderGroup>,
        has_body: bool,
        not_before: Option<Timestamp>,
    ) {
        self.held.insert(event, HeldEntry { group, has_body, not_before });
        match group {
            None => drop(self.unread.insert(event)),
            Some(OrderGroup::Ungrouped) => self.enqueue(event),
            Some(OrderGroup::Value(value)) => {
                let group = self.groups.entry(value).or_default();
                let first = group.held.first().copied();
                group.held.insert(event);
                if !group.has_in_flight && first.is_none_or(|first| event < first) {
                    if let Some(first) = first {
                        self.dequeue(first);
                    }
                    self.enqueue(event);
                }
            }
        }
    }

    /// Sets the group of an unread entry, whose event was read. Does nothing for other entries.
    pub(super) fn set_group(&mut self, event: EventId, group: impl FnOnce() -> OrderGroup) {
        if self.unread.remove(&event)
            && let Some(held) = self.held.remove(&event)
        {
            self.insert(event, Some(group()), held.has_body, held.not_before);
        }
    }

    /// Records that an entry has its body.
    pub(super) fn body_loaded(&mut self, event: EventId) {
        if let Some(held) = self.held.get_mut(&event) {
            held.has_body = true;
        }
        if self.needs_body.remove(&event) {
            self.ready.insert(event);
        }
    }

    /// Records that an entry's body was dropped.
    pub(super) fn body_dropped(&mut self, event: EventId) {
        if let Some(held) = self.held.get_mut(&event) {
            held.has_body = false;
        }
        if self.ready.remove(&event) {
            self.needs_body.insert(event);
        }
    }

    /// Records that all bodies were dropped.
    pub(super) fn all_bodies_dropped(&mut self) {
        self.held.values_mut().for_each(|held| held.has_body = false);
        self.needs_body.append(&mut self.ready);
    }

    // --- entries leave ---------------------------------------------------------------------------------------------

    /// Moves an entry to the deliveries in flight.
    pub(super) fn begin(&mut self, event: EventId) {
        self.dequeue(event);
        let Some(HeldEntry { group: Some(group), .. }) = self.held.remove(&event) else { return };
        if let OrderGroup::Value(value) = group {
            let group = self.groups.entry(value).or_default();
            group.held.remove(&event);
            group.has_in_flight = true;
        }
        self.in_flight.insert(event, group);
    }

    /// Removes a delivery from those in flight, and releases the next entry of its group.
    pub(super) fn delivery_finished(&mut self, event: EventId) {
        self.unknown_in_flight.retain(|unknown| *unknown != event);
        if let Some(OrderGroup::Value(value)) = self.in_flight.remove(&event) {
            self.groups.entry(value).or_default().has_in_flight = false;
            self.release_first(value);
        }
    }

    /// Removes an entry without delivering it.
    pub(super) fn remove(&mut self, event: EventId) {
        self.unread.remove(&event);
        self.dequeue(event);
        if let Some(HeldEntry { group: Some(OrderGroup::Value(value)), .. }) = self.held.remove(&event) {
            let group = self.groups.entry(value).or_default();
            let was_first = group.held.first() == Some(&event);
            group.held.remove(&event);
            if was_first && !group.has_in_flight {
                self.release_first(value);
            }
        }
    }

    /// Removes all entries. Deliveries in flight remain.
    pub(super) fn clear(&mut self) {
        let (in_flight, unknown_in_flight) =
            (std::mem::take(&mut self.in_flight), std::mem::take(&mut self.unknown_in_flight));
        let groups = in_flight.values().filter_map(|group| match group {
            OrderGroup::Value(value) => Some((*value, GroupQueue { has_in_flight: true, held: BTreeSet::new() })),
            OrderGroup::Ungrouped => None,
        });
        *self = Self { groups: groups.collect(), in_flight, unknown_in_flight, ..Self::default() };
    }

    /// Enqueues the first entry of a group that has none in flight. Removes the group if it is empty.
    fn release_first(&mut self, value: u64) {
        match self.groups.get(&value).map(|group| group.held.first().copied()) {
            Some(Some(first)) => self.enqueue(first),
            Some(None) => drop(self.groups.remove(&value)),
            None => {}
        }
    }

    fn enqueue(&mut self, event: EventId) {
        match self.held.get(&event) {
            Some(HeldEntry { not_before: Some(at), .. }) => drop(self.waiting.insert((*at, event))),
            Some(HeldEntry { has_body: true, .. }) => drop(self.ready.insert(event)),
            Some(_) => drop(self.needs_body.insert(event)),
            None => {}
        }
    }

    fn dequeue(&mut self, event: EventId) {
        if let Some(at) = self.held.get(&event).and_then(|held| held.not_before) {
            self.waiting.remove(&(at, event));
        }
        self.ready.remove(&event);
        self.needs_body.remove(&event);
    }

    // --- bodies ----------------------------------------------------------------------------------------------------

    /// Whether an entry may be delivered as soon as it has a body.
    pub(super) fn needs_body(&self, event: EventId) -> bool {
        self.needs_body.contains(&event)
    }

    /// Whether the first entry of a group waits for a time, so that the group's other entries need no bodies.
    pub(super) fn is_delayed(&self, group: OrderGroup) -> bool {
        let OrderGroup::Value(value) = group else { return false };
        let first = self.groups.get(&value).and_then(|group| group.held.first());
        first.and_then(|first| self.held.get(first)).is_some_and(|first| first.not_before.is_some())
    }

    /// Whether the first entry of an entry's group waits for a time.
    pub(super) fn is_behind_delayed(&self, event: EventId) -> bool {
        self.held.get(&event).and_then(|held| held.group).is_some_and(|group| self.is_delayed(group))
    }

    /// Returns the events of a group's entries in memory.
    pub(super) fn events_of(&self, group: OrderGroup) -> Vec<EventId> {
        let OrderGroup::Value(value) = group else { return Vec::new() };
        self.groups.get(&value).map(|group| group.held.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether bodies are missing now or will be missing when half of the next `limit` entries are delivered.
    pub(super) fn lacks_bodies(&self, limit: usize) -> bool {
        let are_missing = !self.unread.is_empty() || !self.needs_body.is_empty();
        let may_go = || self.ready.iter().take_while(|event| self.is_before_unread(event));
        are_missing && may_go().nth(limit / 2).is_none()
    }

    /// Returns the first entries without a body, in ascending order, at most `limit`. The first unread entry is among
    /// them, or the entries delivered before it are.
    pub(super) fn bodiless(&self, limit: usize) -> Vec<EventId> {
        let mut ids: Vec<_> =
            self.unread.iter().take(limit).chain(self.needs_body.iter().take(limit)).copied().collect();
        ids.sort_unstable();
        ids.truncate(limit);
        ids
    }

    /// Whether every entry waits for a time or behind an entry that waits for a time.
    pub(super) fn is_stuck(&self) -> bool {
        let waits_for_time_only = self.unread.is_empty() && self.needs_body.is_empty() && self.ready.is_empty();
        waits_for_time_only && self.in_flight.is_empty() && self.unknown_in_flight.is_empty() && !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum QueueOperation {
        /// An event, its group (0: ungrouped), whether the group is known, whether it has a body, its time.
        Insert(u8, u8, bool, bool, Option<i64>),
        /// Reads the bodies of the first entries without one: their number, and whether the bodies are kept.
        Read(usize, bool),
        BodyWent(u8),
        BodiesWent,
        Wake(i64),
        Begin,
        /// Ends the i-th delivery in flight.
        Land(usize),
        Leave(u8),
        Clear,
    }

    fn operations() -> impl Strategy<Value = Vec<QueueOperation>> {
        use QueueOperation as Op;
        let insert = (any::<u8>(), 0u8..4, any::<bool>(), any::<bool>(), proptest::option::weighted(0.3, 0i64..100));
        let operation = prop_oneof![
            10 => insert.prop_map(|(n, value, known, body, at)| Op::Insert(n, value, known, body, at)),
            5 => (1usize..4, any::<bool>()).prop_map(|(count, keep)| Op::Read(count, keep)),
            1 => any::<u8>().prop_map(Op::BodyWent),
            1 => Just(Op::BodiesWent),
            3 => (0i64..100).prop_map(Op::Wake),
            8 => Just(Op::Begin),
            6 => (0usize..4).prop_map(Op::Land),
            2 => any::<u8>().prop_map(Op::Leave),
            1 => Just(Op::Clear),
        ];
        proptest::collection::vec(operation, 1..150)
    }

    /// An entry of the model, and its group, whether known to the queue or not.
    #[derive(Debug, Clone, Copy)]
    struct ModelEntry {
        value: u8,
        is_known: bool,
        has_body: bool,
        at: Option<i64>,
    }

    fn id(n: u8) -> EventId {
        EventId::from_u128(u128::from(n))
    }

    fn group(value: u8) -> OrderGroup {
        if value == 0 { OrderGroup::Ungrouped } else { OrderGroup::Value(u64::from(value)) }
    }

    /// The first entry that waits for no time, has a body, is the first of its group and has none of the group in flight.
    /// The groups of it and of all entries before it must be known.
    fn choice(held: &BTreeMap<u8, ModelEntry>, in_flight: &[(u8, u8)]) -> Option<u8> {
        let mut groups: BTreeSet<u8> = in_flight.iter().map(|(_, value)| *value).collect();
        for (n, entry) in held {
            if !entry.is_known {
                return None;
            }
            let is_first = entry.value == 0 || groups.insert(entry.value);
            if is_first && entry.at.is_none() && entry.has_body {
                return Some(*n);
            }
        }
        None
    }

    proptest! {
        #[test]
        fn the_next_entry_is_that_of_the_model(operations in operations()) {
            let (mut ordered, mut in_flight) = (OrderedQueue::default(), Vec::new());
            let mut held = BTreeMap::<u8, ModelEntry>::new();
            for operation in operations {
                match operation {
                    QueueOperation::Insert(n, value, is_known, body, at) => {
                        if held.contains_key(&n) || in_flight.iter().any(|(other, _)| *other == n) {
                            continue;
                        }
                        let has_body = is_known && body;
                        held.insert(n, ModelEntry { value, is_known, has_body, at });
                        ordered.insert(id(n), is_known.then_some(group(value)), has_body, at.map(Timestamp::from_millis));
                    }
                    QueueOperation::Read(count, keep) => {
                        let requested = ordered.bodiless(count);
                        prop_assert!(requested.is_sorted() && requested.len() <= count);
                        for event in requested {
                            let entry = held.get_mut(&(event.as_u128() as u8)).unwrap();
                            prop_assert!(!entry.has_body);
                            ordered.set_group(event, || group(entry.value));
                            entry.is_known = true;
                            if keep || ordered.needs_body(event) {
                                ordered.body_loaded(event);
                                entry.has_body = true;
                            }
                        }
                    }
                    QueueOperation::BodyWent(n) => {
                        ordered.body_dropped(id(n));
                        held.entry(n).and_modify(|entry| entry.has_body = false);
                    }
                    QueueOperation::BodiesWent => {
                        ordered.all_bodies_dropped();
                        for entry in held.values_mut() {
                            entry.has_body = false;
                        }
                    }
                    QueueOperation::Wake(now) => {
                        // The time of an entry is checked only while the entry is the first of its group.
                        ordered.wake(|at| at.as_millis() <= now);
                        let first = |n: u8, entry: &ModelEntry| entry.is_known && (entry.value == 0
                            || !in_flight.iter().any(|(_, value)| *value == entry.value)
                            && !held.range(..n).any(|(_, other)| other.is_known && other.value == entry.value));
                        let is_due = |n: u8, entry: &ModelEntry| first(n, entry) && entry.at.is_some_and(|at| at <= now);
                        let due: Vec<_> = held.iter().filter(|(n, e)| is_due(**n, e)).map(|(n, _)| *n).collect();
                        for n in due {
                            held.entry(n).and_modify(|entry| entry.at = None);
                        }
                    }
                    QueueOperation::Begin => {
                        if let NextInOrder::Ready(event) = ordered.next() {
                            let n = event.as_u128() as u8;
                            ordered.begin(event);
                            in_flight.push((n, held.remove(&n).unwrap().value));
                        }
                    }
                    QueueOperation::Land(i) if i < in_flight.len() => {
                        ordered.delivery_finished(id(in_flight.swap_remove(i).0));
                    }
                    QueueOperation::Land(_) => {}
                    QueueOperation::Leave(n) => {
                        ordered.remove(id(n));
                        held.remove(&n);
                    }
                    QueueOperation::Clear => {
                        ordered.clear();
                        held.clear();
                    }
                }
                let chosen = match ordered.next() {
                    NextInOrder::Ready(event) => Some(event.as_u128() as u8),
                    NextInOrder::NotBefore(_) | NextInOrder::Blocked => None,
                };
                prop_assert_eq!(chosen, choice(&held, &in_flight));
                let is_listed = ordered.ready.len() + ordered.needs_body.len() + ordered.waiting.len();
                prop_assert!(is_listed + ordered.unread.len() <= held.len() && ordered.held.len() == held.len());
                prop_assert!(ordered.groups.len() <= held.len() + in_flight.len(), "no empty group remains");
                // An entry that holds back the others can be read or is in flight.
                let goes_on = chosen.is_some() || ordered.lacks_bodies(1) || !in_flight.is_empty();
                prop_assert!(held.is_empty() || goes_on || ordered.next() != NextInOrder::Blocked);
            }
        }
    }

    #[test]
    fn deliveries_in_flight_before_the_order_changed_end_before_any_entry_is_delivered() {
        let mut ordered = OrderedQueue::new(&[id(1), id(2)]);
        ordered.insert(id(3), Some(OrderGroup::Ungrouped), true, None);
        assert_eq!(ordered.next(), NextInOrder::Blocked);
        ordered.delivery_finished(id(2));
        assert_eq!(ordered.next(), NextInOrder::Blocked);
        ordered.delivery_finished(id(1));
        assert_eq!(ordered.next(), NextInOrder::Ready(id(3)));
    }

    #[test]
    fn bodies_are_requested_early_and_unread_entries_first() {
        let mut ordered = OrderedQueue::default();
        for n in 10..20 {
            ordered.insert(id(n), Some(OrderGroup::Ungrouped), true, None);
        }
        ordered.insert(id(20), None, false, None);
        assert!(!ordered.lacks_bodies(4) && ordered.lacks_bodies(64));
        ordered.insert(id(9), None, false, None);
        assert!(ordered.lacks_bodies(4), "none of the ten may go");
        assert_eq!(ordered.bodiless(1), [id(9)]);
        ordered.insert(id(8), Some(OrderGroup::Value(1)), false, None);
        assert_eq!(ordered.bodiless(2), [id(8), id(9)]);
    }
}
