//! The statistics of a webhook since its creation, as state.redb stores them.
//!
//! A row contains three u64 counts and three i64 times in milliseconds (0: none), little-endian.

use super::part;
use crate::model::Timestamp;

/// The statistics of a webhook since its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookStats {
    /// Deliveries that succeeded.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Deliveries that became dead letters.
    pub dead: u64,
    /// When an attempt last succeeded, by the wall clock.
    pub last_success: Option<Timestamp>,
    /// When an attempt last failed, by the wall clock.
    pub last_failure: Option<Timestamp>,
    /// Since when every attempt has failed, by the scheduling clock.
    pub failing_since: Option<Timestamp>,
}

impl WebhookStats {
    pub(super) fn encode(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        let time = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_millis).to_le_bytes();
        let parts = [
            self.delivered.to_le_bytes(),
            self.failed_attempts.to_le_bytes(),
            self.dead.to_le_bytes(),
            time(self.last_success),
            time(self.last_failure),
            time(self.failing_since),
        ];
        for (slot, part) in bytes.chunks_exact_mut(8).zip(parts) {
            slot.copy_from_slice(&part);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; 48]) -> Self {
        let count = |at| u64::from_le_bytes(part(bytes, at));
        let time =
            |at| Some(Timestamp::from_millis(i64::from_le_bytes(part(bytes, at)))).filter(|t| t.as_millis() != 0);
        Self {
            delivered: count(0),
            failed_attempts: count(8),
            dead: count(16),
            last_success: time(24),
            last_failure: time(32),
            failing_since: time(40),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_read_back() {
        let stats = WebhookStats {
            delivered: 1,
            failed_attempts: 5,
            dead: 2,
            last_success: Some(Timestamp::from_millis(7)),
            last_failure: None,
            failing_since: Some(Timestamp::from_millis(-3)),
        };
        assert_eq!(WebhookStats::decode(&stats.encode()), stats);
    }
}
