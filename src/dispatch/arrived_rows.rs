//! Remembers rows that a shard received before their arrivals, so that an event is not queued twice.

use std::collections::BTreeSet;

use crate::limits;
use crate::model::{EventId, WebhookNo};

/// Rows of events that are newer than the newest arrival. The arrivals of these events are still on their way and are
/// dropped when they come.
///
/// Events whose rows a job writes have no arrivals. The oldest entries are therefore removed when there are more than
/// [`limits::INGEST_PERMITS`].
#[derive(Debug)]
pub(super) struct ArrivedRows {
    newest_arrival: EventId,
    rows: BTreeSet<(EventId, WebhookNo)>,
}

impl ArrivedRows {
    /// Creates an empty set. `newest` is the last event before the start; no arrival of it or of an earlier event will
    /// come.
    pub(super) fn new(newest: EventId) -> Self {
        Self { newest_arrival: newest, rows: BTreeSet::new() }
    }

    /// Records that a webhook's row of this event was queued.
    pub(super) fn row_taken(&mut self, event: EventId, webhook: WebhookNo) {
        if event > self.newest_arrival {
            self.rows.insert((event, webhook));
            if self.rows.len() > limits::INGEST_PERMITS {
                self.rows.pop_first();
            }
        }
    }

    /// Whether the arrival of this event, or of an earlier event, may still come.
    pub(super) fn is_ahead(&self, event: EventId) -> bool {
        event > self.newest_arrival
    }

    /// Whether the event of this arrival was already queued as a row. Forgets the row.
    pub(super) fn is_taken(&mut self, event: EventId, webhook: WebhookNo) -> bool {
        !self.rows.is_empty() && self.rows.remove(&(event, webhook))
    }

    /// Records that all arrivals up to this event have been handled.
    pub(super) fn arrived(&mut self, event: EventId) {
        self.newest_arrival = self.newest_arrival.max(event);
        while self.rows.first().is_some_and(|(first, _)| *first <= event) {
            self.rows.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> EventId {
        EventId::from_u128(n)
    }

    #[test]
    fn an_arrival_whose_row_was_queued_is_recognized_once() {
        let mut arrived_rows = ArrivedRows::new(id(10));
        arrived_rows.row_taken(id(5), WebhookNo(1));
        arrived_rows.row_taken(id(11), WebhookNo(1));
        assert!(!arrived_rows.is_taken(id(5), WebhookNo(1)) && !arrived_rows.is_taken(id(11), WebhookNo(2)));
        assert!(arrived_rows.is_taken(id(11), WebhookNo(1)) && !arrived_rows.is_taken(id(11), WebhookNo(1)));
        arrived_rows.row_taken(id(12), WebhookNo(1));
        arrived_rows.arrived(id(12));
        assert!(!arrived_rows.is_taken(id(12), WebhookNo(1)));
    }
}
