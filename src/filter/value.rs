//! Values of filters and of events, and when they are the same.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::subject::Found;
use crate::limits::FILTER_TEXT_BYTES_MAX;
use crate::model::Timestamp;

/// A value that a filter names.
#[derive(Debug, Clone)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Number {
        number: Number,
        /// As an id has it.
        text: Box<str>,
    },
    Text {
        text: Box<str>,
        /// If it is one.
        time: Option<Timestamp>,
    },
}

/// A number as `serde_json` reads it: whole up to 64 bits, else with a float's precision.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    /// The number that JSON writes so; `None` for anything else, and for one that no float holds.
    pub(super) fn read(raw: &[u8]) -> Option<Self> {
        if !matches!(raw.first()?, b'-' | b'0'..=b'9') {
            return None;
        }
        Self::of(&serde_json::from_slice(raw).ok()?)
    }

    fn of(number: &serde_json::Number) -> Option<Self> {
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        whole.map(Self::Whole).or_else(|| number.as_f64().map(Self::Float))
    }

    /// Exact, also between whole numbers and floats: 2^53 + 1 is not 2^53 here.
    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            // What JSON writes is finite, so that there is an order.
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Whole(a), Self::Float(b)) => {
                // A cast that does not fit ends at the largest number there is, which lies beyond all of 64 bits.
                a.cmp(&(b.trunc() as i128)).then(0.0_f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
            }
            (Self::Float(_), Self::Whole(_)) => other.compare(self).reverse(),
        }
    }
}

impl Literal {
    /// # Errors
    /// What is allowed.
    pub(super) fn new(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self::Null),
            Value::Bool(is) => Ok(Self::Bool(*is)),
            Value::Number(number) => {
                let text = number.to_string().into();
                Number::of(number).map(|number| Self::Number { number, text }).ok_or_else(|| "is no number".to_owned())
            }
            Value::String(text) if text.len() > FILTER_TEXT_BYTES_MAX => {
                Err(format!("a text has at most {FILTER_TEXT_BYTES_MAX} bytes"))
            }
            Value::String(text) => Ok(Self::Text { text: text.as_str().into(), time: text.parse().ok() }),
            Value::Array(_) | Value::Object(_) => Err("expected text, a number, true, false or null".to_owned()),
        }
    }

    /// As an id has it, if it can be one.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Number { text, .. } | Self::Text { text, .. } => Some(text),
            Self::Null | Self::Bool(_) => None,
        }
    }

    pub(super) fn equals(&self, found: &Found<'_>) -> bool {
        match (found, self) {
            (Found::Json(raw), _) => self.is(raw),
            (Found::Id(id), _) => self.id() == Some(id),
            (Found::Text(own), Self::Text { text, .. }) => **text == **own,
            (Found::Time(at), Self::Text { time, .. }) => *time == Some(*at),
            (Found::Text(_) | Found::Time(_), _) => false,
        }
    }

    /// Whether this JSON says the same.
    pub(super) fn is(&self, raw: &[u8]) -> bool {
        match self {
            Self::Null => raw == b"null",
            Self::Bool(true) => raw == b"true",
            Self::Bool(false) => raw == b"false",
            Self::Number { number, text } => {
                raw == text.as_bytes() || Number::read(raw).is_some_and(|found| found.compare(*number).is_eq())
            }
            Self::Text { text, .. } => {
                let Some(written) = inner(raw) else { return false };
                // Each byte takes six at the most, so that a long text is not unescaped for nothing.
                let is_plain = || !written.contains(&b'\\');
                if written.len() == text.len() && is_plain() {
                    written == text.as_bytes()
                } else {
                    written.len() > text.len()
                        && written.len() <= text.len() * 6
                        && !is_plain()
                        && self::text(raw).is_some_and(|found| *found == **text)
                }
            }
        }
    }

    /// How the found value lies to this one; `None` where they have no order: one is text, the other a number.
    pub(super) fn order(&self, found: &Found<'_>) -> Option<Ordering> {
        match self {
            Self::Number { number, .. } => {
                let found = match found {
                    Found::Json(raw) => Number::read(raw),
                    Found::Id(id) => Number::read(id.as_bytes()),
                    Found::Text(_) | Found::Time(_) => None,
                };
                Some(found?.compare(*number))
            }
            Self::Text { text, time } => {
                if let (Some(time), Found::Time(at)) = (time, found) {
                    return Some(at.cmp(time));
                }
                let found = found.text()?;
                let times = time.and_then(|time| Some((found.parse::<Timestamp>().ok()?, time)));
                Some(times.map_or_else(|| (*found).cmp(text), |(found, time)| found.cmp(&time)))
            }
            Self::Null | Self::Bool(_) => None,
        }
    }
}

/// A set of values, each found in a time that hardly grows with their number.
#[derive(Debug, Clone, Default)]
pub(super) struct List {
    /// Sorted.
    texts: Box<[Box<str>]>,
    /// Sorted.
    numbers: Box<[Number]>,
    /// Texts and numbers as ids have them, sorted.
    ids: Box<[Box<str>]>,
    /// Times among the texts, sorted.
    times: Box<[Timestamp]>,
    null: bool,
    bools: [bool; 2],
}

impl List {
    pub(super) fn new(literals: &[Literal]) -> Self {
        let mut list = Self::default();
        let (mut texts, mut numbers, mut ids, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for literal in literals {
            ids.extend(literal.id().map(Box::from));
            match literal {
                Literal::Null => list.null = true,
                Literal::Bool(is) => list.bools[usize::from(*is)] = true,
                Literal::Number { number, .. } => numbers.push(*number),
                Literal::Text { text, time } => {
                    texts.push(text.clone());
                    times.extend(*time);
                }
            }
        }
        texts.sort_unstable();
        ids.sort_unstable();
        times.sort_unstable();
        numbers.sort_unstable_by(|a, b| a.compare(*b));
        Self { texts: texts.into(), numbers: numbers.into(), ids: ids.into(), times: times.into(), ..list }
    }

    /// Whether the found value is one of these, or, as an array, holds one of them.
    pub(super) fn has(&self, found: &Found<'_>) -> bool {
        let among = |texts: &[Box<str>], text: &str| texts.binary_search_by(|own| (**own).cmp(text)).is_ok();
        match found {
            Found::Json(raw) if raw.first() == Some(&b'[') => found.items().any(|item| self.has_json(item)),
            Found::Json(raw) => self.has_json(raw),
            Found::Id(id) => among(&self.ids, id),
            Found::Text(own) => among(&self.texts, own),
            Found::Time(at) => self.times.binary_search(at).is_ok(),
        }
    }

    /// Whether an id is one of these; one of a payload counts as it is written, as text and as a number alike.
    pub(super) fn has_id(&self, found: &Found<'_>) -> bool {
        match found {
            Found::Json(raw) if Number::read(raw).is_some() => {
                std::str::from_utf8(raw).is_ok_and(|id| self.has(&Found::Id(id)))
            }
            _ => found.text().is_some_and(|id| self.has(&Found::Id(&id))),
        }
    }

    fn has_json(&self, raw: &[u8]) -> bool {
        match raw.first() {
            Some(b'"') => {
                !self.texts.is_empty()
                    && raw.len() <= FILTER_TEXT_BYTES_MAX * 6 + 2
                    && text(raw).is_some_and(|text| self.texts.binary_search_by(|own| (**own).cmp(&*text)).is_ok())
            }
            Some(b'n') => self.null,
            Some(b't') => self.bools[1],
            Some(b'f') => self.bools[0],
            _ if self.numbers.is_empty() => false,
            _ => Number::read(raw).is_some_and(|found| self.numbers.binary_search_by(|own| own.compare(found)).is_ok()),
        }
    }
}

/// What a JSON string says; `None` for anything else. Borrowed if nothing is escaped.
pub(super) fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    let written = inner(raw)?;
    if written.contains(&b'\\') {
        serde_json::from_slice(raw).ok().map(Cow::Owned)
    } else {
        std::str::from_utf8(written).ok().map(Cow::Borrowed)
    }
}

/// What stands within the quotes of a JSON string.
fn inner(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}
