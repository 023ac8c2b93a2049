//! Rows that overtook their arrivals, so that these are not taken a second time.

use std::collections::BTreeSet;

use crate::limits;
use crate::model::{EventId, WebhookNo};

/// Rows taken of events newer than the newest arrival: their arrivals are still to come, and are dropped then. Events of
/// jobs have no arrivals, so the oldest entries go when there are too many.
#[derive(Debug)]
pub(super) struct ArrivedRows {
    newest_arrival: EventId,
    rows: BTreeSet<(EventId, WebhookNo)>,
}

impl ArrivedRows {
    /// Every event up to `newest` came before the start, and arrives no more.
    pub(super) fn new(newest: EventId) -> Self {
        Self { newest_arrival: newest, rows: BTreeSet::new() }
    }

    pub(super) fn row_taken(&mut self, event: EventId, webhook: WebhookNo) {
        if event > self.newest_arrival {
            self.rows.insert((event, webhook));
            if self.rows.len() > limits::INGEST_PERMITS {
                self.rows.pop_first();
            }
        }
    }

    /// Whether arrivals of this event, or of earlier ones, may be still to come.
    pub(super) fn is_ahead(&self, event: EventId) -> bool {
        event > self.newest_arrival
    }

    /// Whether the arrival was taken before as a row.
    pub(super) fn is_taken(&mut self, event: EventId, webhook: WebhookNo) -> bool {
        !self.rows.is_empty() && self.rows.remove(&(event, webhook))
    }

    /// All arrivals of this event and those before it have been looked at.
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
    fn an_arrival_whose_row_was_taken_is_known_once() {
        let mut early = ArrivedRows::new(id(10));
        early.row_taken(id(5), WebhookNo(1));
        early.row_taken(id(11), WebhookNo(1));
        assert!(!early.is_taken(id(5), WebhookNo(1)) && !early.is_taken(id(11), WebhookNo(2)));
        assert!(early.is_taken(id(11), WebhookNo(1)) && !early.is_taken(id(11), WebhookNo(1)));
        early.row_taken(id(12), WebhookNo(1));
        early.arrived(id(12));
        assert!(!early.is_taken(id(12), WebhookNo(1)));
    }
}
