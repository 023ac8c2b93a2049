//! Types that prove that an event is durable, that is, covered by a completed fsync. Only this folder can create them.

use super::LogPosition;
use crate::model::EventId;

/// Proof that every event up to a position in the log is durable. [`super::EventLog::append`] returns one after its
/// commit. [`super::EventLog::durable`] returns one for everything committed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    last: LogPosition,
}

/// Proof that one event is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableEvent {
    id: EventId,
}

impl Durable {
    /// Creates a proof. Only the log may call this, because only it knows what a completed fsync covers.
    pub(super) fn up_to(last: LogPosition) -> Self {
        Self { last }
    }

    /// Creates a proof without a log, for tests of code that requires one.
    #[cfg(test)]
    pub(crate) fn for_test(last: LogPosition) -> Self {
        Self { last }
    }

    /// Returns the last position that the proof covers, or [`LogPosition::MIN`] for an empty log.
    pub fn last(self) -> LogPosition {
        self.last
    }

    /// Returns the proof for one event, or `None` if the event is after the last durable one.
    pub fn event(self, id: EventId) -> Option<DurableEvent> {
        (LogPosition::of(id) <= self.last).then_some(DurableEvent { id })
    }
}

impl DurableEvent {
    /// Returns the event's id.
    pub fn id(self) -> EventId {
        self.id
    }

    /// Creates a proof without a log, for tests of the stages after the log.
    #[cfg(test)]
    pub(crate) fn for_test(id: EventId) -> Self {
        Self { id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_does_not_cover_later_events() {
        let at = |n| EventId::from_u128(n);
        let durable = Durable::up_to(LogPosition::of(at(7)));
        assert_eq!(durable.event(at(7)).map(DurableEvent::id), Some(at(7)));
        assert!(durable.event(at(3)).is_some() && durable.event(at(8)).is_none());
    }
}
