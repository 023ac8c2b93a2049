//! The statistics of settle, shared with the management API.
//!
//! The settle thread takes the lock once for a batch of messages and twice in a flush. It never takes the lock for a
//! single event, and never holds it while it writes to the disk. Readers hold it only to copy.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::hourly_stats::HourlyStatsBuffer;
use super::webhook_stats::StatsTable;
use crate::model::WebhookNo;
use crate::storage::delivery::{
    DeliveryReader, Hour, HourlyStatsRow, LookupError, StatsScope, UnflushedStats, WebhookStats,
};

/// The statistics behind a lock.
#[derive(Debug, Default)]
pub(super) struct SharedStats(Mutex<LiveStats>);

/// All statistics in memory.
#[derive(Debug, Default)]
pub(super) struct LiveStats {
    /// Of each webhook, since its creation.
    pub(super) stats: StatsTable,
    /// By hour, of each webhook and each tenant.
    pub(super) hours: HourlyStatsBuffer,
}

impl SharedStats {
    pub(super) fn new(counts: LiveStats) -> Self {
        Self(Mutex::new(counts))
    }

    /// Locks the statistics. The settle thread uses this to count.
    pub(super) fn lock(&self) -> MutexGuard<'_, LiveStats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The statistics of a webhook.
    pub(super) fn stats(&self, webhook: WebhookNo) -> WebhookStats {
        self.lock().stats.get(webhook)
    }

    /// The statistics of a webhook, and those of the hours from `first` to `last` that may not be on the disk.
    pub(super) fn of_webhook(&self, webhook: WebhookNo, first: Hour, last: Hour) -> (WebhookStats, UnflushedStats) {
        let counts = self.lock();
        (counts.stats.get(webhook), counts.hours.recent(StatsScope::Webhooks(&[webhook]), first, last))
    }

    /// The statistics of the hours from `first` to `last`, both included. Hours without statistics are left out.
    pub(super) fn hourly_stats(
        &self,
        reader: &dyn DeliveryReader,
        of: StatsScope<'_>,
        first: Hour,
        last: Hour,
    ) -> Result<BTreeMap<Hour, HourlyStatsRow>, LookupError> {
        // Memory is read first. If a flush is written in between, its number on the disk says so.
        let recent = self.lock().hours.recent(of, first, last);
        reader.hourly_stats(of, first, last, &recent)
    }
}
