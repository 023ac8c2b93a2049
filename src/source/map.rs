//! event_map: what a provider's event becomes, compiled once.

use hyper::HeaderMap;
use serde_json::Value;

use super::{Breach, Source};

/// A compiled map.
#[derive(Debug, Clone, Default)]
pub struct EventMap {}

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
}

impl EventMap {
    /// # Errors
    /// Everything that is wrong with the rules; pointers begin with `/event_map`.
    pub fn try_new(_rules: &[Value]) -> Result<Self, Vec<Breach>> {
        Ok(Self {})
    }

    /// The first rule that wants this event, applied; `None`: no rule does.
    ///
    /// # Errors
    /// The event stays as it came.
    pub fn apply(&self, _event: &Incoming<'_>) -> Result<Option<Mapped>, MapError> {
        Ok(None)
    }
}

/// `{source}.{topic}` with `/` as `.`, and what no event type may have as `_`; `{source}.event` without a topic.
pub fn plain_type(source: &str, _topic: Option<&str>) -> String {
    source.to_owned()
}
