//! How fast a source's requests may come.

use std::time::Duration;

use crate::model::SourceId;
use crate::runtime::Instant;

/// A token bucket for each source that has a rate.
#[derive(Debug, Default)]
pub struct Limiter {}

impl Limiter {
    /// Takes a token, or says after how long there will be one.
    ///
    /// # Errors
    /// The wait.
    pub fn take(&self, _source: SourceId, _rate: crate::model::RateLimit, _now: Instant) -> Result<(), Duration> {
        Ok(())
    }
}
