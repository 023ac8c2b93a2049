//! settle: decides the next state of a delivery after an attempt. It is the only writer of delivery state.
//!
//! Invariants:
//! - The store alone says which deliveries are still pending.
//! - A delivery that is not settled and has no row is in the checkpoint's list, or comes after the checkpoint's head in
//!   the log.
//!
//! [`crate::storage::delivery`] writes the state. This folder must never know the storage format, hyper, the clock or a
//! source of randomness: time and random numbers are parameters.

pub mod backoff;
pub mod policy;

mod callbacks;
mod delivery_records;
mod driver;
mod endpoint_states;
mod error;
mod flush;
mod hourly_stats;
mod jobs;
mod open;
mod outstanding;
mod pending_batch;
mod replay;
mod retention_refs;
mod shared_stats;
mod state;
mod step;
mod stored_response;
mod thread;
mod webhook_health;
mod webhook_stats;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
pub(crate) mod stepping;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod too_costly_tests;

pub use callbacks::{AbandonReasonFn, Callbacks, ComposeEventFn, ReplayTargets};
pub use delivery_records::{DeliveryRecords, ResponseToStore, StatisticsSnapshot};
pub use error::SettleError;
pub use open::{OpenSettleError, OpenedStore, SettleDeps, open};
pub use policy::decide;
pub use retention_refs::SettleRetentionRefs;
pub use thread::SettleThread;
pub use webhook_health::{FAILING_PERCENT, HealthEvent, HealthEventKind};

pub use crate::storage::delivery::{
    DeadLetterRecord, DeliveryPage, DeliveryQuery, DeliveryRecord, DeliveryStats, Hour, HourlyStatsRow, Job, JobKind,
    JobState, OTHER_TYPES, OutboxRow, StatsScope, TableCounts, WebhookStats,
};

use std::time::Duration;

use crate::limits::{CHECKPOINT_LIST_MAX, JOB_ROWS, WIDE_EVENT_WEBHOOKS};

/// The settings of the configuration that settle uses.
#[derive(Debug, Clone)]
pub struct Options {
    /// Dead letters older than this are deleted.
    pub dead_letter_retention: Duration,
    /// A webhook is disabled after this time without a successful attempt, unless it has its own `disable_after`.
    pub disable_after: Duration,
}

/// Limits from [`crate::limits`]. Tests use small values, so that overflow and roll-over happen often.
#[derive(Debug, Clone, Copy)]
struct SettleLimits {
    checkpoint_list_max: usize,
    wide_event_webhooks: usize,
    job_rows: usize,
}

impl Default for SettleLimits {
    fn default() -> Self {
        Self { checkpoint_list_max: CHECKPOINT_LIST_MAX, wide_event_webhooks: WIDE_EVENT_WEBHOOKS, job_rows: JOB_ROWS }
    }
}
