//! The fields of a webhook as a body writes them, one by one: each is read, checked and named if it is wrong.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::body::{pointer, unknown};
use crate::filter::{Filter, FilterError};
use crate::http::{FieldError, Problem};
use crate::limits::FILTERS_BYTES_MAX;
use crate::model::{EventPattern, Timestamp};

/// Characters of a name.
pub(super) const NAME_CHARS_MAX: usize = 128;
/// Characters of a description.
pub(super) const DESCRIPTION_CHARS_MAX: usize = 1_024;
/// Characters of a user's id.
pub(super) const USER_ID_CHARS_MAX: usize = 256;
/// Patterns of a webhook.
const EVENTS_MAX: usize = 256;
/// Bytes of the metadata as JSON.
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// A field as a body gives it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Given<T> {
    /// Not named, or wrong (and then an error says so).
    Absent,
    /// `null`: back to the default.
    Null,
    Value(T),
}

impl<T> Given<T> {
    /// What holds: the value given, none after `null`, else the present one.
    pub(super) fn or(self, present: Option<T>) -> Option<T> {
        match self {
            Self::Absent => present,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }

    pub(super) fn value(self) -> Option<T> {
        self.or(None)
    }
}

/// The fields not yet read, and what is wrong with those that were.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) left: Map<String, Value>,
    pub(super) errors: Vec<FieldError>,
}

impl Fields {
    pub(super) fn new(fields: Map<String, Value>) -> Self {
        Self { left: fields, errors: Vec::new() }
    }

    pub(super) fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError::new(pointer, detail));
    }

    /// Takes a field out and reads it; `read` answers what is allowed if it is wrong.
    pub(super) fn take<T>(&mut self, key: &str, read: impl FnOnce(Value) -> Result<T, String>) -> Given<T> {
        match self.left.remove(key) {
            None => Given::Absent,
            Some(Value::Null) => Given::Null,
            Some(value) => match read(value) {
                Ok(value) => Given::Value(value),
                Err(detail) => {
                    self.wrong(pointer(key), detail);
                    Given::Absent
                }
            },
        }
    }

    /// The end of the body: whatever is left over is unknown.
    pub(super) fn finish(mut self, allowed: &str) -> Result<(), Problem> {
        self.errors.extend(unknown(&self.left, allowed));
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid_body(self.errors)) }
    }

    pub(super) fn time(&mut self, key: &str) -> Option<Timestamp> {
        let read = |value: Value| {
            let time = value.as_str().and_then(|text| text.parse().ok());
            time.ok_or_else(|| "expected an RFC 3339 time such as 2026-01-31T12:00:00Z".to_owned())
        };
        self.take(key, read).value()
    }

    /// Event types and patterns; none if there are none.
    pub(super) fn types(&mut self, key: &str) -> Vec<EventPattern> {
        let read = |value: Value| {
            let texts = value.as_array().filter(|texts| texts.len() <= EVENTS_MAX);
            let pattern = |value: &Value| value.as_str().and_then(|text| EventPattern::try_new(text).ok());
            texts
                .and_then(|texts| texts.iter().map(pattern).collect::<Option<Vec<_>>>())
                .ok_or_else(|| format!("expected at most {EVENTS_MAX} event types and patterns"))
        };
        self.take(key, read).value().unwrap_or_default()
    }

    pub(super) fn text(&mut self, key: &str, chars_max: usize) -> Given<Box<str>> {
        self.take(key, |value| match value {
            Value::String(text) if text.chars().count() <= chars_max => Ok(text.into()),
            _ => Err(format!("expected text of at most {chars_max} characters")),
        })
    }

    /// An id of somebody else's; a number is read as its text.
    pub(super) fn id(&mut self, key: &str) -> Given<Box<str>> {
        self.take(key, |value| match value {
            Value::String(text) if (1..=USER_ID_CHARS_MAX).contains(&text.chars().count()) => Ok(text.into()),
            Value::Number(number) => Ok(number.to_string().into()),
            _ => Err(format!("expected text of 1 to {USER_ID_CHARS_MAX} characters, or a number")),
        })
    }

    pub(super) fn flag(&mut self, key: &str) -> Given<bool> {
        self.take(key, |value| value.as_bool().ok_or_else(|| "expected true or false".to_owned()))
    }

    pub(super) fn whole(&mut self, key: &str, allowed: std::ops::RangeInclusive<u64>) -> Given<u64> {
        self.take(key, |value| whole(&value, allowed))
    }

    pub(super) fn number(&mut self, key: &str, allowed: std::ops::RangeInclusive<f64>) -> Given<f64> {
        self.take(key, |value| number(&value, allowed))
    }

    pub(super) fn events(&mut self) -> Given<Vec<EventPattern>> {
        let Some(value) = self.left.remove("events") else { return Given::Absent };
        let Value::Array(texts) = value else {
            if value.is_null() {
                return Given::Null;
            }
            self.wrong("/events", "expected an array of event types and patterns");
            return Given::Absent;
        };
        if texts.len() > EVENTS_MAX {
            self.wrong("/events", format!("expected at most {EVENTS_MAX} event types and patterns"));
            return Given::Absent;
        }
        let mut patterns = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            match EventPattern::try_new(text.as_str().unwrap_or_default()) {
                Ok(pattern) if patterns.contains(&pattern) => {}
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.wrong(format!("/events/{i}"), error.to_string()),
            }
        }
        Given::Value(patterns)
    }

    /// `filters`; an empty object asks for nothing, and is none.
    pub(super) fn filters(&mut self) -> Given<Option<Arc<Filter>>> {
        let value = match self.left.remove("filters") {
            None => return Given::Absent,
            Some(Value::Null) => return Given::Null,
            Some(Value::Object(empty)) if empty.is_empty() => return Given::Value(None),
            Some(value) => value,
        };
        if value.to_string().len() > FILTERS_BYTES_MAX {
            self.wrong("/filters", format!("expected at most {FILTERS_BYTES_MAX} bytes of JSON"));
            return Given::Absent;
        }
        match Filter::compile(&value) {
            Ok(filter) => Given::Value(Some(Arc::new(filter))),
            Err(errors) => {
                let below = |FilterError { pointer, detail }| FieldError::new(format!("/filters{pointer}"), detail);
                self.errors.extend(errors.into_iter().map(below));
                Given::Absent
            }
        }
    }

    /// `metadata`, as JSON; in a patch it is merged with the present one (RFC 7396).
    pub(super) fn metadata(&mut self, present: Option<&str>) -> Given<Box<str>> {
        let given = match self.left.remove("metadata") {
            None => return Given::Absent,
            Some(Value::Null) => return Given::Null,
            Some(given @ Value::Object(_)) => given,
            Some(_) => {
                self.wrong("/metadata", "expected an object");
                return Given::Absent;
            }
        };
        let mut merged = present.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        merge_patch(&mut merged, given);
        let text = merged.to_string();
        if text.len() > METADATA_BYTES_MAX {
            self.wrong("/metadata", format!("expected at most {METADATA_BYTES_MAX} bytes of JSON"));
        }
        Given::Value(text.into())
    }
}

pub(super) fn whole(value: &Value, allowed: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    value
        .as_u64()
        .filter(|n| allowed.contains(n))
        .ok_or_else(|| format!("expected a whole number, {} to {}", allowed.start(), allowed.end()))
}

pub(super) fn number(value: &Value, allowed: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    value
        .as_f64()
        .filter(|n| allowed.contains(n))
        .ok_or_else(|| format!("expected a number, {} to {}", allowed.start(), allowed.end()))
}

/// RFC 7396.
pub(super) fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(&key);
            } else {
                merge_patch(target.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}
