//! Summaries of events for lists, read from the event heads in the log.

use std::collections::BTreeMap;

use super::Error;
use crate::model::{EventHead, EventId, Timestamp};
use crate::storage::ReadLog;

/// Heads to read at once. Neighbours in a list are often neighbours in the log.
const HEADS_AT_ONCE: usize = 16;

/// The fields of an event that lists show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSummary {
    /// The event type.
    pub event_type: Box<str>,
    /// The time at which the event was accepted.
    pub received_at: Timestamp,
    /// The id that relates the event to other events.
    pub correlation_id: Box<str>,
    /// The sender's own id of the event.
    pub external_id: Option<Box<str>>,
    /// The length of the data and of the raw body in bytes.
    pub body_len: usize,
}

impl EventSummary {
    /// Reads the summary from an encoded head. Returns `None` if the head is damaged.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let head = EventHead::parse(head).ok()?.event;
        Some(Self {
            event_type: head.event_type.into(),
            received_at: head.received_at,
            correlation_id: head.correlation_id.into(),
            external_id: head.external_id.map(Box::from),
            body_len: head.body_len(),
        })
    }
}

/// A cache of summaries for a list that walks through the log. Each read fetches several neighbouring heads.
pub(super) struct Summaries<'a> {
    log: &'a dyn ReadLog,
    /// The range of event ids that was read, both ends included.
    read: Option<(EventId, EventId)>,
    found: BTreeMap<EventId, EventSummary>,
}

impl<'a> Summaries<'a> {
    /// Creates an empty cache.
    pub(super) fn new(log: &'a dyn ReadLog) -> Self {
        Self { log, read: None, found: BTreeMap::new() }
    }

    /// Returns the summary of an event; `None` if the log no longer has the event.
    pub(super) fn of(&mut self, event: EventId) -> Result<Option<EventSummary>, Error> {
        if !self.read.is_some_and(|(first, last)| (first..=last).contains(&event)) {
            let after = EventId::from_u128(event.as_u128().saturating_add(1));
            let heads = self.log.heads_before(after, HEADS_AT_ONCE)?;
            self.read = Some((heads.last().map_or(event, |(id, _)| *id), event));
            self.found = heads.into_iter().filter_map(|(id, head)| Some((id, EventSummary::of(&head)?))).collect();
        }
        Ok(self.found.get(&event).cloned())
    }

    /// Adds the summary of its event to each row that has none.
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
