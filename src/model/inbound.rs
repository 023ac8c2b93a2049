//! What is kept of a source's request, in the head of its event.
//!
//! ```text
//! u8 mapping (0 plain, 1 mapped, 2 failed), u8 flags (1 the id is signed, 2 the type is signed), u16 length, content type,
//! u16 length, topic, u32 length, headers
//! ```

use super::HeadError;
use super::wire::{Reader, put_long_text, put_text};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inbound<'a> {
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The other headers, a JSON object of texts, without those that hold secrets.
    pub headers: &'a str,
    /// The provider's type in its own spelling.
    pub topic: Option<&'a str>,
    /// What the source's map made of it.
    pub mapping: Mapping,
    /// Whether a signature covers the place that the id came from.
    pub signed_id: bool,
    /// Whether a signature covers the place that the type came from.
    pub signed_type: bool,
}

/// What a source's map made of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mapping {
    /// No rule wanted it: it is as it came.
    #[default]
    Plain,
    /// A rule made it.
    Mapped,
    /// A rule wanted it and could not be applied: it is as it came.
    Failed,
}

const FLAG_SIGNED_ID: u8 = 1;
const FLAG_SIGNED_TYPE: u8 = 2;

impl<'a> Inbound<'a> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mapping = match self.mapping {
            Mapping::Plain => 0,
            Mapping::Mapped => 1,
            Mapping::Failed => 2,
        };
        let id = if self.signed_id { FLAG_SIGNED_ID } else { 0 };
        let event_type = if self.signed_type { FLAG_SIGNED_TYPE } else { 0 };
        out.extend_from_slice(&[mapping, id | event_type]);
        put_text(self.content_type, out);
        put_text(self.topic, out);
        put_long_text(Some(self.headers), out);
    }

    pub(super) fn parse(from: &mut Reader<'a>) -> Result<Self, HeadError> {
        let [mapping, flags] = from.array()?;
        let mapping = match mapping {
            0 => Mapping::Plain,
            1 => Mapping::Mapped,
            2 => Mapping::Failed,
            _ => return Err(HeadError::Damaged),
        };
        Ok(Self {
            mapping,
            signed_id: flags & FLAG_SIGNED_ID != 0,
            signed_type: flags & FLAG_SIGNED_TYPE != 0,
            content_type: from.text()?,
            topic: from.text()?,
            headers: from.long_text()?.ok_or(HeadError::Damaged)?,
        })
    }
}
