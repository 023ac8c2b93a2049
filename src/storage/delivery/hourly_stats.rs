//! Hourly delivery statistics by event type: counting, merging, percentiles, and the encoding. No I/O.
//!
//! A row holds the event types of one webhook, or of one tenant, in one hour of the wall clock. Encoding (integers are
//! LEB128 unless a width is given): u8 version, number of types. For each type: length and text of the name, delivered,
//! failed, then two tables of counts: attempts needed, and latencies. A table is a length, then pairs of u8 index and
//! count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::limits::{STATS_SHOWN_TYPES_MAX, STATS_TENANT_TYPES_MAX, STATS_WEBHOOK_TYPES_MAX};
use crate::model::{Timestamp, WebhookNo};

/// An hour of the wall clock, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hour(u32);

const HOUR_MS: i64 = 3_600_000;

impl Hour {
    /// Returns the hour that contains a time. Times before 1970 are in hour 0.
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.as_millis().div_euclid(HOUR_MS).max(0)).unwrap_or(u32::MAX))
    }

    /// Returns the beginning of the hour.
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(i64::from(self.0) * HOUR_MS)
    }

    /// Returns the hour that is `hours` earlier.
    #[must_use]
    pub fn before(self, hours: u32) -> Self {
        Self(self.0.saturating_sub(hours))
    }

    /// Returns the hours from this one to `last`, both inclusive, ascending.
    pub fn to(self, last: Self) -> impl DoubleEndedIterator<Item = Self> {
        (self.0..=last.0).map(Self)
    }

    pub(crate) const fn as_u32(self) -> u32 {
        self.0
    }
}

/// Counters for the indexes 0 to 255. Counters of zero take no memory. Sorted by index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SparseCounts(SmallVec<[(u8, u32); 4]>);

impl SparseCounts {
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

/// Greater numbers of attempts are counted as this number.
const ATTEMPTS_COUNTED_MAX: u8 = 20;

/// The statistics of one event type, or of several event types together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryStats {
    /// Deliveries that succeeded.
    pub delivered: u32,
    /// Deliveries that became dead letters after an attempt.
    pub failed: u32,
    /// Ended deliveries, by their number of attempts.
    needed: SparseCounts,
    /// Attempts, by latency bucket.
    latency: SparseCounts,
}

/// The state of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    Delivered,
    Dead,
    Unsettled,
}

impl DeliveryStats {
    /// Counts one attempt. `number` is its number within the delivery, from 1.
    pub(crate) fn count(&mut self, number: u16, latency: Duration, ended: DeliveryOutcome) {
        self.latency.add(bucket(latency), 1);
        match ended {
            DeliveryOutcome::Delivered => self.delivered = self.delivered.saturating_add(1),
            DeliveryOutcome::Dead => self.failed = self.failed.saturating_add(1),
            DeliveryOutcome::Unsettled => return,
        }
        let number = u8::try_from(number).unwrap_or(u8::MAX).min(ATTEMPTS_COUNTED_MAX);
        self.needed.add(number, 1);
    }

    /// Returns the statistics of one first attempt.
    #[cfg(test)]
    pub fn of_attempt(is_success: bool) -> Self {
        let mut stats = Self::default();
        stats.count(
            1,
            Duration::from_millis(10),
            if is_success { DeliveryOutcome::Delivered } else { DeliveryOutcome::Unsettled },
        );
        stats
    }

    /// Adds the statistics of another hour, event type or webhook.
    pub fn merge(&mut self, other: &Self) {
        self.delivered = self.delivered.saturating_add(other.delivered);
        self.failed = self.failed.saturating_add(other.failed);
        self.needed.merge(&other.needed);
        self.latency.merge(&other.latency);
    }

    /// Returns the number of deliveries that ended after an attempt.
    pub fn deliveries(&self) -> u64 {
        u64::from(self.delivered) + u64::from(self.failed)
    }

    /// Returns the number of attempts, including those of deliveries that have not ended.
    pub fn attempts(&self) -> u64 {
        self.latency.total()
    }

    /// Returns the number of failed attempts: all attempts, minus one for each successful delivery.
    pub fn failed_attempts(&self) -> u64 {
        self.attempts().saturating_sub(u64::from(self.delivered))
    }

    /// Returns the share of ended deliveries that succeeded (0 to 1), or `None` if no delivery ended.
    pub fn success_rate(&self) -> Option<f64> {
        let ended = self.deliveries();
        (ended > 0).then(|| f64::from(self.delivered) / ended as f64)
    }

    /// Returns the average number of attempts of the ended deliveries, or `None` if no delivery ended.
    pub fn average_attempts(&self) -> Option<f64> {
        let sum: u64 = self.needed.0.iter().map(|(number, count)| u64::from(*number) * u64::from(*count)).sum();
        let ended = self.needed.total();
        (ended > 0).then(|| sum as f64 / ended as f64)
    }

    /// Returns pairs of a number of attempts and the count of ended deliveries that needed it, ascending. The number 20
    /// includes deliveries with more attempts.
    pub fn attempts_needed(&self) -> impl Iterator<Item = (u8, u32)> {
        self.needed.0.iter().copied()
    }

    /// Returns the latency that this share (0 to 1) of the attempts did not exceed, exact to 7 %. Returns `None`
    /// without attempts.
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let total = self.latency.total();
        let query = ((share * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        self.latency.0.iter().find_map(|(index, count)| {
            seen += u64::from(*count);
            (seen >= query).then(|| middle(*index))
        })
    }
}

/// Returns the bucket of a latency. Below 8 µs there is one bucket per microsecond; above, each doubling of the latency
/// has eight buckets. The last of the 256 buckets begins at 4 hours.
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

/// The name under which a row counts the event types beyond its limit.
pub const OTHER_TYPES: &str = "*";

/// The statistics of one hour, by event type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HourlyStatsRow {
    /// Sorted by name.
    types: SmallVec<[(Arc<str>, DeliveryStats); 1]>,
}

impl HourlyStatsRow {
    /// Returns the statistics of an event type, added if missing. If the row already has `types_max` types, returns
    /// those of [`OTHER_TYPES`] instead. `name` returns a shared copy of the type's name.
    pub(crate) fn stats_mut(
        &mut self,
        event_type: &str,
        types_max: usize,
        name: impl FnOnce(&str) -> Arc<str>,
    ) -> &mut DeliveryStats {
        let place = match self.find(event_type) {
            Ok(place) => place,
            Err(_) if self.types.len() >= types_max && event_type != OTHER_TYPES => {
                return self.stats_mut(OTHER_TYPES, usize::MAX, name);
            }
            Err(place) => {
                self.types.insert(place, (name(event_type), DeliveryStats::default()));
                place
            }
        };
        &mut self.types[place].1
    }

    fn find(&self, event_type: &str) -> Result<usize, usize> {
        self.types.binary_search_by(|(name, _)| (**name).cmp(event_type))
    }

    /// Returns a row of one event type.
    #[cfg(test)]
    pub fn of_type(event_type: &str, stats: &DeliveryStats) -> Self {
        let mut row = Self::default();
        row.stats_mut(event_type, 1, |name| name.into()).merge(stats);
        row
    }

    /// Adds the statistics of another row.
    pub fn merge(&mut self, other: &Self, types_max: usize) {
        for (name, stats) in &other.types {
            self.stats_mut(name, types_max, |_| Arc::clone(name)).merge(stats);
        }
    }

    /// Returns each event type with its statistics, sorted by name.
    pub fn types(&self) -> impl Iterator<Item = (&str, &DeliveryStats)> {
        self.types.iter().map(|(name, stats)| (&**name, stats))
    }

    /// Returns the statistics of all event types together.
    pub fn sum(&self) -> DeliveryStats {
        let mut sum = DeliveryStats::default();
        for (_, stats) in &self.types {
            sum.merge(stats);
        }
        sum
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(VERSION);
        put(self.types.len() as u32, out);
        for (name, stats) in &self.types {
            put(name.len() as u32, out);
            out.extend_from_slice(name.as_bytes());
            put(stats.delivered, out);
            put(stats.failed, out);
            for counts in [&stats.needed, &stats.latency] {
                put(counts.0.len() as u32, out);
                for (index, count) in &counts.0 {
                    out.push(*index);
                    put(*count, out);
                }
            }
        }
    }

    /// Decodes a row. Returns `None` if it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        let mut row = Self::default();
        for _ in 0..get(&mut rest)? {
            let len = get(&mut rest)? as usize;
            let (name, behind) = rest.split_at_checked(len)?;
            rest = behind;
            let name = std::str::from_utf8(name).ok()?;
            let mut stats =
                DeliveryStats { delivered: get(&mut rest)?, failed: get(&mut rest)?, ..DeliveryStats::default() };
            for counts in [&mut stats.needed, &mut stats.latency] {
                for _ in 0..get(&mut rest)? {
                    let (index, behind) = rest.split_first()?;
                    rest = behind;
                    counts.add(*index, get(&mut rest)?);
                }
            }
            row.stats_mut(name, usize::MAX, |name| name.into()).merge(&stats);
        }
        rest.is_empty().then_some(row)
    }
}

/// Selects the statistics to read.
#[derive(Debug, Clone, Copy)]
pub enum StatsScope<'a> {
    /// Those of these webhooks, added up.
    Webhooks(&'a [WebhookNo]),
    /// Those of one tenant.
    Tenant(&'a str),
    /// Those of all tenants, added up.
    AllTenants,
}

/// The webhook or tenant that a row belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatsSubject {
    /// A webhook.
    Webhook(WebhookNo),
    /// A tenant.
    Tenant(Arc<str>),
}

impl StatsSubject {
    /// Returns the maximum number of event types in a row of this subject, not counting [`OTHER_TYPES`].
    pub(crate) fn types_max(&self) -> usize {
        match self {
            Self::Webhook(_) => STATS_WEBHOOK_TYPES_MAX,
            Self::Tenant(_) => STATS_TENANT_TYPES_MAX,
        }
    }
}

/// The statistics of one webhook or tenant in one hour.
#[derive(Debug, Clone)]
pub struct HourlyStats {
    /// The hour.
    pub hour: Hour,
    /// The webhook or tenant.
    pub subject: StatsSubject,
    /// The statistics.
    pub row: HourlyStatsRow,
}

/// Statistics in memory that may not be on the disk yet.
#[derive(Debug, Default)]
pub struct UnflushedStats {
    /// The number of the write that stores them ([`super::HourlyStatsUpdate::number`]).
    pub number: u64,
    /// The statistics, by hour.
    pub rows: BTreeMap<Hour, HourlyStatsRow>,
}

impl UnflushedStats {
    /// Adds a row to the rows of a response.
    pub(crate) fn add(rows: &mut BTreeMap<Hour, HourlyStatsRow>, hour: Hour, row: &HourlyStatsRow) {
        rows.entry(hour).or_default().merge(row, STATS_SHOWN_TYPES_MAX);
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
        let mut stats = DeliveryStats::default();
        assert_eq!((stats.success_rate(), stats.average_attempts(), stats.percentile(0.5)), (None, None, None));
        stats.count(1, ms(10), DeliveryOutcome::Delivered);
        stats.count(1, ms(20), DeliveryOutcome::Unsettled);
        stats.count(2, ms(20), DeliveryOutcome::Unsettled);
        stats.count(3, ms(30), DeliveryOutcome::Dead);
        stats.count(200, ms(30), DeliveryOutcome::Delivered);
        assert_eq!((stats.delivered, stats.failed, stats.deliveries()), (2, 1, 3));
        assert_eq!((stats.attempts(), stats.failed_attempts()), (5, 3));
        assert_eq!(stats.success_rate(), Some(2.0 / 3.0));
        assert_eq!(stats.average_attempts(), Some(8.0), "200 counts as 20");
        assert_eq!(stats.attempts_needed().collect::<Vec<_>>(), [(1, 1), (3, 1), (20, 1)]);
    }

    #[test]
    fn types_beyond_the_limit_of_a_row_are_counted_together() {
        let mut row = HourlyStatsRow::default();
        for n in 0..10 {
            row.stats_mut(&format!("t.{n}"), 3, |name| name.into()).count(1, ms(1), DeliveryOutcome::Delivered);
        }
        let types: Vec<_> = row.types().map(|(name, stats)| (name, stats.delivered)).collect();
        assert_eq!(types, [("*", 7), ("t.0", 1), ("t.1", 1), ("t.2", 1)]);
        let mut all = HourlyStatsRow::default();
        all.stats_mut("u", 3, |name| name.into()).count(1, ms(1), DeliveryOutcome::Dead);
        all.merge(&row, 3);
        assert_eq!(all.types().map(|(name, _)| name).collect::<Vec<_>>(), ["*", "t.0", "u"]);
        assert_eq!(all.sum().deliveries(), 11);
    }

    #[test]
    fn hours_follow_the_wall_clock() {
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
            let mut stats = DeliveryStats::default();
            for us in &all {
                stats.count(1, Duration::from_micros(*us), DeliveryOutcome::Delivered);
            }
            all.sort_unstable();
            let rank = ((share * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let (exact, computed) = (all[rank - 1] as f64, stats.percentile(share).unwrap().as_micros() as f64);
            prop_assert!((computed - exact).abs() <= exact * 0.07 + 1.0, "{computed} for {exact}");
        }

        #[test]
        fn rows_read_back_and_garbage_is_refused(
            attempts in prop::collection::vec((0u8..5, 1u16..300, 0u64..1 << 40, 0u8..3), 0..50), cut in 1usize..20,
        ) {
            let mut row = HourlyStatsRow::default();
            for (event_type, number, us, ended) in attempts {
                let outcomes = [DeliveryOutcome::Delivered, DeliveryOutcome::Dead, DeliveryOutcome::Unsettled];
                let ended = outcomes[usize::from(ended)];
                let stats = row.stats_mut(&format!("type.{event_type}"), 8, |name| name.into());
                stats.count(number, Duration::from_micros(us), ended);
            }
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            prop_assert_eq!(HourlyStatsRow::decode(&bytes), Some(row));
            bytes.truncate(bytes.len().saturating_sub(cut));
            prop_assert_eq!(HourlyStatsRow::decode(&bytes), None);
        }

        #[test]
        fn nothing_read_makes_it_panic(bytes: Vec<u8>) {
            let _ = HourlyStatsRow::decode(&bytes);
            let _ = HourlyStatsRow::decode(&[&[VERSION], &*bytes].concat());
        }
    }
}
