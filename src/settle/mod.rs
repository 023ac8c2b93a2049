//! settle: decides what becomes of a delivery after an attempt, and is the only writer of what is remembered of it.
//!
//! Promises: state.redb alone decides what is still to be done; whatever is neither settled nor has a row is in the
//! checkpoint's list or after its head in the log. Must never know: hyper, the clock, randomness (they are parameters).

pub mod backoff;
pub mod policy;

mod again;
mod checkpoint;
mod dead;
mod expiry;
mod figures;
mod flush;
mod gather;
mod history;
mod history_rows;
mod hooks;
mod hours;
mod job;
mod job_text;
mod keeper;
mod ledger;
mod list;
mod needs;
mod open;
mod outbox;
mod pending;
mod records;
mod replay;
mod stats;
mod table;
mod thread;
mod watch;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use dead::DeadLetter;
pub use figures::{Figures, Hour, HourRow, OTHER_TYPES};
pub use hooks::{Abandons, Compose, Hooks, Targets};
pub use hours::FiguresOf;
pub use job::{Job, JobKind, JobState};

pub use list::Wanted;
pub use needs::SettleNeeds;
pub use open::{OpenError, OpenState, Opened, Start, TableCounts, open};
pub use outbox::OutboxRow;
pub use policy::decide;
pub use records::{DeliveryRecord, Page, Records};
pub use stats::WebhookStats;
pub use thread::Running;
pub use watch::{FAILING_PERCENT, Happened, Happening};

use std::time::Duration;

use crate::limits::{CHECKPOINT_LIST_MAX, HISTORY_FILE_BYTES, JOB_ROWS, WIDE_EVENT_WEBHOOKS};
use crate::model::Decision;

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Options {
    /// redb's two-phase commit.
    pub two_phase_commit: bool,
    /// Age at which attempts are forgotten.
    pub history_retention: Duration,
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
    history_file_bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            checkpoint_list_max: CHECKPOINT_LIST_MAX,
            wide_event_webhooks: WIDE_EVENT_WEBHOOKS,
            job_rows: JOB_ROWS,
            history_file_bytes: HISTORY_FILE_BYTES,
        }
    }
}
