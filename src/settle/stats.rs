//! What is counted per webhook, in memory and in state.redb.
//!
//! A flush writes the rows of the webhooks it touched; with very many of them, every so often instead, as rows all over a
//! table would cost more than the deliveries they count. A crash then forgets some of the count, never a delivery.

use std::collections::HashMap;
use std::time::Duration;

use redb::{Error, ReadTransaction, ReadableTable, WriteTransaction};

use super::Decision;
use super::table::{STATS, part};
use crate::handoff::Settled;
use crate::model::{Timestamp, WebhookNo};

/// A webhook's figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookStats {
    /// Deliveries that succeeded.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// Deliveries that became dead letters.
    pub dead: u64,
    /// When an attempt last succeeded, by the wall clock.
    pub last_success: Option<Timestamp>,
    /// When one last failed.
    pub last_failure: Option<Timestamp>,
    /// Since when (scheduling clock) every attempt has failed.
    pub failing_since: Option<Timestamp>,
}

/// Of all webhooks.
#[derive(Debug, Default)]
pub(super) struct Stats {
    of: HashMap<WebhookNo, (WebhookStats, bool)>,
    dirty: Vec<WebhookNo>,
    written: Timestamp,
}

/// Up to this many rows go with each flush …
const ROWS_PER_FLUSH: usize = 64;
/// … more wait for this long.
const INTERVAL: Duration = Duration::from_secs(10);

impl Stats {
    /// Reads all rows.
    pub(super) fn load(txn: &ReadTransaction) -> Result<Self, Error> {
        let mut of = HashMap::new();
        for entry in txn.open_table(STATS)?.iter()? {
            let (no, row) = entry?;
            of.insert(WebhookNo(no.value()), (WebhookStats::decode(row.value()), false));
        }
        Ok(Self { of, ..Self::default() })
    }

    /// A webhook's figures.
    pub(super) fn get(&self, webhook: WebhookNo) -> WebhookStats {
        self.of.get(&webhook).map_or_else(WebhookStats::default, |(stats, _)| *stats)
    }

    /// Counts outcomes; names the webhooks that have done nothing but fail for as long as `disable_after` says, each once in that time.
    pub(super) fn count(
        &mut self,
        settled: &[Settled],
        now: Timestamp,
        disable_after: impl Fn(WebhookNo) -> Duration,
        mut failing: impl FnMut(WebhookNo),
    ) {
        let Self { of, dirty, .. } = self;
        for outcome in settled {
            let (stats, is_dirty) = of.entry(outcome.webhook).or_default();
            if !std::mem::replace(is_dirty, true) {
                dirty.push(outcome.webhook);
            }
            if stats.note(outcome, now, || disable_after(outcome.webhook)) {
                failing(outcome.webhook);
            }
        }
    }

    /// From now on it is as if the webhook had not failed.
    pub(super) fn begin_anew(&mut self, webhook: WebhookNo) {
        let Self { of, dirty, .. } = self;
        if let Some((stats, is_dirty)) = of.get_mut(&webhook) {
            stats.failing_since = None;
            if !std::mem::replace(is_dirty, true) {
                dirty.push(webhook);
            }
        }
    }

    /// Counts dead letters that no outcome made, one for each mention.
    pub(super) fn count_dead(&mut self, webhooks: &[WebhookNo]) {
        let Self { of, dirty, .. } = self;
        for webhook in webhooks {
            let (stats, is_dirty) = of.entry(*webhook).or_default();
            stats.dead += 1;
            if !std::mem::replace(is_dirty, true) {
                dirty.push(*webhook);
            }
        }
    }

    /// Writes what changed, unless it is much and was written lately; `all`: whatever it is.
    pub(super) fn write(&mut self, txn: &WriteTransaction, now: Timestamp, all: bool) -> Result<bool, Error> {
        let much = self.dirty.len() > ROWS_PER_FLUSH && now.since(self.written) < INTERVAL;
        if self.dirty.is_empty() || (much && !all) {
            return Ok(false);
        }
        self.dirty.sort_unstable();
        let mut table = txn.open_table(STATS)?;
        for webhook in &self.dirty {
            if let Some((stats, _)) = self.of.get(webhook) {
                table.insert(webhook.0, &stats.encode())?;
            }
        }
        Ok(true)
    }

    /// Notes that what [`Stats::write`] wrote is durable.
    pub(super) fn written(&mut self, now: Timestamp) {
        let Self { of, dirty, written } = self;
        for webhook in dirty.drain(..) {
            if let Some((_, is_dirty)) = of.get_mut(&webhook) {
                *is_dirty = false;
            }
        }
        *written = now;
    }
}

impl WebhookStats {
    /// Counts one outcome; whether the webhook has failed for too long with it.
    fn note(&mut self, outcome: &Settled, now: Timestamp, disable_after: impl FnOnce() -> Duration) -> bool {
        match outcome.decision {
            Decision::Delivered => self.delivered += 1,
            Decision::Dead(_) => self.dead += 1,
            Decision::Retry { .. } => {}
        }
        let Some(attempt) = &outcome.attempt else { return false };
        if attempt.error.is_none() {
            self.last_success = Some(attempt.at);
            self.failing_since = None;
            return false;
        }
        self.failed_attempts += 1;
        self.last_failure = Some(attempt.at);
        let since = *self.failing_since.get_or_insert(now);
        let too_long = now.since(since) >= disable_after();
        if too_long {
            self.failing_since = Some(now);
        }
        too_long
    }

    fn encode(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        let time = |at: Option<Timestamp>| at.map_or(0, Timestamp::as_millis).to_le_bytes();
        let parts = [
            self.delivered.to_le_bytes(),
            self.failed_attempts.to_le_bytes(),
            self.dead.to_le_bytes(),
            time(self.last_success),
            time(self.last_failure),
            time(self.failing_since),
        ];
        for (slot, part) in bytes.chunks_exact_mut(8).zip(parts) {
            slot.copy_from_slice(&part);
        }
        bytes
    }

    fn decode(bytes: &[u8; 48]) -> Self {
        let count = |at| u64::from_le_bytes(part(bytes, at));
        let time =
            |at| Some(Timestamp::from_millis(i64::from_le_bytes(part(bytes, at)))).filter(|t| t.as_millis() != 0);
        Self {
            delivered: count(0),
            failed_attempts: count(8),
            dead: count(16),
            last_success: time(24),
            last_failure: time(32),
            failing_since: time(40),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attempt, failed};
    use super::*;
    use crate::model::EventId;
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
        stats.note(&failure(), at(1_000), never);
        stats.note(&failure(), at(101_000), never);
        let failing_for = |stats: &WebhookStats| stats.failing_since.map(|since| at(101_000).since(since));
        assert_eq!(failing_for(&stats), Some(Duration::from_secs(100)));
        stats.note(&settled(attempt(1), Decision::Delivered), at(101_000), never);
        assert_eq!(failing_for(&stats), None);
    }

    #[test]
    fn only_nothing_but_failure_for_long_enough_disables() {
        let mut stats = WebhookStats::default();
        let long = || Duration::from_millis(100);
        let at = Timestamp::from_millis;
        let failure = || settled(failed(1, 500), Decision::Retry { at: at(1) });
        assert!(!stats.note(&failure(), at(1_000), long));
        assert!(!stats.note(&failure(), at(1_099), long));
        assert!(!stats.note(&settled(attempt(1), Decision::Delivered), at(1_099), long));
        assert!(!stats.note(&failure(), at(1_100), long), "a success began it anew");
        assert!(stats.note(&failure(), at(1_200), long));
        assert!(!stats.note(&failure(), at(1_201), long), "said once");
        assert_eq!((stats.delivered, stats.failed_attempts), (1, 5));
        assert_eq!(WebhookStats::decode(&stats.encode()), stats);
    }
}
