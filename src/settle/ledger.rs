//! What settle counts, where the interface reads it.
//!
//! The settle thread counts and writes; it takes the lock once for all messages that it takes in at a time, and twice in a
//! flush, never for an event. Readers take it for as long as a copy lasts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Error, ReadTransaction};

use super::figures::{Hour, HourRow};
use super::hours::{FiguresOf, Hours, rows_on_disk};
use super::stats::{Stats, WebhookStats};
use crate::model::WebhookNo;
use crate::storage::file::Store;

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
    /// Ready to go on from what is on the disk.
    pub(super) fn load(txn: &ReadTransaction) -> Result<Self, Error> {
        Ok(Self(Mutex::new(Counts { stats: Stats::load(txn)?, hours: Hours::load(txn)? })))
    }

    /// For the settle thread, for as long as it counts or writes.
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
        store: &Store,
        of: FiguresOf<'_>,
        first: Hour,
        last: Hour,
    ) -> Result<BTreeMap<Hour, HourRow>, Error> {
        // Memory first: what is written between is on the disk, by its number.
        let (number, recent) = self.lock().hours.recent(of, first, last);
        store.read(|txn| rows_on_disk(txn, of, (first, last), number, &recent))
    }
}
