//! The time that a request says it was sent at, and how far it may be off.

use super::{Place, VerifyError};
use crate::model::Timestamp;

/// Digits of a time in seconds or milliseconds: enough for the year 2286 in milliseconds.
const DIGITS_MAX: usize = 13;

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Since 1970.
    Seconds,
    /// Since 1970.
    Millis,
    /// With any fraction and offset; signed as it is spelled.
    Rfc3339,
}

/// Where the time stands, and how far it may be off.
#[derive(Debug, Clone)]
pub(super) struct TimeRule {
    pub(super) place: Place,
    pub(super) unit: Unit,
    pub(super) tolerance_s: u64,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Millis => "milliseconds",
            Self::Rfc3339 => "RFC 3339",
        }
    }

    /// Milliseconds since 1970. Digits only: no sign, no space, no fraction, which other readers would read otherwise.
    fn read(self, text: &str) -> Option<i64> {
        let number = || match text.len() {
            1..=DIGITS_MAX if text.bytes().all(|b| b.is_ascii_digit()) => text.parse::<i64>().ok(),
            _ => None,
        };
        match self {
            Self::Seconds => number().map(|seconds| seconds.saturating_mul(1000)),
            Self::Millis => number(),
            Self::Rfc3339 => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        }
    }
}

impl TimeRule {
    /// Whether the time is near enough, the limit itself included.
    pub(super) fn check(&self, text: &str, now: Timestamp) -> Result<(), VerifyError> {
        let sent = self
            .unit
            .read(text)
            .ok_or_else(|| VerifyError::Time { place: self.place.to_string().into(), unit: self.unit.name() })?;
        // A time in whole seconds is compared with whole seconds.
        let now = if self.unit == Unit::Seconds { now.as_secs().saturating_mul(1000) } else { now.as_millis() };
        let distance = now.abs_diff(sent);
        let (seconds, allowed) = (distance.div_ceil(1000), self.tolerance_s);
        match distance > allowed.saturating_mul(1000) {
            false => Ok(()),
            true if sent < now => Err(VerifyError::TooOld { seconds, allowed }),
            true => Err(VerifyError::TooNew { seconds, allowed }),
        }
    }

    /// A time as it is written here.
    pub(super) fn spell(&self, time: Timestamp) -> String {
        match self.unit {
            Unit::Seconds => time.as_secs().to_string(),
            Unit::Millis => time.as_millis().to_string(),
            Unit::Rfc3339 => time.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: Unit, text: &str, now_ms: i64) -> Result<(), VerifyError> {
        TimeRule { place: Place::Path, unit, tolerance_s: 300 }.check(text, Timestamp::from_millis(now_ms))
    }

    #[test]
    fn the_limit_is_inside_on_both_sides() {
        for (unit, text, now, result) in [
            (Unit::Seconds, "1000", 1_300_999, Ok(())),
            (Unit::Seconds, "1000", 1_301_000, Err(VerifyError::TooOld { seconds: 301, allowed: 300 })),
            (Unit::Seconds, "1300", 1_000_000, Ok(())),
            (Unit::Seconds, "1301", 1_000_000, Err(VerifyError::TooNew { seconds: 301, allowed: 300 })),
            (Unit::Millis, "1000000", 1_300_000, Ok(())),
            (Unit::Millis, "1000000", 1_300_001, Err(VerifyError::TooOld { seconds: 301, allowed: 300 })),
            (Unit::Rfc3339, "1970-01-01T00:00:00.123456789Z", 300_123, Ok(())),
            (Unit::Rfc3339, "1970-01-01T02:00:00+02:00", -300_000, Ok(())),
            (Unit::Rfc3339, "1970-01-01T00:00:00Z", -300_001, Err(VerifyError::TooNew { seconds: 301, allowed: 300 })),
        ] {
            assert_eq!(check(unit, text, now), result, "{text} at {now}");
        }
    }

    #[test]
    fn what_is_no_time() {
        for text in ["", " 1", "1 ", "+1", "-1", "1.0", "1e3", "0x1", "soon", "١", "99999999999999"] {
            for unit in [Unit::Seconds, Unit::Millis] {
                assert!(matches!(check(unit, text, 0), Err(VerifyError::Time { .. })), "{text:?}");
            }
        }
        for text in ["", "0", "1970-01-01", "1970-01-01T00:00:00", "1970-13-01T00:00:00Z"] {
            assert!(matches!(check(Unit::Rfc3339, text, 0), Err(VerifyError::Time { .. })), "{text:?}");
        }
    }
}
