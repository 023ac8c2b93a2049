//! Dead letters: deliveries that ended without success. They are kept until their retention ends, or until they are
//! replayed or discarded.
//!
//! Value (little-endian): u8 version (2 if the reason is `filter_too_costly`, otherwise 1), u8 reason, u16 attempts, i64 wall time, i64 scheduling time, u16 HTTP status (0:
//! none), then the text of the last error.

use redb::Error;

use super::part;
use crate::model::{DeadReason, DeliveryId, Timestamp};

/// A dead letter, as it is read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterRecord {
    /// The delivery.
    pub id: DeliveryId,
    /// Why the delivery ended.
    pub reason: DeadReason,
    /// The number of attempts.
    pub attempts: u16,
    /// When the delivery ended, by the wall clock.
    pub at: Timestamp,
    /// The HTTP status of the last attempt's response, if there was one.
    pub http_status: Option<u16>,
    /// The error of the last attempt. Empty without one.
    pub error: Box<str>,
}

/// A dead letter to be written, without its key (webhook and event).
#[derive(Debug, Clone)]
pub struct NewDeadLetter {
    /// Why the delivery ended.
    pub reason: DeadReason,
    /// The number of attempts.
    pub attempts: u16,
    /// When the delivery ended, by the wall clock.
    pub at: Timestamp,
    /// When the delivery ended, by the scheduling clock. Retention uses this time.
    pub steady: Timestamp,
    /// The HTTP status of the last attempt's response, if there was one.
    pub http_status: Option<u16>,
    /// The error of the last attempt. Empty without one.
    pub error: Box<str>,
}

const VERSION: u8 = 1;
/// The version of a dead letter with [`DeadReason::FilterTooCostly`].
const VERSION_TOO_COSTLY: u8 = 2;
const FIXED: usize = 22;

impl NewDeadLetter {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        let version = if self.reason == DeadReason::FilterTooCostly { VERSION_TOO_COSTLY } else { VERSION };
        out.extend_from_slice(&[version, self.reason as u8]);
        out.extend_from_slice(&self.attempts.to_le_bytes());
        out.extend_from_slice(&self.at.as_millis().to_le_bytes());
        out.extend_from_slice(&self.steady.as_millis().to_le_bytes());
        out.extend_from_slice(&self.http_status.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(self.error.as_bytes());
    }
}

impl DeadLetterRecord {
    /// Decodes a dead letter. Fails if it is damaged.
    pub(super) fn decode(id: DeliveryId, bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::Corrupted(format!("the dead letter {id} cannot be read"));
        let reason = bytes.get(1).copied().and_then(DeadReason::from_u8).ok_or_else(damaged)?;
        let error = bytes.get(FIXED..).and_then(|text| std::str::from_utf8(text).ok()).ok_or_else(damaged)?;
        if !(VERSION..=VERSION_TOO_COSTLY).contains(&bytes[0]) {
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

/// Returns whether the body of a stored dead letter was removed by retention before it was delivered.
pub(super) fn is_expired(bytes: &[u8]) -> bool {
    bytes.get(1) == Some(&(DeadReason::Expired as u8))
}

/// Returns the number of attempts of a stored dead letter.
pub(super) fn attempts_of(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(part(bytes, 2))
}

/// Returns when a stored dead letter ended, by the wall clock.
pub(super) fn wall_of(bytes: &[u8]) -> Timestamp {
    Timestamp::from_millis(i64::from_le_bytes(part(bytes, 4)))
}

/// Returns when a stored dead letter ended, by the scheduling clock.
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
        let dead_letter = NewDeadLetter {
            reason: DeadReason::Exhausted,
            attempts: 10,
            at: Timestamp::from_millis(5),
            steady: Timestamp::from_millis(6),
            http_status: Some(500),
            error: "the endpoint answered 500".into(),
        };
        let mut bytes = Vec::new();
        dead_letter.encode(&mut bytes);
        let record = DeadLetterRecord::decode(id, &bytes).unwrap();
        assert_eq!((record.reason, record.attempts, record.http_status), (dead_letter.reason, 10, Some(500)));
        assert_eq!(
            (&*record.error, record.at, steady_of(&bytes)),
            (&*dead_letter.error, dead_letter.at, dead_letter.steady)
        );
        assert!(DeadLetterRecord::decode(id, &bytes[..FIXED - 1]).is_err());
        let too_costly = NewDeadLetter { reason: DeadReason::FilterTooCostly, ..dead_letter };
        too_costly.encode(&mut bytes);
        assert_eq!(bytes[0], VERSION_TOO_COSTLY);
        assert_eq!(DeadLetterRecord::decode(id, &bytes).unwrap().reason, DeadReason::FilterTooCostly);
        bytes[0] = VERSION_TOO_COSTLY + 1;
        assert!(DeadLetterRecord::decode(id, &bytes).is_err());
    }
}
