//! Values of filters, and how they compare with the values of events.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::input::FieldValue;
use crate::json;
use crate::limits::FILTER_TEXT_BYTES_MAX;
use crate::model::Timestamp;

/// A value in a filter.
#[derive(Debug, Clone)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Number {
        number: Number,
        /// The text form, which is compared with ids.
        text: Box<str>,
    },
    Text {
        text: Box<str>,
        /// The parsed time, if the text is a time.
        time: Option<Timestamp>,
    },
}

/// A number as `serde_json` reads it: a whole number of up to 64 bits, or a float.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    /// Parses a JSON number; `None` for anything else, and for a number that no float can hold.
    pub(super) fn read(raw: &[u8]) -> Option<Self> {
        if !matches!(raw.first()?, b'-' | b'0'..=b'9') {
            return None;
        }
        Self::of(&json::from_slice(raw).ok()?)
    }

    fn of(number: &serde_json::Number) -> Option<Self> {
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        whole.map(Self::Whole).or_else(|| number.as_f64().map(Self::Float))
    }

    /// Compares exactly, also between whole numbers and floats: 2^53 + 1 is not equal to 2^53.
    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            // Numbers in JSON are finite, so there is always an order.
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Whole(a), Self::Float(b)) => {
                // A cast that overflows saturates at the limit of i128, which is beyond all numbers of 64 bits.
                a.cmp(&(b.trunc() as i128)).then(0.0_f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
            }
            (Self::Float(_), Self::Whole(_)) => other.compare(self).reverse(),
        }
    }
}

impl Literal {
    /// Creates a literal from a value of a filter.
    ///
    /// # Errors
    /// A text that says which values are allowed.
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

    /// The text form of an id; `None` if the value cannot be an id.
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Number { text, .. } | Self::Text { text, .. } => Some(text),
            Self::Null | Self::Bool(_) => None,
        }
    }

    /// Whether the found value is equal to this value.
    pub(super) fn equals(&self, found: &FieldValue<'_>) -> bool {
        match (found, self) {
            (FieldValue::Json(raw), _) => self.equals_json(raw),
            (FieldValue::Id(id), _) => self.id() == Some(id),
            (FieldValue::Text(own), Self::Text { text, .. }) => **text == **own,
            (FieldValue::Time(at), Self::Text { time, .. }) => *time == Some(*at),
            (FieldValue::Text(_) | FieldValue::Time(_), _) => false,
        }
    }

    /// Whether this raw JSON is the same value.
    pub(super) fn equals_json(&self, raw: &[u8]) -> bool {
        match self {
            Self::Null => raw == b"null",
            Self::Bool(true) => raw == b"true",
            Self::Bool(false) => raw == b"false",
            Self::Number { number, text } => {
                raw == text.as_bytes() || Number::read(raw).is_some_and(|found| found.compare(*number).is_eq())
            }
            Self::Text { text, .. } => {
                let Some(written) = inner(raw) else { return false };
                // An escape takes at most six bytes per byte, so a longer text is not unescaped for nothing.
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

    /// How the found value compares with this value; `None` if they have no order, for example text and number.
    pub(super) fn order(&self, found: &FieldValue<'_>) -> Option<Ordering> {
        match self {
            Self::Number { number, .. } => {
                let found = match found {
                    FieldValue::Json(raw) => Number::read(raw),
                    FieldValue::Id(id) => Number::read(id.as_bytes()),
                    FieldValue::Text(_) | FieldValue::Time(_) => None,
                };
                Some(found?.compare(*number))
            }
            Self::Text { text, time } => {
                if let (Some(time), FieldValue::Time(at)) = (time, found) {
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

/// A set of values. The time of a lookup grows only with the logarithm of the size.
#[derive(Debug, Clone, Default)]
pub(super) struct ValueSet {
    /// Sorted.
    texts: Box<[Box<str>]>,
    /// Sorted.
    numbers: Box<[Number]>,
    /// The text forms of texts and numbers, for comparison with ids, sorted.
    ids: Box<[Box<str>]>,
    /// The texts that are times, sorted.
    times: Box<[Timestamp]>,
    null: bool,
    bools: [bool; 2],
}

impl ValueSet {
    /// Creates the set of these values.
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

    /// Whether the set contains the found value, or, if the value is an array, one of its elements.
    pub(super) fn contains(&self, found: &FieldValue<'_>) -> bool {
        let among = |texts: &[Box<str>], text: &str| texts.binary_search_by(|own| (**own).cmp(text)).is_ok();
        match found {
            FieldValue::Json(raw) if raw.first() == Some(&b'[') => found.items().any(|item| self.contains_json(item)),
            FieldValue::Json(raw) => self.contains_json(raw),
            FieldValue::Id(id) => among(&self.ids, id),
            FieldValue::Text(own) => among(&self.texts, own),
            FieldValue::Time(at) => self.times.binary_search(at).is_ok(),
        }
    }

    /// Whether the set contains an id. An id in a payload counts in its written form, whether it is text or a number.
    pub(super) fn contains_id(&self, found: &FieldValue<'_>) -> bool {
        match found {
            FieldValue::Json(raw) if Number::read(raw).is_some() => {
                std::str::from_utf8(raw).is_ok_and(|id| self.contains(&FieldValue::Id(id)))
            }
            _ => found.text().is_some_and(|id| self.contains(&FieldValue::Id(&id))),
        }
    }

    fn contains_json(&self, raw: &[u8]) -> bool {
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

/// Decodes a JSON string; `None` for anything else. The result borrows if nothing is escaped.
pub(super) fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    json::string(raw)
}

/// The text within the quotes of a JSON string.
fn inner(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}
