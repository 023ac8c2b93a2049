//! Dead letters: deliveries that ended without success, kept until their retention ends or somebody replays them.
//!
//! A value is u8 version, u8 reason, u16 attempts, i64 wall time, i64 scheduling time, u16 status (0: none), then the last
//! error's words; integers little-endian.

use redb::Error;

use super::part;
use crate::model::{DeadReason, DeliveryId, Timestamp};

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
pub struct Note {
    /// Why the delivery ended.
    pub reason: DeadReason,
    /// Attempts made.
    pub attempts: u16,
    /// When it ended, by the wall clock.
    pub at: Timestamp,
    /// When it ended, by the scheduling clock, which its retention counts by.
    pub steady: Timestamp,
    /// Status of the last answer, if the last attempt had one.
    pub http_status: Option<u16>,
    /// The last attempt's error; empty without one.
    pub error: Box<str>,
}

const VERSION: u8 = 1;
const FIXED: usize = 22;

impl Note {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[VERSION, self.reason as u8]);
        out.extend_from_slice(&self.attempts.to_le_bytes());
        out.extend_from_slice(&self.at.as_millis().to_le_bytes());
        out.extend_from_slice(&self.steady.as_millis().to_le_bytes());
        out.extend_from_slice(&self.http_status.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(self.error.as_bytes());
    }
}

impl DeadLetter {
    /// Reads a dead letter.
    pub(super) fn decode(id: DeliveryId, bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::Corrupted(format!("the dead letter {id} cannot be read"));
        let reason = bytes.get(1).copied().and_then(DeadReason::from_u8).ok_or_else(damaged)?;
        let error = bytes.get(FIXED..).and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(damaged)?;
        if bytes[0] != VERSION {
            return Err(damaged());
        }
        let status = u16::from_le_bytes(part(bytes, 20));
        Ok(Self {
            id,
            reason,
            attempts: attempts_of(bytes),
            at: wall_of(bytes),
            http_status: (status != 0).then_some(status),
            error: error.into(),
        })
    }
}

/// Whether a stored dead letter lost its body before it was delivered.
pub(super) fn is_expired(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&(DeadReason::Expired as u8))
}

/// The attempts of a stored dead letter.
pub(super) fn attempts_of(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(part(bytes, 2))
}

/// When a stored dead letter ended, by the wall clock.
pub(super) fn wall_of(bytes: &[u8]) -> Timestamp {
    Timestamp::from_millis(i64::from_le_bytes(part(bytes, 4)))
}

/// When a stored dead letter ended, by the scheduling clock.
pub(super) fn steady_of(bytes: &[u8]) -> Timestamp {
    Timestamp::from_millis(i64::from_le_bytes(part(bytes, 12)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventId, WebhookNo};

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
        let letter = DeadLetter::decode(id, &bytes).unwrap();
        assert_eq!((letter.reason, letter.attempts, letter.http_status), (note.reason, 10, Some(500)));
        assert_eq!((&*letter.error, letter.at, steady_of(&bytes)), (&*note.error, note.at, note.steady));
        assert!(DeadLetter::decode(id, &bytes[..FIXED - 1]).is_err());
        bytes[0] = VERSION + 1;
        assert!(DeadLetter::decode(id, &bytes).is_err());
    }
}
