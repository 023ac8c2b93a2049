//! The entries of one webhook in memory.
//!
//! The queue has three lanes, bounded by count and by bytes. They are served in turn, so that new events do not wait
//! behind old ones.

mod by_field;

use std::collections::VecDeque;
use std::sync::Arc;

use super::ordered_queue::{NextInOrder, OrderedQueue};
use crate::model::{EventId, Timestamp};
use crate::outbound::Event;

/// A delivery that waits in memory.
#[derive(Debug, Clone)]
pub struct QueueEntry {
    /// The event's id.
    pub event: EventId,
    /// The event with its body, or `None` if only its id is in memory.
    pub body: Option<Arc<Event>>,
    /// Attempts made so far.
    pub attempts: u16,
    /// Attempts made before the last replay.
    pub base: u16,
    /// Whether state.redb has a row for the delivery. Such an entry can be removed from memory without a message to
    /// settle.
    pub has_row: bool,
    /// Whether the body was read back from the log. Otherwise it came with the event's commit.
    pub from_log: bool,
    /// The time that the delivery waits for, for an ordered webhook. Other webhooks leave such deliveries on disk.
    pub not_before: Option<Timestamp>,
}

impl QueueEntry {
    /// Creates an entry for an event that was just committed, with or without its body.
    pub fn arrived(event: &Arc<Event>, keep_body: bool) -> Self {
        let body = keep_body.then(|| Arc::clone(event));
        Self { event: event.id, body, attempts: 0, base: 0, has_row: false, from_log: false, not_before: None }
    }

    /// Creates an entry from its row on disk, without its body.
    pub fn from_row(row: &crate::handoff::BacklogRow) -> Self {
        let crate::handoff::BacklogRow { event, attempts, base } = *row;
        Self { event, body: None, attempts, base, has_row: true, from_log: false, not_before: None }
    }

    /// Bytes of the event in memory.
    pub fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |event| event.head.len() + event.body.len())
    }
}

/// A lane of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneKind {
    /// Entries in order of acceptance: all entries while the backlog is in memory, otherwise the start of the backlog.
    Main,
    /// The newest entries of a webhook whose backlog is spilled.
    Fresh,
    /// Retries that are due.
    Due,
}

/// The entries of one webhook that are not in flight.
#[derive(Debug, Default)]
pub struct Queue {
    main: VecDeque<QueueEntry>,
    fresh: VecDeque<QueueEntry>,
    due: VecDeque<QueueEntry>,
    bytes: usize,
    rotation: u8,
    /// The order of a webhook that is ordered by a field. Such a webhook uses the main lane only.
    ordered: Option<Box<OrderedQueue>>,
}

/// The orders in which the lanes are served, one after the other.
///
/// Half of the orders serve new events first and half serve old ones first. Of the latter, half serve the backlog first
/// and half serve due retries first.
const LANE_ORDERS: [[LaneKind; 3]; 4] = [
    [LaneKind::Fresh, LaneKind::Main, LaneKind::Due],
    [LaneKind::Due, LaneKind::Main, LaneKind::Fresh],
    [LaneKind::Fresh, LaneKind::Main, LaneKind::Due],
    [LaneKind::Main, LaneKind::Due, LaneKind::Fresh],
];
/// The orders without fresh entries. The main lane then has the new events.
const LANE_ORDERS_IN_MEMORY: [[LaneKind; 3]; 4] = [
    [LaneKind::Main, LaneKind::Due, LaneKind::Fresh],
    [LaneKind::Due, LaneKind::Main, LaneKind::Fresh],
    [LaneKind::Main, LaneKind::Due, LaneKind::Fresh],
    [LaneKind::Due, LaneKind::Main, LaneKind::Fresh],
];

impl Queue {
    /// Appends an entry to a lane.
    pub fn push(&mut self, kind: LaneKind, entry: QueueEntry) {
        self.bytes += entry.bytes();
        self.lane_mut(kind).push_back(entry);
    }

    /// Puts an entry back at the front of the main lane.
    pub fn push_front(&mut self, entry: QueueEntry) {
        self.bytes += entry.bytes();
        self.main.push_front(entry);
    }

    /// Inserts an entry into the main lane in order of acceptance. The lane must be in that order.
    pub fn insert(&mut self, entry: QueueEntry) {
        self.bytes += entry.bytes();
        // Most entries are later than all others.
        let at = match self.main.back() {
            Some(last) if entry.event < last.event => self.main.partition_point(|held| held.event < entry.event),
            _ => self.main.len(),
        };
        self.main.insert(at, entry);
    }

    /// Returns the first entry in order of acceptance. The queue must be filled by [`Self::insert`] only.
    pub fn first(&self) -> Option<&QueueEntry> {
        self.main.front()
    }

    /// Returns the last entry in order of acceptance. The queue must be filled by [`Self::insert`] only.
    pub fn last(&self) -> Option<&QueueEntry> {
        self.main.back()
    }

    /// Removes the next entry. Lanes take turns; a lane whose first entry has no body is skipped. Returns `None` if no
    /// lane has an entry to serve.
    pub fn pop(&mut self) -> Option<QueueEntry> {
        if self.ordered.is_some() {
            return self.pop_in_order();
        }
        let kind = self.next_lane()?;
        self.rotation = self.rotation.wrapping_add(1);
        let entry = self.lane_mut(kind).pop_front()?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    /// Whether [`Self::pop`] would return an entry.
    pub fn is_servable(&self) -> bool {
        match &self.ordered {
            Some(ordered) => matches!(ordered.next(), NextInOrder::Ready(_)),
            None => self.next_lane().is_some(),
        }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.main.len() + self.fresh.len() + self.due.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.main.is_empty() && self.fresh.is_empty() && self.due.is_empty()
    }

    /// The number of entries in the fresh lane.
    pub fn fresh_len(&self) -> usize {
        self.fresh.len()
    }

    /// Bytes of events in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the fresh lane to the main lane. Called when the whole backlog is in memory again.
    pub fn join_fresh(&mut self) {
        self.main.append(&mut self.fresh);
    }

    /// Removes and returns all entries.
    pub fn take_all(&mut self) -> impl Iterator<Item = QueueEntry> + use<> {
        self.bytes = 0;
        self.ordered.iter_mut().for_each(|ordered| ordered.clear());
        let lanes = [&mut self.main, &mut self.due, &mut self.fresh].map(std::mem::take);
        lanes.into_iter().flatten()
    }

    /// Drops all bodies and keeps the ids. The bodies are in the log.
    pub fn evict_bodies(&mut self) {
        self.bytes = 0;
        self.ordered.iter_mut().for_each(|ordered| ordered.all_bodies_dropped());
        for entry in self.main.iter_mut().chain(&mut self.fresh).chain(&mut self.due) {
            entry.body = None;
        }
    }

    /// Appends the event ids of all entries to `out`.
    pub fn ids(&self, out: &mut Vec<EventId>) {
        out.extend(self.main.iter().chain(&self.fresh).chain(&self.due).map(|entry| entry.event));
    }

    /// Whether bodies are missing at the front of a lane now, or will be missing when half of the next `limit` entries are
    /// delivered. Bodies are thereby requested before they are needed.
    pub fn lacks_bodies(&self, limit: usize) -> bool {
        if let Some(ordered) = &self.ordered {
            return ordered.lacks_bodies(limit);
        }
        let lacks = |lane: &VecDeque<QueueEntry>, at: usize| lane.get(at).is_some_and(|entry| entry.body.is_none());
        [&self.main, &self.due, &self.fresh].iter().any(|lane| lacks(lane, 0) || lacks(lane, limit / 2))
    }

    /// Returns the entries without a body near the fronts of the lanes, in ascending order, at most `limit`.
    pub fn bodiless(&self, limit: usize) -> Vec<EventId> {
        if let Some(ordered) = &self.ordered {
            return ordered.bodiless(limit);
        }
        let mut ids = Vec::with_capacity(limit);
        for at in 0..limit {
            let heads = [&self.main, &self.due, &self.fresh].into_iter().filter_map(|lane| lane.get(at));
            ids.extend(heads.filter(|entry| entry.body.is_none()).map(|entry| entry.event));
        }
        ids.truncate(limit);
        ids.sort_unstable();
        ids
    }

    /// Adds bodies from the log to their entries. `events` is in ascending order. Entries whose event the log no longer
    /// has are moved to `gone`.
    pub fn bodies_loaded(&mut self, events: &[crate::handoff::LoadedBody], gone: &mut Vec<QueueEntry>) {
        let mut found = 0;
        for lane in [&mut self.main, &mut self.due, &mut self.fresh] {
            let mut lost = false;
            for entry in lane.iter_mut().filter(|entry| entry.body.is_none()) {
                if found == events.len() {
                    break;
                }
                let Ok(at) = events.binary_search_by_key(&entry.event, |(id, _)| *id) else { continue };
                found += 1;
                entry.body.clone_from(&events[at].1);
                entry.from_log = true;
                self.bytes += entry.bytes();
                lost |= entry.body.is_none();
            }
            if lost {
                let requested = |entry: &QueueEntry| events.binary_search_by_key(&entry.event, |(id, _)| *id).is_ok();
                let (kept, left) = lane.drain(..).partition(|entry| entry.body.is_some() || !requested(entry));
                *lane = kept;
                gone.extend::<VecDeque<QueueEntry>>(left);
            }
        }
    }

    fn next_lane(&self) -> Option<LaneKind> {
        let orders = if self.fresh.is_empty() { &LANE_ORDERS_IN_MEMORY } else { &LANE_ORDERS };
        let order = orders[usize::from(self.rotation) % orders.len()];
        order.into_iter().find(|kind| self.lane(*kind).front().is_some_and(|entry| entry.body.is_some()))
    }

    fn lane(&self, kind: LaneKind) -> &VecDeque<QueueEntry> {
        match kind {
            LaneKind::Main => &self.main,
            LaneKind::Fresh => &self.fresh,
            LaneKind::Due => &self.due,
        }
    }

    fn lane_mut(&mut self, kind: LaneKind) -> &mut VecDeque<QueueEntry> {
        match kind {
            LaneKind::Main => &mut self.main,
            LaneKind::Fresh => &mut self.fresh,
            LaneKind::Due => &mut self.due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::testing::event;

    fn entry(n: u128) -> QueueEntry {
        QueueEntry::arrived(&event(n), true)
    }

    fn drain(queue: &mut Queue) -> Vec<u128> {
        std::iter::from_fn(|| queue.pop()).map(|entry| entry.event.as_u128()).collect()
    }

    #[test]
    fn new_events_and_old_events_take_turns() {
        let mut queue = Queue::default();
        for n in 0..6 {
            queue.push(LaneKind::Main, entry(n));
            queue.push(LaneKind::Fresh, entry(100 + n));
            queue.push(LaneKind::Due, entry(50 + n));
        }
        assert_eq!(drain(&mut queue)[..8], [100, 50, 101, 0, 102, 51, 103, 1]);
        for n in 0..3 {
            queue.push(LaneKind::Main, entry(n));
            queue.push(LaneKind::Due, entry(50 + n));
        }
        let mixed = drain(&mut queue);
        assert_eq!(mixed.iter().take(4).filter(|n| **n >= 50).count(), 2, "{mixed:?}");
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn a_lane_without_a_body_at_its_front_does_not_block_other_lanes() {
        let mut queue = Queue::default();
        queue.push(LaneKind::Main, QueueEntry { body: None, ..entry(1) });
        queue.push(LaneKind::Main, entry(2));
        assert!(!queue.is_servable());
        queue.push(LaneKind::Fresh, entry(9));
        assert_eq!(drain(&mut queue), [9]);
        assert_eq!(queue.bodiless(64), [EventId::from_u128(1)]);
        let mut gone = Vec::new();
        queue.bodies_loaded(&[(EventId::from_u128(1), Some(event(1)))], &mut gone);
        assert!(gone.is_empty());
        assert_eq!(drain(&mut queue), [1, 2]);
    }

    #[test]
    fn inserted_entries_are_in_order_of_acceptance() {
        let mut queue = Queue::default();
        for n in [5, 9, 1, 7, 8, 2] {
            queue.insert(entry(n));
        }
        assert_eq!(queue.first().map(|entry| entry.event.as_u128()), Some(1));
        assert_eq!(queue.last().map(|entry| entry.event.as_u128()), Some(9));
        assert_eq!(drain(&mut queue), [1, 2, 5, 7, 8, 9]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn entries_whose_events_the_log_no_longer_has_leave_the_queue() {
        let mut queue = Queue::default();
        for n in 1..=3 {
            queue.push(LaneKind::Main, QueueEntry { body: None, ..entry(n) });
        }
        let answer = [(EventId::from_u128(1), None), (EventId::from_u128(2), Some(event(2)))];
        let mut gone = Vec::new();
        queue.bodies_loaded(&answer, &mut gone);
        assert_eq!(gone.iter().map(|entry| entry.event.as_u128()).collect::<Vec<_>>(), [1]);
        assert_eq!(queue.len(), 2);
        assert_eq!(drain(&mut queue), [2]);
    }

    #[test]
    fn bytes_count_the_bodies_in_memory() {
        let mut queue = Queue::default();
        queue.push(LaneKind::Main, entry(1));
        let bytes = queue.bytes();
        assert!(bytes > 0);
        queue.push(LaneKind::Due, entry(2));
        queue.evict_bodies();
        assert_eq!((queue.bytes(), queue.len(), queue.is_servable()), (0, 2, false));
        queue.push_front(entry(3));
        assert_eq!(queue.bytes(), bytes);
        assert_eq!(queue.take_all().count(), 3);
        assert_eq!((queue.bytes(), queue.len()), (0, 0));
    }
}
