//! Randomness as a parameter.

use std::ops::RangeInclusive;

use ring::rand::{SecureRandom, SystemRandom};

/// A fast generator for jitter, ids and probes; not for secrets, which come from [`Random::secret`].
#[derive(Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// Seeded by the operating system.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn system() -> Self {
        Self(fastrand::Rng::new())
    }

    /// The same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number of the range, each as likely.
    pub fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.u64(range)
    }

    /// 128 random bits.
    pub fn bits(&mut self) -> u128 {
        self.0.u128(..)
    }

    /// A public id's number: the time in milliseconds, then 80 random bits (the ULID's layout).
    pub fn ulid(&mut self, now: crate::model::Timestamp) -> u128 {
        (u128::from(now.as_millis().unsigned_abs() & ((1 << 48) - 1)) << 80) | (self.bits() >> 48)
    }

    /// The operating system's generator, for algorithms that draw from it themselves.
    pub fn secure() -> SystemRandom {
        SystemRandom::new()
    }

    /// `N` bytes for a secret, from the operating system.
    ///
    /// # Panics
    /// If the operating system has no randomness to give, without which nothing here is safe.
    #[expect(clippy::expect_used, reason = "no secret can be made without the system's randomness")]
    pub fn secret<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        Self::secure().fill(&mut bytes).expect("the operating system gives randomness");
        bytes
    }
}
