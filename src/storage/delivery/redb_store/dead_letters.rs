//! The tables of dead letters. `dead_at` has one entry for each dead letter, sorted by scheduling time, for retention.

use std::ops::Bound;

use redb::{Error, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::table::{DEAD, DEAD_AT, DeliveryKey, TimeKey, dead_at_key, dead_at_of, delivery, key};
use crate::model::{EventId, Timestamp, WebhookNo};
use crate::storage::delivery::NewDeadLetter;
use crate::storage::delivery::dead_letter::{attempts_of, steady_of, wall_of};

/// The tables of dead letters, open for writing.
pub(super) struct DeadLetterTables<'txn> {
    dead: Table<'txn, &'static DeliveryKey, &'static [u8]>,
    times: Table<'txn, &'static TimeKey, ()>,
    scratch: Vec<u8>,
}

impl<'txn> DeadLetterTables<'txn> {
    /// Opens the tables, and creates missing ones.
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, Error> {
        Ok(Self { dead: txn.open_table(DEAD)?, times: txn.open_table(DEAD_AT)?, scratch: Vec::new() })
    }

    /// Writes a dead letter. Replaces an existing one.
    pub(super) fn put(&mut self, webhook: WebhookNo, event: EventId, dead_letter: &NewDeadLetter) -> Result<(), Error> {
        dead_letter.encode(&mut self.scratch);
        let old = self.dead.insert(&key(webhook, event), self.scratch.as_slice())?.map(|old| steady_of(old.value()));
        if let Some(at) = old {
            self.times.remove(&dead_at_key(at, webhook, event))?;
        }
        self.times.insert(&dead_at_key(dead_letter.steady, webhook, event), ())?;
        Ok(())
    }

    /// Deletes a dead letter. Returns its number of attempts, or `None` if it did not exist.
    pub(super) fn remove(&mut self, webhook: WebhookNo, event: EventId) -> Result<Option<u16>, Error> {
        let old = self.dead.remove(&key(webhook, event))?.map(|old| (steady_of(old.value()), attempts_of(old.value())));
        let Some((at, attempts)) = old else { return Ok(None) };
        self.times.remove(&dead_at_key(at, webhook, event))?;
        Ok(Some(attempts))
    }

    /// Returns whether the delivery has a dead letter.
    pub(super) fn holds(&self, webhook: WebhookNo, event: EventId) -> Result<bool, Error> {
        Ok(self.dead.get(&key(webhook, event))?.is_some())
    }

    /// Deletes at most `limit` dead letters that ended before `before`, by the scheduling clock.
    pub(super) fn forget(&mut self, before: Timestamp, limit: usize) -> Result<(), Error> {
        let end = dead_at_key(before, WebhookNo(0), EventId::MIN);
        let mut old = Vec::new();
        for entry in self.times.range::<&TimeKey>(..&end)?.take(limit) {
            old.push(*entry?.0.value());
        }
        for time_key in old {
            let (_, id) = dead_at_of(&time_key);
            self.times.remove(&time_key)?;
            self.dead.remove(&key(id.webhook, id.event))?;
        }
        Ok(())
    }

    /// Returns when the oldest dead letter ended, by the scheduling clock.
    pub(super) fn oldest(&self) -> Result<Option<Timestamp>, Error> {
        Ok(self.times.first()?.map(|(key, _)| dead_at_of(key.value()).0))
    }

    /// Returns the webhook's dead letters of events after `after`, at most `limit`: the event, and when the delivery
    /// ended by the wall clock.
    pub(super) fn of(
        &self,
        webhook: WebhookNo,
        after: EventId,
        limit: usize,
    ) -> Result<Vec<(EventId, Timestamp)>, Error> {
        let (first, last) = (key(webhook, after), key(webhook, EventId::MAX));
        self.dead
            .range::<&DeliveryKey>((Bound::Excluded(&first), Bound::Included(&last)))?
            .take(limit)
            .map(|entry| {
                let (key, value) = entry?;
                Ok((delivery(key.value()).event, wall_of(value.value())))
            })
            .collect()
    }

    /// Counts the webhook's dead letters.
    pub(super) fn count(&self, webhook: WebhookNo) -> Result<u64, Error> {
        let (first, last) = (key(webhook, EventId::MIN), key(webhook, EventId::MAX));
        Ok(self.dead.range::<&DeliveryKey>(&first..=&last)?.count() as u64)
    }

    /// Returns the number of all dead letters.
    pub(super) fn len(&self) -> Result<u64, Error> {
        Ok(self.dead.len()?)
    }
}
