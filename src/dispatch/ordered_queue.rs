//! Whose turn it is among the entries of a webhook that is sent to in order by a field.
//!
//! Entries whose events have the same value there are a *line*: they go in order of acceptance, one at a time, and one that
//! waits for a time holds back those of its line. Entries without the value are in no line. An entry whose event nobody has
//! looked at yet is *unread*: it may be of any line, so nothing behind it goes.
//!
//! Here are ids only, each known entry at one place; [`super::queue::Queue`] has the entries. What is chosen next costs the
//! logarithm of what is held.
//!
//! ```text
//!     unread ── its event is read ──► in line ── first of its line, which has none under way ──► waiting
//!                                                                                                  │ its time has come
//!                                        under way ◄── begins ── ready ◄── its body comes ── wanted ◄┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};

use crate::filter::{Facts, Field};
use crate::model::{EventId, Timestamp};
use crate::outbound::Event;

/// What an event keeps order with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Nothing: it has no value.
    Alone,
    /// The events of this line, by its value's hash: two values of one hash wait for each other without need.
    Line(u64),
}

impl Group {
    /// By the event's value of this field.
    pub(super) fn of(field: &Field, event: &Event) -> Self {
        let data = event.data();
        field.text(&Facts::of(&event.head().event, &data)).map_or(Self::Alone, |value| {
            let mut hasher = DefaultHasher::new();
            hasher.write(value.as_bytes());
            Self::Line(hasher.finish())
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Held {
    /// `None`: unread.
    group: Option<Group>,
    has_body: bool,
    /// The time it waits for, until that has come.
    not_before: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Line {
    is_under_way: bool,
    held: BTreeSet<EventId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OrderedQueue {
    held: BTreeMap<EventId, Held>,
    /// Those with something held or under way.
    lines: BTreeMap<u64, Line>,
    unread: BTreeSet<EventId>,
    waiting: BTreeSet<(Timestamp, EventId)>,
    wanted: BTreeSet<EventId>,
    ready: BTreeSet<EventId>,
    under_way: BTreeMap<EventId, Group>,
    /// Under way since before there was this order, so that nobody knows their lines.
    strangers: Vec<EventId>,
}

/// What may go next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// This one.
    Now(EventId),
    /// Nothing before this time.
    At(Timestamp),
    /// Nothing before something else happens: a body comes, a delivery ends.
    Nobody,
}

impl OrderedQueue {
    /// Nothing is held; these are under way.
    pub(super) fn new(under_way: &[EventId]) -> Self {
        Self { strangers: under_way.to_vec(), ..Self::default() }
    }

    /// The first in order of acceptance that may go.
    pub(super) fn next(&self) -> Turn {
        let first = self.ready.first().filter(|first| self.is_before_unread(first));
        match (first, self.waiting.first()) {
            _ if !self.strangers.is_empty() => Turn::Nobody,
            (Some(first), _) => Turn::Now(*first),
            (None, Some((at, _))) => Turn::At(*at),
            (None, None) => Turn::Nobody,
        }
    }

    fn is_before_unread(&self, event: &EventId) -> bool {
        self.unread.first().is_none_or(|unread| event < unread)
    }

    /// The times for which this is true have come.
    pub(super) fn wake(&mut self, has_come: impl Fn(Timestamp) -> bool) {
        while let Some((at, event)) = self.waiting.first().copied()
            && has_come(at)
        {
            self.waiting.pop_first();
            if let Some(held) = self.held.get_mut(&event) {
                held.not_before = None;
            }
            self.list(event);
        }
    }

    // --- what comes ------------------------------------------------------------------------------------------------

    /// An entry is held; without a group it is unread.
    pub(super) fn insert(
        &mut self,
        event: EventId,
        group: Option<Group>,
        has_body: bool,
        not_before: Option<Timestamp>,
    ) {
        self.held.insert(event, Held { group, has_body, not_before });
        match group {
            None => drop(self.unread.insert(event)),
            Some(Group::Alone) => self.list(event),
            Some(Group::Line(line)) => {
                let line = self.lines.entry(line).or_default();
                let first = line.held.first().copied();
                line.held.insert(event);
                if !line.is_under_way && first.is_none_or(|first| event < first) {
                    if let Some(first) = first {
                        self.unlist(first);
                    }
                    self.list(event);
                }
            }
        }
    }

    /// The event of an entry was looked at.
    pub(super) fn read(&mut self, event: EventId, group: impl FnOnce() -> Group) {
        if self.unread.remove(&event)
            && let Some(held) = self.held.remove(&event)
        {
            self.insert(event, Some(group()), held.has_body, held.not_before);
        }
    }

    /// It has its body from now on.
    pub(super) fn body_came(&mut self, event: EventId) {
        if let Some(held) = self.held.get_mut(&event) {
            held.has_body = true;
        }
        if self.wanted.remove(&event) {
            self.ready.insert(event);
        }
    }

    /// It has none any more.
    pub(super) fn body_went(&mut self, event: EventId) {
        if let Some(held) = self.held.get_mut(&event) {
            held.has_body = false;
        }
        if self.ready.remove(&event) {
            self.wanted.insert(event);
        }
    }

    /// None has.
    pub(super) fn bodies_went(&mut self) {
        self.held.values_mut().for_each(|held| held.has_body = false);
        self.wanted.append(&mut self.ready);
    }

    // --- what goes -------------------------------------------------------------------------------------------------

    /// A delivery begins.
    pub(super) fn begin(&mut self, event: EventId) {
        self.unlist(event);
        let Some(Held { group: Some(group), .. }) = self.held.remove(&event) else { return };
        if let Group::Line(line) = group {
            let line = self.lines.entry(line).or_default();
            line.held.remove(&event);
            line.is_under_way = true;
        }
        self.under_way.insert(event, group);
    }

    /// A delivery ended.
    pub(super) fn landed(&mut self, event: EventId) {
        self.strangers.retain(|stranger| *stranger != event);
        if let Some(Group::Line(line)) = self.under_way.remove(&event) {
            self.lines.entry(line).or_default().is_under_way = false;
            self.let_in(line);
        }
    }

    /// An entry is held no more, and does not go.
    pub(super) fn leave(&mut self, event: EventId) {
        self.unread.remove(&event);
        self.unlist(event);
        if let Some(Held { group: Some(Group::Line(line)), .. }) = self.held.remove(&event) {
            let of_line = self.lines.entry(line).or_default();
            let was_first = of_line.held.first() == Some(&event);
            of_line.held.remove(&event);
            if was_first && !of_line.is_under_way {
                self.let_in(line);
            }
        }
    }

    /// Nothing is held any more; what is under way goes on.
    pub(super) fn clear(&mut self) {
        let (under_way, strangers) = (std::mem::take(&mut self.under_way), std::mem::take(&mut self.strangers));
        let lines = under_way.values().filter_map(|group| match group {
            Group::Line(line) => Some((*line, Line { is_under_way: true, held: BTreeSet::new() })),
            Group::Alone => None,
        });
        *self = Self { lines: lines.collect(), under_way, strangers, ..Self::default() };
    }

    /// The first of a line that has none under way may go when its time has come.
    fn let_in(&mut self, line: u64) {
        match self.lines.get(&line).map(|line| line.held.first().copied()) {
            Some(Some(first)) => self.list(first),
            Some(None) => drop(self.lines.remove(&line)),
            None => {}
        }
    }

    fn list(&mut self, event: EventId) {
        match self.held.get(&event) {
            Some(Held { not_before: Some(at), .. }) => drop(self.waiting.insert((*at, event))),
            Some(Held { has_body: true, .. }) => drop(self.ready.insert(event)),
            Some(_) => drop(self.wanted.insert(event)),
            None => {}
        }
    }

    fn unlist(&mut self, event: EventId) {
        if let Some(at) = self.held.get(&event).and_then(|held| held.not_before) {
            self.waiting.remove(&(at, event));
        }
        self.ready.remove(&event);
        self.wanted.remove(&event);
    }

    // --- bodies ----------------------------------------------------------------------------------------------------

    /// Whether it may go as soon as it has a body.
    pub(super) fn is_wanted(&self, event: EventId) -> bool {
        self.wanted.contains(&event)
    }

    /// Whether the first of a line waits for its time, so that the others need no bodies.
    pub(super) fn waits(&self, group: Group) -> bool {
        let Group::Line(line) = group else { return false };
        let first = self.lines.get(&line).and_then(|line| line.held.first());
        first.and_then(|first| self.held.get(first)).is_some_and(|first| first.not_before.is_some())
    }

    /// The same of an entry's line.
    pub(super) fn waits_behind(&self, event: EventId) -> bool {
        self.held.get(&event).and_then(|held| held.group).is_some_and(|group| self.waits(group))
    }

    /// What is held of a line.
    pub(super) fn line(&self, group: Group) -> Vec<EventId> {
        let Group::Line(line) = group else { return Vec::new() };
        self.lines.get(&line).map(|line| line.held.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether bodies are missing, or will be when half of the next `limit` entries are gone.
    pub(super) fn lacks_bodies(&self, limit: usize) -> bool {
        let are_missing = !self.unread.is_empty() || !self.wanted.is_empty();
        let may_go = || self.ready.iter().take_while(|event| self.is_before_unread(event));
        are_missing && may_go().nth(limit / 2).is_none()
    }

    /// Whose bodies are missing first, ascending, at most `limit`. The first of the unread is among them, or what goes
    /// before it is.
    pub(super) fn bodiless(&self, limit: usize) -> Vec<EventId> {
        let mut ids: Vec<_> = self.unread.iter().take(limit).chain(self.wanted.iter().take(limit)).copied().collect();
        ids.sort_unstable();
        ids.truncate(limit);
        ids
    }

    /// Whether everything that is held waits for a time, or behind what does.
    pub(super) fn is_stuck(&self) -> bool {
        let waits_for_time_only = self.unread.is_empty() && self.wanted.is_empty() && self.ready.is_empty();
        waits_for_time_only && self.under_way.is_empty() && self.strangers.is_empty() && !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Operation {
        /// An event, its line (0: alone), whether that is known, whether it has a body, its time.
        Insert(u8, u8, bool, bool, Option<i64>),
        /// The bodies of the first so many that lack one are read; that they are kept.
        Read(usize, bool),
        BodyWent(u8),
        BodiesWent,
        Wake(i64),
        Begin,
        /// The i-th under way.
        Land(usize),
        Leave(u8),
        Clear,
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        use Operation as Op;
        let insert = (any::<u8>(), 0u8..4, any::<bool>(), any::<bool>(), proptest::option::weighted(0.3, 0i64..100));
        let operation = prop_oneof![
            10 => insert.prop_map(|(n, line, known, body, at)| Op::Insert(n, line, known, body, at)),
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

    /// An entry, and the line that it is of, known or not.
    #[derive(Debug, Clone, Copy)]
    struct Entry {
        line: u8,
        is_known: bool,
        has_body: bool,
        at: Option<i64>,
    }

    fn id(n: u8) -> EventId {
        EventId::from_u128(u128::from(n))
    }

    fn group(line: u8) -> Group {
        if line == 0 { Group::Alone } else { Group::Line(u64::from(line)) }
    }

    /// The first that is known like all before it, waits for no time, has a body, and is of a line of which nothing is
    /// before it or under way.
    fn choice(held: &BTreeMap<u8, Entry>, under_way: &[(u8, u8)]) -> Option<u8> {
        let mut lines: BTreeSet<u8> = under_way.iter().map(|(_, line)| *line).collect();
        for (n, entry) in held {
            if !entry.is_known {
                return None;
            }
            let is_first = entry.line == 0 || lines.insert(entry.line);
            if is_first && entry.at.is_none() && entry.has_body {
                return Some(*n);
            }
        }
        None
    }

    proptest! {
        #[test]
        fn the_choice_is_that_of_the_rule(operations in operations()) {
            let (mut turns, mut held, mut under_way) = (OrderedQueue::default(), BTreeMap::<u8, Entry>::new(), Vec::new());
            for operation in operations {
                match operation {
                    Operation::Insert(n, line, is_known, body, at) => {
                        if held.contains_key(&n) || under_way.iter().any(|(other, _)| *other == n) {
                            continue;
                        }
                        let has_body = is_known && body;
                        held.insert(n, Entry { line, is_known, has_body, at });
                        turns.insert(id(n), is_known.then_some(group(line)), has_body, at.map(Timestamp::from_millis));
                    }
                    Operation::Read(count, keep) => {
                        let asked = turns.bodiless(count);
                        prop_assert!(asked.is_sorted() && asked.len() <= count);
                        for event in asked {
                            let entry = held.get_mut(&(event.as_u128() as u8)).unwrap();
                            prop_assert!(!entry.has_body);
                            turns.read(event, || group(entry.line));
                            entry.is_known = true;
                            if keep || turns.is_wanted(event) {
                                turns.body_came(event);
                                entry.has_body = true;
                            }
                        }
                    }
                    Operation::BodyWent(n) => {
                        turns.body_went(id(n));
                        held.entry(n).and_modify(|entry| entry.has_body = false);
                    }
                    Operation::BodiesWent => {
                        turns.bodies_went();
                        for entry in held.values_mut() {
                            entry.has_body = false;
                        }
                    }
                    Operation::Wake(now) => {
                        // The time of one that is not the first of its line is looked at when it is.
                        turns.wake(|at| at.as_millis() <= now);
                        let first = |n: u8, entry: &Entry| entry.is_known && (entry.line == 0
                            || !under_way.iter().any(|(_, line)| *line == entry.line)
                            && !held.range(..n).any(|(_, other)| other.is_known && other.line == entry.line));
                        let due: Vec<_> =
                            held.iter().filter(|(n, e)| first(**n, e) && e.at.is_some_and(|at| at <= now)).map(|(n, _)| *n).collect();
                        for n in due {
                            held.entry(n).and_modify(|entry| entry.at = None);
                        }
                    }
                    Operation::Begin => {
                        if let Turn::Now(event) = turns.next() {
                            let n = event.as_u128() as u8;
                            turns.begin(event);
                            under_way.push((n, held.remove(&n).unwrap().line));
                        }
                    }
                    Operation::Land(i) if i < under_way.len() => turns.landed(id(under_way.swap_remove(i).0)),
                    Operation::Land(_) => {}
                    Operation::Leave(n) => {
                        turns.leave(id(n));
                        held.remove(&n);
                    }
                    Operation::Clear => {
                        turns.clear();
                        held.clear();
                    }
                }
                let chosen = match turns.next() {
                    Turn::Now(event) => Some(event.as_u128() as u8),
                    Turn::At(_) | Turn::Nobody => None,
                };
                prop_assert_eq!(chosen, choice(&held, &under_way));
                let is_listed = turns.ready.len() + turns.wanted.len() + turns.waiting.len();
                prop_assert!(is_listed + turns.unread.len() <= held.len() && turns.held.len() == held.len());
                prop_assert!(turns.lines.len() <= held.len() + under_way.len(), "no line stays for nothing");
                // Whatever holds the rest back can be read, or ends.
                prop_assert!(held.is_empty() || chosen.is_some() || turns.lacks_bodies(1) || !under_way.is_empty() || turns.next() != Turn::Nobody);
            }
        }
    }

    #[test]
    fn what_was_under_way_before_ends_before_anything_goes() {
        let mut turns = OrderedQueue::new(&[id(1), id(2)]);
        turns.insert(id(3), Some(Group::Alone), true, None);
        assert_eq!(turns.next(), Turn::Nobody);
        turns.landed(id(2));
        assert_eq!(turns.next(), Turn::Nobody);
        turns.landed(id(1));
        assert_eq!(turns.next(), Turn::Now(id(3)));
    }

    #[test]
    fn bodies_are_asked_for_before_they_are_missed_and_first_what_holds_back_the_rest() {
        let mut turns = OrderedQueue::default();
        for n in 10..20 {
            turns.insert(id(n), Some(Group::Alone), true, None);
        }
        turns.insert(id(20), None, false, None);
        assert!(!turns.lacks_bodies(4) && turns.lacks_bodies(64));
        turns.insert(id(9), None, false, None);
        assert!(turns.lacks_bodies(4), "none of the ten may go");
        assert_eq!(turns.bodiless(1), [id(9)]);
        turns.insert(id(8), Some(Group::Line(1)), false, None);
        assert_eq!(turns.bodiless(2), [id(8), id(9)]);
    }
}
