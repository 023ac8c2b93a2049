//! The memory that searches with the general engine need: a table of the states that a search has met.
//!
//! Each thread has a bounded number of such tables, for the expressions that it searched last. If each expression had a
//! table of its own for each thread, a tenant with many expressions could use up all memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use regex_automata::Input;
use regex_automata::meta::{Cache, Regex};

use crate::limits::FILTER_SEARCH_BYTES_PER_THREAD;

/// A compiled expression whose searches use the memory of the thread. A clone shares the expression.
#[derive(Debug, Clone)]
pub(super) struct SharedRegex(Arc<NumberedRegex>);

#[derive(Debug)]
struct NumberedRegex {
    /// No other expression of the process has this number.
    no: u64,
    regex: Regex,
}

/// The tables of a thread.
#[derive(Default)]
struct SearchTables {
    of: HashMap<u64, SearchTable>,
    bytes: usize,
    /// The number of searches so far.
    searches: u64,
}

struct SearchTable {
    cache: Cache,
    bytes: usize,
    last_search: u64,
}

thread_local! {
    static TABLES: RefCell<SearchTables> = RefCell::default();
}

impl From<Regex> for SharedRegex {
    fn from(regex: Regex) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Self(Arc::new(NumberedRegex { no: NUMBERS.fetch_add(1, Ordering::Relaxed), regex }))
    }
}

impl SharedRegex {
    /// Whether the expression matches a part of the text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        TABLES.with_borrow_mut(|tables| tables.is_match(&self.0, text))
    }

    /// The bytes of the compiled form, without the memory of searches.
    pub(super) fn compiled_bytes(&self) -> usize {
        self.0.regex.memory_usage()
    }
}

impl SearchTables {
    fn is_match(&mut self, expression: &NumberedRegex, text: &str) -> bool {
        self.searches += 1;
        let new = || SearchTable { cache: expression.regex.create_cache(), bytes: 0, last_search: 0 };
        let table = self.of.entry(expression.no).or_insert_with(new);
        let input = Input::new(text).earliest(true);
        let is_match = expression.regex.search_half_with(&mut table.cache, &input).is_some();
        table.last_search = self.searches;
        let bytes = table.cache.memory_usage() + size_of::<SearchTable>();
        self.bytes = self.bytes - table.bytes + bytes;
        table.bytes = bytes;
        while self.bytes > FILTER_SEARCH_BYTES_PER_THREAD {
            self.evict();
        }
        is_match
    }

    /// Drops the table that was not used for the longest time.
    fn evict(&mut self) {
        let oldest = self.of.iter().min_by_key(|(_, table)| table.last_search).map(|(no, _)| *no);
        let evicted = oldest.and_then(|no| self.of.remove(&no));
        self.bytes = evicted.map_or(0, |table| self.bytes - table.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_thread_is_bounded_and_evicted_expressions_still_match() {
        let regex = |n| SharedRegex::from(Regex::new(&format!("[ab]*a[ab]{{{n}}}c")).unwrap());
        let expressions: Vec<_> = (200..400).map(regex).collect();
        let text: String =
            (0..3_000u32).map(|n| if n.wrapping_mul(2_654_435_761) & 0x1_0000 == 0 { 'a' } else { 'b' }).collect();
        let mut tables = SearchTables::default();
        for round in 0..2 {
            for expression in &expressions {
                assert!(!tables.is_match(&expression.0, &text), "{round}");
                assert!(tables.bytes <= FILTER_SEARCH_BYTES_PER_THREAD);
            }
        }
        assert!(tables.of.len() > 3 && tables.of.len() < expressions.len(), "{}", tables.of.len());
        assert!(tables.is_match(&expressions[0].0, &format!("{text}a{}c", "b".repeat(200))));
        let counted: usize = tables.of.values().map(|table| table.bytes).sum();
        assert_eq!(tables.bytes, counted);
    }
}
