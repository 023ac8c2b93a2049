//! Positions in the log, and the conversion between a position and a public event id.

use std::fmt;

use crate::model::EventId;

/// The position of an event in the log. Positions ascend in the order of acceptance.
///
/// A position has the same number as the event's id, so no index from ids to positions is needed. Only
/// [`LogPosition::of`] and [`LogPosition::event`] rely on this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(u128);

impl LogPosition {
    /// The position before every event.
    pub const MIN: Self = Self(0);
    /// The position after every event.
    pub const MAX: Self = Self(u128::MAX);

    /// Returns the position of the event with this id.
    pub fn of(event: EventId) -> Self {
        Self(event.as_u128())
    }

    /// Returns the id of the event at this position.
    pub fn event(self) -> EventId {
        EventId::from_u128(self.0)
    }

    /// Returns the number that is a block's key in a segment, and the first field of a record.
    pub(super) fn key(self) -> u128 {
        self.0
    }

    /// Returns the position of a key.
    pub(super) fn from_key(key: u128) -> Self {
        Self(key)
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.event().fmt(f)
    }
}

impl fmt::Debug for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPosition({self})")
    }
}
