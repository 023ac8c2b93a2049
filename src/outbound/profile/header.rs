//! Templates for header values.

use std::fmt::Write;
use std::str::FromStr;

use http::header::HeaderValue;

use super::value::DeliveryValues;
use crate::template::Template;

/// A header value with placeholders, such as `order {event.type}`. The syntax is that of [`template`](crate::template).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderTemplate(Template<HeaderField>);

/// A placeholder of a header value. None of the values can hold a character that is invalid in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeaderField {
    Type,
    Id,
    Timestamp,
    Webhook,
    Delivery,
    Attempt,
}

const NAMES: [(&str, HeaderField); 6] = [
    ("event.type", HeaderField::Type),
    ("event.id", HeaderField::Id),
    ("timestamp", HeaderField::Timestamp),
    ("webhook.id", HeaderField::Webhook),
    ("delivery.id", HeaderField::Delivery),
    ("attempt", HeaderField::Attempt),
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
    /// The header value for a delivery; `None` if the text is not a valid header value.
    pub(super) fn fill(&self, values: &DeliveryValues<'_>) -> Option<HeaderValue> {
        let mut text = String::new();
        self.0.write(&mut text, |field, text| {
            // Writing to a string cannot fail.
            let _ = match field {
                HeaderField::Type => text.write_str(values.event.event_type),
                HeaderField::Id => write!(text, "{}", values.id),
                HeaderField::Timestamp => write!(text, "{}", values.now.as_secs()),
                HeaderField::Webhook => write!(text, "{}", values.webhook),
                HeaderField::Delivery => write!(text, "{}", values.delivery),
                HeaderField::Attempt => write!(text, "{}", values.attempt),
            };
        });
        HeaderValue::try_from(text).ok()
    }
}

fn field(name: &str) -> Result<HeaderField, String> {
    NAMES.iter().find(|(own, _)| *own == name).map(|(_, field)| *field).ok_or_else(|| {
        let names: Vec<_> = NAMES.iter().map(|(own, _)| format!("{{{own}}}")).collect();
        format!("{{{name}}} is not known; allowed: {}", names.join(" "))
    })
}
