//! The encoding of texts and numbers in an event head.
//!
//! The length of a text precedes the text. The length is a u16, or a u32 for texts that may be long, in little-endian.
//! A length of 0xFFFF or 0xFFFF_FFFF means that the text is absent. A varint holds seven bits of the number in each
//! byte, the lowest bits first. The eighth bit is set in all bytes except the last.

use super::HeadError;

const ABSENT_16: u16 = u16::MAX;
const ABSENT_32: u32 = u32::MAX;

/// Appends a text with a length of two bytes.
pub(super) fn put_text(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        None => out.extend_from_slice(&ABSENT_16.to_le_bytes()),
        Some(text) => {
            debug_assert!(text.len() < usize::from(ABSENT_16));
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Appends a text with a length of four bytes.
pub(super) fn put_long_text(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        None => out.extend_from_slice(&ABSENT_32.to_le_bytes()),
        Some(text) => {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Appends a varint.
pub(super) fn put_varint(mut n: u32, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads fields from the bytes of an event head that are not read yet. Each read returns [`HeadError`] if the bytes end
/// early or a text is not UTF-8.
pub(super) struct HeadReader<'a>(&'a [u8]);

impl<'a> HeadReader<'a> {
    /// Starts reading at the first byte.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes that are not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], HeadError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(HeadError::Damaged)?;
        self.0 = rest;
        Ok(head)
    }

    /// Reads `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], HeadError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(HeadError::Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn str(&mut self, len: usize) -> Result<&'a str, HeadError> {
        std::str::from_utf8(self.take(len)?).map_err(|_| HeadError::Damaged)
    }

    /// Reads a text with a length of two bytes; `None` if the text is absent.
    pub(super) fn text(&mut self) -> Result<Option<&'a str>, HeadError> {
        match u16::from_le_bytes(self.array()?) {
            ABSENT_16 => Ok(None),
            len => self.str(usize::from(len)).map(Some),
        }
    }

    /// Reads a text with a length of four bytes; `None` if the text is absent.
    pub(super) fn long_text(&mut self) -> Result<Option<&'a str>, HeadError> {
        match u32::from_le_bytes(self.array()?) {
            ABSENT_32 => Ok(None),
            len => self.str(len as usize).map(Some),
        }
    }

    /// Reads a varint of up to 32 bits.
    pub(super) fn varint(&mut self) -> Result<u32, HeadError> {
        let mut n = 0u32;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            n |= u32::from(byte & 0x7F).checked_shl(shift).ok_or(HeadError::Damaged)?;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(HeadError::Damaged)
    }
}
