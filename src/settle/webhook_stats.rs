//! Statistics of each webhook since its creation, in memory. state.redb has one row for each webhook.
//!
//! A flush writes the rows of the webhooks whose statistics changed. When very many changed, rows are written only once
//! in an interval: rows spread over a whole table would cost more than the deliveries that they count. A crash then
//! loses some counts, never a delivery.

use std::collections::HashMap;
use std::time::Duration;

use crate::handoff::SettledDelivery;
use crate::model::{Decision, Timestamp, WebhookNo};
use crate::storage::delivery::{Downtimes, WebhookStats};

/// The statistics of all webhooks.
#[derive(Debug, Default)]
pub(super) struct StatsTable {
    /// The statistics, and whether they changed since the last write.
    of: HashMap<WebhookNo, (WebhookStats, bool)>,
    dirty: Vec<WebhookNo>,
    written: Timestamp,
    /// When the server was off since the first of these failures.
    downtimes: Downtimes,
}

/// A flush writes up to this many changed rows at once.
const ROWS_PER_FLUSH: usize = 64;
/// More rows than that are written once in this time.
const INTERVAL: Duration = Duration::from_secs(10);

impl StatsTable {
    /// Starts with the rows and the downtimes of the store.
    pub(super) fn new(rows: impl IntoIterator<Item = (WebhookNo, WebhookStats)>, mut downtimes: Downtimes) -> Self {
        let of: HashMap<_, _> = rows.into_iter().map(|(webhook, stats)| (webhook, (stats, false))).collect();
        match of.values().filter_map(|(stats, _)| stats.failing_since).min() {
            Some(first) => downtimes.forget_before(first),
            None => downtimes = Downtimes::default(),
        }
        Self { of, downtimes, ..Self::default() }
    }

    /// The periods in which the server was off, as far as a webhook's failure time needs them.
    pub(super) fn downtimes(&self) -> &Downtimes {
        &self.downtimes
    }

    /// The time since `since` in which the server was on.
    pub(super) fn uptime_since(&self, since: Timestamp, now: Timestamp) -> Duration {
        self.downtimes.uptime(since, now)
    }

    /// The statistics of a webhook.
    pub(super) fn get(&self, webhook: WebhookNo) -> WebhookStats {
        self.of.get(&webhook).map_or_else(WebhookStats::default, |(stats, _)| *stats)
    }

    /// Counts outcomes. Calls `failing` for a webhook that had no successful attempt for the time that `disable_after`
    /// returns, once in that time.
    pub(super) fn count(
        &mut self,
        settled: &[SettledDelivery],
        now: Timestamp,
        disable_after: impl Fn(WebhookNo) -> Duration,
        mut failing: impl FnMut(WebhookNo),
    ) {
        for outcome in settled {
            let stats = self.touch(outcome.webhook);
            count_outcome(stats, outcome, now);
            let Some(since) = stats.failing_since else { continue };
            let is_failure = outcome.attempt.as_ref().is_some_and(|attempt| attempt.error.is_some());
            if is_failure && self.downtimes.uptime(since, now) >= disable_after(outcome.webhook) {
                self.touch(outcome.webhook).failing_since = Some(now);
                failing(outcome.webhook);
            }
        }
    }

    /// Forgets since when the webhook has been failing.
    pub(super) fn reset_failing(&mut self, webhook: WebhookNo) {
        if self.of.contains_key(&webhook) {
            self.touch(webhook).failing_since = None;
        }
    }

    /// Counts dead letters that were not caused by an outcome, one for each entry of `webhooks`.
    pub(super) fn count_dead(&mut self, webhooks: &[WebhookNo]) {
        for webhook in webhooks {
            self.touch(*webhook).dead += 1;
        }
    }

    /// Moves the changed rows into a flush, unless they are many and rows were written a short time ago. `all`: in any
    /// case.
    pub(super) fn take_changed(&mut self, rows: &mut Vec<(WebhookNo, WebhookStats)>, now: Timestamp, all: bool) {
        let are_many = self.dirty.len() > ROWS_PER_FLUSH && now.since(self.written) < INTERVAL;
        if self.dirty.is_empty() || (are_many && !all) {
            return;
        }
        self.dirty.sort_unstable();
        for webhook in self.dirty.drain(..) {
            if let Some((stats, is_dirty)) = self.of.get_mut(&webhook) {
                *is_dirty = false;
                rows.push((webhook, *stats));
            }
        }
        self.written = now;
    }

    /// The statistics of a webhook, marked as changed.
    fn touch(&mut self, webhook: WebhookNo) -> &mut WebhookStats {
        let (stats, is_dirty) = self.of.entry(webhook).or_default();
        if !std::mem::replace(is_dirty, true) {
            self.dirty.push(webhook);
        }
        stats
    }
}

/// Counts one outcome.
fn count_outcome(stats: &mut WebhookStats, outcome: &SettledDelivery, now: Timestamp) {
    match outcome.decision {
        Decision::Delivered => stats.delivered += 1,
        Decision::Dead(_) => stats.dead += 1,
        Decision::Retry { .. } => {}
    }
    let Some(attempt) = &outcome.attempt else { return };
    if attempt.error.is_none() {
        stats.last_success = Some(attempt.at);
        stats.failing_since = None;
    } else {
        stats.failed_attempts += 1;
        stats.last_failure = Some(attempt.at);
        stats.failing_since.get_or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EventId;
    use crate::storage::delivery::testing::{attempt, failed};
    use bytes::Bytes;

    fn settled(attempt: crate::model::Attempt, decision: Decision) -> SettledDelivery {
        SettledDelivery {
            webhook: WebhookNo(1),
            event: EventId::from_u128(1),
            attempt: Some(attempt),
            decision,
            head: Bytes::new(),
            endpoint: None,
        }
    }

    fn failure() -> SettledDelivery {
        settled(failed(1, 500), Decision::Retry { at: Timestamp::from_millis(1) })
    }

    fn success() -> SettledDelivery {
        settled(attempt(1), Decision::Delivered)
    }

    /// Counts one outcome. Returns whether the webhook failed for 100 ms.
    fn count(table: &mut StatsTable, outcome: SettledDelivery, at: i64) -> bool {
        let mut is_failing = false;
        let after = |_| Duration::from_millis(100);
        table.count(&[outcome], Timestamp::from_millis(at), after, |_| is_failing = true);
        is_failing
    }

    #[test]
    fn only_uninterrupted_failure_for_the_whole_time_disables() {
        let mut table = StatsTable::default();
        for (outcome, at, is_failing) in [
            (failure(), 1_000, false),
            (failure(), 1_099, false),
            (success(), 1_099, false),
            (failure(), 1_100, false),
            (failure(), 1_200, true),
            (failure(), 1_201, false),
            (success(), 1_400, false),
        ] {
            assert_eq!(count(&mut table, outcome, at), is_failing, "{at}");
        }
        let stats = table.get(WebhookNo(1));
        assert_eq!((stats.delivered, stats.failed_attempts, stats.failing_since), (2, 5, None));
    }

    #[test]
    fn the_time_that_the_server_was_off_is_no_failure() {
        let mut table = StatsTable::default();
        count(&mut table, failure(), 1_000);
        let at = Timestamp::from_millis;
        let mut downtimes = Downtimes::default();
        downtimes.push(at(1_010), at(9_000));
        let mut table = StatsTable::new([(WebhookNo(1), table.get(WebhookNo(1)))], downtimes);
        assert!(!count(&mut table, failure(), 9_089), "99 ms on");
        assert_eq!(table.get(WebhookNo(1)).failing_since, Some(at(1_000)), "shown as it was");
        assert!(count(&mut table, failure(), 9_090));
    }

    #[test]
    fn downtimes_are_kept_only_for_failures_before_them() {
        let at = Timestamp::from_millis;
        let mut downtimes = Downtimes::default();
        downtimes.push(at(10), at(20));
        downtimes.push(at(30), at(40));
        let of = |failing_since| WebhookStats { failing_since, ..WebhookStats::default() };
        let kept = |rows: &[WebhookStats]| {
            let rows = rows.iter().enumerate().map(|(no, row)| (WebhookNo(no as u32), *row));
            StatsTable::new(rows, downtimes.clone()).downtimes().encode().len() / 16
        };
        assert_eq!(kept(&[of(None), of(Some(at(25))), of(Some(at(35)))]), 1);
        assert_eq!(kept(&[of(Some(at(5)))]), 2);
        assert_eq!(kept(&[of(None)]), 0);
    }
}
