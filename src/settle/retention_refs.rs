//! What retention of the log asks of settle.

use super::Records;
use crate::handoff::{Command, Needs, SettleHandle, ToSettle};
use crate::model::EventId;

/// [`Needs`], answered from the rows, the dead letters and the wide events' jobs.
#[derive(Debug, Clone)]
pub struct SettleNeeds {
    handle: SettleHandle,
    records: Records,
}

impl SettleNeeds {
    /// For the log's retention thread, which may wait for a flush.
    pub fn new(handle: SettleHandle, records: Records) -> Self {
        Self { handle, records }
    }
}

impl Needs for SettleNeeds {
    fn needed(&self, first: EventId, last: EventId) -> Option<Vec<EventId>> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let sync = Command::Sync { webhook: None, event: None, limit: usize::MAX, reply };
        self.handle.tell(ToSettle::Command(sync));
        let outstanding = answer.blocking_recv().ok()?;
        if outstanding.iter().any(|(event, _)| (first..=last).contains(event)) {
            return None;
        }
        match self.records.reader().needed(first, last) {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::warn!(%error, "retention waits: the state cannot be read");
                None
            }
        }
    }

    fn expire(&self, events: Vec<EventId>) {
        self.handle.tell(ToSettle::Command(Command::Expire { events }));
    }
}
