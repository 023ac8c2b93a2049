//! The periods in which the server was off. A webhook that fails is not failing in them, because no attempt was possible.
//!
//! state.redb stores the start and the end of each period, two i64 in milliseconds (scheduling clock), little-endian.

use std::time::Duration;

use super::part;
use crate::limits::DOWNTIMES_MAX;
use crate::model::Timestamp;

/// Periods in which the server was off, ascending and apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Downtimes(Vec<(Timestamp, Timestamp)>);

impl Downtimes {
    /// Adds a period after all others. At most [`DOWNTIMES_MAX`] are kept: the oldest two become one, with the time
    /// between them.
    pub(crate) fn push(&mut self, start: Timestamp, end: Timestamp) {
        if start >= end {
            return;
        }
        self.0.push((start, end));
        if self.0.len() > DOWNTIMES_MAX {
            let (start, _) = self.0.remove(0);
            self.0[0].0 = start;
        }
    }

    /// Deletes the periods that ended before `first`.
    pub(crate) fn forget_before(&mut self, first: Timestamp) {
        self.0.retain(|(_, end)| *end > first);
    }

    /// The time between `since` and `now` in which the server was on.
    pub(crate) fn uptime(&self, since: Timestamp, now: Timestamp) -> Duration {
        let off = self.0.iter().map(|(start, end)| (*end).min(now).since((*start).max(since)));
        now.since(since).saturating_sub(off.sum())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let times = self.0.iter().flat_map(|(start, end)| [*start, *end]);
        times.flat_map(|at| at.as_millis().to_le_bytes()).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        let (periods, _) = bytes.as_chunks::<16>();
        let at = |period: &[u8; 16], from| Timestamp::from_millis(i64::from_le_bytes(part(period, from)));
        Self(periods.iter().map(|period| (at(period, 0), at(period, 8))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn uptime(downtimes: &Downtimes, since: i64, now: i64) -> u64 {
        downtimes.uptime(at(since), at(now)).as_secs()
    }

    #[test]
    fn only_the_parts_of_periods_within_the_time_are_left_out() {
        let mut downtimes = Downtimes::default();
        downtimes.push(at(100), at(200));
        downtimes.push(at(300), at(300));
        downtimes.push(at(500), at(600));
        for (since, now, expected) in
            [(0, 50, 50), (0, 150, 100), (0, 1_000, 800), (150, 550, 300), (120, 180, 0), (200, 500, 300), (9, 3, 0)]
        {
            assert_eq!(uptime(&downtimes, since, now), expected, "{since} to {now}");
        }
        assert_eq!(Downtimes::decode(&downtimes.encode()), downtimes);
        downtimes.forget_before(at(200));
        assert_eq!(uptime(&downtimes, 0, 1_000), 900);
    }

    #[test]
    fn many_periods_never_count_as_more_uptime() {
        let mut downtimes = Downtimes::default();
        for n in 0..1_000 {
            downtimes.push(at(n * 10), at(n * 10 + 9));
        }
        assert_eq!(downtimes.encode().len(), DOWNTIMES_MAX * 16);
        assert_eq!(uptime(&downtimes, 0, 10_000), DOWNTIMES_MAX as u64);
    }
}
