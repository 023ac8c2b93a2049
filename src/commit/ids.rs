//! Event ids: ULIDs that rise whatever the clock does.

use crate::model::{EventId, Timestamp};
use crate::runtime::Random;

const RANDOM_BITS: u32 = 80;

/// Gives ids: 48 bits of milliseconds, then 80 random bits, drawn anew each millisecond and rising by random steps within
/// it. When the clock falls back, ids go on rising from the last one.
#[derive(Debug)]
pub(super) struct Ids {
    last: u128,
    random: Random,
}

impl Ids {
    /// Ids after `last`.
    pub(super) fn after(last: EventId, random: Random) -> Self {
        Self { last: last.as_u128(), random }
    }

    /// The next id.
    pub(super) fn next(&mut self, now: Timestamp) -> EventId {
        let ms = (now.as_millis().max(0) as u128) & ((1 << 48) - 1);
        self.last = if ms > self.last >> RANDOM_BITS {
            // The upper half is left free to rise in.
            (ms << RANDOM_BITS) | (self.random.bits() >> (128 - RANDOM_BITS + 1))
        } else {
            self.last.saturating_add(1 + u128::from(self.random.between(0..=u64::from(u32::MAX))))
        };
        EventId::from_u128(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_when_the_clock_does_not() {
        let mut ids = Ids::after(EventId::MIN, Random::seeded(3));
        let mut last = EventId::MIN;
        for ms in [5, 5, 5, 6, -50, 0, 4, 1 << 47, 7, i64::MAX, 8] {
            for _ in 0..100 {
                let id = ids.next(Timestamp::from_millis(ms));
                assert!(id > last, "at {ms}");
                last = id;
            }
        }
    }

    #[test]
    fn ids_go_on_after_the_last_one_given() {
        let high = EventId::from_u128(99 << 100);
        assert!(Ids::after(high, Random::seeded(1)).next(Timestamp::from_millis(1)) > high);
    }
}
