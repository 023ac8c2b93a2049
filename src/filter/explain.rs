//! Explains why a filter matches an event or not.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::TooCostly;
use super::input::{FieldValue, FilterInput};
use super::program::{FilterNode, GroupKind};
use crate::limits::FILTER_TEST_VALUE_BYTES_MAX;

/// The result of one rule or group of a filter for an event.
#[derive(Debug, Clone, Serialize)]
pub struct RuleResult<'a> {
    /// The JSON pointer of the rule or group in the filter.
    pub pointer: Cow<'a, str>,
    /// Whether the rule or group matches.
    pub matches: bool,
    /// The operator of a group: `and`, `or` or `not`. `None` for a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<&'static str>,
    /// The value that a rule tested; `None` if the event has no value or the value is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Box<RawValue>>,
    /// The size in bytes of a value that is too long to be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_bytes: Option<usize>,
    /// Whether the event lacks the field that a rule tests.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
}

impl<'a> RuleResult<'a> {
    /// Creates the result of a rule that tested no value.
    pub fn new(pointer: impl Into<Cow<'a, str>>, matches: bool) -> Self {
        let (found, found_bytes) = (None, None);
        Self { pointer: pointer.into(), matches, group: None, found, found_bytes, missing: false }
    }

    /// Creates the result of a group with this operator.
    pub fn of_group(pointer: impl Into<Cow<'a, str>>, group: &'static str, matches: bool) -> Self {
        Self { group: Some(group), ..Self::new(pointer, matches) }
    }

    /// Creates the result of a rule that tested a text of the event; `None` if the event has no such text.
    pub fn of_text(pointer: impl Into<Cow<'a, str>>, matches: bool, text: Option<&str>) -> Self {
        Self::new(pointer, matches).with(text.map(FieldValue::Text).as_ref())
    }

    /// Prepends `above` to the pointer.
    #[must_use]
    pub fn below(self, above: &str) -> Self {
        Self { pointer: format!("{above}{}", self.pointer).into(), ..self }
    }

    /// Copies the pointer, so that the result does not borrow from the filter.
    pub fn into_owned(self) -> RuleResult<'static> {
        RuleResult { pointer: Cow::Owned(self.pointer.into_owned()), ..self }
    }

    fn with(mut self, found: Option<&FieldValue<'_>>) -> Self {
        self.missing = found.is_none();
        let raw = match found {
            None => None,
            Some(FieldValue::Json(raw)) if raw.len() > FILTER_TEST_VALUE_BYTES_MAX => {
                self.found_bytes = Some(raw.len());
                None
            }
            Some(FieldValue::Json(raw)) => {
                std::str::from_utf8(raw).ok().and_then(|raw| RawValue::from_string(raw.to_owned()).ok())
            }
            Some(found) => found.text().and_then(|text| to_raw_value(&text).ok()),
        };
        self.found = raw;
        self
    }
}

impl FilterNode {
    /// Appends the result of each group and rule, in the order of the filter. Returns whether the whole node matches.
    ///
    /// # Errors
    /// [`TooCostly`] if the results need more work than is left.
    pub(super) fn explain<'a>(
        &'a self,
        input: &mut FilterInput<'a>,
        results: &mut Vec<RuleResult<'a>>,
    ) -> Result<bool, TooCostly> {
        match self {
            Self::Rule(rule) => {
                let found = rule.find(input)?;
                let matches = rule.matches(found.as_ref(), input)?;
                results.push(RuleResult::new(&*rule.pointer, matches).with(found.as_ref()));
                Ok(matches)
            }
            Self::Group(group) => {
                let at = results.len();
                if let Some(pointer) = &group.pointer {
                    results.push(RuleResult::of_group(&**pointer, group.kind.name(), false));
                }
                // Every node is evaluated, even if the result of the group is already known.
                let mut held = 0;
                for node in &group.nodes {
                    held += usize::from(node.explain(input, results)?);
                }
                let matches = match group.kind {
                    GroupKind::And => held == group.nodes.len(),
                    GroupKind::Or => held > 0,
                    GroupKind::Not => held == 0,
                };
                if group.pointer.is_some() {
                    results[at].matches = matches;
                }
                Ok(matches)
            }
        }
    }
}
