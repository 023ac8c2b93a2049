//! Event ids: ULIDs that always increase, even when the clock goes back.

use crate::model::{EventId, Timestamp};
use crate::runtime::Random;

const RANDOM_BITS: u32 = 80;

/// Generates ids: 48 bits of milliseconds, then 80 random bits. The random bits are drawn again each millisecond, and
/// increase by random steps within it. When the clock goes back, ids continue to increase from the last one.
#[derive(Debug)]
pub(super) struct IdGenerator {
    last: u128,
    random: Random,
}

impl IdGenerator {
    /// A generator of ids greater than `last`.
    pub(super) fn after(last: EventId, random: Random) -> Self {
        Self { last: last.as_u128(), random }
    }

    /// The next id. `now` is the wall clock's time.
    pub(super) fn next(&mut self, now: Timestamp) -> EventId {
        let ms = (now.as_millis().max(0) as u128) & ((1 << 48) - 1);
        self.last = if ms > self.last >> RANDOM_BITS {
            // The highest random bit is zero, so that ids have room to increase.
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
    fn ids_increase_when_the_clock_does_not() {
        let mut ids = IdGenerator::after(EventId::MIN, Random::seeded(3));
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
    fn ids_continue_after_the_last_one() {
        let high = EventId::from_u128(99 << 100);
        assert!(IdGenerator::after(high, Random::seeded(1)).next(Timestamp::from_millis(1)) > high);
    }
}
