//! What of one webhook is in memory: three lanes, bounded by count and bytes, served so that new events are not stuck
//! behind old ones.

mod by_field;

use std::collections::VecDeque;
use std::sync::Arc;

use super::ordered_queue::{OrderedQueue, Turn};
use crate::model::{EventId, Timestamp};
use crate::outbound::Event;

/// A delivery that waits in memory.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The event's id.
    pub event: EventId,
    /// The event, unless only its id is held.
    pub body: Option<Arc<Event>>,
    /// Attempts made so far.
    pub attempts: u16,
    /// Those of them before the last replay.
    pub base: u16,
    /// Whether state.redb has a row for it, so that it may be forgotten here without a word.
    pub has_row: bool,
    /// Whether the body came from the log and not from the door.
    pub recalled: bool,
    /// Of a webhook that is sent to in order: the time it waits for. Others leave what waits for a time on disk.
    pub not_before: Option<Timestamp>,
}

impl Entry {
    /// A delivery as it arrives, with or without its body.
    pub fn arrived(event: &Arc<Event>, keep_body: bool) -> Self {
        let body = keep_body.then(|| Arc::clone(event));
        Self { event: event.id, body, attempts: 0, base: 0, has_row: false, recalled: false, not_before: None }
    }

    /// A delivery as its row tells of it.
    pub fn from_row(row: &crate::handoff::Row) -> Self {
        let crate::handoff::Row { event, attempts, base } = *row;
        Self { event, body: None, attempts, base, has_row: true, recalled: false, not_before: None }
    }

    /// Bytes that it holds in memory.
    pub fn bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |event| event.head.len() + event.body.len())
    }
}

/// Where an entry waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In order of acceptance: of a live webhook everything, of a lagging one the head of its backlog.
    Main,
    /// Of a lagging webhook the newest, kept out of the backlog.
    Fresh,
    /// Retries whose time has come.
    Due,
}

/// The entries of one webhook that are not under way.
#[derive(Debug, Default)]
pub struct Queue {
    main: VecDeque<Entry>,
    fresh: VecDeque<Entry>,
    due: VecDeque<Entry>,
    bytes: usize,
    turn: u8,
    /// Of a webhook that is sent to in order by a field, which has the main lane only.
    turns: Option<Box<OrderedQueue>>,
}

/// Half of these orders serve what is new first, half what is old, and of those half what waited for its turn and half what
/// waited for its time. Without fresh entries (a live webhook) the main lane is what is new.
const TURNS: [[Kind; 3]; 4] = [
    [Kind::Fresh, Kind::Main, Kind::Due],
    [Kind::Due, Kind::Main, Kind::Fresh],
    [Kind::Fresh, Kind::Main, Kind::Due],
    [Kind::Main, Kind::Due, Kind::Fresh],
];
const TURNS_LIVE: [[Kind; 3]; 4] = [
    [Kind::Main, Kind::Due, Kind::Fresh],
    [Kind::Due, Kind::Main, Kind::Fresh],
    [Kind::Main, Kind::Due, Kind::Fresh],
    [Kind::Due, Kind::Main, Kind::Fresh],
];

impl Queue {
    /// Puts an entry at the end of a lane.
    pub fn push(&mut self, kind: Kind, entry: Entry) {
        self.bytes += entry.bytes();
        self.lane_mut(kind).push_back(entry);
    }

    /// Puts an entry back where it was taken.
    pub fn push_front(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.main.push_front(entry);
    }

    /// Puts an entry in its place by the order of acceptance, which is its lane's as well.
    pub fn insert(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        // Most are later than all before.
        let at = match self.main.back() {
            Some(last) if entry.event < last.event => self.main.partition_point(|held| held.event < entry.event),
            _ => self.main.len(),
        };
        self.main.insert(at, entry);
    }

    /// The first in order of acceptance, of a queue that is filled by [`Self::insert`] alone.
    pub fn first(&self) -> Option<&Entry> {
        self.main.front()
    }

    /// The last one.
    pub fn last(&self) -> Option<&Entry> {
        self.main.back()
    }

    /// Takes the next entry of the lane whose turn it is, or of another if that has none with a body at its head.
    pub fn pop(&mut self) -> Option<Entry> {
        if self.turns.is_some() {
            return self.pop_in_turn();
        }
        let kind = self.next_kind()?;
        self.turn = self.turn.wrapping_add(1);
        let entry = self.lane_mut(kind).pop_front()?;
        self.bytes -= entry.bytes();
        Some(entry)
    }

    /// Whether [`Self::pop`] has something to give.
    pub fn is_servable(&self) -> bool {
        match &self.turns {
            Some(turns) => matches!(turns.next(), Turn::Now(_)),
            None => self.next_kind().is_some(),
        }
    }

    /// Entries held.
    pub fn len(&self) -> usize {
        self.main.len() + self.fresh.len() + self.due.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.main.is_empty() && self.fresh.is_empty() && self.due.is_empty()
    }

    /// Entries in the fresh lane.
    pub fn fresh_len(&self) -> usize {
        self.fresh.len()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The webhook is live again: its newest entries follow its last ones.
    pub fn join_fresh(&mut self) {
        self.main.append(&mut self.fresh);
    }

    /// Everything held, which is held no more.
    pub fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.bytes = 0;
        self.turns.iter_mut().for_each(|turns| turns.clear());
        let lanes = [&mut self.main, &mut self.due, &mut self.fresh].map(std::mem::take);
        lanes.into_iter().flatten()
    }

    /// Keeps ids only: the bodies are in the log.
    pub fn shed_bodies(&mut self) {
        self.bytes = 0;
        self.turns.iter_mut().for_each(|turns| turns.bodies_went());
        for entry in self.main.iter_mut().chain(&mut self.fresh).chain(&mut self.due) {
            entry.body = None;
        }
    }

    /// Appends the ids held to `out`.
    pub fn ids(&self, out: &mut Vec<EventId>) {
        out.extend(self.main.iter().chain(&self.fresh).chain(&self.due).map(|entry| entry.event));
    }

    /// Whether bodies are missing at the heads of the lanes, or will be when half of the next `limit` entries are gone: so
    /// that they are asked for before they are missed.
    pub fn lacks_bodies(&self, limit: usize) -> bool {
        if let Some(turns) = &self.turns {
            return turns.lacks_bodies(limit);
        }
        let lacks = |lane: &VecDeque<Entry>, at: usize| lane.get(at).is_some_and(|entry| entry.body.is_none());
        [&self.main, &self.due, &self.fresh].iter().any(|lane| lacks(lane, 0) || lacks(lane, limit / 2))
    }

    /// The entries without a body near the heads of the lanes, ascending, at most `limit`.
    pub fn bodiless(&self, limit: usize) -> Vec<EventId> {
        if let Some(turns) = &self.turns {
            return turns.bodiless(limit);
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

    /// Puts recalled events (ascending by id) to their entries; entries whose event the log no longer has leave, into `gone`.
    pub fn recalled(&mut self, events: &[crate::handoff::Recalled], gone: &mut Vec<Entry>) {
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
                entry.recalled = true;
                self.bytes += entry.bytes();
                lost |= entry.body.is_none();
            }
            if lost {
                let asked = |entry: &Entry| events.binary_search_by_key(&entry.event, |(id, _)| *id).is_ok();
                let (kept, left) = lane.drain(..).partition(|entry| entry.body.is_some() || !asked(entry));
                *lane = kept;
                gone.extend::<VecDeque<Entry>>(left);
            }
        }
    }

    fn next_kind(&self) -> Option<Kind> {
        let turns = if self.fresh.is_empty() { &TURNS_LIVE } else { &TURNS };
        let order = turns[usize::from(self.turn) % turns.len()];
        order.into_iter().find(|kind| self.lane(*kind).front().is_some_and(|entry| entry.body.is_some()))
    }

    fn lane(&self, kind: Kind) -> &VecDeque<Entry> {
        match kind {
            Kind::Main => &self.main,
            Kind::Fresh => &self.fresh,
            Kind::Due => &self.due,
        }
    }

    fn lane_mut(&mut self, kind: Kind) -> &mut VecDeque<Entry> {
        match kind {
            Kind::Main => &mut self.main,
            Kind::Fresh => &mut self.fresh,
            Kind::Due => &mut self.due,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::testing::event;

    fn entry(n: u128) -> Entry {
        Entry::arrived(&event(n), true)
    }

    fn drain(queue: &mut Queue) -> Vec<u128> {
        std::iter::from_fn(|| queue.pop()).map(|entry| entry.event.as_u128()).collect()
    }

    #[test]
    fn new_events_take_turns_with_old_ones() {
        let mut queue = Queue::default();
        for n in 0..6 {
            queue.push(Kind::Main, entry(n));
            queue.push(Kind::Fresh, entry(100 + n));
            queue.push(Kind::Due, entry(50 + n));
        }
        assert_eq!(drain(&mut queue)[..8], [100, 50, 101, 0, 102, 51, 103, 1]);
        for n in 0..3 {
            queue.push(Kind::Main, entry(n));
            queue.push(Kind::Due, entry(50 + n));
        }
        let mixed = drain(&mut queue);
        assert_eq!(mixed.iter().take(4).filter(|n| **n >= 50).count(), 2, "{mixed:?}");
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn a_lane_without_a_body_at_its_head_waits_alone() {
        let mut queue = Queue::default();
        queue.push(Kind::Main, Entry { body: None, ..entry(1) });
        queue.push(Kind::Main, entry(2));
        assert!(!queue.is_servable());
        queue.push(Kind::Fresh, entry(9));
        assert_eq!(drain(&mut queue), [9]);
        assert_eq!(queue.bodiless(64), [EventId::from_u128(1)]);
        let mut gone = Vec::new();
        queue.recalled(&[(EventId::from_u128(1), Some(event(1)))], &mut gone);
        assert!(gone.is_empty());
        assert_eq!(drain(&mut queue), [1, 2]);
    }

    #[test]
    fn what_is_inserted_stands_in_order_of_acceptance() {
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
    fn what_the_log_no_longer_has_leaves_the_queue() {
        let mut queue = Queue::default();
        for n in 1..=3 {
            queue.push(Kind::Main, Entry { body: None, ..entry(n) });
        }
        let answer = [(EventId::from_u128(1), None), (EventId::from_u128(2), Some(event(2)))];
        let mut gone = Vec::new();
        queue.recalled(&answer, &mut gone);
        assert_eq!(gone.iter().map(|entry| entry.event.as_u128()).collect::<Vec<_>>(), [1]);
        assert_eq!(queue.len(), 2);
        assert_eq!(drain(&mut queue), [2]);
    }

    #[test]
    fn bytes_are_of_bodies_held() {
        let mut queue = Queue::default();
        queue.push(Kind::Main, entry(1));
        let bytes = queue.bytes();
        assert!(bytes > 0);
        queue.push(Kind::Due, entry(2));
        queue.shed_bodies();
        assert_eq!((queue.bytes(), queue.len(), queue.is_servable()), (0, 2, false));
        queue.push_front(entry(3));
        assert_eq!(queue.bytes(), bytes);
        assert_eq!(queue.take_all().count(), 3);
        assert_eq!((queue.bytes(), queue.len()), (0, 0));
    }
}
