//! What is signed: a template whose placeholders are parts of a request, put together without a copy of them.

use std::borrow::Cow;
use std::str::FromStr;

use http::HeaderName;
use smallvec::SmallVec;

use super::place::{header, header_names};
use super::{Place, Request, VerifyError};
use crate::json::{self, Pointer, PointerSet};
use crate::template::{self, Template};

/// Parts of what is signed that are kept without a heap: more than any template of a header signature has.
const PARTS: usize = 12;

/// The placeholders, for whoever wrote another one.
const PLACEHOLDERS: &str =
    "{body}, {time}, {id}, {method}, {url}, {url:unescaped}, {key}, {header:NAME} and {json:/POINTER} are allowed";

/// Sequences of the URL that HubSpot decodes before it signs, all others stay
/// (<https://developers.hubspot.com/docs/apps/legacy-apps/authentication/validating-requests>).
const UNESCAPED: &[u8] = b":/?@!$'()*,;";

/// What a scheme signs, `{time}.{body}`: see [`template`](crate::template).
#[derive(Debug, Clone, Default)]
pub(super) struct Signed {
    template: Template<Placeholder>,
    /// The pointers of the `{json:…}` placeholders, which one pass over the body finds.
    json: PointerSet,
}

/// A part of a request, or the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Placeholder {
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
}

/// A part of what is signed.
#[derive(Debug)]
pub(super) enum Part<'a> {
    Bytes(Cow<'a, [u8]>),
    /// The key stands here (scheme `hash`).
    Key,
}

impl<'a> Part<'a> {
    fn text(text: &'a str) -> Self {
        Self::Bytes(Cow::Borrowed(text.as_bytes()))
    }
}

pub(super) type Parts<'a> = SmallVec<[Part<'a>; PARTS]>;

/// Values that a template takes from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) time: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    /// The body in parts, where it does not lie in one piece; the request's own is then not looked at.
    pub(super) body: Option<&'a [&'a [u8]]>,
}

impl FromStr for Signed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut json = PointerSet::default();
        let template = Template::parse(text, |name| {
            placeholder(name, &mut json).ok_or_else(|| format!("{{{name}}} is not known; {PLACEHOLDERS}"))
        });
        Ok(Self { template: template.map_err(|error| error.to_string())?, json })
    }
}

fn placeholder(name: &str, json: &mut PointerSet) -> Option<Placeholder> {
    Some(match name {
        "body" => Placeholder::Body,
        "time" => Placeholder::Time,
        "id" => Placeholder::Id,
        "method" => Placeholder::Method,
        "url" => Placeholder::Url,
        "url:unescaped" => Placeholder::UrlUnescaped,
        "key" => Placeholder::Key,
        _ => match name.split_once(':')? {
            ("header", names) => Placeholder::Header(header_names(names).ok()?),
            ("json", pointer) => {
                let pointer = Pointer::try_new(pointer).ok()?;
                let slot = json.add(&pointer);
                Placeholder::Json(pointer, slot)
            }
            _ => return None,
        },
    })
}

impl Signed {
    pub(super) fn has(&self, placeholder: &Placeholder) -> bool {
        self.any(|signed| signed == placeholder)
    }

    /// Whether the URL is signed, in one spelling or the other.
    pub(super) fn has_url(&self) -> bool {
        self.has(&Placeholder::Url) || self.has(&Placeholder::UrlUnescaped)
    }

    /// The headers that are signed.
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.template
            .placeholders()
            .flat_map(|signed| if let Placeholder::Header(names) = signed { &names[..] } else { &[] })
    }

    /// Whether values of a JSON body are signed.
    pub(super) fn has_json(&self) -> bool {
        self.any(|signed| matches!(signed, Placeholder::Json(..)))
    }

    /// Whether anything of a request is signed, so that two requests have two signatures.
    pub(super) fn says_something(&self) -> bool {
        self.any(|signed| !matches!(signed, Placeholder::Key | Placeholder::Method))
    }

    /// Whether what stands at this place is signed as it is there; the time and the id not looked at.
    pub(super) fn covers(&self, place: &Place) -> bool {
        match place {
            Place::Header(names) => self.any(|signed| matches!(signed, Placeholder::Header(own) if own == names)),
            Place::Json(pointer) => {
                self.has(&Placeholder::Body)
                    || self.any(|signed| matches!(signed, Placeholder::Json(own, _) if own == pointer))
            }
            Place::Form(_) => self.has(&Placeholder::Body),
            Place::Query(_) | Place::Path => self.has_url(),
            Place::Sig(_) => false,
            Place::Const(_) => true,
        }
    }

    fn any(&self, is_it: impl FnMut(&Placeholder) -> bool) -> bool {
        self.template.placeholders().any(is_it)
    }

    /// The parts of what is signed, in order. Nothing is allocated for a template of up to [`PARTS`] parts that has no
    /// values of the URL or of JSON to decode.
    pub(super) fn parts<'a>(&'a self, request: &Request<'a>, values: Values<'a>) -> Result<Parts<'a>, VerifyError> {
        let found = if self.has_json() {
            self.json.read(request.body).ok_or(VerifyError::Body("JSON"))?
        } else {
            json::Found::default()
        };
        let written = self.template.parts();
        let mut parts = Parts::new();
        for (n, part) in written.iter().enumerate() {
            let placeholder = match part {
                template::Part::Placeholder(placeholder) => placeholder,
                template::Part::Text(literal) => {
                    parts.push(Part::text(literal));
                    continue;
                }
            };
            match placeholder {
                Placeholder::Body => match values.body {
                    None => parts.push(Part::Bytes(Cow::Borrowed(request.body))),
                    Some(body) => parts.extend(body.iter().map(|part| Part::Bytes(Cow::Borrowed(*part)))),
                },
                Placeholder::Time => parts.push(given(values.time, "the time")?),
                Placeholder::Id => parts.push(given(values.id, "the id")?),
                Placeholder::Method => parts.push(Part::text(request.method)),
                Placeholder::Url => {
                    parts.push(Part::text(request.url));
                    if let Some(query) = request.query {
                        parts.push(Part::text("?"));
                        parts.push(Part::text(query));
                    }
                }
                Placeholder::UrlUnescaped => {
                    parts.push(Part::Bytes(unescaped(request.url)));
                    if let Some(query) = request.query {
                        parts.push(Part::Bytes(Cow::Borrowed(b"?")));
                        parts.push(Part::Bytes(unescaped(query)));
                    }
                }
                Placeholder::Key => parts.push(Part::Key),
                Placeholder::Header(names) => {
                    let missing = || VerifyError::Missing(Place::Header(names.clone()).to_string().into());
                    let value =
                        header(names, request.headers)?.filter(|value| !value.is_empty()).ok_or_else(missing)?;
                    // Standard Webhooks allows no full stop in an id: `a.1` and `2.body` would be signed like `a` and `1.2.body`.
                    if matches!(written.get(n + 1), Some(template::Part::Text(text)) if **text == *".")
                        && value.contains('.')
                    {
                        return Err(VerifyError::Separator(Place::Header(names.clone()).to_string().into()));
                    }
                    parts.push(Part::text(value));
                }
                // Adyen signs a field that is not there as nothing.
                Placeholder::Json(_, slot) => match found.raw(*slot).and_then(json::text) {
                    None => (),
                    Some(Cow::Borrowed(value)) => parts.push(Part::text(value)),
                    Some(Cow::Owned(value)) => parts.push(Part::Bytes(Cow::Owned(value.into_bytes()))),
                },
            }
        }
        Ok(parts)
    }
}

fn given<'a>(value: Option<&'a str>, what: &str) -> Result<Part<'a>, VerifyError> {
    value.map(Part::text).ok_or_else(|| VerifyError::Missing(what.into()))
}

/// The text with the sequences for [`UNESCAPED`] decoded, once.
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
