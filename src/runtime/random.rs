//! Randomness, passed as a parameter so that tests can use a seed.

use std::ops::RangeInclusive;

use ring::rand::{SecureRandom, SystemRandom};

/// A fast random number generator for jitter, ids and probes. It must not be used for secrets; [`Random::secret`] creates
/// them.
#[derive(Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// Creates a generator with a seed from the operating system.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn system() -> Self {
        Self(fastrand::Rng::new())
    }

    /// Creates a generator that returns the same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns a uniformly distributed number of the range.
    pub fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.u64(range)
    }

    /// Returns 128 random bits.
    pub fn bits(&mut self) -> u128 {
        self.0.u128(..)
    }

    /// Returns the number of a public id: the time in milliseconds, then 80 random bits (the layout of a ULID).
    pub fn ulid(&mut self, now: crate::model::Timestamp) -> u128 {
        (u128::from(now.as_millis().unsigned_abs() & ((1 << 48) - 1)) << 80) | (self.bits() >> 48)
    }

    /// Returns the operating system's generator, for algorithms that take a generator.
    pub fn secure() -> SystemRandom {
        SystemRandom::new()
    }

    /// Returns `N` random bytes for a secret, from the operating system.
    ///
    /// # Panics
    /// If the operating system cannot return randomness. Without it no secret is safe.
    #[expect(clippy::expect_used, reason = "no secret can be made without the system's randomness")]
    pub fn secret<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        Self::secure().fill(&mut bytes).expect("the operating system gives randomness");
        bytes
    }
}
