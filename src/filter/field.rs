//! A field of an event, found in the same way as by the rule of a filter.

use std::borrow::Cow;

use super::EventFields;
use super::input::{FieldLocation, FieldValue, FilterInput};
use crate::json::{Path, PathError};

/// The location of a value in an event: under `data`, then under `data.fields`, then in the event itself.
#[derive(Debug, Clone)]
pub struct EventField {
    path: Box<str>,
    location: FieldLocation,
}

impl EventField {
    /// Parses a path, such as `customer.id` or `/a.b/c`.
    ///
    /// # Errors
    /// [`PathError`] if the text is not a path.
    pub fn try_new(path: &str) -> Result<Self, PathError> {
        Ok(Self { path: path.into(), location: FieldLocation::new(Path::try_new(path)?) })
    }

    /// The path as written.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// The value of the field as text; `None` if the value is absent or `null`. JSON strings are decoded, so `7` and
    /// `"7"` give the same text. Other values give their JSON text.
    pub fn text<'a>(&self, event_fields: &EventFields<'a>) -> Option<Cow<'a, str>> {
        let mut input = FilterInput::new(event_fields);
        // The result must not depend on a budget: the order of deliveries does.
        input.set_work_left(u64::MAX);
        let found = input.find(&self.location).ok().flatten()?;
        match found {
            FieldValue::Json(b"null") => None,
            // A string with an escape that is not valid Unicode gives its JSON text.
            FieldValue::Json(raw) => found.text().or_else(|| Some(String::from_utf8_lossy(raw))),
            FieldValue::Id(_) | FieldValue::Text(_) | FieldValue::Time(_) => found.text(),
        }
    }
}

impl PartialEq for EventField {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for EventField {}
