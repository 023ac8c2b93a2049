//! event_map: what a provider's event becomes, compiled once.
//!
//! Promises: a map that compiles never panics and never makes what is no JSON or no event type; a value that it takes from
//! the payload goes on byte for byte, however it was written (`1.10`, `1e400`, `"\u00e9"`); of two rules the first counts.

mod rule;
mod template;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;

use self::rule::{Rule, When};
use super::{Breach, Source};
use crate::limits::{BREACHES_LISTED_MAX, EVENT_TYPE_BYTES_MAX, MAP_RULES_MAX};

/// A compiled map. A clone shares the rules.
#[derive(Debug, Clone, Default)]
pub struct EventMap {
    compiled: Arc<Compiled>,
}

#[derive(Debug, Default)]
struct Compiled {
    rules: Vec<Rule>,
    /// The first rule of a topic that is written out.
    exact: HashMap<Box<str>, usize>,
    /// The rules of more than one topic, in their order.
    wide: Vec<(When, usize)>,
}

/// An event on its way in, as a map sees it.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Where it comes from.
    pub source: &'a Source,
    /// The provider's type in its own spelling, if it has one.
    pub topic: Option<&'a str>,
    /// The data as JSON: the body, a form as an object, text as a string.
    pub data: &'a str,
    /// The request's headers.
    pub headers: &'a HeaderMap,
}

/// What an event became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Its type.
    pub event_type: String,
    /// Its data, JSON, where a rule builds some; `None`: the payload goes as it came.
    pub data: Option<String>,
}

/// Why a map could not be applied to an event, which then stays as it came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// A value that the rule needs is not there.
    #[error("rule {rule}: {place} is not there")]
    Missing {
        /// Its index.
        rule: usize,
        /// `/id`.
        place: Box<str>,
    },
    /// What the rule makes is no event type.
    #[error("rule {rule}: it makes no valid event type")]
    Type {
        /// Its index.
        rule: usize,
    },
    /// What the rule makes is far larger than what came.
    #[error("rule {rule}: its data is too large")]
    TooLarge {
        /// Its index.
        rule: usize,
    },
}

impl EventMap {
    /// # Errors
    /// What is wrong with the rules, up to a bound; pointers begin with `/event_map`.
    pub fn try_new(rules: &[Value]) -> Result<Self, Vec<Breach>> {
        if rules.len() > MAP_RULES_MAX {
            return Err(vec![Breach::new("/event_map", format!("expected at most {MAP_RULES_MAX} rules"))]);
        }
        let mut compiled = Compiled::default();
        let mut breaches = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            match Rule::try_new(rule, &format!("/event_map/{index}")) {
                Ok((When::Exact(topic), rule)) => {
                    compiled.exact.entry(topic).or_insert(index);
                    compiled.rules.push(rule);
                }
                Ok((when, rule)) => {
                    compiled.wide.push((when, index));
                    compiled.rules.push(rule);
                }
                Err(wrong) => breaches.extend(wrong),
            }
        }
        breaches.truncate(BREACHES_LISTED_MAX);
        if breaches.is_empty() { Ok(Self { compiled: Arc::new(compiled) }) } else { Err(breaches) }
    }

    /// The first rule that wants this event, applied; `None`: no rule does.
    ///
    /// # Errors
    /// The event stays as it came.
    pub fn apply(&self, event: &Incoming<'_>) -> Result<Option<Mapped>, MapError> {
        let Some(index) = self.compiled.find(event.topic) else { return Ok(None) };
        self.compiled.rules[index].apply(index, event).map(Some)
    }

    /// Whether there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.compiled.rules.is_empty()
    }
}

impl Compiled {
    fn find(&self, topic: Option<&str>) -> Option<usize> {
        let exact = topic.and_then(|topic| self.exact.get(topic)).copied();
        let wide = self.wide.iter().find(|(when, _)| when.wants(topic)).map(|(_, index)| *index);
        match (exact, wide) {
            (Some(exact), Some(wide)) => Some(exact.min(wide)),
            (exact, wide) => exact.or(wide),
        }
    }
}

/// `{source}.{topic}` with `/` as `.`, and what no event type may have as `_`; `{source}.event` without a topic. What is
/// longer than a type may be is cut.
pub fn plain_type(source: &str, topic: Option<&str>) -> String {
    let topic = topic.filter(|topic| !topic.is_empty()).unwrap_or(template::NO_TOPIC);
    let mut text = format!("{source}.{}", template::plain_topic(topic));
    // Every character is ASCII by now, as a source's name is.
    text.truncate(EVENT_TYPE_BYTES_MAX);
    text
}
