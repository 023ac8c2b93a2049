//! The compiled form of a filter, and how the form is evaluated.

use std::cmp::Ordering;

use super::TooCostly;
use super::input::{FieldLocation, FieldValue, FilterInput, IdField};
use super::pattern::Pattern;
use super::value::{Literal, ValueSet};
use crate::limits::{FILTER_ARRAY_BYTE_WORK, FILTER_RULE_WORK, FILTER_SEARCHED_BYTES_MAX};
use crate::model::Timestamp;

/// A group or a rule. Groups are nested at most [`crate::limits::FILTER_DEPTH_MAX`] deep.
#[derive(Debug, Clone)]
pub(super) enum FilterNode {
    Group(FilterGroup),
    Rule(Box<FilterRule>),
}

/// A group of nodes that an operator combines.
#[derive(Debug, Clone)]
pub(super) struct FilterGroup {
    /// The JSON pointer of the group in the filter; `None` for the root that combines the parts of a filter.
    pub(super) pointer: Option<Box<str>>,
    pub(super) kind: GroupKind,
    pub(super) nodes: Box<[FilterNode]>,
}

/// The operator of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupKind {
    And,
    Or,
    /// Matches if no node matches.
    Not,
}

impl GroupKind {
    /// Each operator with its name.
    pub(super) const ALL: [(&'static str, Self); 3] = [("and", Self::And), ("or", Self::Or), ("not", Self::Not)];

    /// The name of the operator.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// A rule: a condition on one value of an event.
#[derive(Debug, Clone)]
pub(super) struct FilterRule {
    /// The JSON pointer of the rule in the filter.
    pub(super) pointer: Box<str>,
    pub(super) operand: RuleOperand,
    pub(super) test: RuleTest,
    /// Whether the operator begins with `not_`. The rule then matches exactly when the operator without `not_` does not
    /// match.
    pub(super) is_negated: bool,
}

/// The value that a rule tests.
#[derive(Debug, Clone)]
pub(super) enum RuleOperand {
    Field(FieldLocation),
    Id(IdField, FieldLocation),
    Timestamp,
}

/// The condition that a value must satisfy.
#[derive(Debug, Clone)]
pub(super) enum RuleTest {
    Exists,
    Equals(Literal),
    Compare(Comparison, Literal),
    In(ValueSet),
    /// A set of ids, which are compared as text.
    Ids(ValueSet),
    Contains(Literal),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Matches(Pattern),
    Between(Option<Timestamp>, Option<Timestamp>),
}

/// An operator that compares by order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Comparison {
    fn matches(self, found: Ordering) -> bool {
        match self {
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
        }
    }
}

impl FilterNode {
    /// Whether the event matches.
    ///
    /// # Errors
    /// [`TooCostly`] if the result needs more work than is left.
    pub(super) fn matches(&self, input: &mut FilterInput<'_>) -> Result<bool, TooCostly> {
        match self {
            Self::Group(group) => {
                // The first node with this result decides.
                let decisive = group.kind != GroupKind::And;
                for node in &group.nodes {
                    if node.matches(input)? == decisive {
                        return Ok(group.kind == GroupKind::Or);
                    }
                }
                Ok(group.kind != GroupKind::Or)
            }
            Self::Rule(rule) => {
                let found = rule.find(input)?;
                rule.matches(found.as_ref(), input)
            }
        }
    }
}

impl FilterRule {
    /// The value that the rule tests; `None` if the event has no such value.
    ///
    /// # Errors
    /// [`TooCostly`] if the lookup needs more work than is left.
    pub(super) fn find<'a>(&self, input: &mut FilterInput<'a>) -> Result<Option<FieldValue<'a>>, TooCostly> {
        input.spend(FILTER_RULE_WORK)?;
        match &self.operand {
            RuleOperand::Field(location) => input.find(location),
            RuleOperand::Id(id, location) => input.id(*id, location),
            RuleOperand::Timestamp => Ok(Some(FieldValue::Time(input.event_fields().timestamp))),
        }
    }

    /// Whether the rule matches the found value.
    ///
    /// # Errors
    /// [`TooCostly`] if the test needs more work than is left.
    pub(super) fn matches(
        &self,
        found: Option<&FieldValue<'_>>,
        input: &mut FilterInput<'_>,
    ) -> Result<bool, TooCostly> {
        let Some(found) = found else { return Ok(self.is_negated) };
        input.spend(self.test.work(found))?;
        Ok(self.test.matches(found) != self.is_negated)
    }
}

impl RuleTest {
    /// The units of work of the test on this value.
    fn work(&self, found: &FieldValue<'_>) -> u64 {
        let bytes = match found {
            FieldValue::Json(raw) => raw.len() as u64,
            FieldValue::Id(text) | FieldValue::Text(text) => text.len() as u64,
            FieldValue::Time(_) => 0,
        };
        let is_array = matches!(found, FieldValue::Json(raw) if raw.first() == Some(&b'['));
        match self {
            Self::Exists | Self::Between(..) => 0,
            Self::In(_) | Self::Ids(_) | Self::Contains(_) if is_array => bytes * FILTER_ARRAY_BYTE_WORK,
            Self::Matches(pattern) if bytes <= FILTER_SEARCHED_BYTES_MAX as u64 => {
                bytes * (1 + u64::from(pattern.work_per_byte()))
            }
            // A longer value is not searched.
            Self::Contains(_) | Self::StartsWith(_) | Self::EndsWith(_) | Self::Matches(_) => {
                bytes.min(FILTER_SEARCHED_BYTES_MAX as u64)
            }
            Self::Equals(_) | Self::Compare(..) | Self::In(_) | Self::Ids(_) => bytes,
        }
    }

    fn matches(&self, found: &FieldValue<'_>) -> bool {
        match self {
            Self::Exists => true,
            Self::Equals(literal) => literal.equals(found),
            Self::Compare(bound, literal) => literal.order(found).is_some_and(|order| bound.matches(order)),
            Self::In(list) => list.contains(found),
            Self::Ids(list) => list.contains_id(found),
            Self::Contains(literal) => match (found, literal) {
                (FieldValue::Json(raw), _) if raw.first() == Some(&b'[') => {
                    found.items().any(|item| literal.equals_json(item))
                }
                (_, Literal::Text { text, .. }) => searched(found, |found| found.contains(&**text)),
                _ => false,
            },
            Self::StartsWith(text) => searched(found, |found| found.starts_with(&**text)),
            Self::EndsWith(text) => searched(found, |found| found.ends_with(&**text)),
            Self::Matches(pattern) => searched(found, |found| pattern.is_match(found)),
            Self::Between(start, end) => match found {
                FieldValue::Time(at) => start.is_none_or(|start| start <= *at) && end.is_none_or(|end| *at <= end),
                _ => false,
            },
        }
    }
}

/// Whether the value is text that satisfies the predicate and is not longer than the limit for searches.
fn searched(found: &FieldValue<'_>, is_true: impl FnOnce(&str) -> bool) -> bool {
    let fits = !matches!(found, FieldValue::Json(raw) if raw.len() > FILTER_SEARCHED_BYTES_MAX);
    fits && found.text().is_some_and(|text| is_true(&text))
}
