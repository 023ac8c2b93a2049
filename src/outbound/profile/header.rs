//! Header values with places in them.

use std::fmt::Write;
use std::str::FromStr;

use hyper::header::HeaderValue;

use super::value::Values;
use crate::signature::{Segment, segments};

/// `order {event.type}`; `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Value(Field),
}

/// None of these can hold what a header cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Type,
    Id,
    Timestamp,
    Webhook,
    Delivery,
    Attempt,
}

const NAMES: [(&str, Field); 6] = [
    ("event.type", Field::Type),
    ("event.id", Field::Id),
    ("timestamp", Field::Timestamp),
    ("webhook.id", Field::Webhook),
    ("delivery.id", Field::Delivery),
    ("attempt", Field::Attempt),
];

impl FromStr for HeaderTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.bytes().all(|b| (0x20..0x7F).contains(&b)) {
            return Err("expected visible characters of ASCII, and spaces".to_owned());
        }
        let mut pieces = Vec::new();
        for segment in segments(text) {
            pieces.push(match segment.map_err(|unbalanced| unbalanced.to_string())? {
                Segment::Text(literal) => Piece::Text(literal.into()),
                Segment::Name(name) => {
                    let Some((_, field)) = NAMES.iter().find(|(own, _)| *own == name) else {
                        let names: Vec<_> = NAMES.iter().map(|(own, _)| format!("{{{own}}}")).collect();
                        return Err(format!("{{{name}}} is not known; allowed: {}", names.join(" ")));
                    };
                    Piece::Value(*field)
                }
            });
        }
        Ok(Self(pieces))
    }
}

impl HeaderTemplate {
    /// The value for a delivery.
    pub(super) fn fill(&self, values: &Values<'_>) -> Option<HeaderValue> {
        let mut text = String::new();
        for piece in &self.0 {
            // Writing to a string cannot fail.
            let _ = match piece {
                Piece::Text(literal) => text.write_str(literal),
                Piece::Value(Field::Type) => text.write_str(values.event.event_type),
                Piece::Value(Field::Id) => write!(text, "{}", values.id),
                Piece::Value(Field::Timestamp) => write!(text, "{}", values.now.as_secs()),
                Piece::Value(Field::Webhook) => write!(text, "{}", values.webhook),
                Piece::Value(Field::Delivery) => write!(text, "{}", values.delivery),
                Piece::Value(Field::Attempt) => write!(text, "{}", values.attempt),
            };
        }
        HeaderValue::try_from(text).ok()
    }
}
