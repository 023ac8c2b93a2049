//! A value source: one string that says where in a request a value stands.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use hyper::http::HeaderName;
use serde::{Deserialize, Serialize};

use super::Request;
use crate::json::Pointer;

/// `header:A|B` (the first that is there) · `json:/pointer` · `form:field` · `query:name` · `sig:t=` (an element of the
/// signature's value) · `path` (what follows the source in the path) · `const:text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The first of these headers that is there.
    Header(Vec<HeaderName>),
    /// A value of the body, a JSON text: text as it means, anything else as it is written.
    Json(Pointer),
    /// A field of the body, a form.
    Form(Box<str>),
    /// A parameter of the query.
    Query(Box<str>),
    /// An element of the signature's value, by its prefix.
    Sig(Box<str>),
    /// What follows the source in the path.
    Path,
    /// Always this.
    Const(Box<str>),
}

/// One place or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected header:NAME, json:/POINTER, form:FIELD, query:NAME, sig:PREFIX, path or const:TEXT")]
pub struct PlaceError;

/// A header is there twice with different values, so nobody can say which of them counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} is there more than once, with different values")]
pub struct Ambiguous(pub HeaderName);

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(_text: &str) -> Result<Self, PlaceError> {
        Err(PlaceError)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("const:")
    }
}

impl Place {
    /// The value, if it is there; [`Place::Sig`] is only found by a scheme.
    ///
    /// # Errors
    /// If a header is there twice with different values.
    pub fn read<'a>(&self, _request: &Request<'a>) -> Result<Option<Cow<'a, str>>, Ambiguous> {
        Ok(None)
    }
}
