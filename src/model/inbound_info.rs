//! The inbound section of an event head: what is stored about the request of a source.
//!
//! ```text
//! u8 mapping (0 plain, 1 mapped, 2 failed), u8 flags (1 the id is signed, 2 the type is signed), u16 length, content type,
//! u16 length, topic, u32 length, headers
//! ```

use super::HeadError;
use super::wire::{HeadReader, put_long_text, put_text};

/// What is stored about the request that a source received. The header of this module shows the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InboundInfo<'a> {
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The other headers as a JSON object of texts, without headers that hold secrets.
    pub headers: &'a str,
    /// The event type as the provider writes it.
    pub topic: Option<&'a str>,
    /// The result of the event map of the source.
    pub mapping: Mapping,
    /// Whether the signature covers the location from which the id was read.
    pub signed_id: bool,
    /// Whether the signature covers the location from which the type was read.
    pub signed_type: bool,
}

/// The result of applying the event map of a source to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mapping {
    /// No rule matched. The event is stored as received.
    #[default]
    Plain,
    /// A rule produced the event.
    Mapped,
    /// A rule matched but failed. The event is stored as received.
    Failed,
}

const FLAG_SIGNED_ID: u8 = 1;
const FLAG_SIGNED_TYPE: u8 = 2;

impl<'a> InboundInfo<'a> {
    /// Appends the inbound section to `out`.
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

    /// Reads the inbound section.
    ///
    /// # Errors
    /// [`HeadError`] if the bytes are not an inbound section.
    pub(super) fn parse(from: &mut HeadReader<'a>) -> Result<Self, HeadError> {
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
