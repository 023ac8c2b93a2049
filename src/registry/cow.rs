//! Collections whose copies share what did not change: a copy costs a few pointers, a change the path to it.
//!
//! A snapshot is copied for each batch of changes, so the cost of a change must not grow with what it leaves alone.
//! `Arc::make_mut` does the work: what another snapshot still holds is copied, what only we hold is changed in place.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use smallvec::SmallVec;

/// A hash map as a trie of 16-way branches.
#[derive(Debug, Clone)]
pub(super) struct CowMap<K, V> {
    root: Arc<Node<K, V>>,
    hasher: RandomState,
    len: usize,
}

/// What a search goes through lies in the node itself: with many webhooks each step to elsewhere is a miss of the caches.
#[derive(Debug, Clone)]
enum Node<K, V> {
    Leaf(Leaf<K, V>),
    Branch([Arc<Node<K, V>>; FAN]),
}

type Leaf<K, V> = SmallVec<[Entry<K, V>; LEAF_MAX]>;

/// A key with its hash, so that a search need not follow a key that is another one, and a split need not hash again.
#[derive(Debug, Clone)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K, V> Entry<K, V> {
    fn is<Q: Eq + ?Sized>(&self, hash: u64, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.hash == hash && self.key.borrow() == key
    }
}

const FAN: usize = 16;
const BITS: u32 = FAN.trailing_zeros();
/// A leaf with more entries becomes a branch, unless the hash is used up.
const LEAF_MAX: usize = 8;

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Leaf::new())), hasher: RandomState::new(), len: 0 }
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
                Node::Leaf(entries) => {
                    return entries.iter().find(|entry| entry.is(hash, key)).map(|entry| &entry.value);
                }
                Node::Branch(children) => {
                    node = &children[place(rest)];
                    rest >>= BITS;
                }
            }
        }
    }

    /// The value at the key, made by `make` if there is none, to be changed in place.
    pub(super) fn entry<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, make: impl FnOnce() -> (K, V)) -> &mut V
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let mut rest = hash;
        let mut depth = 0;
        let mut node = Arc::make_mut(&mut self.root);
        loop {
            if let Node::Leaf(entries) = node
                && entries.len() >= LEAF_MAX
                && depth < u64::BITS / BITS
                && entries.iter().all(|entry| !entry.is(hash, key))
            {
                *node = split(std::mem::take(entries), depth);
            }
            match node {
                Node::Branch(children) => {
                    node = Arc::make_mut(&mut children[place(rest)]);
                    rest >>= BITS;
                    depth += 1;
                }
                Node::Leaf(entries) => {
                    let at = entries.iter().position(|entry| entry.is(hash, key)).unwrap_or_else(|| {
                        let (key, value) = make();
                        entries.push(Entry { hash, key, value });
                        self.len += 1;
                        entries.len() - 1
                    });
                    return &mut entries[at].value;
                }
            }
        }
    }

    /// Takes the key out. Emptied branches stay: their memory is small and their keys come back.
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
                Node::Branch(children) => {
                    node = Arc::make_mut(&mut children[place(rest)]);
                    rest >>= BITS;
                }
                Node::Leaf(entries) => {
                    let at = entries.iter().position(|entry| entry.is(hash, key))?;
                    self.len -= 1;
                    return Some(entries.swap_remove(at).value);
                }
            }
        }
    }

    /// All values, in no order.
    pub(super) fn values(&self) -> Vec<&V> {
        let (mut found, mut nodes) = (Vec::with_capacity(self.len), vec![&self.root]);
        while let Some(node) = nodes.pop() {
            match &**node {
                Node::Leaf(entries) => found.extend(entries.iter().map(|entry| &entry.value)),
                Node::Branch(children) => nodes.extend(children.iter()),
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

fn split<K, V>(entries: Leaf<K, V>, depth: u32) -> Node<K, V> {
    let mut parts: [Leaf<K, V>; FAN] = [(); FAN].map(|()| Leaf::new());
    for entry in entries {
        parts[place(entry.hash >> (depth * BITS))].push(entry);
    }
    Node::Branch(parts.map(|part| Arc::new(Node::Leaf(part))))
}

/// Numbers in ascending order, each once: a few in place, more in chunks.
#[derive(Debug, Clone)]
pub(super) enum Postings {
    Few(SmallVec<[u32; FEW_MAX]>),
    Many(Vec<Arc<Vec<u32>>>),
}

/// As many as fit beside the pointers of the chunks.
const FEW_MAX: usize = 4;
/// Numbers in a chunk at most: 2 KiB to copy for a change.
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
        // The chunk that may hold the number: the first whose last is not before it, else the last.
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
            // Numbers rise, so most come at the end: full chunks stay full.
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

    /// All, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        let (few, chunks) = self.parts();
        few.iter().chain(chunks.iter().flat_map(|chunk| chunk.iter())).copied()
    }

    /// Those below `before`, descending.
    pub(super) fn descending(&self, before: u32) -> impl Iterator<Item = u32> {
        let (few, chunks) = self.parts();
        let end = chunks.partition_point(|chunk| chunk.first().is_some_and(|first| *first < before));
        let many = chunks[..end].iter().rev().flat_map(|chunk| chunk.iter().rev());
        few.iter().rev().chain(many).copied().skip_while(move |no| *no >= before)
    }

    /// One of them is empty.
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
        fn a_map_is_a_map_and_its_copies_do_not_change(
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
