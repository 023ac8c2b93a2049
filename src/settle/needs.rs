//! What retention of the log asks of settle.

use redb::Error;

use super::dead::is_expired;
use super::job::{Job, JobKind};
use super::pending::between;
use super::records::Records;
use super::table::{DEAD, JOBS, PENDING, key};
use crate::handoff::{Command, Needs, SettleHandle, ToSettle};
use crate::model::{EventId, WebhookNo};

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

    fn stored(&self, first: EventId, last: EventId) -> Result<Vec<EventId>, Error> {
        let mut events = self.records.state().read(|txn| {
            let mut events = Vec::new();
            let from = key(WebhookNo(0), first);
            between(&txn.open_table(PENDING)?, &from, first, last, |_, event, _| {
                events.push(event);
                true
            })?;
            between(&txn.open_table(DEAD)?, &from, first, last, |_, event, letter| {
                // One that expired has no body to keep.
                if !is_expired(letter) {
                    events.push(event);
                }
                true
            })?;
            for job in Job::load(&txn.open_table(JOBS)?)?.iter().filter(|job| job.is_running()) {
                match job.kind {
                    JobKind::Wide { event } if (first..=last).contains(&event) => events.push(event),
                    _ => {}
                }
            }
            Ok(events)
        })?;
        events.sort_unstable();
        events.dedup();
        Ok(events)
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
        match self.stored(first, last) {
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
