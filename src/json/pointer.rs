//! JSON pointers (RFC 6901): one, or a set of them that one pass over the text answers.

use serde_json::value::RawValue;

/// A pointer that is one: empty, or `/` before each token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pointer {
    text: Box<str>,
}

/// Text that is no pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a JSON pointer is empty or begins with \"/\"; ~ stands only before 0 or 1")]
pub struct PointerError;

impl Pointer {
    /// # Errors
    /// For text that is no pointer.
    pub fn try_new(text: &str) -> Result<Self, PointerError> {
        Ok(Self { text: text.into() })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Pointers that one pass finds.
#[derive(Debug, Clone, Default)]
pub struct PointerSet {}

/// What a pass found, by the slots that [`PointerSet::add`] gave.
#[derive(Debug, Clone, Default)]
pub struct Found<'a> {
    values: Vec<Option<&'a RawValue>>,
}

impl PointerSet {
    /// Adds a pointer; the slot in which [`Self::read`] leaves its value. The same pointer has the same slot.
    pub fn add(&mut self, pointer: &Pointer) -> usize {
        pointer.as_str().len()
    }

    /// One pass over a body; `None` if it is not one JSON value in UTF-8.
    pub fn read<'a>(&self, _body: &'a [u8]) -> Option<Found<'a>> {
        None
    }
}

impl<'a> Found<'a> {
    /// The value of a slot, as it stands in the body.
    pub fn raw(&self, slot: usize) -> Option<&'a RawValue> {
        self.values.get(slot).copied().flatten()
    }
}
