//! filter: which events of a type a webhook wants (API section 4), compiled once when the webhook is made.
//!
//! Promises: what cannot be compiled is refused with each fault named; matching never fails, an event whose types do not fit
//! simply does not match. A payload is read when a rule asks for it, and once for all rules of all webhooks. Must never know:
//! webhooks, the log, HTTP.
//!
//! What a rule means is said in `docs/guides/filters.md`; `compile` makes rules of JSON, `program` runs them, `value` compares.

mod compile;
mod explain;
mod field;
mod program;
mod sample;
mod subject;
mod value;

#[cfg(test)]
mod tests;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::model::{NewEvent, Timestamp};
pub use explain::Verdict;
pub use field::Field;
pub use sample::Sample;
pub use subject::Subject;

/// A compiled filter, with the JSON that it was made from.
#[derive(Debug, Clone)]
pub struct Filter {
    source: Box<RawValue>,
    program: program::Node,
}

/// What is wrong with a part of a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct FilterError {
    /// JSON pointer within the filter: `/conditions/rules/0/operator`.
    pub pointer: String,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// What a filter may look at: an event's fields, and its payload, which is read only if a filter asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The tenant it belongs to.
    pub tenant: &'a str,
    /// Its type.
    pub event_type: &'a str,
    /// `api`, or the source's name.
    pub source: &'a str,
    /// The event's own time.
    pub timestamp: Timestamp,
    /// The sender's id.
    pub external_id: Option<&'a str>,
    /// The resource it is about.
    pub resource_id: Option<&'a str>,
    /// The workspace it belongs to.
    pub workspace_id: Option<&'a str>,
    /// The user it is about.
    pub user_id: Option<&'a str>,
    /// Raw JSON object.
    pub metadata: Option<&'a str>,
    /// The payload: JSON that was checked when it came in.
    pub data: &'a [u8],
}

impl<'a> Facts<'a> {
    /// Those of an event, of its head and its payload.
    pub fn of(event: &NewEvent<'a>, data: &'a [u8]) -> Self {
        Self {
            tenant: event.tenant,
            event_type: event.event_type,
            source: event.source,
            timestamp: event.timestamp,
            external_id: event.external_id,
            resource_id: event.resource_id,
            workspace_id: event.workspace_id,
            user_id: event.user_id,
            metadata: event.metadata,
            data,
        }
    }
}

impl Filter {
    /// Compiles a filter.
    ///
    /// # Errors
    /// Everything that is wrong, by JSON pointer.
    pub fn compile(filter: &Value) -> Result<Self, Vec<FilterError>> {
        let program = compile::compile(filter)?;
        let wrong = |error: serde_json::Error| vec![FilterError { pointer: String::new(), detail: error.to_string() }];
        Ok(Self { source: serde_json::value::to_raw_value(filter).map_err(wrong)?, program })
    }

    /// The filter as it was written.
    pub fn as_json(&self) -> &RawValue {
        &self.source
    }

    /// Whether an event passes.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        self.passes(&mut Subject::new(facts))
    }

    /// Whether an event passes that other filters look at too.
    pub fn passes(&self, subject: &mut Subject<'_>) -> bool {
        self.program.holds(subject)
    }

    /// Each rule, whether it holds, and what it found; the pointers lead into the filter.
    pub fn explain<'a>(&'a self, subject: &mut Subject<'a>) -> Vec<Verdict<'a>> {
        let mut verdicts = Vec::new();
        self.program.explain(subject, &mut verdicts);
        verdicts
    }
}
