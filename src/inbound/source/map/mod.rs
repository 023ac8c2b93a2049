//! `event_map`: maps the events of a provider to event types and data. A map is compiled once.
//!
//! Invariants: a compiled map never panics and produces only valid JSON and valid event types. Values of the payload are
//! copied byte for byte (`1.10`, `1e400`, `"\u00e9"`). The first matching rule is applied.

mod rule;
mod template;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;

use self::rule::{MapRule, TopicPattern};
use super::Source;
use crate::limits::{EVENT_TYPE_BYTES_MAX, MAP_RULES_MAX, VIOLATIONS_LISTED_MAX};
use crate::model::FieldError;

/// A compiled event map. Clones share the rules.
#[derive(Debug, Clone, Default)]
pub struct EventMap {
    compiled: Arc<CompiledMap>,
}

#[derive(Debug, Default)]
struct CompiledMap {
    rules: Vec<MapRule>,
    /// The first rule of each exact topic.
    exact: HashMap<Box<str>, usize>,
    /// The rules with a pattern of topics, in order.
    patterns: Vec<(TopicPattern, usize)>,
}

/// The event that a map is applied to.
#[derive(Debug, Clone, Copy)]
pub struct MapInput<'a> {
    /// The source of the event.
    pub source: &'a Source,
    /// The event type as the provider writes it, if there is one.
    pub topic: Option<&'a str>,
    /// The data as JSON: the body, a form as an object, or text as a string.
    pub data: &'a str,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
}

/// The result of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedEvent {
    /// The event type.
    pub event_type: String,
    /// The data that the rule builds, as JSON. `None` if the payload is kept unchanged.
    pub data: Option<String>,
}

/// The reason why a rule could not be applied. The event then stays unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// A required value is missing.
    #[error("rule {rule}: {place} is not there")]
    Missing {
        /// The index of the rule.
        rule: usize,
        /// The location as written in the rule, such as `/id`.
        place: Box<str>,
    },
    /// The rule produces an invalid event type.
    #[error("rule {rule}: it makes no valid event type")]
    Type {
        /// The index of the rule.
        rule: usize,
    },
    /// The data that the rule builds is too large.
    #[error("rule {rule}: its data is too large")]
    TooLarge {
        /// The index of the rule.
        rule: usize,
    },
}

impl EventMap {
    /// Compiles the rules.
    ///
    /// # Errors
    /// The errors of the rules, up to [`VIOLATIONS_LISTED_MAX`]. The pointers begin with `/event_map`.
    pub fn try_new(rules: &[Value]) -> Result<Self, Vec<FieldError>> {
        if rules.len() > MAP_RULES_MAX {
            return Err(vec![FieldError::new("/event_map", format!("expected at most {MAP_RULES_MAX} rules"))]);
        }
        let mut compiled = CompiledMap::default();
        let mut violations = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            match MapRule::try_new(rule, &format!("/event_map/{index}")) {
                Ok((TopicPattern::Exact(topic), rule)) => {
                    compiled.exact.entry(topic).or_insert(index);
                    compiled.rules.push(rule);
                }
                Ok((when, rule)) => {
                    compiled.patterns.push((when, index));
                    compiled.rules.push(rule);
                }
                Err(wrong) => violations.extend(wrong),
            }
        }
        violations.truncate(VIOLATIONS_LISTED_MAX);
        if violations.is_empty() { Ok(Self { compiled: Arc::new(compiled) }) } else { Err(violations) }
    }

    /// Applies the first rule that matches the event. Returns `None` if no rule matches.
    ///
    /// # Errors
    /// The rule matches but cannot be applied; the event stays unchanged.
    pub fn apply(&self, event: &MapInput<'_>) -> Result<Option<MappedEvent>, MapError> {
        let Some(index) = self.compiled.find(event.topic) else { return Ok(None) };
        self.compiled.rules[index].apply(index, event).map(Some)
    }

    /// Whether the map has no rules.
    pub fn is_empty(&self) -> bool {
        self.compiled.rules.is_empty()
    }
}

impl CompiledMap {
    fn find(&self, topic: Option<&str>) -> Option<usize> {
        let exact = topic.and_then(|topic| self.exact.get(topic)).copied();
        let pattern = self.patterns.iter().find(|(when, _)| when.matches(topic)).map(|(_, index)| *index);
        match (exact, pattern) {
            (Some(exact), Some(pattern)) => Some(exact.min(pattern)),
            (exact, pattern) => exact.or(pattern),
        }
    }
}

/// The event type if no rule matches: `{source}.{topic}`, or `{source}.event` without a topic. `/` becomes `.`, and other
/// characters that are not allowed become `_`. The result is truncated to the maximum length of a type.
pub fn default_event_type(source: &str, topic: Option<&str>) -> String {
    let topic = topic.filter(|topic| !topic.is_empty()).unwrap_or(template::NO_TOPIC);
    let mut text = format!("{source}.{}", template::topic_as_type(topic));
    // All characters are ASCII here, as in the name of a source.
    text.truncate(EVENT_TYPE_BYTES_MAX);
    text
}
