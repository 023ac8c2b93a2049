//! Persistent collections: a copy shares everything with the original until one of the two changes. A copy costs a few
//! pointers, and a change copies the path to the changed entry.
//!
//! A snapshot is copied for each batch of changes, so the cost of a change must not grow with the number of unchanged
//! entries. `Arc::make_mut` copies a node that another snapshot holds, and changes a node in place that no other
//! snapshot holds.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use smallvec::SmallVec;

/// A hash map as a trie of 16-way branches.
#[derive(Debug, Clone)]
pub(super) struct CowMap<K, V> {
    root: Arc<TrieNode<K, V>>,
    hasher: RandomState,
    len: usize,
}

/// A node stores its entries inline: with many webhooks each further pointer would be a cache miss.
#[derive(Debug, Clone)]
enum TrieNode<K, V> {
    Leaf(TrieLeaf<K, V>),
    Branch([Arc<TrieNode<K, V>>; FAN]),
}

type TrieLeaf<K, V> = SmallVec<[MapEntry<K, V>; LEAF_MAX]>;

/// A key with its hash. A search follows only keys with an equal hash, and a split does not hash again.
#[derive(Debug, Clone)]
struct MapEntry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V> MapEntry<K, V> {
    fn is<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.hash == hash && self.key.borrow() == key
    }
}

const FAN: usize = 16;
const BITS: u32 = FAN.trailing_zeros();
/// A leaf with more entries becomes a branch, unless all bits of the hash are used.
const LEAF_MAX: usize = 8;

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(TrieNode::Leaf(TrieLeaf::new())), hasher: RandomState::new(), len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> CowMap<K, V> {
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let mut rest = hash;
        let mut node = &*self.root;
        loop {
            match node {
                TrieNode::Leaf(entries) => {
                    return entries.iter().find(|entry| entry.is(hash, key)).map(|entry| &entry.value);
                }
                TrieNode::Branch(children) => {
                    node = &children[place(rest)];
                    rest >>= BITS;
                }
            }
        }
    }

    /// The value of the key, for a change in place. `make` makes the entry if there is none.
    pub(super) fn entry<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, make: impl FnOnce() -> (K, V)) -> &mut V
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let mut rest = hash;
        let mut depth = 0;
        let mut node = Arc::make_mut(&mut self.root);
        loop {
            if let TrieNode::Leaf(entries) = node
                && entries.len() >= LEAF_MAX
                && depth < u64::BITS / BITS
                && entries.iter().all(|entry| !entry.is(hash, key))
            {
                *node = split(std::mem::take(entries), depth);
            }
            match node {
                TrieNode::Branch(children) => {
                    node = Arc::make_mut(&mut children[place(rest)]);
                    rest >>= BITS;
                    depth += 1;
                }
                TrieNode::Leaf(entries) => {
                    let at = entries.iter().position(|entry| entry.is(hash, key)).unwrap_or_else(|| {
                        let (key, value) = make();
                        entries.push(MapEntry { hash, key, value });
                        self.len += 1;
                        entries.len() - 1
                    });
                    return &mut entries[at].value;
                }
            }
        }
    }

    /// Removes the key. Empty branches stay: they need little memory, and their keys are likely to come back.
    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let mut rest = hash;
        let mut node = Arc::make_mut(&mut self.root);
        loop {
            match node {
                TrieNode::Branch(children) => {
                    node = Arc::make_mut(&mut children[place(rest)]);
                    rest >>= BITS;
                }
                TrieNode::Leaf(entries) => {
                    let at = entries.iter().position(|entry| entry.is(hash, key))?;
                    self.len -= 1;
                    return Some(entries.swap_remove(at).value);
                }
            }
        }
    }

    /// All values, in no particular order.
    pub(super) fn values(&self) -> Vec<&V> {
        let (mut found, mut nodes) = (Vec::with_capacity(self.len), vec![&self.root]);
        while let Some(node) = nodes.pop() {
            match &**node {
                TrieNode::Leaf(entries) => found.extend(entries.iter().map(|entry| &entry.value)),
                TrieNode::Branch(children) => nodes.extend(children.iter()),
            }
        }
        found
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

fn place(hash: u64) -> usize {
    hash as usize % FAN
}

fn split<K, V>(entries: TrieLeaf<K, V>, depth: u32) -> TrieNode<K, V> {
    let mut parts: [TrieLeaf<K, V>; FAN] = [(); FAN].map(|()| TrieLeaf::new());
    for entry in entries {
        parts[place(entry.hash >> (depth * BITS))].push(entry);
    }
    TrieNode::Branch(parts.map(|part| Arc::new(TrieNode::Leaf(part))))
}

/// Ascending unique numbers: a few inline, more in chunks.
#[derive(Debug, Clone)]
pub(super) enum Postings {
    Few(SmallVec<[u32; FEW_MAX]>),
    Many(Vec<Arc<Vec<u32>>>),
}

/// As many inline numbers as fit into the size of the chunk list.
const FEW_MAX: usize = 4;
/// Maximum of numbers in a chunk: 2 KiB to copy for a change.
const CHUNK_MAX: usize = 512;

impl Default for Postings {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Postings {
    pub(super) fn insert(&mut self, no: u32) {
        let chunks = match self {
            Self::Many(chunks) => chunks,
            Self::Few(few) => {
                let Err(place) = few.binary_search(&no) else { return };
                if few.len() < FEW_MAX {
                    return few.insert(place, no);
                }
                *self = Self::Many(vec![Arc::new(few.to_vec())]);
                return self.insert(no);
            }
        };
        // The chunk that may hold the number: the first chunk whose last number is not smaller, or the last chunk.
        let at = chunks.partition_point(|chunk| chunk.last().is_some_and(|last| *last < no));
        let at = at.min(chunks.len().saturating_sub(1));
        let Some(chunk) = chunks.get_mut(at) else {
            chunks.push(Arc::new(vec![no]));
            return;
        };
        let Err(place) = chunk.binary_search(&no) else { return };
        if chunk.len() < CHUNK_MAX {
            Arc::make_mut(chunk).insert(place, no);
        } else if place == CHUNK_MAX {
            // Most numbers are appended at the end, so full chunks stay full.
            chunks.insert(at + 1, Arc::new(vec![no]));
        } else {
            let mut low = chunk.to_vec();
            let mut high = low.split_off(CHUNK_MAX / 2);
            if place <= low.len() {
                low.insert(place, no);
            } else {
                high.insert(place - low.len(), no);
            }
            chunks.splice(at..=at, [Arc::new(low), Arc::new(high)]);
        }
    }

    pub(super) fn remove(&mut self, no: u32) {
        match self {
            Self::Few(few) => few.retain(|held| *held != no),
            Self::Many(chunks) => {
                let at = chunks.partition_point(|chunk| chunk.last().is_some_and(|last| *last < no));
                let Some(chunk) = chunks.get_mut(at) else { return };
                let Ok(place) = chunk.binary_search(&no) else { return };
                let numbers = Arc::make_mut(chunk);
                numbers.remove(place);
                if numbers.is_empty() {
                    chunks.remove(at);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let (few, chunks) = self.parts();
        few.is_empty() && chunks.is_empty()
    }

    /// All numbers, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let (few, chunks) = self.parts();
        few.iter().chain(chunks.iter().flat_map(|chunk| chunk.iter())).copied()
    }

    /// The numbers below `before`, descending.
    pub(super) fn descending(&self, before: u32) -> impl Iterator<Item = u32> {
        let (few, chunks) = self.parts();
        let end = chunks.partition_point(|chunk| chunk.first().is_some_and(|first| *first < before));
        let many = chunks[..end].iter().rev().flat_map(|chunk| chunk.iter().rev());
        few.iter().rev().chain(many).copied().skip_while(move |no| *no >= before)
    }

    /// The inline numbers and the chunks. One of the two is empty.
    fn parts(&self) -> (&[u32], &[Arc<Vec<u32>>]) {
        match self {
            Self::Few(few) => (few, &[]),
            Self::Many(chunks) => (&[], chunks),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_map_behaves_like_a_hash_map_and_its_copies_do_not_change(
            operations in proptest::collection::vec((any::<bool>(), 0u16..600), 0..1500),
        ) {
            let (mut map, mut model) = (CowMap::<String, u16>::default(), HashMap::new());
            let mut copy = None;
            for (i, (put, n)) in operations.into_iter().enumerate() {
                let key = format!("key {n}");
                if put {
                    *map.entry(key.as_str(), || (key.clone(), 0)) += 1;
                    *model.entry(key).or_insert(0) += 1;
                } else {
                    prop_assert_eq!(map.remove(key.as_str()), model.remove(&key));
                }
                if i == 700 {
                    copy = Some((map.clone(), model.clone()));
                }
            }
            for (map, model) in copy.into_iter().chain([(map, model)]) {
                prop_assert_eq!(map.len(), model.len());
                for n in 0..600 {
                    let key = format!("key {n}");
                    prop_assert_eq!(map.get(key.as_str()), model.get(&key));
                }
            }
        }

        #[test]
        fn postings_are_a_sorted_set(
            operations in proptest::collection::vec((0u8..4, 0u32..3000), 0..4000),
            before in 0u32..3000,
        ) {
            let (mut postings, mut model) = (Postings::default(), BTreeSet::new());
            for (kind, n) in operations {
                if kind > 0 {
                    postings.insert(n);
                    model.insert(n);
                } else {
                    postings.remove(n);
                    model.remove(&n);
                }
            }
            prop_assert!(postings.iter().eq(model.iter().copied()));
            prop_assert!(postings.descending(before).eq(model.range(..before).rev().copied()));
            prop_assert_eq!(postings.is_empty(), model.is_empty());
        }
    }
}
