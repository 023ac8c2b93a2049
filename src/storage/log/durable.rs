//! Proof that an event is in a completed fsync. Only this folder can make one.

use super::LogPosition;
use crate::model::EventId;

/// Proof that every event up to a place in the log is in a completed fsync. [`super::EventLog::append`] gives one out after
/// its commit, and [`super::EventLog::durable`] for what was committed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    last: LogPosition,
}

/// Proof that one event is in a completed fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableEvent {
    id: EventId,
}

impl Durable {
    /// Only the log knows what a completed fsync covers.
    pub(super) fn up_to(last: LogPosition) -> Self {
        Self { last }
    }

    /// A proof without a log, for tests of what decides on it.
    #[cfg(test)]
    pub(crate) fn for_test(last: LogPosition) -> Self {
        Self { last }
    }

    /// The last place that the proof covers; [`LogPosition::MIN`] in an empty log.
    pub fn last(self) -> LogPosition {
        self.last
    }

    /// Proof for one event; `None` if the event is behind the last durable one.
    pub fn event(self, id: EventId) -> Option<DurableEvent> {
        (LogPosition::of(id) <= self.last).then_some(DurableEvent { id })
    }
}

impl DurableEvent {
    /// The event.
    pub fn id(self) -> EventId {
        self.id
    }

    /// A proof without a log, for tests of what comes behind the log.
    #[cfg(test)]
    pub(crate) fn for_test(id: EventId) -> Self {
        Self { id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_covers_no_event_behind_it() {
        let at = |n| EventId::from_u128(n);
        let durable = Durable::up_to(LogPosition::of(at(7)));
        assert_eq!(durable.event(at(7)).map(DurableEvent::id), Some(at(7)));
        assert!(durable.event(at(3)).is_some() && durable.event(at(8)).is_none());
    }
}
