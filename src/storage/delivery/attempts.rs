//! The attempts of one batch, encoded as the history stores them.
//!
//! - Key (big-endian): u8 bucket (webhook mod 64), u128 event, u32 webhook, u16 attempt number. With the bucket first,
//!   a flush writes to at most 64 places of the table, however many webhooks it has.
//! - Value (little-endian): u8 kind of error, u16 HTTP status (0: none), i64 time, u32 latency in µs, u16 length of the
//!   error text, the error text, the response.

use std::time::Duration;

use redb::Error;

use super::part;
use crate::limits::HISTORY_BUCKETS;
use crate::model::{Attempt, AttemptError, DeliveryId, EventId, Timestamp, WebhookNo};

pub(super) type AttemptKey = [u8; 23];

/// The attempts of one batch. Each is encoded when it is added.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Each attempt's key, and the start and end of its value in `bytes`.
    pub(super) rows: Vec<(AttemptKey, usize, usize)>,
    pub(super) bytes: Vec<u8>,
    /// Whether the history has them already. This is the case if the rest of their flush failed.
    pub(super) is_written: bool,
}

impl Attempts {
    /// Adds an attempt.
    pub fn push(&mut self, webhook: WebhookNo, event: EventId, attempt: &Attempt) {
        let start = self.bytes.len();
        encode(attempt, &mut self.bytes);
        self.rows.push((key(webhook, event, attempt.number), start, self.bytes.len()));
    }

    /// Sorts the attempts by key.
    pub(super) fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|(key, ..)| *key);
    }

    /// Returns the event of each attempt.
    pub(super) fn events(&self) -> impl Iterator<Item = EventId> {
        self.rows.iter().map(|(key, ..)| event_of(key))
    }

    /// Returns whether there are no attempts.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Removes all attempts, and keeps the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.bytes.clear();
        self.is_written = false;
    }
}

/// Returns the key of an attempt.
pub(super) fn key(webhook: WebhookNo, event: EventId, number: u16) -> AttemptKey {
    key_in((webhook.0 % HISTORY_BUCKETS) as u8, DeliveryId { event, webhook }, number)
}

/// Returns the key of an attempt in the given bucket.
pub(super) fn key_in(bucket: u8, id: DeliveryId, number: u16) -> AttemptKey {
    let mut key = [0; 23];
    key[0] = bucket;
    key[1..17].copy_from_slice(&id.event.as_u128().to_be_bytes());
    key[17..21].copy_from_slice(&id.webhook.0.to_be_bytes());
    key[21..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(super) fn id_of(key: &AttemptKey) -> DeliveryId {
    DeliveryId { event: event_of(key), webhook: WebhookNo(u32::from_be_bytes(part(key, 17))) }
}

pub(super) fn event_of(key: &AttemptKey) -> EventId {
    EventId::from_u128(u128::from_be_bytes(part(key, 1)))
}

/// Returns the attempt number in a key.
pub(super) fn number_of(key: &AttemptKey) -> u16 {
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
        Some(AttemptError::Undeliverable(why)) => (8, why, None),
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

/// Truncates a text to the maximum of its u16 length field.
fn bounded(words: &str) -> &str {
    let mut end = words.len().min(usize::from(u16::MAX));
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    &words[..end]
}

/// Decodes the value of attempt `number`.
pub(super) fn decode(number: u16, bytes: &[u8]) -> Result<Attempt, Error> {
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
        8 => Some(AttemptError::Undeliverable(words.into())),
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
    use super::*;
    use crate::storage::delivery::testing::attempt;

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
            Some(AttemptError::Undeliverable("too large".into())),
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
