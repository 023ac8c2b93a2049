//! The signed content of a scheme: a template whose placeholders are parts of a request. The parts are not copied.

use std::borrow::Cow;
use std::str::FromStr;

use http::HeaderName;
use smallvec::SmallVec;

use super::value_location::{header, header_names, query_parameter};
use super::{RequestParts, ValueLocation, VerifyError};
use crate::json::{self, Pointer, PointerSet};
use crate::template::{self, Template};

/// The number of parts that are kept without an allocation: more than the template of any header signature has.
const PARTS: usize = 12;

/// The allowed placeholders, for error messages.
const PLACEHOLDERS: &str = "{body}, {time}, {id}, {method}, {url}, {url:unescaped}, {key}, {header:NAME}, {query:NAME}, {query-lower:NAME}, \
     {form:FIELD}, {form:FIELD#/POINTER} and {json:/POINTER} are allowed";

/// The characters whose percent-encoding HubSpot decodes in the URL before it signs
/// (<https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests>). All other sequences
/// stay.
const UNESCAPED: &[u8] = b":/?@!$'()*,;";

/// The template of the signed content, such as `{time}.{body}`. The syntax is that of [`template`](crate::template).
#[derive(Debug, Clone, Default)]
pub(super) struct SignedContent {
    template: Template<ContentPlaceholder>,
    /// The pointers of the `{json:…}` placeholders. One pass over the body finds all values.
    json: PointerSet,
}

/// A placeholder of the signed content: a part of a request, or the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ContentPlaceholder {
    Body,
    Time,
    Id,
    Method,
    Url,
    UrlUnescaped,
    Key,
    Header(Vec<HeaderName>),
    /// A value of the body, and its slot in the set of pointers.
    Json(Pointer, usize),
    /// A parameter of the query, or a value of a form.
    Value(ValueLocation),
    /// A parameter of the query in lower case (Mercado Pago).
    QueryLower(Box<str>),
}

/// A part of the signed content.
#[derive(Debug)]
pub(super) enum ContentPart<'a> {
    Bytes(Cow<'a, [u8]>),
    /// The position of the key (scheme `hash`).
    Key,
}

impl<'a> ContentPart<'a> {
    fn text(text: &'a str) -> Self {
        Self::Bytes(Cow::Borrowed(text.as_bytes()))
    }
}

/// The parts of the signed content, in order.
pub(super) type ContentParts<'a> = SmallVec<[ContentPart<'a>; PARTS]>;

/// Values of placeholders that the request does not contain.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignedContentValues<'a> {
    pub(super) time: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    /// The body in parts, if the body is not in one piece. The body of the request is then ignored.
    pub(super) body: Option<&'a [&'a [u8]]>,
}

impl FromStr for SignedContent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut json = PointerSet::default();
        let template = Template::parse(text, |name| {
            placeholder(name, &mut json).ok_or_else(|| format!("{{{name}}} is not known; {PLACEHOLDERS}"))
        });
        Ok(Self { template: template.map_err(|error| error.to_string())?, json })
    }
}

fn placeholder(name: &str, json: &mut PointerSet) -> Option<ContentPlaceholder> {
    Some(match name {
        "body" => ContentPlaceholder::Body,
        "time" => ContentPlaceholder::Time,
        "id" => ContentPlaceholder::Id,
        "method" => ContentPlaceholder::Method,
        "url" => ContentPlaceholder::Url,
        "url:unescaped" => ContentPlaceholder::UrlUnescaped,
        "key" => ContentPlaceholder::Key,
        _ => match name.split_once(':')? {
            ("header", names) => ContentPlaceholder::Header(header_names(names).ok()?),
            ("query" | "form", _) => ContentPlaceholder::Value(name.parse().ok()?),
            ("query-lower", name) if !name.is_empty() => ContentPlaceholder::QueryLower(name.into()),
            ("json", pointer) => {
                let pointer = Pointer::try_new(pointer).ok()?;
                let slot = json.add(&pointer);
                ContentPlaceholder::Json(pointer, slot)
            }
            _ => return None,
        },
    })
}

impl SignedContent {
    /// Whether the template contains this placeholder.
    pub(super) fn has(&self, placeholder: &ContentPlaceholder) -> bool {
        self.any(|signed| signed == placeholder)
    }

    /// Whether the URL is signed, as sent or unescaped.
    pub(super) fn has_url(&self) -> bool {
        self.has(&ContentPlaceholder::Url) || self.has(&ContentPlaceholder::UrlUnescaped)
    }

    /// The headers that are signed.
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.template
            .placeholders()
            .flat_map(|signed| if let ContentPlaceholder::Header(names) = signed { &names[..] } else { &[] })
    }

    /// Whether values of a JSON body are signed.
    pub(super) fn has_json(&self) -> bool {
        self.any(|signed| matches!(signed, ContentPlaceholder::Json(..)))
    }

    /// Whether values of the query or of a form are signed.
    pub(super) fn has_values(&self) -> bool {
        self.any(|signed| matches!(signed, ContentPlaceholder::Value(_) | ContentPlaceholder::QueryLower(_)))
    }

    /// Whether the content depends on the request, so that two requests have different signatures.
    pub(super) fn depends_on_request(&self) -> bool {
        self.any(|signed| !matches!(signed, ContentPlaceholder::Key | ContentPlaceholder::Method))
    }

    /// Whether the value at this location is signed as it is in the request. The timestamp and the id are not
    /// considered.
    pub(super) fn covers(&self, location: &ValueLocation) -> bool {
        match location {
            ValueLocation::Header(names) => {
                self.any(|signed| matches!(signed, ContentPlaceholder::Header(own) if own == names))
            }
            ValueLocation::Json(pointer) => {
                self.has(&ContentPlaceholder::Body)
                    || self.any(|signed| matches!(signed, ContentPlaceholder::Json(own, _) if own == pointer))
            }
            ValueLocation::Form(_) | ValueLocation::FormJson(..) => {
                self.has(&ContentPlaceholder::Body) || self.has(&ContentPlaceholder::Value(location.clone()))
            }
            ValueLocation::Query(name) => {
                self.has_url()
                    || self.has(&ContentPlaceholder::Value(location.clone()))
                    || self.has(&ContentPlaceholder::QueryLower(name.clone()))
            }
            ValueLocation::Path => self.has_url(),
            ValueLocation::Sig(_) => false,
            ValueLocation::Const(_) => true,
        }
    }

    fn any(&self, is_it: impl FnMut(&ContentPlaceholder) -> bool) -> bool {
        self.template.placeholders().any(is_it)
    }

    /// The parts of the signed content, in order. Nothing is allocated for a template of up to [`PARTS`] parts without
    /// values to decode from the URL or from JSON.
    ///
    /// # Errors
    /// [`VerifyError`] if a value is missing, ambiguous or contains a separator.
    pub(super) fn parts<'a>(
        &'a self,
        request: &RequestParts<'a>,
        values: SignedContentValues<'a>,
    ) -> Result<ContentParts<'a>, VerifyError> {
        let found = if self.has_json() {
            self.json.read(request.body).ok_or(VerifyError::Body("JSON"))?
        } else {
            json::PointerValues::default()
        };
        let template_parts = self.template.parts();
        let mut parts = ContentParts::new();
        for (n, part) in template_parts.iter().enumerate() {
            let placeholder = match part {
                template::TemplatePart::Placeholder(placeholder) => placeholder,
                template::TemplatePart::Text(literal) => {
                    parts.push(ContentPart::text(literal));
                    continue;
                }
            };
            match placeholder {
                ContentPlaceholder::Body => match values.body {
                    None => parts.push(ContentPart::Bytes(Cow::Borrowed(request.body))),
                    Some(body) => parts.extend(body.iter().map(|part| ContentPart::Bytes(Cow::Borrowed(*part)))),
                },
                ContentPlaceholder::Time => parts.push(required(values.time, "the time")?),
                ContentPlaceholder::Id => parts.push(required(values.id, "the id")?),
                ContentPlaceholder::Method => parts.push(ContentPart::text(request.method)),
                ContentPlaceholder::Url => {
                    parts.push(ContentPart::text(request.url));
                    if let Some(query) = request.query {
                        parts.push(ContentPart::text("?"));
                        parts.push(ContentPart::text(query));
                    }
                }
                ContentPlaceholder::UrlUnescaped => {
                    parts.push(ContentPart::Bytes(unescaped(request.url)));
                    if let Some(query) = request.query {
                        parts.push(ContentPart::Bytes(Cow::Borrowed(b"?")));
                        parts.push(ContentPart::Bytes(unescaped(query)));
                    }
                }
                ContentPlaceholder::Key => parts.push(ContentPart::Key),
                ContentPlaceholder::Header(names) => {
                    let missing = || VerifyError::Missing(ValueLocation::Header(names.clone()).to_string().into());
                    let value =
                        header(names, request.headers)?.filter(|value| !value.is_empty()).ok_or_else(missing)?;
                    // Standard Webhooks allows no full stop in an id: `a.1` and `2.body` would be signed like `a` and
                    // `1.2.body`.
                    if matches!(template_parts.get(n + 1), Some(template::TemplatePart::Text(text)) if **text == *".")
                        && value.contains('.')
                    {
                        return Err(VerifyError::Separator(ValueLocation::Header(names.clone()).to_string().into()));
                    }
                    parts.push(ContentPart::text(value));
                }
                ContentPlaceholder::Value(location) => {
                    let missing = || VerifyError::Missing(location.to_string().into());
                    parts.push(owned(location.read(request)?.ok_or_else(missing)?));
                }
                ContentPlaceholder::QueryLower(name) => {
                    let missing = || VerifyError::Missing(format!("query:{name}").into());
                    let value = query_parameter(request, name).ok_or_else(missing)?;
                    parts.push(ContentPart::Bytes(Cow::Owned(value.to_ascii_lowercase().into_bytes())));
                }
                // Adyen signs a missing field as an empty text.
                ContentPlaceholder::Json(_, slot) => match found.raw(*slot).and_then(json::text) {
                    None => (),
                    Some(value) => parts.push(owned(value)),
                },
            }
        }
        Ok(parts)
    }
}

/// A part of text that may be decoded.
fn owned(value: Cow<'_, str>) -> ContentPart<'_> {
    match value {
        Cow::Borrowed(text) => ContentPart::text(text),
        Cow::Owned(text) => ContentPart::Bytes(Cow::Owned(text.into_bytes())),
    }
}

fn required<'a>(value: Option<&'a str>, what: &str) -> Result<ContentPart<'a>, VerifyError> {
    value.map(ContentPart::text).ok_or_else(|| VerifyError::Missing(what.into()))
}

/// Decodes the percent-encoding of [`UNESCAPED`] once.
fn unescaped(text: &str) -> Cow<'_, [u8]> {
    let decoded = |from: &[u8]| match from {
        [b'%', high, low, ..] => {
            let digit = |b: &u8| char::from(*b).to_digit(16);
            let byte = u8::try_from(digit(high)? * 16 + digit(low)?).ok()?;
            UNESCAPED.contains(&byte).then_some(byte)
        }
        _ => None,
    };
    let bytes = text.as_bytes();
    let Some(first) = (0..bytes.len()).find(|at| decoded(&bytes[*at..]).is_some()) else { return Cow::Borrowed(bytes) };
    let (head, mut rest) = bytes.split_at(first);
    let mut plain = head.to_vec();
    while let Some((byte, after)) = rest.split_first() {
        if let Some(byte) = decoded(rest) {
            plain.push(byte);
            rest = &rest[3..];
        } else {
            plain.push(*byte);
            rest = after;
        }
    }
    Cow::Owned(plain)
}
