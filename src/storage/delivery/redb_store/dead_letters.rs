//! The tables of dead letters. `dead_at` has one entry for each, by scheduling time, for retention.

use std::ops::Bound;

use redb::{Error, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::table::{DEAD, DEAD_AT, Key, TimeKey, dead_at_key, dead_at_of, delivery, key};
use crate::model::{EventId, Timestamp, WebhookNo};
use crate::storage::delivery::Note;
use crate::storage::delivery::dead_letter::{attempts_of, steady_of, wall_of};

/// The tables, open for writing.
pub(super) struct DeadLetters<'txn> {
    dead: Table<'txn, &'static Key, &'static [u8]>,
    times: Table<'txn, &'static TimeKey, ()>,
    scratch: Vec<u8>,
}

impl<'txn> DeadLetters<'txn> {
    /// Opens the tables, made if they are not there.
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, Error> {
        Ok(Self { dead: txn.open_table(DEAD)?, times: txn.open_table(DEAD_AT)?, scratch: Vec::new() })
    }

    /// Writes one, over any that is there.
    pub(super) fn put(&mut self, webhook: WebhookNo, event: EventId, note: &Note) -> Result<(), Error> {
        note.encode(&mut self.scratch);
        let old = self.dead.insert(&key(webhook, event), self.scratch.as_slice())?.map(|old| steady_of(old.value()));
        if let Some(at) = old {
            self.times.remove(&dead_at_key(at, webhook, event))?;
        }
        self.times.insert(&dead_at_key(note.steady, webhook, event), ())?;
        Ok(())
    }

    /// Removes one; if it was there, the attempts made.
    pub(super) fn remove(&mut self, webhook: WebhookNo, event: EventId) -> Result<Option<u16>, Error> {
        let old = self.dead.remove(&key(webhook, event))?.map(|old| (steady_of(old.value()), attempts_of(old.value())));
        let Some((at, attempts)) = old else { return Ok(None) };
        self.times.remove(&dead_at_key(at, webhook, event))?;
        Ok(Some(attempts))
    }

    /// Whether there is one.
    pub(super) fn holds(&self, webhook: WebhookNo, event: EventId) -> Result<bool, Error> {
        Ok(self.dead.get(&key(webhook, event))?.is_some())
    }

    /// Forgets those that ended before `before`, at most `limit`.
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

    /// When the oldest ended.
    pub(super) fn oldest(&self) -> Result<Option<Timestamp>, Error> {
        Ok(self.times.first()?.map(|(key, _)| dead_at_of(key.value()).0))
    }

    /// The events after `after` whose delivery to the webhook is a dead letter, at most `limit`, each with the wall clock's
    /// time of its end.
    pub(super) fn of(
        &self,
        webhook: WebhookNo,
        after: EventId,
        limit: usize,
    ) -> Result<Vec<(EventId, Timestamp)>, Error> {
        let (first, last) = (key(webhook, after), key(webhook, EventId::MAX));
        self.dead
            .range::<&Key>((Bound::Excluded(&first), Bound::Included(&last)))?
            .take(limit)
            .map(|entry| {
                let (key, value) = entry?;
                Ok((delivery(key.value()).event, wall_of(value.value())))
            })
            .collect()
    }

    /// How many the webhook has.
    pub(super) fn count(&self, webhook: WebhookNo) -> Result<u64, Error> {
        let (first, last) = (key(webhook, EventId::MIN), key(webhook, EventId::MAX));
        Ok(self.dead.range::<&Key>(&first..=&last)?.count() as u64)
    }

    /// How many there are.
    pub(super) fn len(&self) -> Result<u64, Error> {
        Ok(self.dead.len()?)
    }
}
