//! A filter as it runs.

use std::cmp::Ordering;

use regex::Regex;

use super::subject::{Found, OwnId, Place, Subject};
use super::value::{List, Literal};
use crate::limits::FILTER_SEARCHED_BYTES_MAX;
use crate::model::Timestamp;

/// A part of a filter. Groups lie at most [`crate::limits::FILTER_DEPTH_MAX`] deep.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Group(Group),
    Rule(Box<Rule>),
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Where it stands in the filter; `None` for what holds the parts of a filter together.
    pub(super) pointer: Option<Box<str>>,
    pub(super) kind: GroupKind,
    pub(super) nodes: Box<[Node]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupKind {
    And,
    Or,
    /// None of them.
    Not,
}

impl GroupKind {
    pub(super) const ALL: [(&'static str, Self); 3] = [("and", Self::And), ("or", Self::Or), ("not", Self::Not)];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Where it stands in the filter.
    pub(super) pointer: Box<str>,
    pub(super) looks_at: LooksAt,
    pub(super) test: Test,
    /// The operator begins with `not_`: it holds exactly where the other does not.
    pub(super) is_negated: bool,
}

#[derive(Debug, Clone)]
pub(super) enum LooksAt {
    Field(Place),
    Id(OwnId, Place),
    Timestamp,
}

/// What must be true of a value that was found.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Exists,
    Equals(Literal),
    Order(Bound, Literal),
    In(List),
    /// A list of ids, which are text.
    Ids(List),
    Contains(Literal),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Matches(Regex),
    Between(Option<Timestamp>, Option<Timestamp>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Bound {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
        }
    }
}

impl Node {
    pub(super) fn holds(&self, subject: &mut Subject<'_>) -> bool {
        match self {
            Self::Group(group) => match group.kind {
                GroupKind::And => group.nodes.iter().all(|node| node.holds(subject)),
                GroupKind::Or => group.nodes.iter().any(|node| node.holds(subject)),
                GroupKind::Not => !group.nodes.iter().any(|node| node.holds(subject)),
            },
            Self::Rule(rule) => {
                let found = rule.find(subject);
                rule.holds(found.as_ref())
            }
        }
    }
}

impl Rule {
    pub(super) fn find<'a>(&self, subject: &mut Subject<'a>) -> Option<Found<'a>> {
        match &self.looks_at {
            LooksAt::Field(place) => subject.find(place),
            LooksAt::Id(id, place) => subject.id(*id, place),
            LooksAt::Timestamp => Some(Found::Time(subject.facts().timestamp)),
        }
    }

    pub(super) fn holds(&self, found: Option<&Found<'_>>) -> bool {
        found.is_some_and(|found| self.test.holds(found)) != self.is_negated
    }
}

impl Test {
    fn holds(&self, found: &Found<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Equals(literal) => literal.equals(found),
            Self::Order(bound, literal) => literal.order(found).is_some_and(|order| bound.holds(order)),
            Self::In(list) => list.has(found),
            Self::Ids(list) => list.has_id(found),
            Self::Contains(literal) => match (found, literal) {
                (Found::Json(raw), _) if raw.first() == Some(&b'[') => found.items().any(|item| literal.is(item)),
                (_, Literal::Text { text, .. }) => searched(found, |found| found.contains(&**text)),
                _ => false,
            },
            Self::StartsWith(text) => searched(found, |found| found.starts_with(&**text)),
            Self::EndsWith(text) => searched(found, |found| found.ends_with(&**text)),
            Self::Matches(pattern) => searched(found, |found| pattern.is_match(found)),
            Self::Between(start, end) => match found {
                Found::Time(at) => start.is_none_or(|start| start <= *at) && end.is_none_or(|end| *at <= end),
                _ => false,
            },
        }
    }
}

/// Whether the found value is text in which this is true, and not longer than what is searched.
fn searched(found: &Found<'_>, is_true: impl FnOnce(&str) -> bool) -> bool {
    let fits = !matches!(found, Found::Json(raw) if raw.len() > FILTER_SEARCHED_BYTES_MAX);
    fits && found.text().is_some_and(|text| is_true(&text))
}
