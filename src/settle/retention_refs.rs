//! Tells the retention of the log which event bodies settle still needs.

use super::DeliveryRecords;
use crate::handoff::{RetentionRefs, SettleCommand, SettleHandle, ToSettle};
use crate::model::EventId;

/// [`RetentionRefs`], answered from the rows, the dead letters and the jobs of wide events.
#[derive(Debug, Clone)]
pub struct SettleRetentionRefs {
    handle: SettleHandle,
    records: DeliveryRecords,
}

impl SettleRetentionRefs {
    /// For the retention thread of the log. Its calls may wait for a flush.
    pub fn new(handle: SettleHandle, records: DeliveryRecords) -> Self {
        Self { handle, records }
    }
}

impl RetentionRefs for SettleRetentionRefs {
    fn needed(&self, first: EventId, last: EventId) -> Option<Vec<EventId>> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let sync = SettleCommand::Sync { webhook: None, event: None, limit: usize::MAX, reply };
        self.handle.send(ToSettle::Command(sync));
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
        self.handle.send(ToSettle::Command(SettleCommand::Expire { events }));
    }
}
