//! Statistics of each webhook since its creation, in memory. state.redb has one row for each webhook.
//!
//! A flush writes the rows of the webhooks whose statistics changed. When very many changed, rows are written only once
//! in an interval: rows spread over a whole table would cost more than the deliveries that they count. A crash then
//! loses some counts, never a delivery.

use std::collections::HashMap;
use std::time::Duration;

use crate::handoff::SettledDelivery;
use crate::model::{Decision, Timestamp, WebhookNo};
use crate::storage::delivery::WebhookStats;

/// The statistics of all webhooks.
#[derive(Debug, Default)]
pub(super) struct StatsTable {
    /// The statistics, and whether they changed since the last write.
    of: HashMap<WebhookNo, (WebhookStats, bool)>,
    dirty: Vec<WebhookNo>,
    written: Timestamp,
}

/// A flush writes up to this many changed rows at once.
const ROWS_PER_FLUSH: usize = 64;
/// More rows than that are written once in this time.
const INTERVAL: Duration = Duration::from_secs(10);

impl StatsTable {
    /// Starts with the rows of the store.
    pub(super) fn new(rows: impl IntoIterator<Item = (WebhookNo, WebhookStats)>) -> Self {
        let of = rows.into_iter().map(|(webhook, stats)| (webhook, (stats, false))).collect();
        Self { of, ..Self::default() }
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
            if count_outcome(stats, outcome, now, || disable_after(outcome.webhook)) {
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

/// Counts one outcome. Returns whether the webhook has now failed for `disable_after`.
fn count_outcome(
    stats: &mut WebhookStats,
    outcome: &SettledDelivery,
    now: Timestamp,
    disable_after: impl FnOnce() -> Duration,
) -> bool {
    match outcome.decision {
        Decision::Delivered => stats.delivered += 1,
        Decision::Dead(_) => stats.dead += 1,
        Decision::Retry { .. } => {}
    }
    let Some(attempt) = &outcome.attempt else { return false };
    if attempt.error.is_none() {
        stats.last_success = Some(attempt.at);
        stats.failing_since = None;
        return false;
    }
    stats.failed_attempts += 1;
    stats.last_failure = Some(attempt.at);
    let since = *stats.failing_since.get_or_insert(now);
    let too_long = now.since(since) >= disable_after();
    if too_long {
        stats.failing_since = Some(now);
    }
    too_long
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
        }
    }

    #[test]
    fn the_failing_time_runs_from_the_first_failure_to_the_next_success() {
        let mut stats = WebhookStats::default();
        let (never, at) = (|| Duration::MAX, Timestamp::from_millis);
        let failure = || settled(failed(1, 500), Decision::Retry { at: at(1) });
        count_outcome(&mut stats, &failure(), at(1_000), never);
        count_outcome(&mut stats, &failure(), at(101_000), never);
        let failing_for = |stats: &WebhookStats| stats.failing_since.map(|since| at(101_000).since(since));
        assert_eq!(failing_for(&stats), Some(Duration::from_secs(100)));
        count_outcome(&mut stats, &settled(attempt(1), Decision::Delivered), at(101_000), never);
        assert_eq!(failing_for(&stats), None);
    }

    #[test]
    fn only_uninterrupted_failure_for_the_whole_time_disables() {
        let mut stats = WebhookStats::default();
        let long = || Duration::from_millis(100);
        let at = Timestamp::from_millis;
        let failure = || settled(failed(1, 500), Decision::Retry { at: at(1) });
        assert!(!count_outcome(&mut stats, &failure(), at(1_000), long));
        assert!(!count_outcome(&mut stats, &failure(), at(1_099), long));
        assert!(!count_outcome(&mut stats, &settled(attempt(1), Decision::Delivered), at(1_099), long));
        assert!(!count_outcome(&mut stats, &failure(), at(1_100), long), "a success began it anew");
        assert!(count_outcome(&mut stats, &failure(), at(1_200), long));
        assert!(!count_outcome(&mut stats, &failure(), at(1_201), long), "said once");
        assert_eq!((stats.delivered, stats.failed_attempts), (1, 5));
    }
}
