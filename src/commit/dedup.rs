//! The dedup table: an exact set of the ids and idempotency keys of recent events, in memory.
//!
//! A key is found from [`DedupTable::insert`] until its time to live ends or `max_keys` newer keys are inserted. A key
//! takes about 64 bytes. Memory for `max_keys` is reserved at the start, and touched only as keys are inserted. This
//! module must never know the log or other threads.

use std::time::Duration;

use crate::config;
use crate::model::{DedupKey, DedupKind, EventId, Timestamp};
use crate::runtime::Random;

/// The dedup table: a ring of entries from the oldest to the newest, and a hash index into it (open addressing, linear
/// probing).
#[derive(Debug)]
pub struct DedupTable {
    ring: Vec<DedupEntry>,
    oldest: usize,
    len: usize,
    max: usize,
    /// [`IndexSlot`]s as numbers: the system gives a vector of zeroes without touching its memory. At most half full.
    index: Vec<u64>,
    /// Random seeds of the index's hash. Keys are hashes of what clients choose, and clients must not be able to cause
    /// collisions.
    seeds: (u64, u64),
    ttl: Duration,
    /// Whether a key was evicted before its time to live ended.
    has_evicted: bool,
}

/// A slot of the index: the hash and the place in the ring plus one. With the hash in the slot, a search reads the ring
/// only once and a removal never.
#[derive(Debug, Clone, Copy)]
struct IndexSlot {
    hash: u32,
    place: u32,
}

const FREE: u32 = 0;

impl IndexSlot {
    fn of(bits: u64) -> Self {
        Self { hash: (bits >> 32) as u32, place: bits as u32 }
    }

    fn bits(self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.place)
    }
}

/// A key in the table, with the event that came with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DedupEntry {
    /// The key of the event.
    pub key: DedupKey,
    /// The id of the event.
    pub id: EventId,
    /// The fingerprint of the event's body.
    pub fingerprint: u64,
    /// The scheduling clock's time of the insertion.
    pub at: Timestamp,
}

/// The result of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DedupLookup {
    /// The key is not in the table.
    New,
    /// The same event was stored under this id.
    Duplicate(EventId),
    /// The idempotency key was used with another body.
    KeyReused,
}

impl DedupEntry {
    /// Compares this entry with an event that has the same key. An idempotency key with another fingerprint is
    /// [`DedupLookup::KeyReused`], everything else a duplicate.
    pub fn compare(&self, kind: DedupKind, fingerprint: u64) -> DedupLookup {
        match kind {
            DedupKind::IdempotencyKey if fingerprint != self.fingerprint => DedupLookup::KeyReused,
            DedupKind::Id | DedupKind::IdempotencyKey => DedupLookup::Duplicate(self.id),
        }
    }
}

impl DedupTable {
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
            has_evicted: false,
        }
    }

    /// A table with the keys of the log. `entries` go from the newest to the oldest; at most `max_keys` of them are
    /// used.
    pub fn rebuild(config: &config::Dedup, random: &mut Random, entries: impl Iterator<Item = DedupEntry>) -> Self {
        let mut table = Self::new(config, random);
        table.ring.extend(entries.take(table.max));
        table.ring.reverse();
        table.len = table.ring.len();
        table.has_evicted = table.len == table.max;
        let mut at = Timestamp::from_millis(i64::MIN);
        for place in 0..table.len {
            // Arrival times are not exactly in the order of commits, but entries are removed in the order of the ring.
            at = at.max(table.ring[place].at);
            table.ring[place].at = at;
            table.link(place);
        }
        table
    }

    /// Looks up a key. Entries past their time to live are ignored.
    pub fn lookup(&self, key: &DedupKey, kind: DedupKind, fingerprint: u64, now: Timestamp) -> DedupLookup {
        match self.find(key).map(|slot| &self.ring[self.at(slot).place as usize - 1]) {
            Some(entry) if now.since(entry.at) < self.ttl => entry.compare(kind, fingerprint),
            _ => DedupLookup::New,
        }
    }

    /// Inserts a key. Removes expired keys, and evicts the oldest key if the table is full.
    pub fn insert(&mut self, entry: DedupEntry) {
        self.expire(entry.at);
        if self.len == self.max {
            self.has_evicted = true;
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

    /// Removes the keys whose time to live is over.
    pub fn expire(&mut self, now: Timestamp) {
        while self.len > 0 && now.since(self.ring[self.oldest].at) >= self.ttl {
            self.has_evicted = false;
            self.forget_oldest();
        }
    }

    /// The number of keys in the table.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table has no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How far back a key is certainly found: the time to live, or less if newer keys evicted older ones.
    pub fn window(&self, now: Timestamp) -> Duration {
        if self.has_evicted && self.len > 0 { now.since(self.ring[self.oldest].at).min(self.ttl) } else { self.ttl }
    }

    /// How long a key stays in the table at most.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    fn hash(&self, key: &DedupKey) -> u32 {
        let key = u128::from_le_bytes(*key);
        let product = u128::from(key as u64 ^ self.seeds.0) * u128::from((key >> 64) as u64 ^ self.seeds.1);
        product as u32 ^ (product >> 64) as u32
    }

    fn at(&self, slot: usize) -> IndexSlot {
        IndexSlot::of(self.index[slot])
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.index.len() - 1)
    }

    /// The slot of a key, or the free slot for it.
    fn slot(&self, key: &DedupKey, hash: u32) -> usize {
        let mut slot = self.home(hash);
        loop {
            let IndexSlot { hash: other, place } = self.at(slot);
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

    /// Points the index at `place`. An older entry with the same key is no longer found.
    fn link(&mut self, place: usize) {
        let key = self.ring[place].key;
        let hash = self.hash(&key);
        let slot = self.slot(&key, hash);
        self.index[slot] = IndexSlot { hash, place: place as u32 + 1 }.bits();
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
            // The ring is empty: start again where its memory is already touched.
            self.oldest = 0;
        }
    }

    /// Frees a slot and moves later slots forward, so that no search ends at the gap.
    fn unlink(&mut self, mut gap: usize) {
        let mask = self.index.len() - 1;
        let mut slot = gap;
        loop {
            slot = (slot + 1) & mask;
            let IndexSlot { hash, place } = self.at(slot);
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

    fn entry(n: u8, id: u128, at: i64) -> DedupEntry {
        DedupEntry {
            key: key(n),
            id: EventId::from_u128(id),
            fingerprint: u64::from(n),
            at: Timestamp::from_millis(at),
        }
    }

    #[test]
    fn an_idempotency_key_with_another_body_is_detected() {
        let mut table = DedupTable::new(&config(4, 1_000), &mut Random::seeded(1));
        table.insert(entry(1, 7, 0));
        let now = Timestamp::from_millis(1);
        assert_eq!(
            table.lookup(&key(1), DedupKind::IdempotencyKey, 1, now),
            DedupLookup::Duplicate(EventId::from_u128(7))
        );
        assert_eq!(table.lookup(&key(1), DedupKind::IdempotencyKey, 2, now), DedupLookup::KeyReused);
        assert_eq!(table.lookup(&key(1), DedupKind::Id, 2, now), DedupLookup::Duplicate(EventId::from_u128(7)));
    }

    #[test]
    fn the_window_is_shorter_when_keys_were_evicted() {
        let mut table = DedupTable::new(&config(2, 1_000), &mut Random::seeded(1));
        for n in 0..2 {
            table.insert(entry(n, 0, i64::from(n) * 10));
        }
        assert_eq!(table.window(Timestamp::from_millis(20)), Duration::from_secs(1));
        table.insert(entry(9, 0, 20));
        assert_eq!(table.window(Timestamp::from_millis(20)), Duration::from_millis(10));
    }

    proptest! {
        /// The model is a queue that is searched from its newest entry.
        #[test]
        fn the_table_matches_a_searched_queue(
            max in 1..20usize,
            seed in any::<u64>(),
            steps in proptest::collection::vec((0..40u8, 0..30i64, any::<bool>()), 0..300),
        ) {
            let mut random = Random::seeded(seed);
            let config = config(max, 100);
            let mut table = DedupTable::new(&config, &mut random);
            let mut model: VecDeque<DedupEntry> = VecDeque::new();
            let mut now = 0;
            for (n, later, rebuild) in steps {
                now += later;
                let at = Timestamp::from_millis(now);
                let expected = model.iter().rev().find(|e| e.key == key(n) && at.since(e.at) < config.ttl);
                let seen = table.lookup(&key(n), DedupKind::Id, 0, at);
                prop_assert_eq!(seen, expected.map_or(DedupLookup::New, |e| DedupLookup::Duplicate(e.id)));
                if seen == DedupLookup::New {
                    let entry = entry(n, now as u128 * 1_000 + u128::from(n), now);
                    table.insert(entry);
                    model.push_back(entry);
                    if model.len() > max {
                        model.pop_front();
                    }
                }
                if rebuild {
                    let live = model.iter().rev().filter(|e| at.since(e.at) < config.ttl).copied().collect::<Vec<_>>();
                    table = DedupTable::rebuild(&config, &mut random, live.into_iter());
                }
                prop_assert!(table.len() <= max);
            }
        }
    }
}
