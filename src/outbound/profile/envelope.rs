//! The body: what stands before the data, the data as it was accepted, what stands after it.

use bytes::BytesMut;
use serde_json::Value;

use super::value::{Field, Values};
use crate::template::{Builder, Part, Template};

/// What the body is.
#[derive(Debug)]
pub enum Body {
    /// The payload alone: the body of the request that the event came with.
    Raw,
    /// An object.
    Object(Object),
}

/// An object whose fields are compiled to two templates, around the data.
#[derive(Debug)]
pub struct Object {
    prefix: Template<Field>,
    suffix: Template<Field>,
    has_data: bool,
}

impl Object {
    /// An object of these fields, in order; at most one of them is the data.
    pub(super) fn new(fields: &[(String, Field)]) -> Self {
        let (mut prefix, mut suffix) = (Builder::default(), Builder::default());
        let mut has_data = false;
        prefix.text("{");
        for (n, (name, field)) in fields.iter().enumerate() {
            let side = if has_data { &mut suffix } else { &mut prefix };
            let quote = if field.is_plain_text() { "\"" } else { "" };
            let comma = if n == 0 { "" } else { "," };
            for text in [comma, &Value::from(name.as_str()).to_string(), ":", quote] {
                side.text(text);
            }
            if *field == Field::Data {
                has_data = true;
            } else {
                side.placeholder(*field);
                side.text(quote);
            }
        }
        let side = if has_data { &mut suffix } else { &mut prefix };
        side.text("}");
        Self { prefix: prefix.build(), suffix: suffix.build(), has_data }
    }

    /// Whether the event's data is in it.
    pub fn has_data(&self) -> bool {
        self.has_data
    }

    /// Appends what stands before the data.
    pub fn write_prefix(&self, values: &Values<'_>, out: &mut BytesMut) {
        write(&self.prefix, values, out);
    }

    /// What stands after the data, if that is known without writing it: most envelopes end with it. Nothing counts its
    /// users, as shared bytes would, across the threads that deliver.
    pub fn constant_suffix(&self) -> Option<&'static [u8]> {
        match self.suffix.parts() {
            [] => Some(b""),
            [Part::Text(text)] if **text == *"}" => Some(b"}"),
            _ => None,
        }
    }

    /// Appends what stands after the data.
    pub fn write_suffix(&self, values: &Values<'_>, out: &mut BytesMut) {
        write(&self.suffix, values, out);
    }
}

fn write(template: &Template<Field>, values: &Values<'_>, out: &mut BytesMut) {
    template.write(out, |field, out| field.write(values, out));
}
