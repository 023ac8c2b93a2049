//! The forms of values: `"256 MiB"` or a number of bytes, `"5m"` or a number of the key's unit, `true` or `"true"`.
//!
//! Every number can also be written as text, because environment variables are text.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::{Serialize, Serializer};

/// A value with more than one written form.
trait ConfigValue: Sized {
    /// What is allowed, for errors.
    const EXPECTED: &'static str;

    fn from_integer(number: u64) -> Option<Self>;

    fn from_float(_: f64) -> Option<Self> {
        None
    }

    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    fn from_text(text: &str) -> Option<Self>;
}

struct ValueVisitor<T>(PhantomData<T>);

impl<T: ConfigValue> Visitor<'_> for ValueVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::from_integer(number).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let read = u64::try_from(number).ok().and_then(T::from_integer);
        read.ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        T::from_float(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        T::from_bool(value).ok_or_else(|| E::invalid_value(Unexpected::Bool(value), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text.trim()).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

macro_rules! deserialize_written {
    ($($type:ty),* $(,)?) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(ValueVisitor::<Self>(PhantomData))
            }
        }
    )*};
}

deserialize_written!(Size, UnitDuration<1>, UnitDuration<3600>, Count, AutoCount, Fraction, Toggle);

/// Bytes: `"256 MiB"`, `"1.5 GB"`, `1048576`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Size(pub(super) u64);

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = KIB << 10;
pub(super) const GIB: u64 = MIB << 10;
pub(super) const TIB: u64 = GIB << 10;

/// The largest unit first, so that a size is shown in the largest unit that divides it.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("TiB", TIB),
    ("GiB", GIB),
    ("MiB", MIB),
    ("KiB", KIB),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

impl ConfigValue for Size {
    const EXPECTED: &'static str = "a size such as \"256 MiB\" or a number of bytes";

    fn from_integer(number: u64) -> Option<Self> {
        Some(Self(number))
    }

    fn from_text(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text);
        let unit = match unit {
            "" | "B" => 1,
            unit => SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(unit).map(Self);
        }
        let bytes = positive(&number)? * unit as f64;
        (unit > 1 && bytes < u64::MAX as f64).then_some(Self(bytes as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZE_UNITS.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((name, bytes)) => write!(f, "{} {name}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// A duration: text with a unit (`"90s"`, `"1.5h"`), or a number of `UNIT` seconds. The key's name has that unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnitDuration<const UNIT: u64>(pub(super) Duration);

/// The duration of a key that ends in `_seconds`, and a delay of a schedule.
pub(super) type SecondsValue = UnitDuration<1>;
/// The duration of a key that ends in `_hours`.
pub(super) type HoursValue = UnitDuration<3600>;

impl<const UNIT: u64> UnitDuration<UNIT> {
    /// The duration of this many units.
    pub(super) const fn whole(number: u64) -> Self {
        Self(Duration::from_secs(number * UNIT))
    }

    /// Seconds, rounded down to a millisecond, which is the resolution of the clocks. `None` for negative and infinite
    /// numbers.
    fn from_fraction(seconds: f64) -> Option<Self> {
        let ms = Duration::try_from_secs_f64(seconds).ok()?.as_millis();
        Some(Self(Duration::from_millis(u64::try_from(ms).ok()?)))
    }
}

const DURATION_UNITS_MS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl<const UNIT: u64> ConfigValue for UnitDuration<UNIT> {
    const EXPECTED: &'static str = match UNIT {
        3600 => "a number of hours or a duration such as \"24h\" or \"90m\"",
        _ => "a number of seconds or a duration such as \"30s\" or \"5m\"",
    };

    fn from_integer(number: u64) -> Option<Self> {
        number.checked_mul(UNIT).map(Duration::from_secs).map(Self)
    }

    fn from_float(number: f64) -> Option<Self> {
        Self::from_fraction(number * UNIT as f64)
    }

    fn from_text(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text);
        if unit.is_empty() {
            return number.parse().ok().and_then(Self::from_integer).or_else(|| Self::from_float(positive(&number)?));
        }
        let unit_ms = DURATION_UNITS_MS.iter().find(|(name, _)| *name == unit)?.1;
        match number.parse::<u64>() {
            Ok(whole) => whole.checked_mul(unit_ms).map(Duration::from_millis).map(Self),
            Err(_) => Self::from_fraction(positive(&number)? * unit_ms as f64 / 1000.0),
        }
    }
}

impl<const UNIT: u64> fmt::Display for UnitDuration<UNIT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis() as u64;
        // Days can be read but are not shown, because people compare retention times in the unit of the key.
        match DURATION_UNITS_MS[1..].iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", ms / unit),
            None => f.write_str("0s"),
        }
    }
}

impl<const UNIT: u64> Serialize for UnitDuration<UNIT> {
    /// Writes a whole number of the key's unit as a number, and any other duration as text with its unit.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let seconds = self.0.as_secs();
        if self.0.subsec_nanos() == 0 && seconds.is_multiple_of(UNIT) {
            return to.serialize_u64(seconds / UNIT);
        }
        to.collect_str(self)
    }
}

/// Parses a duration from the command line: `"90s"`, `"2h"`, a number of seconds.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    SecondsValue::from_text(text.trim()).map(|seconds| seconds.0)
}

/// Parses a size in JSON or TOML outside of the configuration: `"10 MiB"`, a number of bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    Size::from_text(text.trim()).map(|size| size.0)
}

/// A delay of a schedule. It is read like [`SecondsValue`] and always shown with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct Delay(pub(super) SecondsValue);

impl Serialize for Delay {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

/// A whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(super) struct Count(pub(super) u64);

impl ConfigValue for Count {
    const EXPECTED: &'static str = "a whole number";

    fn from_integer(number: u64) -> Option<Self> {
        Some(Self(number))
    }

    fn from_text(text: &str) -> Option<Self> {
        text.replace('_', "").parse().ok().map(Self)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A whole number, or `"auto"` (`None`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AutoCount(pub(super) Option<u64>);

impl ConfigValue for AutoCount {
    const EXPECTED: &'static str = "\"auto\" or a whole number";

    fn from_integer(number: u64) -> Option<Self> {
        Some(Self(Some(number)))
    }

    fn from_text(text: &str) -> Option<Self> {
        if text == "auto" { Some(Self(None)) } else { Count::from_text(text).map(|count| Self(Some(count.0))) }
    }
}

impl Serialize for AutoCount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(number) => to.serialize_u64(number),
            None => to.serialize_str("auto"),
        }
    }
}

/// A fraction, such as 0.5.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub(super) struct Fraction(pub(super) f64);

impl ConfigValue for Fraction {
    const EXPECTED: &'static str = "a number such as 0.5";

    fn from_integer(number: u64) -> Option<Self> {
        Some(Self(number as f64))
    }

    fn from_float(number: f64) -> Option<Self> {
        Some(Self(number))
    }

    fn from_text(text: &str) -> Option<Self> {
        positive(text).map(Self)
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A boolean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Toggle(pub(super) bool);

impl ConfigValue for Toggle {
    const EXPECTED: &'static str = "true or false";

    fn from_integer(_: u64) -> Option<Self> {
        None
    }

    fn from_bool(value: bool) -> Option<Self> {
        Some(Self(value))
    }

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

/// A list. It can also be written as one text with commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct CommaList<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for CommaList<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct CommaListVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for CommaListVisitor<T> {
            type Value = CommaList<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list, or one text with commas")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CommaList<T>, E> {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                let read = |item: &str| T::deserialize(de::value::StrDeserializer::<E>::new(item));
                items.map(read).collect::<Result<_, E>>().map(CommaList)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut from: A) -> Result<CommaList<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    items.push(item);
                }
                Ok(CommaList(items))
            }
        }

        from.deserialize_any(CommaListVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for CommaList<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// Serializes a list with one entry as that entry.
pub(super) fn one_or_list<S: Serializer>(list: &CommaList<String>, to: S) -> Result<S::Ok, S::Error> {
    match list.0.as_slice() {
        [one] => to.serialize_str(one),
        many => many.serialize(to),
    }
}

/// `"1_024 MiB"` → (`"1024"`, `"MiB"`).
fn split_unit(text: &str) -> (String, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    (text[..end].replace('_', ""), text[end..].trim_start())
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_shown_value_can_be_read_again(bytes: u64, factor in 1..1_000_u64, ms in 0..1_000_000_000_000_u64, text in ".{0,12}") {
            for bytes in [bytes, factor << 30, factor * 1_000_000] {
                prop_assert_eq!(Size::from_text(&Size(bytes).to_string()), Some(Size(bytes)));
            }
            for ms in [ms, ms / 3_600_000 * 3_600_000, ms / 1000 * 1000] {
                let span = UnitDuration::<1>(Duration::from_millis(ms));
                prop_assert_eq!(UnitDuration::from_text(&span.to_string()), Some(span));
            }
            // Reading any text ends in a value or in an error.
            let _ = (Size::from_text(&text), HoursValue::from_text(&text), Count::from_text(&text), Fraction::from_text(&text));
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes, shown) in [
            ("1 MiB", Some(1 << 20), "1 MiB"),
            ("1048576", Some(1 << 20), "1 MiB"),
            ("16mib", Some(16 << 20), "16 MiB"),
            ("1.5 GiB", Some(3 << 29), "1536 MiB"),
            ("2 MB", Some(2_000_000), "2 MB"),
            ("1_000 B", Some(1_000), "1 KB"),
            ("0", Some(0), "0"),
            ("1000001", Some(1_000_001), "1000001"),
            ("1.5", None, ""),
            ("-1", None, ""),
            ("1 XB", None, ""),
            ("MiB", None, ""),
            ("", None, ""),
            ("99999999 TiB", None, ""),
        ] {
            let size = Size::from_text(text);
            assert_eq!(size.map(|size| size.0), bytes, "{text}");
            assert_eq!(size.map(|size| size.to_string()).unwrap_or_default(), shown, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms, shown) in [
            ("30", Some(30_000), "30s"),
            ("0.5", Some(500), "500ms"),
            ("90s", Some(90_000), "90s"),
            ("1.5h", Some(5_400_000), "90m"),
            ("250 ms", Some(250), "250ms"),
            ("7d", Some(604_800_000), "168h"),
            ("0", Some(0), "0s"),
            ("-1s", None, ""),
            ("5 minutes", None, ""),
            ("", None, ""),
            ("99999999999999999999h", None, ""),
        ] {
            let span = SecondsValue::from_text(text);
            assert_eq!(span.map(|span| span.0), ms.map(Duration::from_millis), "{text}");
            assert_eq!(span.map(|span| span.to_string()).unwrap_or_default(), shown, "{text}");
        }
        assert_eq!(HoursValue::from_text("24"), HoursValue::from_text("24h"));
        assert_eq!(HoursValue::from_integer(u64::MAX), None);
    }
}
