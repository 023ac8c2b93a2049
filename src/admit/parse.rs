//! Parses the top level of a request body: the fields of each event, with their values as raw JSON.
//!
//! Values are not built in memory, and parsing does not recurse. So the cost of a body does not depend on its structure.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::json;
use crate::limits::{BATCH_EVENTS_MAX, VIOLATIONS_LISTED_MAX};

macro_rules! fields {
    ($($variant:ident = $name:literal,)*) => {
        /// A field of an event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum PublishField { $($variant,)* }

        impl PublishField {
            const COUNT: usize = [$($name),*].len();

            fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// The name in JSON.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

fields! {
    Type = "type",
    Event = "event",
    EventType = "event_type",
    Data = "data",
    Id = "id",
    Timestamp = "timestamp",
    ResourceId = "resource_id",
    WorkspaceId = "workspace_id",
    UserId = "user_id",
    Metadata = "metadata",
    Tenant = "tenant",
    OrgId = "org_id",
}

/// An event as sent: a JSON value whose fields are not validated yet.
#[derive(Debug, Default)]
pub(super) struct RawEvent<'a> {
    fields: [Option<&'a RawValue>; PublishField::COUNT],
    /// Whether the value is a JSON object.
    pub(super) is_object: bool,
    /// The first unknown field names.
    pub(super) unknown: Vec<Box<str>>,
    /// The fields that occur more than once.
    pub(super) repeated: Vec<PublishField>,
}

/// The parsed body of a request.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large variant is the usual one, and one value exists per request")]
pub(super) enum ParsedBody<'a> {
    /// A JSON object: a single event.
    Single(RawEvent<'a>),
    /// A JSON array: its first [`BATCH_EVENTS_MAX`] items, and the total number of items.
    Array(Vec<RawEvent<'a>>, usize),
    /// NDJSON: the result of each line, and the total number of lines.
    Lines(Vec<Result<RawEvent<'a>, SyntaxError>>, usize),
    /// Another JSON value, neither an object nor an array.
    Other,
}

/// The body is not valid JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub(super) struct SyntaxError {
    /// The offset of the first invalid byte.
    offset: usize,
    what: Box<str>,
}

impl<'a> RawEvent<'a> {
    /// The raw value of a field. `None` if the field is missing or `null`.
    pub(super) fn non_null(&self, field: PublishField) -> Option<&'a RawValue> {
        self.raw(field).filter(|raw| raw.get() != "null")
    }

    /// The raw value of a field, which may be `null`. `None` if the field is missing.
    pub(super) fn raw(&self, field: PublishField) -> Option<&'a RawValue> {
        self.fields[field as usize]
    }
}

/// Parses a JSON body: one object or an array of objects.
///
/// # Errors
/// The first syntax error of the body.
pub(super) fn json(body: &[u8]) -> Result<ParsedBody<'_>, SyntaxError> {
    let text = utf8(body)?;
    match text.trim_start_matches([' ', '\t', '\n', '\r']).as_bytes().first() {
        Some(b'{') => item(text).map(ParsedBody::Single),
        Some(b'[') => array(text).map(|array| ParsedBody::Array(array.items, array.count)),
        _ => parse::<IgnoredAny>(text).map(|_| ParsedBody::Other),
    }
}

/// Parses an NDJSON body: one JSON value in each line that is not blank.
///
/// The syntax error of a line is the result of that line.
pub(super) fn ndjson(body: &[u8]) -> ParsedBody<'_> {
    let mut items = Vec::new();
    let mut count = 0;
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        count += 1;
        if count <= BATCH_EVENTS_MAX {
            let start = line.as_ptr().addr() - body.as_ptr().addr();
            let item = utf8(line).and_then(item);
            items.push(item.map_err(|error| SyntaxError { offset: start + error.offset, ..error }));
        }
    }
    ParsedBody::Lines(items, count)
}

/// Parses an array of events. An item that is valid JSON spoils no other item.
fn array(text: &str) -> Result<EventArray<'_>, SyntaxError> {
    parse(text).or_else(|error| {
        let Ok(values) = parse::<Vec<&RawValue>>(text) else { return Err(error) };
        let items = values.iter().take(BATCH_EVENTS_MAX).map(|value| item(value.get()));
        Ok(EventArray { items: items.collect::<Result<_, _>>()?, count: values.len() })
    })
}

/// Parses one event. Valid JSON that Rust cannot represent, such as `1e400`, is no object. A name with half of a surrogate
/// pair is an unknown field.
fn item(text: &str) -> Result<RawEvent<'_>, SyntaxError> {
    parse(text).or_else(|error| {
        parse::<IgnoredAny>(text).map_err(|_| error)?;
        let mut from = serde_json::Deserializer::from_str(text);
        Ok(from.deserialize_any(RawEventVisitor { is_lenient: true }).unwrap_or_default())
    })
}

/// Whether each line of an NDJSON body is read, for the first [`BATCH_EVENTS_MAX`] lines, and the number of lines. For the
/// fuzz target.
#[doc(hidden)]
pub fn readable_lines(body: &[u8]) -> (Vec<bool>, usize) {
    match ndjson(body) {
        ParsedBody::Lines(lines, count) => (lines.iter().map(Result::is_ok).collect(), count),
        _ => (Vec::new(), 0),
    }
}

fn utf8(body: &[u8]) -> Result<&str, SyntaxError> {
    std::str::from_utf8(body).map_err(|error| SyntaxError { offset: error.valid_up_to(), what: "invalid UTF-8".into() })
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SyntaxError> {
    serde_json::from_str(text).map_err(|error| {
        let line_start = match error.line() {
            0 | 1 => 0,
            line => text.match_indices('\n').nth(line - 2).map_or(0, |(newline, _)| newline + 1),
        };
        let what = error.to_string();
        let what = what.rsplit_once(" at line ").map_or(&*what, |(what, _)| what).into();
        SyntaxError { offset: (line_start + error.column().saturating_sub(1)).min(text.len()), what }
    })
}

impl<'de> Deserialize<'de> for RawEvent<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RawEventVisitor { is_lenient: false })
    }
}

/// `is_lenient` also reads names with half of a surrogate pair. It expects valid JSON.
struct RawEventVisitor {
    is_lenient: bool,
}

impl<'de> Visitor<'de> for RawEventVisitor {
    type Value = RawEvent<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawEvent<'de>, A::Error> {
        let mut item = RawEvent { is_object: true, ..RawEvent::default() };
        while let Some(key) = map.next_key_seed(FieldNameSeed { is_lenient: self.is_lenient })? {
            match key {
                FieldName::Known(field) => {
                    let value = map.next_value()?;
                    if item.fields[field as usize].replace(value).is_some() && !item.repeated.contains(&field) {
                        item.repeated.push(field);
                    }
                }
                FieldName::Unknown(name) => {
                    map.next_value::<IgnoredAny>()?;
                    if item.unknown.len() < VIOLATIONS_LISTED_MAX {
                        item.unknown.push(name);
                    }
                }
            }
        }
        Ok(item)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawEvent<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawEvent::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<RawEvent<'de>, E> {
        Ok(RawEvent::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<RawEvent<'de>, E> {
        Ok(RawEvent::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<RawEvent<'de>, E> {
        Ok(RawEvent::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<RawEvent<'de>, E> {
        Ok(RawEvent::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawEvent<'de>, E> {
        Ok(RawEvent::default())
    }

    fn visit_unit<E>(self) -> Result<RawEvent<'de>, E> {
        Ok(RawEvent::default())
    }
}

enum FieldName {
    Known(PublishField),
    Unknown(Box<str>),
}

impl FieldName {
    fn of(name: &str) -> Self {
        // The response shows the name, so a long name is truncated.
        PublishField::of(name).map_or_else(|| Self::Unknown(name.chars().take(64).collect()), Self::Known)
    }
}

#[derive(Clone, Copy)]
struct FieldNameSeed {
    is_lenient: bool,
}

impl<'de> DeserializeSeed<'de> for FieldNameSeed {
    type Value = FieldName;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<FieldName, D::Error> {
        // As bytes, serde_json returns a name without checking its content.
        if self.is_lenient { from.deserialize_bytes(self) } else { from.deserialize_identifier(self) }
    }
}

impl Visitor<'_> for FieldNameSeed {
    type Value = FieldName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<FieldName, E> {
        Ok(FieldName::of(name))
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<FieldName, E> {
        Ok(FieldName::of(&json::name(name)))
    }
}

struct EventArray<'a> {
    items: Vec<RawEvent<'a>>,
    count: usize,
}

impl<'de> Deserialize<'de> for EventArray<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ArrayVisitor;
        impl<'de> Visitor<'de> for ArrayVisitor {
            type Value = EventArray<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of events")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<EventArray<'de>, A::Error> {
                let mut items = Vec::new();
                while items.len() < BATCH_EVENTS_MAX
                    && let Some(item) = seq.next_element()?
                {
                    items.push(item);
                }
                let mut count = items.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(EventArray { items, count })
            }
        }
        from.deserialize_seq(ArrayVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_has_the_byte_offset() {
        for (body, offset) in [
            (&b""[..], 0),
            (b"{", 0),
            (b"{\"type\":}", 8),
            (b"{\n \"type\": 1,\n x}", 15),
            (b"{} x", 3),
            (b"{}{}", 2),
            (b"[1,]", 3),
            (b"nul", 2),
            (b"{\"a\":\"\xff\"}", 6),
        ] {
            assert_eq!(json(body).unwrap_err().offset, offset, "{}", body.escape_ascii());
        }
    }

    #[test]
    fn an_invalid_line_does_not_affect_the_other_lines() {
        let ParsedBody::Lines(lines, 4) = ndjson(b"{\"type\":\"a\"}\r\n\n{\"type\"\n7\n{\"\xff\":1}\n") else {
            panic!("four lines")
        };
        let not_utf8 = lines[3].as_ref().unwrap_err();
        assert_eq!((not_utf8.offset, &*not_utf8.what), (27, "invalid UTF-8"));
        assert!(lines[0].as_ref().unwrap().is_object);
        assert_eq!(lines[1].as_ref().unwrap_err().offset, 21);
        assert!(!lines[2].as_ref().unwrap().is_object);
    }

    #[test]
    fn a_value_that_rust_cannot_represent_spoils_no_other_event() {
        let hard = [r"1e400", r#""\ud83d""#, r#"{"\ud83d":1}"#];
        for value in hard {
            let body = format!(r#"[{{"type":"a"}},{value},{{"type":"b"}}]"#);
            let Ok(ParsedBody::Array(items, 3)) = json(body.as_bytes()) else { panic!("{value}: three items") };
            assert_eq!([items[0].is_object, items[2].is_object], [true; 2], "{value}");
            assert_eq!(items[1].is_object, value.starts_with('{'), "{value}");
            let lines = format!("{value}\n{{}}\n");
            let ParsedBody::Lines(lines, 2) = ndjson(lines.as_bytes()) else { panic!("two lines") };
            assert_eq!(lines[0].as_ref().unwrap().is_object, value.starts_with('{'), "{value}");
        }
        let Ok(ParsedBody::Single(event)) = json(hard[2].as_bytes()) else { panic!("an event") };
        assert_eq!(event.unknown, [char::REPLACEMENT_CHARACTER.to_string().into_boxed_str()]);
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        for n in [128, 129, 1_024, 100_000, 1_000_000] {
            let _ = json("[".repeat(n).as_bytes()).unwrap_err();
            let deep = format!("{{\"data\":{}{}}}", "[".repeat(n), "]".repeat(n));
            assert!(matches!(json(deep.as_bytes()), Ok(ParsedBody::Single(_))), "{n}");
            let _ = json("{\"a\":".repeat(n).as_bytes()).unwrap_err();
            let _ = json(format!("{}{}", "[".repeat(n), "]".repeat(n)).as_bytes());
        }
    }
}
