//! Texts and numbers of an event's head, as bytes.
//!
//! A text has its length before it, a u16 or, where it may be long, a u32, little-endian; a length of 0xFFFF or 0xFFFF_FFFF
//! says that it is absent. A varint has seven bits of the number in each byte, the lowest first, and the eighth bit in all
//! but the last.

use super::HeadError;

const ABSENT_16: u16 = u16::MAX;
const ABSENT_32: u32 = u32::MAX;

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

pub(super) fn put_long_text(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        None => out.extend_from_slice(&ABSENT_32.to_le_bytes()),
        Some(text) => {
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

pub(super) fn put_varint(mut n: u32, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// What is still to be read.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], HeadError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(HeadError::Damaged)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], HeadError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(HeadError::Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn str(&mut self, len: usize) -> Result<&'a str, HeadError> {
        std::str::from_utf8(self.take(len)?).map_err(|_| HeadError::Damaged)
    }

    pub(super) fn text(&mut self) -> Result<Option<&'a str>, HeadError> {
        match u16::from_le_bytes(self.array()?) {
            ABSENT_16 => Ok(None),
            len => self.str(usize::from(len)).map(Some),
        }
    }

    pub(super) fn long_text(&mut self) -> Result<Option<&'a str>, HeadError> {
        match u32::from_le_bytes(self.array()?) {
            ABSENT_32 => Ok(None),
            len => self.str(len as usize).map(Some),
        }
    }

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
