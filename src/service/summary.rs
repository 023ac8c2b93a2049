//! What lists tell of an event, read from the heads in the log.

use std::collections::BTreeMap;

use super::Error;
use crate::model::{EventHead, EventId, Timestamp};
use crate::storage::ReadLog;

/// Heads read at once: neighbours in a list are often neighbours in the log.
const HEADS_AT_ONCE: usize = 16;

/// What a list tells of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSummary {
    /// Its type.
    pub event_type: Box<str>,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// The id that ties it to other events.
    pub correlation_id: Box<str>,
    /// The sender's own id.
    pub external_id: Option<Box<str>>,
}

impl EventSummary {
    /// The summary of an encoded head; `None` of one that is damaged.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let head = EventHead::parse(head).ok()?.event;
        Some(Self {
            event_type: head.event_type.into(),
            received_at: head.received_at,
            correlation_id: head.correlation_id.into(),
            external_id: head.external_id.map(Box::from),
        })
    }
}

/// Summaries in the order in which a list goes through the log, read some at a time.
pub(super) struct Summaries<'a> {
    log: &'a dyn ReadLog,
    /// The part of the log that was read, bounds included.
    read: Option<(EventId, EventId)>,
    found: BTreeMap<EventId, EventSummary>,
}

impl<'a> Summaries<'a> {
    pub(super) fn new(log: &'a dyn ReadLog) -> Self {
        Self { log, read: None, found: BTreeMap::new() }
    }

    /// The summary of an event; `None` if the log no longer has the event.
    pub(super) fn of(&mut self, event: EventId) -> Result<Option<EventSummary>, Error> {
        if !self.read.is_some_and(|(first, last)| (first..=last).contains(&event)) {
            let after = EventId::from_u128(event.as_u128().saturating_add(1));
            let heads = self.log.heads_before(after, HEADS_AT_ONCE)?;
            self.read = Some((heads.last().map_or(event, |(id, _)| *id), event));
            self.found = heads.into_iter().filter_map(|(id, head)| Some((id, EventSummary::of(&head)?))).collect();
        }
        Ok(self.found.get(&event).cloned())
    }

    /// Gives each row that has no summary the one of its event.
    pub(super) fn fill<T>(
        &mut self,
        rows: &mut [(T, Option<EventSummary>)],
        event: impl Fn(&T) -> EventId,
    ) -> Result<(), Error> {
        for (row, summary) in rows.iter_mut().filter(|(_, summary)| summary.is_none()) {
            *summary = self.of(event(row))?;
        }
        Ok(())
    }
}
