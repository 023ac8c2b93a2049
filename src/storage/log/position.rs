//! Places in the log, and the one conversion between a place and a public event id.

use std::fmt;

use crate::model::EventId;

/// The place of an event in the log. Places rise in the order of acceptance.
///
/// Today the number of a place is the number of the event's id, so that no index leads from an id to a place. Nothing but
/// [`LogPosition::of`] and [`LogPosition::event`] relies on this.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(u128);

impl LogPosition {
    /// Before every event.
    pub const MIN: Self = Self(0);
    /// Behind every event.
    pub const MAX: Self = Self(u128::MAX);

    /// The place of the event with this id.
    pub fn of(event: EventId) -> Self {
        Self(event.as_u128())
    }

    /// The id of the event at this place.
    pub fn event(self) -> EventId {
        EventId::from_u128(self.0)
    }

    /// The place as a key of a segment, and as the first field of a record.
    pub(super) fn key(self) -> u128 {
        self.0
    }

    /// The place of such a key.
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
