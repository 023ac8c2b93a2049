//! Which ids were there already: exactly, in memory, within a window.
//!
//! Promises: a key is found from [`Dedup::insert`] on until its time to live ends or `max_keys` younger keys came. About 64
//! bytes a key, reserved at the start but touched only as keys come. Must never know: the log, other threads.

use std::time::Duration;

use crate::config;
use crate::model::{DedupKey, DedupKind, EventId, Timestamp};
use crate::runtime::Random;

/// The table: a ring of entries from the oldest to the youngest, and an index into it (open addressing, linear probing).
#[derive(Debug)]
pub struct Dedup {
    ring: Vec<Entry>,
    oldest: usize,
    len: usize,
    max: usize,
    /// [`Slot`]s as numbers, because a vector of zeroes comes from the system untouched. At most half full.
    index: Vec<u64>,
    /// Keys are hashes of what strangers choose, who must not know which of them meet in the index.
    seeds: (u64, u64),
    ttl: Duration,
    /// A key left before its time to live was over.
    crowded: bool,
}

/// A slot of the index: the hash, so that a search reads the ring once and a removal not at all, and the place in the ring
/// and one more.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    place: u32,
}

const FREE: u32 = 0;

impl Slot {
    fn of(bits: u64) -> Self {
        Self { hash: (bits >> 32) as u32, place: bits as u32 }
    }

    fn bits(self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.place)
    }
}

/// What the table remembers of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: DedupKey,
    /// The event that came with it.
    pub id: EventId,
    /// Of that event's body.
    pub fingerprint: u64,
    /// When, on the scheduling clock.
    pub at: Timestamp,
}

/// What the table says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It is new.
    No,
    /// The same event was stored under this id.
    Before(EventId),
    /// The idempotency key came with another body.
    OtherBody,
}

impl Entry {
    /// What this entry says of an event with the same key.
    pub fn judge(&self, kind: DedupKind, fingerprint: u64) -> Seen {
        match kind {
            DedupKind::IdempotencyKey if fingerprint != self.fingerprint => Seen::OtherBody,
            DedupKind::Id | DedupKind::IdempotencyKey => Seen::Before(self.id),
        }
    }
}

impl Dedup {
    /// An empty table.
    pub fn new(config: &config::Dedup, random: &mut Random) -> Self {
        let max = config.max_keys.clamp(1, 1 << 30);
        Self {
            ring: Vec::with_capacity(max),
            oldest: 0,
            len: 0,
            max,
            index: vec![0; (max * 2).next_power_of_two()],
            seeds: (random.bits() as u64 | 1, random.bits() as u64 | 1),
            ttl: config.ttl,
            crowded: false,
        }
    }

    /// A table of what the log holds: `entries` from the youngest to the oldest.
    pub fn rebuild(config: &config::Dedup, random: &mut Random, entries: impl Iterator<Item = Entry>) -> Self {
        let mut table = Self::new(config, random);
        table.ring.extend(entries.take(table.max));
        table.ring.reverse();
        table.len = table.ring.len();
        table.crowded = table.len == table.max;
        let mut at = Timestamp::from_millis(i64::MIN);
        for place in 0..table.len {
            // Arrival times are not quite in the order of commits; entries leave in the order of the ring.
            at = at.max(table.ring[place].at);
            table.ring[place].at = at;
            table.link(place);
        }
        table
    }

    /// Looks a key up.
    pub fn look(&self, key: &DedupKey, kind: DedupKind, fingerprint: u64, now: Timestamp) -> Seen {
        match self.find(key).map(|slot| &self.ring[self.at(slot).place as usize - 1]) {
            Some(entry) if now.since(entry.at) < self.ttl => entry.judge(kind, fingerprint),
            _ => Seen::No,
        }
    }

    /// Remembers a key; what is over goes, and the oldest if there is no more room.
    pub fn insert(&mut self, entry: Entry) {
        self.expire(entry.at);
        if self.len == self.max {
            self.crowded = true;
            self.forget_oldest();
        }
        let place = (self.oldest + self.len) % self.max;
        if place == self.ring.len() {
            self.ring.push(entry);
        } else {
            self.ring[place] = entry;
        }
        self.len += 1;
        self.link(place);
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: Timestamp) {
        while self.len > 0 && now.since(self.ring[self.oldest].at) >= self.ttl {
            self.crowded = false;
            self.forget_oldest();
        }
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How far back a key is sure to be found: the time to live, unless younger keys crowded older ones out.
    pub fn window(&self, now: Timestamp) -> Duration {
        if self.crowded && self.len > 0 { now.since(self.ring[self.oldest].at).min(self.ttl) } else { self.ttl }
    }

    /// How long a key is remembered at most.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    fn hash(&self, key: &DedupKey) -> u32 {
        let key = u128::from_le_bytes(*key);
        let product = u128::from(key as u64 ^ self.seeds.0) * u128::from((key >> 64) as u64 ^ self.seeds.1);
        product as u32 ^ (product >> 64) as u32
    }

    fn at(&self, slot: usize) -> Slot {
        Slot::of(self.index[slot])
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.index.len() - 1)
    }

    /// The slot of a key, or the free one where it would be.
    fn slot(&self, key: &DedupKey, hash: u32) -> usize {
        let mut slot = self.home(hash);
        loop {
            let Slot { hash: other, place } = self.at(slot);
            if place == FREE || (other == hash && self.ring[place as usize - 1].key == *key) {
                return slot;
            }
            slot = (slot + 1) & (self.index.len() - 1);
        }
    }

    fn find(&self, key: &DedupKey) -> Option<usize> {
        let slot = self.slot(key, self.hash(key));
        (self.at(slot).place != FREE).then_some(slot)
    }

    /// Points the index at `place`; an older entry with the same key is no longer found.
    fn link(&mut self, place: usize) {
        let key = self.ring[place].key;
        let hash = self.hash(&key);
        let slot = self.slot(&key, hash);
        self.index[slot] = Slot { hash, place: place as u32 + 1 }.bits();
    }

    fn forget_oldest(&mut self) {
        let place = self.oldest;
        if let Some(slot) = self.find(&self.ring[place].key)
            && self.at(slot).place as usize == place + 1
        {
            self.unlink(slot);
        }
        self.oldest = (self.oldest + 1) % self.max;
        self.len -= 1;
        if self.len == 0 {
            // Nothing is linked: start over where memory is touched already.
            self.oldest = 0;
        }
    }

    /// Frees a slot and moves those behind it up, so that no search ends at the gap.
    fn unlink(&mut self, mut gap: usize) {
        let mask = self.index.len() - 1;
        let mut slot = gap;
        loop {
            slot = (slot + 1) & mask;
            let Slot { hash, place } = self.at(slot);
            if place == FREE {
                break;
            }
            let home = self.home(hash);
            if (slot.wrapping_sub(home) & mask) >= (slot.wrapping_sub(gap) & mask) {
                self.index[gap] = self.index[slot];
                gap = slot;
            }
        }
        self.index[gap] = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn config(max_keys: usize, ttl_ms: u64) -> config::Dedup {
        config::Dedup { ttl: Duration::from_millis(ttl_ms), max_keys }
    }

    fn key(n: u8) -> DedupKey {
        let mut key = [0; 16];
        key[3] = n;
        key
    }

    fn entry(n: u8, id: u128, at: i64) -> Entry {
        Entry { key: key(n), id: EventId::from_u128(id), fingerprint: u64::from(n), at: Timestamp::from_millis(at) }
    }

    #[test]
    fn an_idempotency_key_with_another_body_is_told_apart() {
        let mut table = Dedup::new(&config(4, 1_000), &mut Random::seeded(1));
        table.insert(entry(1, 7, 0));
        let now = Timestamp::from_millis(1);
        assert_eq!(table.look(&key(1), DedupKind::IdempotencyKey, 1, now), Seen::Before(EventId::from_u128(7)));
        assert_eq!(table.look(&key(1), DedupKind::IdempotencyKey, 2, now), Seen::OtherBody);
        assert_eq!(table.look(&key(1), DedupKind::Id, 2, now), Seen::Before(EventId::from_u128(7)));
    }

    #[test]
    fn the_window_is_short_when_keys_were_crowded_out() {
        let mut table = Dedup::new(&config(2, 1_000), &mut Random::seeded(1));
        for n in 0..2 {
            table.insert(entry(n, 0, i64::from(n) * 10));
        }
        assert_eq!(table.window(Timestamp::from_millis(20)), Duration::from_secs(1));
        table.insert(entry(9, 0, 20));
        assert_eq!(table.window(Timestamp::from_millis(20)), Duration::from_millis(10));
    }

    proptest! {
        /// The trivial model is a queue that is searched from its young end.
        #[test]
        fn it_answers_as_a_searched_queue_does(
            max in 1..20usize,
            seed in any::<u64>(),
            steps in proptest::collection::vec((0..40u8, 0..30i64, any::<bool>()), 0..300),
        ) {
            let mut random = Random::seeded(seed);
            let config = config(max, 100);
            let mut table = Dedup::new(&config, &mut random);
            let mut model: VecDeque<Entry> = VecDeque::new();
            let mut now = 0;
            for (n, later, rebuild) in steps {
                now += later;
                let at = Timestamp::from_millis(now);
                let expected = model.iter().rev().find(|e| e.key == key(n) && at.since(e.at) < config.ttl);
                let seen = table.look(&key(n), DedupKind::Id, 0, at);
                prop_assert_eq!(seen, expected.map_or(Seen::No, |e| Seen::Before(e.id)));
                if seen == Seen::No {
                    let entry = entry(n, now as u128 * 1_000 + u128::from(n), now);
                    table.insert(entry);
                    model.push_back(entry);
                    if model.len() > max {
                        model.pop_front();
                    }
                }
                if rebuild {
                    let live = model.iter().rev().filter(|e| at.since(e.at) < config.ttl).copied().collect::<Vec<_>>();
                    table = Dedup::rebuild(&config, &mut random, live.into_iter());
                }
                prop_assert!(table.len() <= max);
            }
        }
    }
}
