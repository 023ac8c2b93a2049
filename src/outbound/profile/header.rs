//! Header values with values of the delivery in them.

use std::fmt::Write;
use std::str::FromStr;

use http::header::HeaderValue;

use super::value::Values;
use crate::template::Template;

/// `order {event.type}`: see [`template`](crate::template).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderTemplate(Template<Field>);

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
        Template::parse(text, field).map(Self).map_err(|error| error.to_string())
    }
}

impl HeaderTemplate {
    /// The value for a delivery.
    pub(super) fn fill(&self, values: &Values<'_>) -> Option<HeaderValue> {
        let mut text = String::new();
        self.0.write(&mut text, |field, text| {
            // Writing to a string cannot fail.
            let _ = match field {
                Field::Type => text.write_str(values.event.event_type),
                Field::Id => write!(text, "{}", values.id),
                Field::Timestamp => write!(text, "{}", values.now.as_secs()),
                Field::Webhook => write!(text, "{}", values.webhook),
                Field::Delivery => write!(text, "{}", values.delivery),
                Field::Attempt => write!(text, "{}", values.attempt),
            };
        });
        HeaderValue::try_from(text).ok()
    }
}

fn field(name: &str) -> Result<Field, String> {
    NAMES.iter().find(|(own, _)| *own == name).map(|(_, field)| *field).ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(own, _)| format!("{{{own}}}")).collect();
        format!("{{{name}}} is not known; allowed: {}", names.join(" "))
    })
}
