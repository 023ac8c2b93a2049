//! What is counted in an hour, by event type. Pure: counting, adding up, percentiles, and the form on disk.
//!
//! A row holds the types of one webhook, or of one tenant, in one hour of the wall clock. On disk (integers LEB128 unless they
//! say otherwise): u8 version; count; of each type its length and text, delivered, failed, then two tables of counts, each a
//! length and pairs of u8 index and count: attempts needed, and latencies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::limits::{FIGURES_SHOWN_TYPES_MAX, FIGURES_TENANT_TYPES_MAX, FIGURES_WEBHOOK_TYPES_MAX};
use crate::model::{Timestamp, WebhookNo};

/// An hour of the wall clock, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hour(u32);

const HOUR_MS: i64 = 3_600_000;

impl Hour {
    /// The hour that a time is in.
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.as_millis().div_euclid(HOUR_MS).max(0)).unwrap_or(u32::MAX))
    }

    /// When it begins.
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(i64::from(self.0) * HOUR_MS)
    }

    /// The hour so many before this one.
    #[must_use]
    pub fn before(self, hours: u32) -> Self {
        Self(self.0.saturating_sub(hours))
    }

    /// The hours from this one to another, both included, in order.
    pub fn to(self, last: Self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..=last.0).map(Self)
    }

    pub(crate) const fn as_u32(self) -> u32 {
        self.0
    }
}

/// How often each of at most 256 things happened; those that never did take no room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Counts(SmallVec<[(u8, u32); 4]>);

impl Counts {
    fn add(&mut self, index: u8, count: u32) {
        match self.0.binary_search_by_key(&index, |(at, _)| *at) {
            Ok(place) => self.0[place].1 = self.0[place].1.saturating_add(count),
            Err(place) => self.0.insert(place, (index, count)),
        }
    }

    fn merge(&mut self, other: &Self) {
        for (index, count) in &other.0 {
            self.add(*index, *count);
        }
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }
}

/// Numbers of attempts above this are counted as this one.
const ATTEMPTS_TOLD_APART: u8 = 20;

/// The figures of one event type, or of several together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Deliveries that succeeded.
    pub delivered: u32,
    /// Deliveries that an attempt ended as dead letters.
    pub failed: u32,
    /// By the attempts that a delivery took until its end.
    needed: Counts,
    /// By latency, of each attempt.
    latency: Counts,
}

/// How a delivery stands after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Delivered,
    Dead,
    NotYet,
}

impl Figures {
    /// Counts an attempt, which was a delivery's `number`th.
    pub(crate) fn count(&mut self, number: u16, latency: Duration, ended: Ended) {
        self.latency.add(bucket(latency), 1);
        match ended {
            Ended::Delivered => self.delivered = self.delivered.saturating_add(1),
            Ended::Dead => self.failed = self.failed.saturating_add(1),
            Ended::NotYet => return,
        }
        let number = u8::try_from(number).unwrap_or(u8::MAX).min(ATTEMPTS_TOLD_APART);
        self.needed.add(number, 1);
    }

    /// Those of one first attempt.
    #[cfg(test)]
    pub fn of_attempt(is_success: bool) -> Self {
        let mut figures = Self::default();
        figures.count(1, Duration::from_millis(10), if is_success { Ended::Delivered } else { Ended::NotYet });
        figures
    }

    /// Adds those of another hour, type or webhook.
    pub fn merge(&mut self, other: &Self) {
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.failed = self.failed.saturating_add(other.failed);
        self.needed.merge(&other.needed);
        self.latency.merge(&other.latency);
    }

    /// Deliveries that ended after an attempt.
    pub fn deliveries(&self) -> u64 {
        u64::from(self.delivered) + u64::from(self.failed)
    }

    /// Attempts made, those of deliveries that have not ended too.
    pub fn attempts(&self) -> u64 {
        self.latency.total()
    }

    /// Attempts that failed: each delivery that succeeded did so by one attempt.
    pub fn failed_attempts(&self) -> u64 {
        self.attempts().saturating_sub(u64::from(self.delivered))
    }

    /// Deliveries that succeeded among those that ended; `None` if none did.
    pub fn success_rate(&self) -> Option<f64> {
        let ended = self.deliveries();
        (ended > 0).then(|| f64::from(self.delivered) / ended as f64)
    }

    /// Attempts that a delivery took on average until its end, of those that ended.
    pub fn average_attempts(&self) -> Option<f64> {
        let sum: u64 = self.needed.0.iter().map(|(number, count)| u64::from(*number) * u64::from(*count)).sum();
        let ended = self.needed.total();
        (ended > 0).then(|| sum as f64 / ended as f64)
    }

    /// How many deliveries took how many attempts until their end, ascending; the last number stands for more as well.
    pub fn attempts_needed(&self) -> impl Iterator<Item = (u8, u32)> {
        self.needed.0.iter().copied()
    }

    /// The latency that this share (0 to 1) of the attempts did not exceed, to 7 %; `None` without attempts.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let total = self.latency.total();
        let wanted = ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        self.latency.0.iter().find_map(|(index, count)| {
            seen += u64::from(*count);
            (seen >= wanted).then(|| middle(*index))
        })
    }
}

/// Eight buckets an octave of microseconds, one a microsecond below eight: the last of the 256 begins at 4 hours.
fn bucket(latency: Duration) -> u8 {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    if us < 8 {
        return us as u8;
    }
    let exponent = us.ilog2();
    let eighth = (us >> (exponent - 3)) & 7;
    u8::try_from(u64::from(exponent - 2) * 8 + eighth).unwrap_or(u8::MAX)
}

fn middle(bucket: u8) -> Duration {
    if bucket < 8 {
        return Duration::from_micros(u64::from(bucket));
    }
    let (exponent, eighth) = (u32::from(bucket / 8) + 2, u64::from(bucket % 8));
    let width = 1u64 << (exponent - 3);
    Duration::from_micros((8 + eighth) * width + width / 2)
}

/// The name under which a row counts the types beyond its bound.
pub const OTHER_TYPES: &str = "*";

/// The figures of an hour by event type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HourRow {
    /// By name.
    types: SmallVec<[(Arc<str>, Figures); 1]>,
}

impl HourRow {
    /// The figures of a type; of [`OTHER_TYPES`] when the row has `types_max` already and this is another. `name` shares the
    /// type's name.
    pub(crate) fn of(
        &mut self,
        event_type: &str,
        types_max: usize,
        name: impl FnOnce(&str) -> Arc<str>,
    ) -> &mut Figures {
        let place = match self.find(event_type) {
            Ok(place) => place,
            Err(_) if self.types.len() >= types_max && event_type != OTHER_TYPES => {
                return self.of(OTHER_TYPES, usize::MAX, name);
            }
            Err(place) => {
                self.types.insert(place, (name(event_type), Figures::default()));
                place
            }
        };
        &mut self.types[place].1
    }

    fn find(&self, event_type: &str) -> Result<usize, usize> {
        self.types.binary_search_by(|(name, _)| (**name).cmp(event_type))
    }

    /// Of one type.
    #[cfg(test)]
    pub fn of_type(event_type: &str, figures: &Figures) -> Self {
        let mut row = Self::default();
        row.of(event_type, 1, |name| name.into()).merge(figures);
        row
    }

    /// Adds another's.
    pub fn merge(&mut self, other: &Self, types_max: usize) {
        for (name, figures) in &other.types {
            self.of(name, types_max, |_| Arc::clone(name)).merge(figures);
        }
    }

    /// Each type with its figures, by name.
    pub fn types(&self) -> impl Iterator<Item = (&str, &Figures)> {
        self.types.iter().map(|(name, figures)| (&**name, figures))
    }

    /// All types together.
    pub fn sum(&self) -> Figures {
        let mut sum = Figures::default();
        for (_, figures) in &self.types {
            sum.merge(figures);
        }
        sum
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(VERSION);
        put(self.types.len() as u32, out);
        for (name, figures) in &self.types {
            put(name.len() as u32, out);
            out.extend_from_slice(name.as_bytes());
            put(figures.delivered, out);
            put(figures.failed, out);
            for counts in [&figures.needed, &figures.latency] {
                put(counts.0.len() as u32, out);
                for (index, count) in &counts.0 {
                    out.push(*index);
                    put(*count, out);
                }
            }
        }
    }

    /// `None` if it is not what [`Self::encode`] writes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        let mut row = Self::default();
        for _ in 0..get(&mut rest)? {
            let len = get(&mut rest)? as usize;
            let (name, behind) = rest.split_at_checked(len)?;
            rest = behind;
            let name = std::str::from_utf8(name).ok()?;
            let mut figures = Figures { delivered: get(&mut rest)?, failed: get(&mut rest)?, ..Figures::default() };
            for counts in [&mut figures.needed, &mut figures.latency] {
                for _ in 0..get(&mut rest)? {
                    let (index, behind) = rest.split_first()?;
                    rest = behind;
                    counts.add(*index, get(&mut rest)?);
                }
            }
            row.of(name, usize::MAX, |name| name.into()).merge(&figures);
        }
        rest.is_empty().then_some(row)
    }
}

/// Whose figures.
#[derive(Debug, Clone, Copy)]
pub enum FiguresOf<'a> {
    /// These webhooks', together.
    Webhooks(&'a [WebhookNo]),
    /// A tenant's.
    Tenant(&'a str),
    /// All tenants', together.
    Everybody,
}

/// Whose row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A webhook's.
    Webhook(WebhookNo),
    /// A tenant's.
    Tenant(Arc<str>),
}

impl Subject {
    /// Types that a row of it has at most, beside [`OTHER_TYPES`].
    pub(crate) fn types_max(&self) -> usize {
        match self {
            Self::Webhook(_) => FIGURES_WEBHOOK_TYPES_MAX,
            Self::Tenant(_) => FIGURES_TENANT_TYPES_MAX,
        }
    }
}

/// What was counted of one in an hour.
#[derive(Debug, Clone)]
pub struct HourFigures {
    /// The hour.
    pub hour: Hour,
    /// Whose.
    pub subject: Subject,
    /// The figures.
    pub row: HourRow,
}

/// Figures that memory has and the disk may not have.
#[derive(Debug, Default)]
pub struct Recent {
    /// The number of the write with which the disk has them.
    pub number: u64,
    /// By hour.
    pub rows: BTreeMap<Hour, HourRow>,
}

impl Recent {
    /// Adds a row, among those that are shown together.
    pub(crate) fn add(rows: &mut BTreeMap<Hour, HourRow>, hour: Hour, row: &HourRow) {
        rows.entry(hour).or_default().merge(row, FIGURES_SHOWN_TYPES_MAX);
    }
}

const VERSION: u8 = 1;

fn put(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn get(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        let part = u32::from(byte & 0x7f);
        value |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn attempts_are_counted_once_and_deliveries_when_they_end() {
        let mut figures = Figures::default();
        assert_eq!((figures.success_rate(), figures.average_attempts(), figures.percentile(0.5)), (None, None, None));
        figures.count(1, ms(10), Ended::Delivered);
        figures.count(1, ms(20), Ended::NotYet);
        figures.count(2, ms(20), Ended::NotYet);
        figures.count(3, ms(30), Ended::Dead);
        figures.count(200, ms(30), Ended::Delivered);
        assert_eq!((figures.delivered, figures.failed, figures.deliveries()), (2, 1, 3));
        assert_eq!((figures.attempts(), figures.failed_attempts()), (5, 3));
        assert_eq!(figures.success_rate(), Some(2.0 / 3.0));
        assert_eq!(figures.average_attempts(), Some(8.0), "200 counts as 20");
        assert_eq!(figures.attempts_needed().collect::<Vec<_>>(), [(1, 1), (3, 1), (20, 1)]);
    }

    #[test]
    fn a_row_has_a_bound_of_types_and_loses_none_of_their_deliveries() {
        let mut row = HourRow::default();
        for n in 0..10 {
            row.of(&format!("t.{n}"), 3, |name| name.into()).count(1, ms(1), Ended::Delivered);
        }
        let types: Vec<_> = row.types().map(|(name, figures)| (name, figures.delivered)).collect();
        assert_eq!(types, [("*", 7), ("t.0", 1), ("t.1", 1), ("t.2", 1)]);
        let mut all = HourRow::default();
        all.of("u", 3, |name| name.into()).count(1, ms(1), Ended::Dead);
        all.merge(&row, 3);
        assert_eq!(all.types().map(|(name, _)| name).collect::<Vec<_>>(), ["*", "t.0", "u"]);
        assert_eq!(all.sum().deliveries(), 11);
    }

    #[test]
    fn hours_are_of_the_wall_clock() {
        let at = "2026-03-01T12:34:56Z".parse().unwrap();
        assert_eq!(Hour::of(at).start().to_string(), "2026-03-01T12:00:00.000Z");
        assert_eq!(Hour::of(at).before(24).start().to_string(), "2026-02-28T12:00:00.000Z");
        assert_eq!(Hour::of(Timestamp::from_millis(-1)), Hour(0));
        assert_eq!(Hour(5).before(2).to(Hour(5)).count(), 3);
    }

    proptest! {
        #[test]
        fn a_percentile_is_right_to_seven_percent(
            mut all in prop::collection::vec(1u64..60_000_000, 1..200), share in 0.0f64..=1.0,
        ) {
            let mut figures = Figures::default();
            for us in &all {
                figures.count(1, Duration::from_micros(*us), Ended::Delivered);
            }
            all.sort_unstable();
            let rank = ((share * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let (exact, told) = (all[rank - 1] as f64, figures.percentile(share).unwrap().as_micros() as f64);
            prop_assert!((told - exact).abs() <= exact * 0.07 + 1.0, "{told} for {exact}");
        }

        #[test]
        fn rows_read_back_and_garbage_is_refused(
            attempts in prop::collection::vec((0u8..5, 1u16..300, 0u64..1 << 40, 0u8..3), 0..50), cut in 1usize..20,
        ) {
            let mut row = HourRow::default();
            for (event_type, number, us, ended) in attempts {
                let ended = [Ended::Delivered, Ended::Dead, Ended::NotYet][usize::from(ended)];
                let figures = row.of(&format!("type.{event_type}"), 8, |name| name.into());
                figures.count(number, Duration::from_micros(us), ended);
            }
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            prop_assert_eq!(HourRow::decode(&bytes), Some(row));
            bytes.truncate(bytes.len().saturating_sub(cut));
            prop_assert_eq!(HourRow::decode(&bytes), None);
        }

        #[test]
        fn nothing_read_makes_it_panic(bytes: Vec<u8>) {
            let _ = HourRow::decode(&bytes);
            let _ = HourRow::decode(&[&[VERSION], &*bytes].concat());
        }
    }
}
