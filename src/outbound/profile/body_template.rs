//! Templates of delivery bodies: the text before the data, and the text after the data.

use bytes::BytesMut;
use serde_json::Value;

use super::value::{DeliveryValues, EnvelopeField};
use crate::template::{Template, TemplateBuilder, TemplatePart};

/// How the body of a delivery is built.
#[derive(Debug)]
pub enum BodyTemplate {
    /// The body of the request that the event came with, without an envelope.
    Raw,
    /// A JSON object.
    Object(ObjectTemplate),
}

/// A JSON object whose fields are compiled to two templates: one before the data and one after the data.
#[derive(Debug)]
pub struct ObjectTemplate {
    prefix: Template<EnvelopeField>,
    suffix: Template<EnvelopeField>,
    has_data: bool,
}

impl ObjectTemplate {
    /// Compiles an object with these fields, in order. At most one field is the data.
    pub(super) fn new(fields: &[(String, EnvelopeField)]) -> Self {
        let (mut prefix, mut suffix) = (TemplateBuilder::default(), TemplateBuilder::default());
        let mut has_data = false;
        prefix.text("{");
        for (n, (name, field)) in fields.iter().enumerate() {
            let side = if has_data { &mut suffix } else { &mut prefix };
            let quote = if field.is_plain_text() { "\"" } else { "" };
            let comma = if n == 0 { "" } else { "," };
            for text in [comma, &Value::from(name.as_str()).to_string(), ":", quote] {
                side.text(text);
            }
            if *field == EnvelopeField::Data {
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

    /// Whether the object contains the data of the event.
    pub fn has_data(&self) -> bool {
        self.has_data
    }

    /// Appends the text before the data to `out`.
    pub fn write_prefix(&self, values: &DeliveryValues<'_>, out: &mut BytesMut) {
        write(&self.prefix, values, out);
    }

    /// The text after the data, if the text is the same for every delivery; `None` otherwise. Most envelopes end with a
    /// constant text. The text is static, because shared bytes would count references across the threads that deliver.
    pub fn constant_suffix(&self) -> Option<&'static [u8]> {
        match self.suffix.parts() {
            [] => Some(b""),
            [TemplatePart::Text(text)] if **text == *"}" => Some(b"}"),
            _ => None,
        }
    }

    /// Appends the text after the data to `out`.
    pub fn write_suffix(&self, values: &DeliveryValues<'_>, out: &mut BytesMut) {
        write(&self.suffix, values, out);
    }
}

fn write(template: &Template<EnvelopeField>, values: &DeliveryValues<'_>, out: &mut BytesMut) {
    template.write(out, |field, out| field.write(values, out));
}
