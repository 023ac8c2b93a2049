//! filter: compiled filters, which decide the events of a type that a webhook receives. A filter is compiled once, when
//! the webhook is created or changed.
//!
//! Invariants:
//!
//! - A filter that cannot be compiled is refused, and every error is reported.
//! - An event whose types do not fit does not match.
//! - The work of filters is counted before it is done, in units that are computed from sizes. A filter that needs more
//!   work than is left fails with [`TooCostly`].
//! - A payload is parsed only when a rule needs the payload, and only once for all rules of all webhooks.
//!
//! This folder must never know webhooks, the log or HTTP.
//!
//! `docs/guides/filters.md` defines the meaning of a rule. `compile` makes rules from JSON, `program` runs the rules,
//! and `value` compares values.

mod compile;
mod explain;
mod field;
mod input;
mod pattern;
mod program;
mod sample;
mod search_memory;
mod value;

#[cfg(test)]
mod tests;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::json::LookupTooLong;
use crate::model::{NewEvent, Timestamp};
pub use explain::RuleResult;
pub use field::EventField;
pub use input::FilterInput;
pub use pattern::{PatternCost, pattern_cost};
pub use sample::SampleEvent;

/// The bytes of a compiled rule, or of a value in a list, about.
const PART_BYTES: usize = 160;

/// A compiled filter and the JSON that it was compiled from.
#[derive(Debug, Clone)]
pub struct Filter {
    source: Box<RawValue>,
    program: program::FilterNode,
    pattern_bytes: usize,
    memory_bytes: usize,
}

/// A filter needs more work than is left for the event or its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the filter needs more work on this event than is allowed")]
pub struct TooCostly;

impl From<LookupTooLong> for TooCostly {
    fn from(_: LookupTooLong) -> Self {
        Self
    }
}

/// An error in a filter or a sample event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {detail}")]
pub struct FilterError {
    /// The JSON pointer of the error, such as `/conditions/rules/0/operator`.
    pub pointer: String,
    /// What is wrong and what is allowed.
    pub detail: String,
}

/// The fields of an event that a filter can test, and the payload, which is parsed only if a filter needs the payload.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventFields<'a> {
    /// The tenant of the event.
    pub tenant: &'a str,
    /// The event type.
    pub event_type: &'a str,
    /// `api`, or the name of the source.
    pub source: &'a str,
    /// The time at which the event happened.
    pub timestamp: Timestamp,
    /// The id that the sender gave.
    pub external_id: Option<&'a str>,
    /// The id of the resource that the event is about.
    pub resource_id: Option<&'a str>,
    /// The id of the workspace of the event.
    pub workspace_id: Option<&'a str>,
    /// The id of the user that the event is about.
    pub user_id: Option<&'a str>,
    /// A raw JSON object.
    pub metadata: Option<&'a str>,
    /// The payload: JSON, which ingest checked.
    pub data: &'a [u8],
}

impl<'a> EventFields<'a> {
    /// Takes the fields from the head and the payload of an event.
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
    /// All errors of the filter, each with a JSON pointer.
    pub fn compile(filter: &Value) -> Result<Self, Vec<FilterError>> {
        Self::try_new(filter, false)
    }

    /// Compiles a stored filter, also if its regular expressions are too costly for a new filter.
    ///
    /// # Errors
    /// As for [`Self::compile`].
    pub fn compile_stored(filter: &Value) -> Result<Self, Vec<FilterError>> {
        Self::try_new(filter, true)
    }

    fn try_new(filter: &Value, is_stored: bool) -> Result<Self, Vec<FilterError>> {
        let compile::CompiledFilter { node, pattern_bytes, parts } = compile::compile(filter, is_stored)?;
        let wrong = |error: serde_json::Error| vec![FilterError { pointer: String::new(), detail: error.to_string() }];
        let source = serde_json::value::to_raw_value(filter).map_err(wrong)?;
        let memory_bytes = pattern_bytes + parts * PART_BYTES + source.get().len() * 2;
        Ok(Self { source, program: node, pattern_bytes, memory_bytes })
    }

    /// The bytes of the compiled regular expressions.
    pub fn pattern_bytes(&self) -> usize {
        self.pattern_bytes
    }

    /// The bytes of memory that the compiled filter needs, about.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The filter as written.
    pub fn as_json(&self) -> &RawValue {
        &self.source
    }

    /// Whether an event matches.
    ///
    /// # Errors
    /// [`TooCostly`] if the result needs more than the work of one event.
    pub fn matches(&self, event_fields: &EventFields<'_>) -> Result<bool, TooCostly> {
        self.matches_input(&mut FilterInput::new(event_fields))
    }

    /// Whether an event matches. Several filters can share the input, so that the payload is parsed only once.
    ///
    /// # Errors
    /// [`TooCostly`] if the result needs more work than is left.
    pub fn matches_input(&self, input: &mut FilterInput<'_>) -> Result<bool, TooCostly> {
        self.program.matches(input)
    }

    /// Returns the result of each group and rule, with its pointer in the filter.
    ///
    /// # Errors
    /// [`TooCostly`] if the results need more work than is left.
    pub fn explain<'a>(&'a self, input: &mut FilterInput<'a>) -> Result<Vec<RuleResult<'a>>, TooCostly> {
        let mut results = Vec::new();
        self.program.explain(input, &mut results)?;
        Ok(results)
    }
}
