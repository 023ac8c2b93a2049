//! The timestamp of a request, and its tolerance.

use super::{ValueLocation, VerifyError};
use crate::model::Timestamp;

/// The maximum number of digits of a time in seconds or milliseconds: enough for the year 2286 in milliseconds.
const DIGITS_MAX: usize = 13;

/// Digits of a time from which on it is in milliseconds: since 1973. In seconds, that many come in the year 5138.
const MILLIS_DIGITS_MIN: usize = 12;

/// The unit or format of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimestampUnit {
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Millis,
    /// Seconds or milliseconds since 1970: a number of at least 12 digits is in milliseconds.
    SecondsOrMillis,
    /// RFC 3339 with any fraction and offset. The text is signed as written.
    Rfc3339,
}

/// The location of the timestamp, its unit and its tolerance.
#[derive(Debug, Clone)]
pub(super) struct TimeRule {
    pub(super) location: ValueLocation,
    pub(super) unit: TimestampUnit,
    pub(super) tolerance_s: u64,
}

impl TimestampUnit {
    fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Millis => "milliseconds",
            Self::SecondsOrMillis => "seconds or milliseconds",
            Self::Rfc3339 => "RFC 3339",
        }
    }

    /// Parses milliseconds since 1970. A number has only digits: other programs read signs, spaces and fractions
    /// differently.
    fn read(self, text: &str) -> Option<i64> {
        let number = || match text.len() {
            1..=DIGITS_MAX if text.bytes().all(|b| b.is_ascii_digit()) => text.parse::<i64>().ok(),
            _ => None,
        };
        match self {
            Self::Seconds => number().map(|seconds| seconds.saturating_mul(1000)),
            Self::Millis => number(),
            Self::SecondsOrMillis if text.len() >= MILLIS_DIGITS_MIN => number(),
            Self::SecondsOrMillis => number().map(|seconds| seconds.saturating_mul(1000)),
            Self::Rfc3339 => text.parse::<Timestamp>().ok().map(Timestamp::as_millis),
        }
    }
}

impl TimeRule {
    /// Checks that the difference to `now` is within the tolerance, the limit included.
    ///
    /// # Errors
    /// [`VerifyError`] if the text is not a time, or the difference is too large.
    pub(super) fn check(&self, text: &str, now: Timestamp) -> Result<(), VerifyError> {
        let sent = self
            .unit
            .read(text)
            .ok_or_else(|| VerifyError::Time { location: self.location.to_string().into(), unit: self.unit.name() })?;
        // A time in whole seconds is compared with whole seconds.
        let now =
            if self.unit == TimestampUnit::Seconds { now.as_secs().saturating_mul(1000) } else { now.as_millis() };
        let distance = now.abs_diff(sent);
        let (seconds, allowed) = (distance.div_ceil(1000), self.tolerance_s);
        match distance > allowed.saturating_mul(1000) {
            false => Ok(()),
            true if sent < now => Err(VerifyError::TooOld { seconds, allowed }),
            true => Err(VerifyError::TooNew { seconds, allowed }),
        }
    }

    /// Formats a time in this unit.
    pub(super) fn format(&self, time: Timestamp) -> String {
        match self.unit {
            TimestampUnit::Seconds => time.as_secs().to_string(),
            TimestampUnit::Millis | TimestampUnit::SecondsOrMillis => time.as_millis().to_string(),
            TimestampUnit::Rfc3339 => time.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(unit: TimestampUnit, text: &str, now_ms: i64) -> Result<(), VerifyError> {
        TimeRule { location: ValueLocation::Path, unit, tolerance_s: 300 }.check(text, Timestamp::from_millis(now_ms))
    }

    #[test]
    fn the_limit_is_inside_on_both_sides() {
        for (unit, text, now, result) in [
            (TimestampUnit::Seconds, "1000", 1_300_999, Ok(())),
            (TimestampUnit::Seconds, "1000", 1_301_000, Err(VerifyError::TooOld { seconds: 301, allowed: 300 })),
            (TimestampUnit::Seconds, "1300", 1_000_000, Ok(())),
            (TimestampUnit::Seconds, "1301", 1_000_000, Err(VerifyError::TooNew { seconds: 301, allowed: 300 })),
            (TimestampUnit::Millis, "1000000", 1_300_000, Ok(())),
            (TimestampUnit::Millis, "1000000", 1_300_001, Err(VerifyError::TooOld { seconds: 301, allowed: 300 })),
            (TimestampUnit::Rfc3339, "1970-01-01T00:00:00.123456789Z", 300_123, Ok(())),
            (TimestampUnit::Rfc3339, "1970-01-01T02:00:00+02:00", -300_000, Ok(())),
            (
                TimestampUnit::Rfc3339,
                "1970-01-01T00:00:00Z",
                -300_001,
                Err(VerifyError::TooNew { seconds: 301, allowed: 300 }),
            ),
        ] {
            assert_eq!(check(unit, text, now), result, "{text} at {now}");
        }
    }

    #[test]
    fn text_that_is_not_a_time_is_refused() {
        for text in ["", " 1", "1 ", "+1", "-1", "1.0", "1e3", "0x1", "soon", "١", "99999999999999"] {
            for unit in [TimestampUnit::Seconds, TimestampUnit::Millis] {
                assert!(matches!(check(unit, text, 0), Err(VerifyError::Time { .. })), "{text:?}");
            }
        }
        for text in ["", "0", "1970-01-01", "1970-01-01T00:00:00", "1970-13-01T00:00:00Z"] {
            assert!(matches!(check(TimestampUnit::Rfc3339, text, 0), Err(VerifyError::Time { .. })), "{text:?}");
        }
    }
}
