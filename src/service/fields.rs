//! Reads the fields of a JSON document one by one. Each invalid field is reported by its JSON pointer.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Error;
use crate::filter::{Filter, FilterError};
use crate::limits::FILTERS_BYTES_MAX;
use crate::model::{EventPattern, FieldError, Timestamp};

/// Maximum number of characters of a name.
pub(crate) const NAME_CHARS_MAX: usize = 128;
/// Maximum number of characters of a description.
pub(crate) const DESCRIPTION_CHARS_MAX: usize = 1_024;
/// Maximum number of characters of a user's id.
pub(crate) const USER_ID_CHARS_MAX: usize = 256;
/// Maximum number of event types and patterns of a webhook.
const EVENTS_MAX: usize = 256;
/// Maximum number of bytes of the metadata as JSON.
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// The value of a field in a document that creates or changes a resource.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FieldUpdate<T> {
    /// The field is absent, or it is invalid and an error was recorded.
    Absent,
    /// The field is `null`: it returns to its default.
    Null,
    /// The field has a value.
    Value(T),
}

impl<T> FieldUpdate<T> {
    /// The value in force: the new value, none for `null`, the present value for an absent field.
    pub(crate) fn or(self, present: Option<T>) -> Option<T> {
        match self {
            Self::Absent => present,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }

    /// The value of the field, if it has one.
    pub(crate) fn value(self) -> Option<T> {
        self.or(None)
    }
}

/// The fields of a document that are not read yet, and the errors in those that were read.
#[derive(Debug)]
pub(crate) struct DocumentFields {
    /// The fields that are not read yet.
    pub(crate) unread: Map<String, Value>,
    /// The errors found so far.
    pub(crate) errors: Vec<FieldError>,
}

impl DocumentFields {
    /// Starts to read a document.
    pub(crate) fn new(fields: Map<String, Value>) -> Self {
        Self { unread: fields, errors: Vec::new() }
    }

    /// Records an error in a field.
    pub(crate) fn wrong(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError::new(pointer, detail));
    }

    /// Removes a field and parses it. `read` returns the expected form as the error text.
    pub(crate) fn take<T>(&mut self, key: &str, read: impl FnOnce(Value) -> Result<T, String>) -> FieldUpdate<T> {
        match self.unread.remove(key) {
            None => FieldUpdate::Absent,
            Some(Value::Null) => FieldUpdate::Null,
            Some(value) => match read(value) {
                Ok(value) => FieldUpdate::Value(value),
                Err(detail) => {
                    self.wrong(pointer(key), detail);
                    FieldUpdate::Absent
                }
            },
        }
    }

    /// Ends the document. Every field that is not read is unknown.
    ///
    /// # Errors
    /// [`Error::invalid_body`] with all recorded errors.
    pub(crate) fn finish(mut self, allowed: &str) -> Result<(), Error> {
        self.errors.extend(unknown(&self.unread, allowed));
        if self.errors.is_empty() { Ok(()) } else { Err(Error::invalid_body(self.errors)) }
    }

    /// Reads an RFC 3339 time.
    pub(crate) fn time(&mut self, key: &str) -> Option<Timestamp> {
        let read = |value: Value| {
            let time = value.as_str().and_then(|text| text.parse().ok());
            time.ok_or_else(|| "expected an RFC 3339 time such as 2026-01-31T12:00:00Z".to_owned())
        };
        self.take(key, read).value()
    }

    /// Reads a list of event types and patterns. An absent field is an empty list.
    pub(crate) fn types(&mut self, key: &str) -> Vec<EventPattern> {
        let read = |value: Value| {
            let texts = value.as_array().filter(|texts| texts.len() <= EVENTS_MAX);
            let pattern = |value: &Value| value.as_str().and_then(|text| EventPattern::try_new(text).ok());
            texts
                .and_then(|texts| texts.iter().map(pattern).collect::<Option<Vec<_>>>())
                .ok_or_else(|| format!("expected at most {EVENTS_MAX} event types and patterns"))
        };
        self.take(key, read).value().unwrap_or_default()
    }

    /// Reads text of any length, for a field that is checked elsewhere.
    pub(crate) fn plain_text(&mut self, key: &str) -> Option<String> {
        let read = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err("expected text".to_owned()),
        };
        self.take(key, read).value()
    }

    /// Reads text of limited length.
    pub(crate) fn text(&mut self, key: &str, chars_max: usize) -> FieldUpdate<Box<str>> {
        self.take(key, |value| match value {
            Value::String(text) if text.chars().count() <= chars_max => Ok(text.into()),
            _ => Err(format!("expected text of at most {chars_max} characters")),
        })
    }

    /// Reads an id that the client assigns. A number is converted to text.
    pub(crate) fn id(&mut self, key: &str) -> FieldUpdate<Box<str>> {
        self.take(key, |value| match value {
            Value::String(text) if (1..=USER_ID_CHARS_MAX).contains(&text.chars().count()) => Ok(text.into()),
            Value::Number(number) => Ok(number.to_string().into()),
            _ => Err(format!("expected text of 1 to {USER_ID_CHARS_MAX} characters, or a number")),
        })
    }

    /// Reads `true` or `false`.
    pub(crate) fn flag(&mut self, key: &str) -> FieldUpdate<bool> {
        self.take(key, |value| value.as_bool().ok_or_else(|| "expected true or false".to_owned()))
    }

    /// Reads a whole number in a range.
    pub(crate) fn whole(&mut self, key: &str, allowed: std::ops::RangeInclusive<u64>) -> FieldUpdate<u64> {
        self.take(key, |value| whole(&value, allowed))
    }

    /// Reads a number in a range.
    pub(crate) fn number(&mut self, key: &str, allowed: std::ops::RangeInclusive<f64>) -> FieldUpdate<f64> {
        self.take(key, |value| number(&value, allowed))
    }

    /// Reads `events`: event types and patterns, without duplicates.
    pub(crate) fn events(&mut self) -> FieldUpdate<Vec<EventPattern>> {
        let Some(value) = self.unread.remove("events") else { return FieldUpdate::Absent };
        let Value::Array(texts) = value else {
            if value.is_null() {
                return FieldUpdate::Null;
            }
            self.wrong("/events", "expected an array of event types and patterns");
            return FieldUpdate::Absent;
        };
        if texts.len() > EVENTS_MAX {
            self.wrong("/events", format!("expected at most {EVENTS_MAX} event types and patterns"));
            return FieldUpdate::Absent;
        }
        let mut patterns = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            match EventPattern::try_new(text.as_str().unwrap_or_default()) {
                Ok(pattern) if patterns.contains(&pattern) => {}
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.wrong(format!("/events/{i}"), error.to_string()),
            }
        }
        FieldUpdate::Value(patterns)
    }

    /// Reads `filters`. An empty object means no filter.
    pub(crate) fn filters(&mut self) -> FieldUpdate<Option<Arc<Filter>>> {
        let value = match self.unread.remove("filters") {
            None => return FieldUpdate::Absent,
            Some(Value::Null) => return FieldUpdate::Null,
            Some(Value::Object(empty)) if empty.is_empty() => return FieldUpdate::Value(None),
            Some(value) => value,
        };
        if value.to_string().len() > FILTERS_BYTES_MAX {
            self.wrong("/filters", format!("expected at most {FILTERS_BYTES_MAX} bytes of JSON"));
            return FieldUpdate::Absent;
        }
        match Filter::compile(&value) {
            Ok(filter) => FieldUpdate::Value(Some(Arc::new(filter))),
            Err(errors) => {
                let below = |FilterError { pointer, detail }| FieldError::new(format!("/filters{pointer}"), detail);
                self.errors.extend(errors.into_iter().map(below));
                FieldUpdate::Absent
            }
        }
    }

    /// Reads `metadata` as JSON text. In a patch it is merged with the present metadata (RFC 7396).
    pub(crate) fn metadata(&mut self, present: Option<&str>) -> FieldUpdate<Box<str>> {
        let given = match self.unread.remove("metadata") {
            None => return FieldUpdate::Absent,
            Some(Value::Null) => return FieldUpdate::Null,
            Some(given @ Value::Object(_)) => given,
            Some(_) => {
                self.wrong("/metadata", "expected an object");
                return FieldUpdate::Absent;
            }
        };
        let mut merged = present.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        merge_patch(&mut merged, given);
        let text = merged.to_string();
        if text.len() > METADATA_BYTES_MAX {
            self.wrong("/metadata", format!("expected at most {METADATA_BYTES_MAX} bytes of JSON"));
        }
        FieldUpdate::Value(text.into())
    }
}

/// Parses a whole number in a range.
pub(crate) fn whole(value: &Value, allowed: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    value
        .as_u64()
        .filter(|n| allowed.contains(n))
        .ok_or_else(|| format!("expected a whole number, {} to {}", allowed.start(), allowed.end()))
}

/// Parses a number in a range.
pub(crate) fn number(value: &Value, allowed: std::ops::RangeInclusive<f64>) -> Result<f64, String> {
    value
        .as_f64()
        .filter(|n| allowed.contains(n))
        .ok_or_else(|| format!("expected a number, {} to {}", allowed.start(), allowed.end()))
}

/// Applies a JSON merge patch (RFC 7396).
pub(crate) fn merge_patch(target: &mut Value, patch: Value) {
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

/// Returns an error for each field that is not read. The error suggests the name in `allowed` that was probably meant.
pub(crate) fn unknown(fields: &Map<String, Value>, allowed: &str) -> Vec<FieldError> {
    let detail = |key: &str| match likely(key, allowed.split(',').map(str::trim)) {
        Some(meant) => format!("unknown field; did you mean {meant}? allowed: {allowed}"),
        None => format!("unknown field; allowed: {allowed}"),
    };
    fields.keys().map(|key| FieldError::new(pointer(key), detail(key))).collect()
}

/// The word that is most similar to what was written, if it is similar enough. Case and `_` do not count.
fn likely<'a>(written: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LETTERS_MAX: usize = 32;
    let plain = |word: &str| -> Vec<char> {
        word.chars().filter(|c| c.is_alphanumeric()).take(LETTERS_MAX).flat_map(char::to_lowercase).collect()
    };
    let written = plain(written);
    let near = words.map(|word| (distance(&written, &plain(word)), word)).min_by_key(|(distance, _)| *distance)?;
    // At most one letter in three may be wrong. With more of them every short word is similar to every other.
    (near.0 <= (written.len() / 3).min(2)).then_some(near.1)
}

/// The Levenshtein distance: the number of letters to insert, delete or replace to turn one word into the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The JSON pointer of a top-level field (RFC 6901).
pub(crate) fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_gets_a_suggestion() {
        let allowed = "url, events, max_retries, timeout_seconds, uid";
        for (key, meant) in [
            ("URL", Some("url")),
            ("event", Some("events")),
            ("maxRetries", Some("max_retries")),
            ("timeout_second", Some("timeout_seconds")),
            ("timoeut_seconds", Some("timeout_seconds")),
            ("callback", None),
            ("u", None),
            ("", None),
            ("tls", None),
        ] {
            let fields = Map::from_iter([(key.to_owned(), Value::Null)]);
            let [error] = &*unknown(&fields, allowed) else { panic!("{key}") };
            assert_eq!(error.pointer, format!("/{key}"));
            let hint = meant.map(|meant| format!(" did you mean {meant}?")).unwrap_or_default();
            assert_eq!(error.detail, format!("unknown field;{hint} allowed: {allowed}"));
        }
    }
}
