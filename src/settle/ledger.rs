//! What settle counts, where the management reads it.
//!
//! The settle thread takes the lock once for all messages that it takes in at a time, and twice in a flush, never for an
//! event and never while it writes to the disk. Readers take it for as long as a copy lasts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::hourly_stats::Hours;
use super::stats::Stats;
use crate::model::WebhookNo;
use crate::storage::delivery::{DeliveryReader, FiguresOf, Hour, HourRow, LookupError, WebhookStats};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Counts>);

/// Everything that is counted.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Since the beginning, of each webhook.
    pub(super) stats: Stats,
    /// By hour, of each webhook and tenant.
    pub(super) hours: Hours,
}

impl Ledger {
    pub(super) fn new(counts: Counts) -> Self {
        Self(Mutex::new(counts))
    }

    /// For the settle thread, for as long as it counts.
    pub(super) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A webhook's figures.
    pub(super) fn stats(&self, webhook: WebhookNo) -> WebhookStats {
        self.lock().stats.get(webhook)
    }

    /// The figures of these hours, both included; an hour without any is not there.
    pub(super) fn figures(
        &self,
        reader: &dyn DeliveryReader,
        of: FiguresOf<'_>,
        first: Hour,
        last: Hour,
    ) -> Result<BTreeMap<Hour, HourRow>, LookupError> {
        // Memory first: what a flush writes between is on the disk, by its number.
        let recent = self.lock().hours.recent(of, first, last);
        reader.figures(of, first, last, &recent)
    }
}
