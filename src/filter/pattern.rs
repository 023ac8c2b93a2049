//! Regular expressions of linear time, and the work that a search for one costs.
//!
//! The work of a search is a computed number: the work for each byte times the bytes searched. An expression whose table
//! of states is small is searched with one step for each byte, whatever the text is. Any other expression is searched
//! with the general engine of the crate, which may visit each of its characters and classes for each byte.

use std::sync::Arc;

use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton as _, StartKind};
use regex_automata::meta::{self, BuildError};
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::search_memory::SharedRegex;

use crate::limits::{
    FILTER_PATTERN_BASE_WORK, FILTER_PATTERN_BYTES_MAX, FILTER_PATTERN_CACHE_BYTES, FILTER_PATTERN_DEPTH_MAX,
    FILTER_PATTERN_TABLE_BYTES_MAX,
};

/// A compiled regular expression.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    engine: SearchEngine,
    work_per_byte: u32,
}

#[derive(Debug, Clone)]
enum SearchEngine {
    /// One step for each byte.
    Table(Arc<DFA<Vec<u32>>>),
    General(SharedRegex),
}

/// Ranges of a class of characters that count as one character.
const RANGES_PER_UNIT: usize = 16;
/// The most that a class counts. Of a class with very many ranges, a search compares only some.
const CLASS_WORK_MAX: u32 = 16;

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// If the text is no expression of linear time, or too large.
    pub(super) fn try_new(text: &str) -> Result<Self, Box<BuildError>> {
        let general = general_regex(text)?;
        Ok(match parse(text).map(|hir| (table(&hir), general_work(&hir))) {
            Some((Some(table), _)) => Self { engine: SearchEngine::Table(Arc::new(table)), work_per_byte: 1 },
            Some((None, work_per_byte)) => Self { engine: SearchEngine::General(general.into()), work_per_byte },
            None => Self { engine: SearchEngine::General(general.into()), work_per_byte: u32::MAX },
        })
    }

    /// Whether the expression matches a part of the text.
    pub(super) fn is_match(&self, text: &str) -> bool {
        match &self.engine {
            // A search of this table cannot fail: no byte ends it, and it may start without an anchor.
            SearchEngine::Table(table) => {
                table.try_search_fwd(&Input::new(text).earliest(true)).is_ok_and(|found| found.is_some())
            }
            SearchEngine::General(regex) => regex.is_match(text),
        }
    }

    /// The units of work for each byte that is searched.
    pub(super) fn work_per_byte(&self) -> u32 {
        self.work_per_byte
    }

    /// The bytes of the compiled form. The memory of a search belongs to the thread that searches.
    pub(super) fn compiled_bytes(&self) -> usize {
        match &self.engine {
            SearchEngine::Table(table) => table.memory_usage(),
            SearchEngine::General(regex) => regex.compiled_bytes(),
        }
    }
}

/// What an expression costs that another crate compiles and searches, with a general engine and a cache of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatternCost {
    /// The units of work for each byte that is searched.
    pub work_per_byte: u32,
    /// The bytes of the compiled form, about, without the cache.
    pub compiled_bytes: usize,
}

/// The cost of an expression. `None` if the text has a syntax that this crate does not know, or is too large.
pub fn pattern_cost(text: &str) -> Option<PatternCost> {
    let hir = parse(text)?;
    let nfa = nfa(&hir)?;
    let work_per_byte = if table_of(&nfa).is_some() { 1 } else { general_work(&hir) };
    // There is another automaton for searches backwards.
    Some(PatternCost { work_per_byte, compiled_bytes: nfa.memory_usage() * 2 })
}

fn general_regex(text: &str) -> Result<meta::Regex, Box<BuildError>> {
    // Without the implicit group, a search with the memory of the caller finds nothing.
    let config = meta::Config::new()
        .which_captures(WhichCaptures::Implicit)
        .nfa_size_limit(Some(FILTER_PATTERN_BYTES_MAX))
        .hybrid_cache_capacity(FILTER_PATTERN_CACHE_BYTES);
    let syntax = syntax::Config::new().nest_limit(FILTER_PATTERN_DEPTH_MAX);
    meta::Builder::new().configure(config).syntax(syntax).build(text).map_err(Box::new)
}

fn parse(text: &str) -> Option<Hir> {
    regex_syntax::ParserBuilder::new().nest_limit(FILTER_PATTERN_DEPTH_MAX).build().parse(text).ok()
}

fn nfa(hir: &Hir) -> Option<NFA> {
    let config =
        thompson::Config::new().nfa_size_limit(Some(FILTER_PATTERN_BYTES_MAX)).which_captures(WhichCaptures::None);
    thompson::Compiler::new().configure(config).build_from_hir(hir).ok()
}

fn table(hir: &Hir) -> Option<DFA<Vec<u32>>> {
    table_of(&nfa(hir)?)
}

/// The table of all states of an expression. `None` if it would be large, or the expression tests word boundaries of
/// Unicode.
fn table_of(nfa: &NFA) -> Option<DFA<Vec<u32>>> {
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .match_kind(MatchKind::All)
        .dfa_size_limit(Some(FILTER_PATTERN_TABLE_BYTES_MAX))
        .determinize_size_limit(Some(FILTER_PATTERN_TABLE_BYTES_MAX * 2));
    dense::Builder::new().configure(config).build_from_nfa(nfa).ok()
}

fn general_work(hir: &Hir) -> u32 {
    FILTER_PATTERN_BASE_WORK.saturating_add(size(hir))
}

/// The characters and classes of an expression with its repetitions written out.
fn size(hir: &Hir) -> u32 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Literal(literal) => u32::try_from(literal.0.len()).unwrap_or(u32::MAX),
        HirKind::Class(Class::Unicode(class)) => {
            1 + u32::try_from(class.ranges().len() / RANGES_PER_UNIT).unwrap_or(u32::MAX).min(CLASS_WORK_MAX)
        }
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(repetition.min).max(1);
            size(&repetition.sub).saturating_add(1).saturating_mul(times)
        }
        HirKind::Capture(capture) => size(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().fold(1u32, |sum, part| sum.saturating_add(size(part)))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_expressions_cost_one_unit_for_each_byte() {
        for text in [
            "foo",
            "^(card|sepa)_[a-z]+$",
            "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
            r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$",
            "(?i)^error: .*(timeout|refused)",
            "[А-Яа-я]+",
            "",
            "(?-u:\\b)foo",
        ] {
            let pattern = Pattern::try_new(text).unwrap();
            assert!(matches!(pattern.engine, SearchEngine::Table(_)), "{text}");
            assert_eq!(
                (pattern.work_per_byte(), pattern_cost(text).map(|cost| cost.work_per_byte)),
                (1, Some(1)),
                "{text}"
            );
            assert!(pattern.compiled_bytes() <= FILTER_PATTERN_TABLE_BYTES_MAX + 1_024, "{text}");
        }
    }

    #[test]
    fn other_expressions_cost_their_size_for_each_byte() {
        for (text, least) in
            [("[ab]*a[ab]{3600}c", 7_000), (r"\bfoo\b", 36), (r"\w+@\w+", 60), ("(a(b[cd]{50}){40})?[ab]{99}", 4_000)]
        {
            let pattern = Pattern::try_new(text).unwrap();
            assert!(pattern.work_per_byte() >= least, "{text}: {}", pattern.work_per_byte());
            let cost = pattern_cost(text).unwrap();
            assert_eq!(cost.work_per_byte, pattern.work_per_byte(), "{text}");
            assert!(cost.compiled_bytes >= 1_000 && pattern.compiled_bytes() >= 1_000, "{text}: {cost:?}");
        }
        assert!(Pattern::try_new("(").is_err() && pattern_cost("(").is_none());
        assert!(Pattern::try_new(r"\w{99}").is_err(), "too large");
    }

    proptest! {
        /// The table and the general engine find the same.
        #[test]
        fn both_engines_agree(
            pattern in r"(\^|\.\*|\(a\|b\|\)|[ab]\?|[abé]|\[\^a\]|\\d|\(\?i:é\)|b\{0,3\}|\$){0,6}",
            text in "[abéÉ1\n]{0,8}",
        ) {
            if let (Ok(expected), Ok(pattern)) = (general_regex(&pattern), Pattern::try_new(&pattern)) {
                prop_assert_eq!(pattern.is_match(&text), SharedRegex::from(expected).is_match(&text));
            }
        }
    }
}
