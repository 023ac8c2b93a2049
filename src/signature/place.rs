//! A value source: one string that says where in a request a value stands.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderMap;
use http::HeaderName;

use super::Request;
use crate::json::{self, Pointer};

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

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if text == "path" {
            return Ok(Self::Path);
        }
        let (kind, value) = text.split_once(':').ok_or(PlaceError)?;
        if kind == "json" {
            return Pointer::try_new(value).map(Self::Json).map_err(|_| PlaceError);
        }
        if value.is_empty() {
            return Err(PlaceError);
        }
        match kind {
            "header" => header_names(value).map(Self::Header),
            "form" => Ok(Self::Form(value.into())),
            "query" => Ok(Self::Query(value.into())),
            "sig" => Ok(Self::Sig(value.into())),
            "const" => Ok(Self::Const(value.into())),
            _ => Err(PlaceError),
        }
    }
}

/// `A|B`.
pub(super) fn header_names(text: &str) -> Result<Vec<HeaderName>, PlaceError> {
    text.split('|').map(|name| HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| PlaceError)).collect()
}

/// The first of these headers that is there, as text; one that is no UTF-8 is as if it were not there.
pub(super) fn header<'a>(names: &[HeaderName], headers: &'a HeaderMap) -> Result<Option<&'a str>, Ambiguous> {
    for name in names {
        let mut values = headers.get_all(name).iter();
        let Some(first) = values.next() else { continue };
        if values.any(|other| other != first) {
            return Err(Ambiguous(name.clone()));
        }
        return Ok(std::str::from_utf8(first.as_bytes()).ok());
    }
    Ok(None)
}

/// The first value of this name in `a=b&c=d`, decoded.
fn pair<'a>(encoded: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    url::form_urlencoded::parse(encoded).find(|(given, _)| given == name).map(|(_, value)| value)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(names) => {
                f.write_str("header:")?;
                names.iter().enumerate().try_for_each(|(i, name)| {
                    let bar = if i == 0 { "" } else { "|" };
                    write!(f, "{bar}{name}")
                })
            }
            Self::Json(pointer) => write!(f, "json:{pointer}"),
            Self::Form(name) => write!(f, "form:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Sig(prefix) => write!(f, "sig:{prefix}"),
            Self::Path => f.write_str("path"),
            Self::Const(text) => write!(f, "const:{text}"),
        }
    }
}

impl Place {
    /// The value, if it is there; [`Place::Sig`] is only found by a scheme.
    ///
    /// # Errors
    /// If a header is there twice with different values.
    pub fn read<'a>(&self, request: &Request<'a>) -> Result<Option<Cow<'a, str>>, Ambiguous> {
        Ok(match self {
            Self::Header(names) => header(names, request.headers)?.map(Cow::Borrowed),
            Self::Json(pointer) => pointer.find(request.body).and_then(json::text),
            Self::Form(name) => pair(request.body, name),
            Self::Query(name) => request.query.and_then(|query| pair(query.as_bytes(), name)),
            Self::Path => Some(Cow::Borrowed(request.path)).filter(|path| !path.is_empty()),
            Self::Const(text) => Some(Cow::Owned(text.to_string())),
            Self::Sig(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        place: &str,
        headers: &[(&str, &str)],
        query: Option<&str>,
        body: &str,
    ) -> Result<Option<String>, Ambiguous> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let request = Request {
            method: "POST",
            url: "https://a.example/in",
            query,
            path: "orders/create",
            headers: &map,
            body: body.as_bytes(),
        };
        place.parse::<Place>().unwrap().read(&request).map(|found| found.map(Cow::into_owned))
    }

    #[test]
    fn places_print_as_they_are_written() {
        for text in ["header:x-a|x-b", "json:/a/0", "json:", "form:a b", "query:x", "sig:t=", "path", "const:a:b"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in
            ["", "header", "header:", "header:a b", "header:a|", "json:a", "json:/~", "form:", "x:y", "Path", "sig:"]
        {
            assert_eq!(text.parse::<Place>(), Err(PlaceError), "{text:?}");
        }
    }

    #[test]
    fn the_first_header_that_is_there_counts_and_two_different_ones_do_not() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(read("header:X-A|X-B", &[("x-b", "2")], None, ""), some("2"));
        assert_eq!(read("header:X-A|X-B", &[("x-b", "2"), ("x-a", "1")], None, ""), some("1"));
        assert_eq!(read("header:X-A", &[("x-a", "1"), ("x-a", "1")], None, ""), some("1"));
        assert_eq!(
            read("header:X-A", &[("x-a", "1"), ("x-a", "2")], None, ""),
            Err(Ambiguous(HeaderName::from_static("x-a")))
        );
        assert_eq!(read("header:X-A", &[], None, ""), Ok(None));
    }

    #[test]
    fn values_are_read_as_they_mean() {
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(read("json:/a/0", &[], None, r#"{"a":["x\u0041"]}"#), some("xA"));
        assert_eq!(read("json:/a", &[], None, r#"{"a":1.50}"#), some("1.50"));
        assert_eq!(read("json:/a", &[], None, r#"{"a":null}"#), Ok(None));
        assert_eq!(read("json:/a", &[], None, "not JSON"), Ok(None));
        assert_eq!(read("form:a b", &[], None, "c=1&a+b=%41+%2B"), some("A +"));
        assert_eq!(read("query:x", &[], Some("y=1&x=%2Fa"), "x=no"), some("/a"));
        assert_eq!(read("query:x", &[], None, "x=no"), Ok(None));
        assert_eq!(read("path", &[], None, ""), some("orders/create"));
        assert_eq!(read("const:a:b", &[], None, ""), some("a:b"));
        assert_eq!(read("sig:t=", &[], None, ""), Ok(None));
    }
}
