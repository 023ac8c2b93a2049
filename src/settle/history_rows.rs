//! A row of history: one attempt, and how rows are written by the batch.
//!
//! Key: u8 bucket (webhook mod 64), u128 event, u32 webhook, u16 attempt, big-endian, so that a flush touches at most 64
//! places whatever the number of webhooks. Value: u8 kind of error, u16 status (0: none), i64 time, u32 latency in µs, u16
//! length of the error's words, those, the response; little-endian.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Bound;
use std::time::Duration;

use redb::{CursorError, Error, ReadTransaction, TableDefinition, TableError, WriteTransaction};

use super::list::{ROWS_PER_READ, Wanted};
use super::table::part;
use crate::limits::HISTORY_BUCKETS;
use crate::model::{Attempt, AttemptError, DeliveryId, EventId, Timestamp, WebhookNo};

pub(super) type Key = [u8; 23];
const ATTEMPTS: TableDefinition<&Key, &[u8]> = TableDefinition::new("attempts");

/// Attempts gathered for one transaction.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    rows: Vec<(Key, usize, usize)>,
    bytes: Vec<u8>,
}

impl Attempts {
    /// Adds one.
    pub(super) fn push(&mut self, webhook: WebhookNo, event: EventId, attempt: &Attempt) {
        let start = self.bytes.len();
        encode(attempt, &mut self.bytes);
        self.rows.push((key(webhook, event, attempt.number), start, self.bytes.len()));
    }

    /// Sorts them, as [`insert_sorted`] needs them.
    pub(super) fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|(key, ..)| *key);
    }

    /// The events they are of.
    pub(super) fn events(&self) -> impl Iterator<Item = EventId> {
        self.rows.iter().map(|(key, ..)| event_of(key))
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets all, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.bytes.clear();
    }
}

/// Inserts runs of keys through one cursor each: a run ends where a key of the table comes between.
pub(super) fn insert_sorted(txn: &WriteTransaction, attempts: &Attempts) -> Result<(), Error> {
    let mut table = txn.open_table(ATTEMPTS)?;
    let mut rest = attempts.rows.as_slice();
    while let Some((first, start, end)) = rest.first() {
        let mut cursor = table.lower_bound_mut(Bound::Included(first))?;
        let mut inserted = 0;
        for (key, start, end) in rest {
            match cursor.insert_before(key, &attempts.bytes[*start..*end]) {
                Ok(()) => inserted += 1,
                Err(CursorError::UnorderedKey) => break,
                Err(error) => return Err(error.into()),
            }
        }
        cursor.close()?;
        if inserted == 0 {
            // An attempt that a crash made us repeat: the later record stands.
            table.insert(first, &attempts.bytes[*start..*end])?;
            inserted = 1;
        }
        rest = &rest[inserted..];
    }
    Ok(())
}

/// The table of a file, if anything was written to it.
pub(super) fn open(txn: &ReadTransaction) -> Result<Option<redb::ReadOnlyTable<&'static Key, &'static [u8]>>, Error> {
    match txn.open_table(ATTEMPTS) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

type RawRow<'a> = (redb::AccessGuard<'a, &'static Key>, redb::AccessGuard<'a, &'static [u8]>);

/// Reads a row.
pub(super) fn decode_row((key, value): &RawRow<'_>) -> Result<(EventId, Attempt), Error> {
    Ok((event_of(key.value()), decode(number_of(key.value()), value.value())?))
}

/// What one file knows of the newest deliveries.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// Each delivery with its last attempt in this file, newest first.
    pub(super) rows: Vec<(DeliveryId, Attempt)>,
    /// The first delivery that was not looked at, if it gave up before the end.
    pub(super) floor: Option<DeliveryId>,
}

/// The newest `limit` deliveries of a file that are wanted: a merge of the buckets that they are in.
pub(super) fn newest_in(txn: &ReadTransaction, wanted: &Wanted, limit: usize) -> Result<Newest, Error> {
    let mut found = Newest::default();
    let Some(table) = open(txn)? else { return Ok(found) };
    let first = DeliveryId { event: wanted.first, webhook: WebhookNo(0) };
    if first >= wanted.before {
        return Ok(found);
    }
    // Each bucket's newest row, and the rest of it; and which of these rows is the newest.
    let (mut lanes, mut heads) = (Vec::new(), BinaryHeap::new());
    for bucket in wanted.buckets() {
        let (first, last) = (key_in(bucket, first, 0), key_in(bucket, wanted.before, 0));
        let mut rest = table.range::<&Key>(&first..&last)?;
        if let Some(row) = rest.next_back().transpose()? {
            heads.push((id_of(row.0.value()), lanes.len()));
            lanes.push((row, rest));
        }
    }
    for looked_at in 0.. {
        let Some(mut head) = heads.peek_mut() else { break };
        let (id, lane) = *head;
        if looked_at == ROWS_PER_READ {
            found.floor = Some(id);
            break;
        }
        let (row, rest) = &mut lanes[lane];
        let seen = found.rows.last().is_some_and(|(last, _)| *last == id);
        if !seen && wanted.holds(id.webhook) {
            if found.rows.len() == limit {
                break;
            }
            found.rows.push((id, decode_row(row)?.1));
        }
        if let Some(next) = rest.next_back().transpose()? {
            *row = next;
            head.0 = id_of(row.0.value());
        } else {
            PeekMut::pop(head);
        }
    }
    Ok(found)
}

/// The key of an attempt.
pub(super) fn key(webhook: WebhookNo, event: EventId, number: u16) -> Key {
    key_in((webhook.0 % HISTORY_BUCKETS) as u8, DeliveryId { event, webhook }, number)
}

/// The key of an attempt in a bucket.
fn key_in(bucket: u8, id: DeliveryId, number: u16) -> Key {
    let mut key = [0; 23];
    key[0] = bucket;
    key[1..17].copy_from_slice(&id.event.as_u128().to_be_bytes());
    key[17..21].copy_from_slice(&id.webhook.0.to_be_bytes());
    key[21..].copy_from_slice(&number.to_be_bytes());
    key
}

fn id_of(key: &Key) -> DeliveryId {
    DeliveryId { event: event_of(key), webhook: WebhookNo(u32::from_be_bytes(part(key, 17))) }
}

fn event_of(key: &Key) -> EventId {
    EventId::from_u128(u128::from_be_bytes(part(key, 1)))
}

pub(super) fn number_of(key: &Key) -> u16 {
    u16::from_be_bytes(part(key, 21))
}

const FIXED: usize = 17;

fn encode(attempt: &Attempt, out: &mut Vec<u8>) {
    let (kind, words, status): (u8, &str, Option<u16>) = match &attempt.error {
        None => (0, "", None),
        Some(AttemptError::Status(status)) => (1, "", Some(*status)),
        Some(AttemptError::Timeout) => (2, "", None),
        Some(AttemptError::Connect(why)) => (3, why, None),
        Some(AttemptError::Egress(why)) => (4, why, None),
        Some(AttemptError::Dropped) => (5, "", None),
        Some(AttemptError::PayloadGone) => (6, "", None),
        Some(AttemptError::Unsigned(why)) => (7, why, None),
    };
    let words = bounded(words).as_bytes();
    let latency_us = u32::try_from(attempt.latency.as_micros()).unwrap_or(u32::MAX);
    out.push(kind);
    out.extend_from_slice(&attempt.http_status.or(status).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&attempt.at.as_millis().to_le_bytes());
    out.extend_from_slice(&latency_us.to_le_bytes());
    out.extend_from_slice(&(words.len() as u16).to_le_bytes());
    out.extend_from_slice(words);
    out.extend_from_slice(attempt.response.as_bytes());
}

/// As much of a text as its length field can count.
fn bounded(words: &str) -> &str {
    let mut end = words.len().min(usize::from(u16::MAX));
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

/// Reads an attempt.
fn decode(number: u16, bytes: &[u8]) -> Result<Attempt, Error> {
    let damaged = || Error::Corrupted("an attempt in the history cannot be read".to_owned());
    let words_len = usize::from(u16::from_le_bytes(part(bytes, 15)));
    let texts = bytes.get(FIXED..).and_then(|texts| std::str::from_utf8(texts).ok()).ok_or_else(damaged)?;
    let (words, response) = texts.split_at_checked(words_len).ok_or_else(damaged)?;
    let status = u16::from_le_bytes(part(bytes, 1));
    let error = match bytes[0] {
        0 => None,
        1 => Some(AttemptError::Status(status)),
        2 => Some(AttemptError::Timeout),
        3 => Some(AttemptError::Connect(words.into())),
        4 => Some(AttemptError::Egress(words.into())),
        5 => Some(AttemptError::Dropped),
        6 => Some(AttemptError::PayloadGone),
        7 => Some(AttemptError::Unsigned(words.into())),
        _ => return Err(damaged()),
    };
    Ok(Attempt {
        number,
        at: Timestamp::from_millis(i64::from_le_bytes(part(bytes, 3))),
        latency: Duration::from_micros(u64::from(u32::from_le_bytes(part(bytes, 11)))),
        http_status: (status != 0).then_some(status),
        error,
        response: response.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::attempt;
    use super::*;

    #[test]
    fn attempts_read_back_whatever_their_error() {
        let errors = [
            None,
            Some(AttemptError::Status(503)),
            Some(AttemptError::Timeout),
            Some(AttemptError::Connect("refused".into())),
            Some(AttemptError::Egress("loopback".into())),
            Some(AttemptError::Dropped),
            Some(AttemptError::PayloadGone),
            Some(AttemptError::Unsigned("no such profile".into())),
        ];
        for error in errors {
            let http_status = match &error {
                Some(AttemptError::Status(status)) => Some(*status),
                _ => None,
            };
            let written = Attempt { error, http_status, response: "größer".into(), ..attempt(3) };
            let mut bytes = Vec::new();
            encode(&written, &mut bytes);
            assert_eq!(decode(3, &bytes).unwrap(), written);
            assert!(decode(3, &bytes[..FIXED - 1]).is_err());
        }
    }
}
