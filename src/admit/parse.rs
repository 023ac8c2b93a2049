//! The outermost layer of a request's JSON: which fields an event has, each left as it stands in the body.
//!
//! Nothing below the fields is built in memory, and nothing recurses, so what a body costs does not depend on its shape.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::{BATCH_EVENTS_MAX, BREACHES_LISTED_MAX};

macro_rules! fields {
    ($($variant:ident = $name:literal,)*) => {
        /// A field that an event may have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Field { $($variant,)* }

        impl Field {
            const COUNT: usize = [$($name),*].len();

            fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// As it is written in JSON.
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

/// A JSON value that is meant to be an event.
#[derive(Debug, Default)]
pub(super) struct Item<'a> {
    fields: [Option<&'a RawValue>; Field::COUNT],
    /// Whether it is an object at all.
    pub(super) is_object: bool,
    /// Names of no field, the first few.
    pub(super) unknown: Vec<Box<str>>,
    /// Fields that are there more than once.
    pub(super) repeated: Vec<Field>,
}

/// What a body holds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the usual one, of which there is one for the time of a call")]
pub(super) enum Items<'a> {
    /// An object.
    One(Item<'a>),
    /// An array: its first [`BATCH_EVENTS_MAX`] items, and how many there are.
    Many(Vec<Item<'a>>, usize),
    /// Lines, each by itself; and how many there are.
    Lines(Vec<Result<Item<'a>, SyntaxError>>, usize),
    /// JSON, but neither object nor array.
    Neither,
}

/// Bytes that are not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub(super) struct SyntaxError {
    /// Where it stops being JSON.
    offset: usize,
    what: Box<str>,
}

impl<'a> Item<'a> {
    /// A field as it stands; `null` is the same as nothing.
    pub(super) fn given(&self, field: Field) -> Option<&'a RawValue> {
        self.raw(field).filter(|raw| raw.get() != "null")
    }

    /// A field as it stands, `null` included.
    pub(super) fn raw(&self, field: Field) -> Option<&'a RawValue> {
        self.fields[field as usize]
    }
}

/// One object or an array of them.
///
/// # Errors
/// Where the body stops being JSON.
pub(super) fn json(body: &[u8]) -> Result<Items<'_>, SyntaxError> {
    let text = utf8(body)?;
    match text.trim_start_matches([' ', '\t', '\n', '\r']).as_bytes().first() {
        Some(b'{') => parse(text).map(Items::One),
        Some(b'[') => parse::<Array<'_>>(text).map(|array| Items::Many(array.items, array.count)),
        _ => parse::<IgnoredAny>(text).map(|_| Items::Neither),
    }
}

/// A JSON value in each line that is not blank.
///
/// # Errors
/// Where the body stops being text; what is wrong with a line is said in its place.
pub(super) fn ndjson(body: &[u8]) -> Result<Items<'_>, SyntaxError> {
    let text = utf8(body)?;
    let mut items = Vec::new();
    let mut count = 0;
    for line in text.split('\n').filter(|line| !line.trim_ascii().is_empty()) {
        count += 1;
        if count <= BATCH_EVENTS_MAX {
            let start = line.as_ptr().addr() - text.as_ptr().addr();
            items.push(parse(line).map_err(|error| SyntaxError { offset: start + error.offset, ..error }));
        }
    }
    Ok(Items::Lines(items, count))
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

impl<'de> Deserialize<'de> for Item<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
        let mut item = Item { is_object: true, ..Item::default() };
        while let Some(key) = map.next_key()? {
            match key {
                Key::Known(field) => {
                    let value = map.next_value()?;
                    if item.fields[field as usize].replace(value).is_some() && !item.repeated.contains(&field) {
                        item.repeated.push(field);
                    }
                }
                Key::Unknown(name) => {
                    map.next_value::<IgnoredAny>()?;
                    if item.unknown.len() < BREACHES_LISTED_MAX {
                        item.unknown.push(name);
                    }
                }
            }
        }
        Ok(item)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Item<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item::default())
    }

    fn visit_str<E>(self, _: &str) -> Result<Item<'de>, E> {
        Ok(Item::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item<'de>, E> {
        Ok(Item::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Item<'de>, E> {
        Ok(Item::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item<'de>, E> {
        Ok(Item::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Item<'de>, E> {
        Ok(Item::default())
    }

    fn visit_unit<E>(self) -> Result<Item<'de>, E> {
        Ok(Item::default())
    }
}

enum Key {
    Known(Field),
    Unknown(Box<str>),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                // A name is shown in the answer; one that is long beyond reason only in part.
                Ok(Field::of(name).map_or_else(|| Key::Unknown(name.chars().take(64).collect()), Key::Known))
            }
        }
        from.deserialize_identifier(KeyVisitor)
    }
}

struct Array<'a> {
    items: Vec<Item<'a>>,
    count: usize,
}

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ArrayVisitor;
        impl<'de> Visitor<'de> for ArrayVisitor {
            type Value = Array<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of events")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Array<'de>, A::Error> {
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
                Ok(Array { items, count })
            }
        }
        from.deserialize_seq(ArrayVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_says_at_which_byte() {
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
    fn a_line_that_is_not_json_leaves_the_others() {
        let Ok(Items::Lines(lines, 3)) = ndjson(b"{\"type\":\"a\"}\r\n\n{\"type\"\n7\n") else { panic!("three lines") };
        assert!(lines[0].as_ref().unwrap().is_object);
        assert_eq!(lines[1].as_ref().unwrap_err().offset, 21);
        assert!(!lines[2].as_ref().unwrap().is_object);
    }

    #[test]
    fn no_nesting_overflows_the_stack() {
        for n in [128, 129, 1_024, 100_000, 1_000_000] {
            let _ = json("[".repeat(n).as_bytes()).unwrap_err();
            let deep = format!("{{\"data\":{}{}}}", "[".repeat(n), "]".repeat(n));
            assert!(matches!(json(deep.as_bytes()), Ok(Items::One(_))), "{n}");
            let _ = json("{\"a\":".repeat(n).as_bytes()).unwrap_err();
            let _ = json(format!("{}{}", "[".repeat(n), "]".repeat(n)).as_bytes());
        }
    }
}
