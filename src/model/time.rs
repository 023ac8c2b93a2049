//! Timestamps. The API shows them as RFC 3339 in UTC with milliseconds.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;

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
            // The last day of the year 9999 is a time too, often in the meaning of no end.
            Err(_) => match EPOCH.checked_add(SignedDuration::from_millis(self.0)) {
                Ok(at) => write!(f, "{at:.3}Z"),
                Err(_) if self.0 < 0 => write!(f, "{:.3}Z", DateTime::MIN),
                Err(_) => write!(f, "{:.3}Z", DateTime::MAX),
            },
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;
    fn from_str(s: &str) -> Result<Self, TimeError> {
        let text = shorten_fraction(s);
        match text.parse::<jiff::Timestamp>() {
            Ok(at) => Ok(Self(at.as_millisecond())),
            // This type ends before the last day of the year 9999.
            Err(_) => last_days(&text).ok_or(TimeError),
        }
    }
}

/// The start of 1970, without a time zone.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Cuts a fraction of a second to nanoseconds. RFC 3339 allows any number of digits.
fn shorten_fraction(text: &str) -> Cow<'_, str> {
    let Some((whole, fraction)) = text.split_once('.') else { return Cow::Borrowed(text) };
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if digits <= 9 {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{whole}.{}{}", &fraction[..9], &fraction[digits..]))
}

/// Parses an RFC 3339 time of the first or the last days that a date with four digits of the year can name.
fn last_days(text: &str) -> Option<Timestamp> {
    let pieces = Pieces::parse(text).ok()?;
    let at = pieces.date().to_datetime(pieces.time()?);
    let offset = pieces.to_numeric_offset()?;
    let since_epoch = at.duration_since(EPOCH).checked_sub(SignedDuration::from_secs(offset.seconds().into()))?;
    i64::try_from(since_epoch.as_millis()).ok().map(Timestamp)
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
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
    fn every_form_of_rfc_3339_is_read() {
        for (text, expected) in [
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59+14:00", "9999-12-31T09:59:59.000Z"),
            // In UTC in the year 10000.
            ("9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999Z"),
            ("9999-12-30T22:00:01Z", "9999-12-30T22:00:01.000Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("2024-03-21t10:00:00z", "2024-03-21T10:00:00.000Z"),
            ("2024-03-21T10:00:00-00:00", "2024-03-21T10:00:00.000Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.000Z"),
            ("2024-03-21T10:00:00.123456789012345+01:00", "2024-03-21T09:00:00.123Z"),
        ] {
            let at = text.parse::<Timestamp>().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(at.to_string(), expected, "{text}");
        }
        for text in
            ["9999-12-31T23:59:59", "9999-13-31T23:59:59Z", "9999-12-32T00:00:00Z", "10000-01-01T00:00:00Z", "."]
        {
            assert_eq!(text.parse::<Timestamp>(), Err(TimeError), "{text}");
        }
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_millis(i64::MIN).to_string(), "-009999-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_time_without_an_offset_is_no_time() {
        assert_eq!("2024-03-21T10:00:00".parse::<Timestamp>(), Err(TimeError));
        assert_eq!("yesterday".parse::<Timestamp>(), Err(TimeError));
    }
}
