//! settle: decides what becomes of a delivery after an attempt, and is the only writer of what is remembered of it.
//!
//! Promises: the store's state alone says what is still to be done; whatever is neither settled nor has a row is in the
//! checkpoint's list or after its head in the log. What is remembered is written by [`crate::storage::delivery`]. Must never
//! know: how it is stored, hyper, the clock, randomness (they are parameters).

pub mod backoff;
pub mod policy;

mod callbacks;
mod delivery_records;
mod driver;
mod error;
mod flush;
mod hourly_stats;
mod jobs;
mod ledger;
mod open;
mod outstanding;
mod pending_batch;
mod replay;
mod retention_refs;
mod state;
mod stats;
mod step;
mod thread;
mod webhook_health;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use callbacks::{Abandons, Callbacks, Compose, Targets};
pub use delivery_records::Records;
pub use error::SettleError;
pub use open::{OpenError, Opened, Start, open};
pub use policy::decide;
pub use retention_refs::SettleNeeds;
pub use thread::Running;
pub use webhook_health::{FAILING_PERCENT, Happened, Happening};

pub use crate::storage::delivery::{
    DeadLetter, DeliveryRecord, Figures, FiguresOf, Hour, HourRow, Job, JobKind, JobState, OTHER_TYPES, OutboxRow,
    Page, TableCounts, Wanted, WebhookStats,
};

use std::time::Duration;

use crate::limits::{CHECKPOINT_LIST_MAX, JOB_ROWS, WIDE_EVENT_WEBHOOKS};

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Age at which dead letters are.
    pub dead_letter_retention: Duration,
    /// After this long of nothing but failure a webhook is disabled, unless it has a time of its own.
    pub disable_after: Duration,
}

/// The limits of [`crate::limits`] that tests make small, so that overflow and roll-over happen all the time.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    checkpoint_list_max: usize,
    wide_event_webhooks: usize,
    job_rows: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { checkpoint_list_max: CHECKPOINT_LIST_MAX, wide_event_webhooks: WIDE_EVENT_WEBHOOKS, job_rows: JOB_ROWS }
    }
}
