//! What is counted per webhook, in memory. state.redb has a row for each.
//!
//! A flush writes the rows of the webhooks it touched; with very many of them, every so often instead, as rows all over a
//! table would cost more than the deliveries they count. A crash then forgets some of the count, never a delivery.

use std::collections::HashMap;
use std::time::Duration;

use crate::handoff::Settled;
use crate::model::{Decision, Timestamp, WebhookNo};
use crate::storage::delivery::WebhookStats;

/// Of all webhooks.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// The figures, and whether they are to be written.
    of: HashMap<WebhookNo, (WebhookStats, bool)>,
    dirty: Vec<WebhookNo>,
    written: Timestamp,
}

/// Up to this many rows go with each flush …
const ROWS_PER_FLUSH: usize = 64;
/// … more wait for this long.
const INTERVAL: Duration = Duration::from_secs(10);

impl Stats {
    /// Goes on from these rows.
    pub(super) fn new(rows: impl IntoIterator<Item = (WebhookNo, WebhookStats)>) -> Self {
        let of = rows.into_iter().map(|(webhook, stats)| (webhook, (stats, false))).collect();
        Self { of, ..Self::default() }
    }

    /// A webhook's figures.
    pub(super) fn get(&self, webhook: WebhookNo) -> WebhookStats {
        self.of.get(&webhook).map_or_else(WebhookStats::default, |(stats, _)| *stats)
    }

    /// Counts outcomes; names the webhooks that have done nothing but fail for as long as `disable_after` says, each once in
    /// that time.
    pub(super) fn count(
        &mut self,
        settled: &[Settled],
        now: Timestamp,
        disable_after: impl Fn(WebhookNo) -> Duration,
        mut failing: impl FnMut(WebhookNo),
    ) {
        for outcome in settled {
            let stats = self.touch(outcome.webhook);
            if note(stats, outcome, now, || disable_after(outcome.webhook)) {
                failing(outcome.webhook);
            }
        }
    }

    /// From now on it is as if the webhook had not failed.
    pub(super) fn begin_anew(&mut self, webhook: WebhookNo) {
        if self.of.contains_key(&webhook) {
            self.touch(webhook).failing_since = None;
        }
    }

    /// Counts dead letters that no outcome made, one for each mention.
    pub(super) fn count_dead(&mut self, webhooks: &[WebhookNo]) {
        for webhook in webhooks {
            self.touch(*webhook).dead += 1;
        }
    }

    /// Moves the rows that changed into a flush, unless they are many and were written lately; `all`: whatever they are.
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

    /// A webhook's figures, which are about to change.
    fn touch(&mut self, webhook: WebhookNo) -> &mut WebhookStats {
        let (stats, is_dirty) = self.of.entry(webhook).or_default();
        if !std::mem::replace(is_dirty, true) {
            self.dirty.push(webhook);
        }
        stats
    }
}

/// Counts one outcome; whether the webhook has failed for too long with it.
fn note(stats: &mut WebhookStats, outcome: &Settled, now: Timestamp, disable_after: impl FnOnce() -> Duration) -> bool {
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

    fn settled(attempt: crate::model::Attempt, decision: Decision) -> Settled {
        Settled {
            webhook: WebhookNo(1),
            event: EventId::from_u128(1),
            attempt: Some(attempt),
            decision,
            head: Bytes::new(),
        }
    }

    #[test]
    fn failure_is_timed_from_its_first_to_the_next_success() {
        let mut stats = WebhookStats::default();
        let (never, at) = (|| Duration::MAX, Timestamp::from_millis);
        let failure = || settled(failed(1, 500), Decision::Retry { at: at(1) });
        note(&mut stats, &failure(), at(1_000), never);
        note(&mut stats, &failure(), at(101_000), never);
        let failing_for = |stats: &WebhookStats| stats.failing_since.map(|since| at(101_000).since(since));
        assert_eq!(failing_for(&stats), Some(Duration::from_secs(100)));
        note(&mut stats, &settled(attempt(1), Decision::Delivered), at(101_000), never);
        assert_eq!(failing_for(&stats), None);
    }

    #[test]
    fn only_nothing_but_failure_for_long_enough_disables() {
        let mut stats = WebhookStats::default();
        let long = || Duration::from_millis(100);
        let at = Timestamp::from_millis;
        let failure = || settled(failed(1, 500), Decision::Retry { at: at(1) });
        assert!(!note(&mut stats, &failure(), at(1_000), long));
        assert!(!note(&mut stats, &failure(), at(1_099), long));
        assert!(!note(&mut stats, &settled(attempt(1), Decision::Delivered), at(1_099), long));
        assert!(!note(&mut stats, &failure(), at(1_100), long), "a success began it anew");
        assert!(note(&mut stats, &failure(), at(1_200), long));
        assert!(!note(&mut stats, &failure(), at(1_201), long), "said once");
        assert_eq!((stats.delivered, stats.failed_attempts), (1, 5));
    }
}
