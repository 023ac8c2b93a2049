//! One field of an event, found as a filter's rule finds it.

use std::borrow::Cow;

use super::Facts;
use super::subject::{Found, Place, Subject};
use crate::json::{Path, PathError};

/// Where a value of an event stands: below `data`, then below `data.fields`, then in the event itself.
#[derive(Debug, Clone)]
pub struct Field {
    path: Box<str>,
    place: Place,
}

impl Field {
    /// Reads a path, such as `customer.id` or `/a.b/c`.
    ///
    /// # Errors
    /// For text that is no path; says what is.
    pub fn try_new(path: &str) -> Result<Self, PathError> {
        Ok(Self { path: path.into(), place: Place::new(Path::try_new(path)?) })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// What an event says there, as an id has it: text as it means, so that `7` and `"7"` are the same, anything else as it
    /// is written. `None`: nothing, or `null`.
    pub fn text<'a>(&self, facts: &Facts<'a>) -> Option<Cow<'a, str>> {
        let found = Subject::new(facts).find(&self.place)?;
        match found {
            Found::Json(b"null") => None,
            // Text that no UTF-8 can say counts as it is written too.
            Found::Json(raw) => found.text().or_else(|| Some(String::from_utf8_lossy(raw))),
            Found::Id(_) | Found::Text(_) | Found::Time(_) => found.text(),
        }
    }
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for Field {}
