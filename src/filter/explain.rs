//! Why a filter let an event pass, or not.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::program::{GroupKind, Node};
use super::subject::{Found, Subject};
use crate::limits::FILTER_SHOWN_BYTES_MAX;

/// What one rule or group of a filter says of an event.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict<'a> {
    /// Where it stands in the filter.
    pub pointer: Cow<'a, str>,
    /// Whether it holds.
    pub matches: bool,
    /// Of a group: `and`, `or`, `not`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<&'static str>,
    /// Of a rule: the value that it looked at; absent where there is none, and where it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Box<RawValue>>,
    /// Of a rule: the bytes of a found value that is too long to be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_bytes: Option<usize>,
    /// Of a rule: whether the event has no such field.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
}

impl<'a> Verdict<'a> {
    /// One that looked at no value.
    pub fn new(pointer: impl Into<Cow<'a, str>>, matches: bool) -> Self {
        let (found, found_bytes) = (None, None);
        Self { pointer: pointer.into(), matches, group: None, found, found_bytes, missing: false }
    }

    /// One of a group.
    pub fn of_group(pointer: impl Into<Cow<'a, str>>, group: &'static str, matches: bool) -> Self {
        Self { group: Some(group), ..Self::new(pointer, matches) }
    }

    /// One that looked at a text of the event.
    pub fn of_text(pointer: impl Into<Cow<'a, str>>, matches: bool, text: Option<&str>) -> Self {
        Self::new(pointer, matches).with(text.map(Found::Text).as_ref())
    }

    /// The same with a pointer from further above.
    #[must_use]
    pub fn below(self, above: &str) -> Self {
        Self { pointer: format!("{above}{}", self.pointer).into(), ..self }
    }

    /// The same verdict with a pointer of its own.
    pub fn into_owned(self) -> Verdict<'static> {
        Verdict { pointer: Cow::Owned(self.pointer.into_owned()), ..self }
    }

    fn with(mut self, found: Option<&Found<'_>>) -> Self {
        self.missing = found.is_none();
        let raw = match found {
            None => None,
            Some(Found::Json(raw)) if raw.len() > FILTER_SHOWN_BYTES_MAX => {
                self.found_bytes = Some(raw.len());
                None
            }
            Some(Found::Json(raw)) => {
                std::str::from_utf8(raw).ok().and_then(|raw| RawValue::from_string(raw.to_owned()).ok())
            }
            Some(found) => found.text().and_then(|text| to_raw_value(&text).ok()),
        };
        self.found = raw;
        self
    }
}

impl Node {
    /// Adds what each group and rule says, in the order of the filter; whether all of it holds.
    pub(super) fn explain<'a>(&'a self, subject: &mut Subject<'a>, verdicts: &mut Vec<Verdict<'a>>) -> bool {
        match self {
            Self::Rule(rule) => {
                let found = rule.find(subject);
                let matches = rule.holds(found.as_ref());
                verdicts.push(Verdict::new(&*rule.pointer, matches).with(found.as_ref()));
                matches
            }
            Self::Group(group) => {
                let at = verdicts.len();
                if let Some(pointer) = &group.pointer {
                    verdicts.push(Verdict::of_group(&**pointer, group.kind.name(), false));
                }
                // Each is asked, also where the answer is known.
                let held = group.nodes.iter().filter(|node| node.explain(subject, verdicts)).count();
                let matches = match group.kind {
                    GroupKind::And => held == group.nodes.len(),
                    GroupKind::Or => held > 0,
                    GroupKind::Not => held == 0,
                };
                if group.pointer.is_some() {
                    verdicts[at].matches = matches;
                }
                matches
            }
        }
    }
}
