//! Timestamps. The API shows them as RFC 3339 in UTC with milliseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 time with an offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an RFC 3339 time such as 2026-01-31T12:00:00.000Z")]
pub struct TimeError;

impl Timestamp {
    /// Creates a timestamp from milliseconds since 1970.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// The milliseconds since 1970.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The whole seconds since 1970, which signature schemes use.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The timestamp `by` later, limited to the largest timestamp.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The duration from `earlier` to this timestamp; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => f.write_str(if self.0 < 0 { "-009999-01-02T01:59:59.000Z" } else { "9999-12-30T22:00:00.999Z" }),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;
    fn from_str(s: &str) -> Result<Self, TimeError> {
        s.parse::<jiff::Timestamp>().map(|at| Self(at.as_millisecond())).map_err(|_| TimeError)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_read_back() {
        let at = Timestamp::from_millis(1_711_015_200_120);
        assert_eq!(at.to_string(), "2024-03-21T10:00:00.120Z");
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!("2024-03-21T12:00:00.120+02:00".parse(), Ok(at));
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_time_without_an_offset_is_no_time() {
        assert_eq!("2024-03-21T10:00:00".parse::<Timestamp>(), Err(TimeError));
        assert_eq!("yesterday".parse::<Timestamp>(), Err(TimeError));
    }
}
