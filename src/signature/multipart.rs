//! Multipart forms (RFC 7578): the parts of a `multipart/form-data` body, without a copy.

use std::borrow::Cow;

use super::RequestParts;
use crate::limits::{MULTIPART_HEAD_BYTES_MAX, MULTIPART_PARTS_MAX};

/// The maximum length of a boundary (RFC 2046, section 5.1.1).
const BOUNDARY_CHARS_MAX: usize = 70;

/// A part of a multipart form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartField<'a> {
    /// The name of the field.
    pub name: Cow<'a, str>,
    /// The name of the file. `None` if the part is a text field.
    pub file_name: Option<Cow<'a, str>>,
    /// The media type of the part.
    pub content_type: Option<&'a str>,
    /// The content.
    pub content: &'a [u8],
}

/// The body is no multipart form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The body does not follow RFC 7578.
    #[error("the body is no complete multipart form: are the boundaries those of Content-Type?")]
    Malformed,
    /// The form has more parts than any provider sends.
    #[error("the form has more than {MULTIPART_PARTS_MAX} parts")]
    TooMany,
}

/// The fields of a multipart form, in order. Returns `None` if the request has another media type.
///
/// # Errors
/// [`MultipartError`] if the body is no complete form, or has too many parts.
pub fn multipart_fields<'a>(request: &RequestParts<'a>) -> Option<Result<Vec<MultipartField<'a>>, MultipartError>> {
    let content_type = request.headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
    let boundary = match boundary(content_type)? {
        "" => return Some(Err(MultipartError::Malformed)),
        boundary => boundary,
    };
    Some(fields(boundary, request.body))
}

/// Whether a media type is that of a multipart form.
pub fn is_multipart(content_type: &str) -> bool {
    boundary(content_type).is_some()
}

/// The boundary of a media type, empty if it is missing. Returns `None` for another media type.
fn boundary(content_type: &str) -> Option<&str> {
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let found = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    });
    Some(found.filter(|boundary| boundary.len() <= BOUNDARY_CHARS_MAX).unwrap_or_default())
}

fn fields<'a>(boundary: &str, body: &'a [u8]) -> Result<Vec<MultipartField<'a>>, MultipartError> {
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = delimiter.as_bytes();
    // The first delimiter may be at the beginning of the body, without a line break before it.
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => cut(body, delimiter).ok_or(MultipartError::Malformed)?.1,
    };
    let mut fields = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Ok(fields);
        }
        let (padding, part) = cut(rest, b"\r\n").ok_or(MultipartError::Malformed)?;
        if !padding.iter().all(|b| matches!(b, b' ' | b'\t')) {
            return Err(MultipartError::Malformed);
        }
        if fields.len() == MULTIPART_PARTS_MAX {
            return Err(MultipartError::TooMany);
        }
        let (head, content) = if let Some(content) = part.strip_prefix(b"\r\n") {
            (&b""[..], content)
        } else {
            let near = &part[..part.len().min(MULTIPART_HEAD_BYTES_MAX)];
            let (head, _) = cut(near, b"\r\n\r\n").ok_or(MultipartError::Malformed)?;
            (head, &part[head.len() + 4..])
        };
        let (content, after) = match content.strip_prefix(&delimiter[2..]) {
            // An empty content may have no line break of its own.
            Some(after) => (&b""[..], after),
            None => cut(content, delimiter).ok_or(MultipartError::Malformed)?,
        };
        fields.extend(field(head, content));
        rest = after;
    }
}

/// The bytes before and after the first occurrence of `mark`, which begins with a carriage return.
fn cut<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut from = 0;
    while let Some(next) = bytes.get(from..)?.iter().position(|b| *b == b'\r') {
        let at = from + next;
        if let Some(after) = bytes[at..].strip_prefix(mark) {
            return Some((&bytes[..at], after));
        }
        from = at + 1;
    }
    None
}

/// A field; `None` if the part has no name.
fn field<'a>(head: &'a [u8], content: &'a [u8]) -> Option<MultipartField<'a>> {
    let head = std::str::from_utf8(head).ok()?;
    let header = |wanted: &str| {
        head.split("\r\n").find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    let disposition = header("content-disposition")?;
    Some(MultipartField {
        name: parameter(disposition, "name")?,
        file_name: parameter(disposition, "filename").or_else(|| extended(disposition)),
        content_type: header("content-type"),
        content,
    })
}

/// The value of a parameter of a header, in quotes or without.
fn parameter<'a>(header: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (name, value) = rest.split_once('=')?;
        let value = value.trim_start();
        let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
            unquoted(quoted)?
        } else {
            let (value, after) = value.split_once(';').unwrap_or((value, ""));
            (Cow::Borrowed(value.trim()), after)
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after.trim_start().trim_start_matches(';');
    }
}

/// The text of a quoted string up to its end, and what follows.
fn unquoted(quoted: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut plain: Option<String> = None;
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((plain.map_or(Cow::Borrowed(&quoted[..at]), Cow::Owned), &quoted[at + 1..])),
            // Only quotes and backslashes are escaped: a Windows path has other backslashes.
            '\\' if quoted[at + 1..].starts_with(['"', '\\']) => {
                let plain = plain.get_or_insert_with(|| quoted[..at].to_owned());
                plain.push(chars.next()?.1);
            }
            c => plain.iter_mut().for_each(|plain| plain.push(c)),
        }
    }
    None
}

/// The name of a file as in RFC 8187: `filename*=UTF-8''a%20b`.
fn extended(disposition: &str) -> Option<Cow<'_, str>> {
    let value = parameter(disposition, "filename*")?;
    let (_, encoded) = value.rsplit_once('\'')?;
    // A plus sign means itself here.
    let encoded = encoded.replace('+', "%2B");
    let decoded = url::form_urlencoded::parse(encoded.as_bytes()).next()?.0.into_owned();
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    /// Name, file name and content.
    type Read = (String, Option<String>, Vec<u8>);

    fn read(content_type: &str, body: &[u8]) -> Option<Result<Vec<Read>, MultipartError>> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", content_type.parse().unwrap());
        let request = RequestParts { method: "POST", url: "", query: None, path: "", headers: &headers, body };
        let owned = |field: MultipartField<'_>| {
            (field.name.into_owned(), field.file_name.map(Cow::into_owned), field.content.to_vec())
        };
        multipart_fields(&request).map(|read| read.map(|fields| fields.into_iter().map(owned).collect()))
    }

    fn one(head: &str) -> Option<Read> {
        let body = format!("--b\r\n{head}\r\n\r\nx\r\n--b--\r\n");
        read("multipart/form-data; boundary=b", body.as_bytes()).unwrap().unwrap().pop()
    }

    #[test]
    fn fields_and_files_are_read_as_they_lie() {
        let body = b"preamble\r\n--A b  \r\nContent-Disposition: form-data; name=\"text\"\r\n\r\na\r\nb\r\n--A\
            \r\n--A b\r\ncontent-disposition: form-data; name=file; filename=\"a.bin\"\r\nContent-Type: image/png\r\n\r\n\
            \x00\xff\r\n\r\n--A b\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--A b--\r\nepilogue";
        let read = read("Multipart/Form-Data; charset=utf-8; Boundary=\"A b\"", body).unwrap().unwrap();
        let text = |text: &str| text.to_owned();
        assert_eq!(
            read,
            [
                (text("text"), None, b"a\r\nb\r\n--A".to_vec()),
                (text("file"), Some(text("a.bin")), b"\x00\xff\r\n".to_vec()),
                (text("empty"), None, Vec::new()),
            ]
        );
    }

    #[test]
    fn names_are_read_in_each_form() {
        for (head, name, file) in [
            ("Content-Disposition: form-data; name=\"a\"", "a", None),
            ("content-disposition: form-data;name=a", "a", None),
            ("Content-Disposition: form-data; name=\"a;b=\\\"c\\\"\"; filename=\"C:\\x\"", "a;b=\"c\"", Some("C:\\x")),
            ("Content-Disposition: form-data; filename=\"f\"; name=\"n\"", "n", Some("f")),
            ("Content-Disposition: form-data; name=\"n\"; filename=\"\"", "n", Some("")),
            ("Content-Disposition: form-data; name=\"n\"; filename*=UTF-8''%E2%98%83+a%20b", "n", Some("☃+a b")),
            ("X-Other: 1\r\nContent-Disposition: form-data; name=\"é\"", "é", None),
        ] {
            let (found, found_file, _) = one(head).unwrap();
            assert_eq!((&*found, found_file.as_deref()), (name, file), "{head}");
        }
        assert_eq!(one("Content-Disposition: form-data"), None);
        assert_eq!(one("X-Other: 1"), None);
    }

    #[test]
    fn what_is_no_complete_form_is_refused() {
        let whole = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n--b--";
        assert_eq!(read("multipart/form-data; boundary=b", whole.as_bytes()).unwrap().unwrap().len(), 1);
        for (kind, body) in [
            ("multipart/form-data", whole),
            ("multipart/form-data; boundary=", whole),
            ("multipart/form-data; boundary=c", whole),
            ("multipart/form-data; boundary=b", ""),
            ("multipart/form-data; boundary=b", "--b"),
            ("multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx"),
            ("multipart/form-data; boundary=b", "--b\r\nno end of the head\r\n--b--"),
            ("multipart/form-data; boundary=b", "--bc\r\n\r\n\r\n--b--"),
        ] {
            assert_eq!(read(kind, body.as_bytes()), Some(Err(MultipartError::Malformed)), "{kind} {body:?}");
        }
        let long = format!("--b\r\nX: {}\r\n\r\nx\r\n--b--", "x".repeat(MULTIPART_HEAD_BYTES_MAX));
        assert_eq!(read("multipart/form-data; boundary=b", long.as_bytes()), Some(Err(MultipartError::Malformed)));
        let many = |parts: usize| "--b\r\n\r\nx\r\n".repeat(parts) + "--b--";
        let named = |parts: usize| "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n".repeat(parts) + "--b--";
        let boundary = "multipart/form-data; boundary=b";
        assert_eq!(read(boundary, many(3).as_bytes()), Some(Ok(Vec::new())));
        assert_eq!(read(boundary, named(MULTIPART_PARTS_MAX).as_bytes()).unwrap().unwrap().len(), MULTIPART_PARTS_MAX);
        assert_eq!(read(boundary, named(MULTIPART_PARTS_MAX + 1).as_bytes()), Some(Err(MultipartError::TooMany)));
        for other in ["application/json", "application/x-www-form-urlencoded", "multipart/mixed; boundary=b", ""] {
            assert_eq!(read(other, whole.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out(contents in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), any::<u8>()], 0..40), 0..5)) {
            let mut body = Vec::new();
            for content in &contents {
                body.extend_from_slice(b"--boundary\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n\r\n");
                body.extend_from_slice(content);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"--boundary--\r\n");
            let read = read("multipart/form-data; boundary=boundary", &body).unwrap().unwrap();
            prop_assert_eq!(read.into_iter().map(|(_, _, content)| content).collect::<Vec<_>>(), contents);
        }

        #[test]
        fn no_body_panics(body in "(--b|\r\n|:|;|name|=|\"|\\\\|Content-Disposition|x){0,30}") {
            let _ = read("multipart/form-data; boundary=b", body.as_bytes());
        }
    }
}
