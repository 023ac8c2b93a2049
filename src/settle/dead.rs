//! Dead letters: deliveries that ended without success, kept until their retention ends or somebody replays them.
//!
//! A value is u8 version, u8 reason, u16 attempts, i64 wall time, i64 scheduling time, u16 status (0: none), then the last
//! error's words; integers little-endian. `dead_at` has one entry for each, by scheduling time, for retention.

use std::ops::Bound;

use redb::{Error, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::table::{DEAD, DEAD_AT, Key, TimeKey, dead_at_key, dead_at_of, key, part};
use crate::model::{DeadReason, DeliveryId, EventId, Timestamp, WebhookNo};

/// A delivery that ended without success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which delivery.
    pub id: DeliveryId,
    /// Why it ended.
    pub reason: DeadReason,
    /// Attempts made.
    pub attempts: u16,
    /// When it ended, by the wall clock.
    pub at: Timestamp,
    /// Status of the last answer, if the last attempt had one.
    pub http_status: Option<u16>,
    /// The last attempt's error; empty without one.
    pub error: Box<str>,
}

/// What a dead letter says beside its key.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) reason: DeadReason,
    pub(super) attempts: u16,
    pub(super) at: Timestamp,
    pub(super) steady: Timestamp,
    pub(super) http_status: Option<u16>,
    pub(super) error: Box<str>,
}

const VERSION: u8 = 1;
const FIXED: usize = 22;

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
                Ok((super::table::delivery(key.value()).event, wall_of(value.value())))
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

impl Note {
    fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[VERSION, self.reason as u8]);
        out.extend_from_slice(&self.attempts.to_le_bytes());
        out.extend_from_slice(&self.at.as_millis().to_le_bytes());
        out.extend_from_slice(&self.steady.as_millis().to_le_bytes());
        out.extend_from_slice(&self.http_status.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(self.error.as_bytes());
    }
}

/// Reads a dead letter.
pub(super) fn decode(id: DeliveryId, bytes: &[u8]) -> Result<DeadLetter, Error> {
    let damaged = || Error::Corrupted(format!("the dead letter {id} cannot be read"));
    let reason = bytes.get(1).copied().and_then(DeadReason::from_u8).ok_or_else(damaged)?;
    let error = bytes.get(FIXED..).and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(damaged)?;
    if bytes[0] != VERSION {
        return Err(damaged());
    }
    let status = u16::from_le_bytes(part(bytes, 20));
    Ok(DeadLetter {
        id,
        reason,
        attempts: attempts_of(bytes),
        at: wall_of(bytes),
        http_status: (status != 0).then_some(status),
        error: error.into(),
    })
}

/// Whether a stored dead letter lost its body before it was delivered.
pub(super) fn is_expired(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&(DeadReason::Expired as u8))
}

fn attempts_of(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(part(bytes, 2))
}

fn wall_of(bytes: &[u8]) -> Timestamp {
    Timestamp::from_millis(i64::from_le_bytes(part(bytes, 4)))
}

fn steady_of(bytes: &[u8]) -> Timestamp {
    Timestamp::from_millis(i64::from_le_bytes(part(bytes, 12)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_reads_back_and_a_damaged_one_is_an_error() {
        let id = DeliveryId { event: EventId::from_u128(9), webhook: WebhookNo(3) };
        let note = Note {
            reason: DeadReason::Exhausted,
            attempts: 10,
            at: Timestamp::from_millis(5),
            steady: Timestamp::from_millis(6),
            http_status: Some(500),
            error: "the endpoint answered 500".into(),
        };
        let mut bytes = Vec::new();
        note.encode(&mut bytes);
        let letter = decode(id, &bytes).unwrap();
        assert_eq!((letter.reason, letter.attempts, letter.http_status), (note.reason, 10, Some(500)));
        assert_eq!((&*letter.error, letter.at, steady_of(&bytes)), (&*note.error, note.at, note.steady));
        assert!(decode(id, &bytes[..FIXED - 1]).is_err());
        bytes[0] = VERSION + 1;
        assert!(decode(id, &bytes).is_err());
    }
}
