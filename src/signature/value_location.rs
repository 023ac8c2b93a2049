//! Locations of values in a request, each written as one string.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderMap;
use http::HeaderName;

use super::RequestParts;
use crate::json::{self, Pointer};

/// The location of a value in a request. The text forms are: `header:A|B` (the first header that exists),
/// `json:/pointer`, `form:field`, `query:name`, `sig:t=` (an element of the signature value), `path` (the path after
/// the source) and `const:text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueLocation {
    /// The first of these headers that exists.
    Header(Vec<HeaderName>),
    /// A value of the JSON body. A JSON string is decoded. Other values give their JSON text.
    Json(Pointer),
    /// A field of a form body.
    Form(Box<str>),
    /// A parameter of the query.
    Query(Box<str>),
    /// An element of the signature value, by its prefix.
    Sig(Box<str>),
    /// The path after the source.
    Path,
    /// A constant.
    Const(Box<str>),
}

/// The text is not a location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected header:NAME, json:/POINTER, form:FIELD, query:NAME, sig:PREFIX, path or const:TEXT")]
pub struct ValueLocationError;

/// A header occurs more than once with different values, so it is unclear which value counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the header {0} is there more than once, with different values")]
pub struct AmbiguousHeader(pub HeaderName);

impl FromStr for ValueLocation {
    type Err = ValueLocationError;

    fn from_str(text: &str) -> Result<Self, ValueLocationError> {
        if text == "path" {
            return Ok(Self::Path);
        }
        let (kind, value) = text.split_once(':').ok_or(ValueLocationError)?;
        if kind == "json" {
            return Pointer::try_new(value).map(Self::Json).map_err(|_| ValueLocationError);
        }
        if value.is_empty() {
            return Err(ValueLocationError);
        }
        match kind {
            "header" => header_names(value).map(Self::Header),
            "form" => Ok(Self::Form(value.into())),
            "query" => Ok(Self::Query(value.into())),
            "sig" => Ok(Self::Sig(value.into())),
            "const" => Ok(Self::Const(value.into())),
            _ => Err(ValueLocationError),
        }
    }
}

/// Parses header names such as `A|B`.
pub(super) fn header_names(text: &str) -> Result<Vec<HeaderName>, ValueLocationError> {
    text.split('|').map(|name| HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| ValueLocationError)).collect()
}

/// The value of the first of these headers that exists, as text; `None` if no header exists or the value is not UTF-8.
pub(super) fn header<'a>(names: &[HeaderName], headers: &'a HeaderMap) -> Result<Option<&'a str>, AmbiguousHeader> {
    for name in names {
        let mut values = headers.get_all(name).iter();
        let Some(first) = values.next() else { continue };
        if values.any(|other| other != first) {
            return Err(AmbiguousHeader(name.clone()));
        }
        return Ok(std::str::from_utf8(first.as_bytes()).ok());
    }
    Ok(None)
}

/// The first value with this name in `a=b&c=d`, decoded.
fn pair<'a>(encoded: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    url::form_urlencoded::parse(encoded).find(|(given, _)| given == name).map(|(_, value)| value)
}

impl fmt::Display for ValueLocation {
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

impl ValueLocation {
    /// Reads the value; `None` if the value does not exist. Only a scheme can read [`ValueLocation::Sig`], so its
    /// result is `None`.
    ///
    /// # Errors
    /// [`AmbiguousHeader`] if a header occurs more than once with different values.
    pub fn read<'a>(&self, request: &RequestParts<'a>) -> Result<Option<Cow<'a, str>>, AmbiguousHeader> {
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
        location: &str,
        headers: &[(&str, &str)],
        query: Option<&str>,
        body: &str,
    ) -> Result<Option<String>, AmbiguousHeader> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let request = RequestParts {
            method: "POST",
            url: "https://a.example/in",
            query,
            path: "orders/create",
            headers: &map,
            body: body.as_bytes(),
        };
        location.parse::<ValueLocation>().unwrap().read(&request).map(|found| found.map(Cow::into_owned))
    }

    #[test]
    fn places_print_as_they_are_written() {
        for text in ["header:x-a|x-b", "json:/a/0", "json:", "form:a b", "query:x", "sig:t=", "path", "const:a:b"] {
            assert_eq!(text.parse::<ValueLocation>().unwrap().to_string(), text);
        }
        for text in
            ["", "header", "header:", "header:a b", "header:a|", "json:a", "json:/~", "form:", "x:y", "Path", "sig:"]
        {
            assert_eq!(text.parse::<ValueLocation>(), Err(ValueLocationError), "{text:?}");
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
            Err(AmbiguousHeader(HeaderName::from_static("x-a")))
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
