//! The body: what stands before the data, the data as it was accepted, what stands after it.

use bytes::BytesMut;
use serde_json::Value;

use super::value::{Field, Values};

/// What the body is.
#[derive(Debug)]
pub enum Body {
    /// The payload alone: the body of the request that the event came with.
    Raw,
    /// An object.
    Object(Object),
}

/// An object whose fields are compiled to runs of text with values between them.
#[derive(Debug)]
pub struct Object {
    prefix: Vec<Piece>,
    suffix: Vec<Piece>,
    has_data: bool,
}

#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Value(Field),
}

impl Object {
    /// An object of these fields, in order; at most one of them is the data.
    pub(super) fn new(fields: &[(String, Field)]) -> Self {
        let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
        let mut text = "{".to_owned();
        let mut has_data = false;
        for (n, (name, field)) in fields.iter().enumerate() {
            let quote = if field.is_plain_text() { "\"" } else { "" };
            let comma = if n == 0 { "" } else { "," };
            text.extend([comma, &Value::from(name.as_str()).to_string(), ":", quote]);
            let pieces = if has_data { &mut suffix } else { &mut prefix };
            pieces.push(Piece::Text(std::mem::replace(&mut text, quote.to_owned()).into()));
            match field {
                Field::Data => has_data = true,
                field => pieces.push(Piece::Value(*field)),
            }
        }
        text.push('}');
        let pieces = if has_data { &mut suffix } else { &mut prefix };
        pieces.push(Piece::Text(text.into()));
        Self { prefix, suffix, has_data }
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
        match &self.suffix[..] {
            [] => Some(b""),
            [Piece::Text(text)] if **text == *"}" => Some(b"}"),
            _ => None,
        }
    }

    /// Appends what stands after the data.
    pub fn write_suffix(&self, values: &Values<'_>, out: &mut BytesMut) {
        write(&self.suffix, values, out);
    }
}

fn write(pieces: &[Piece], values: &Values<'_>, out: &mut BytesMut) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Value(field) => field.write(values, out),
        }
    }
}
