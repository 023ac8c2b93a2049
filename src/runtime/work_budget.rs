//! The work that one tenant may cause in each second: evaluated filters and checked schemas.
//!
//! The work is counted in units that are computed from sizes, and never timed. So the same requests get the same answers
//! on every machine.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::limits::{TENANT_WORK_BURST, TENANT_WORK_PER_SECOND};
use crate::model::Timestamp;

/// A bucket of units of work that threads share without a lock. It is full at first.
///
/// A caller reads how many units are available, does at most this work, and then charges what it did. Threads that do so
/// at the same time can overdraw the bucket by what each of them read. The debt is paid before anything is available
/// again.
///
/// The time is the wall clock. A jump back counts as one full refill at most, so it cannot block a tenant.
#[derive(Debug, Default)]
pub struct WorkBudget {
    /// When the bucket is full again, in microseconds since 1970.
    full_at: AtomicI64,
}

/// Units that become available in one microsecond.
const UNITS_PER_MICRO: u64 = TENANT_WORK_PER_SECOND / 1_000_000;
/// The time in which an empty bucket becomes full.
const FILL_MICROS: i64 = (TENANT_WORK_BURST / UNITS_PER_MICRO) as i64;
/// The longest debt, in multiples of [`FILL_MICROS`]: as many threads as may charge at the same time.
const DEBT_MAX: i64 = 64;

fn micros(at: Timestamp) -> i64 {
    at.as_millis().saturating_mul(1_000)
}

impl WorkBudget {
    /// The units of work that are available.
    pub fn available(&self, now: Timestamp) -> u64 {
        let now = micros(now);
        let mut until_full = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        if until_full > FILL_MICROS * DEBT_MAX {
            // The clock went back.
            self.full_at.store(now + FILL_MICROS, Ordering::Relaxed);
            until_full = FILL_MICROS;
        }
        let micros = FILL_MICROS.saturating_sub(until_full.max(0)).max(0);
        micros.unsigned_abs().saturating_mul(UNITS_PER_MICRO)
    }

    /// Charges work that was done.
    pub fn charge(&self, now: Timestamp, units: u64) {
        let now = micros(now);
        let cost = i64::try_from(units.div_ceil(UNITS_PER_MICRO)).unwrap_or(i64::MAX);
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = full_at.max(now).saturating_add(cost).min(now.saturating_add(FILL_MICROS * DEBT_MAX));
            match self.full_at.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => full_at = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(i64) -> Timestamp = Timestamp::from_millis;

    #[test]
    fn work_becomes_available_again_at_its_rate() {
        let budget = WorkBudget::default();
        assert_eq!(budget.available(AT(1_000)), TENANT_WORK_BURST);
        budget.charge(AT(1_000), TENANT_WORK_BURST);
        assert_eq!(budget.available(AT(1_000)), 0);
        assert_eq!(budget.available(AT(1_100)), TENANT_WORK_PER_SECOND / 10);
        assert_eq!(budget.available(AT(60_000)), TENANT_WORK_BURST, "it holds no more than a burst");
    }

    #[test]
    fn a_debt_is_paid_first_and_a_clock_that_jumps_back_blocks_nobody() {
        let budget = WorkBudget::default();
        budget.charge(AT(1_000), TENANT_WORK_BURST * 2);
        assert_eq!(budget.available(AT(1_400)), 0);
        assert_eq!(budget.available(AT(1_600)), TENANT_WORK_PER_SECOND / 10);
        let budget = WorkBudget::default();
        budget.charge(AT(1_000_000), 1);
        assert_eq!(budget.available(AT(1_000)), 0, "one refill at most");
        assert_eq!(budget.available(AT(1_500)), TENANT_WORK_BURST);
    }

    #[test]
    fn the_sum_over_a_long_time_is_the_rate() {
        let (budget, mut done) = (WorkBudget::default(), 0);
        for ms in 0..10_000 {
            let units = budget.available(AT(ms)).min(3_000_000);
            budget.charge(AT(ms), units);
            done += units;
        }
        assert!(done <= TENANT_WORK_PER_SECOND * 10 + TENANT_WORK_BURST, "{done}");
        assert!(done >= TENANT_WORK_PER_SECOND * 9, "{done}");
    }
}
