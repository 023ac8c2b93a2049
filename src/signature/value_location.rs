//! Locations of values in a request, each written as one string.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::HeaderMap;
use http::HeaderName;

use super::{RequestParts, multipart_fields};
use crate::json::{self, Pointer};

/// The location of a value in a request. The text forms are: `header:A|B` (the first header that exists),
/// `json:/pointer`, `form:field`, `form:field#/pointer`, `query:name`, `sig:t=` (an element of the signature value), `path` (the path after
/// the source) and `const:text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueLocation {
    /// The first of these headers that exists.
    Header(Vec<HeaderName>),
    /// A value of the JSON body. A JSON string is decoded. Other values give their JSON text.
    Json(Pointer),
    /// A field of a form body, urlencoded or multipart.
    Form(Box<str>),
    /// A value of the JSON in a field of a form body.
    FormJson(Box<str>, Pointer),
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
#[error(
    "expected header:NAME, json:/POINTER, form:FIELD, form:FIELD#/POINTER, query:NAME, sig:PREFIX, path or const:TEXT"
)]
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
            "form" => match value.split_once("#/") {
                Some((field, pointer)) if !field.is_empty() => Pointer::try_new(&format!("/{pointer}"))
                    .map(|pointer| Self::FormJson(field.into(), pointer))
                    .map_err(|_| ValueLocationError),
                _ => Ok(Self::Form(value.into())),
            },
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

/// A parameter of the query, decoded.
pub(super) fn query_parameter<'a>(request: &RequestParts<'a>, name: &str) -> Option<Cow<'a, str>> {
    request.query.and_then(|query| pair(query.as_bytes(), name))
}

/// A text field of a form, urlencoded or multipart. Bytes that are no UTF-8 become U+FFFD.
pub(super) fn form_field<'a>(request: &RequestParts<'a>, name: &str) -> Option<Cow<'a, str>> {
    let Some(fields) = multipart_fields(request) else { return pair(request.body, name) };
    let mut texts = fields.ok()?.into_iter().filter(|field| field.file_name.is_none());
    texts.find(|field| field.name == name).map(|field| String::from_utf8_lossy(field.content))
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
            Self::FormJson(name, pointer) => write!(f, "form:{name}#{pointer}"),
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
            Self::Form(name) => form_field(request, name),
            Self::FormJson(name, pointer) => form_field(request, name).and_then(|text| {
                let found = pointer.find(text.as_bytes()).and_then(json::text);
                found.map(|found| Cow::Owned(found.into_owned()))
            }),
            Self::Query(name) => query_parameter(request, name),
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
        for text in [
            "header:x-a|x-b",
            "json:/a/0",
            "json:",
            "form:a b",
            "form:a#/b/0",
            "query:x",
            "sig:t=",
            "path",
            "const:a:b",
        ] {
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
        assert_eq!(read("form:p#/a/0", &[], None, "x=1&p=%7B%22a%22%3A%5B%22b%22%5D%7D"), some("b"));
        assert_eq!(read("form:p#/a", &[], None, "p=no+JSON"), Ok(None));
        let multipart = ("content-type", "multipart/form-data; boundary=b");
        let body = "--b\r\nContent-Disposition: form-data; name=a; filename=f\r\n\r\nno\r\n--b\r\n\
                    Content-Disposition: form-data; name=a\r\n\r\n{\"c\":1}\r\n--b--";
        assert_eq!(read("form:a", &[multipart], None, body), some("{\"c\":1}"));
        assert_eq!(read("form:a#/c", &[multipart], None, body), some("1"));
        assert_eq!(read("form:a", &[multipart], None, &body[..body.len() - 4]), Ok(None), "not complete");
        assert_eq!(read("query:x", &[], Some("y=1&x=%2Fa"), "x=no"), some("/a"));
        assert_eq!(read("query:x", &[], None, "x=no"), Ok(None));
        assert_eq!(read("path", &[], None, ""), some("orders/create"));
        assert_eq!(read("const:a:b", &[], None, ""), some("a:b"));
        assert_eq!(read("sig:t=", &[], None, ""), Ok(None));
    }
}
