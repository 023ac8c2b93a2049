//! delivery: what is remembered of deliveries: rows that wait, dead letters, jobs, attempts, figures, the checkpoint.
//!
//! [`DeliveryStore`] is the writing side and has one owner, the settle thread. [`DeliveryReader`] is the reading side, for
//! anybody. Both exchange plain data: a [`Flush`] is what one durable batch writes, a [`Flushed`] what it answers.
//! [`RedbDeliveryStore`] keeps everything in state.redb and in the history's files. Must never know: what is decided.

mod attempts;
mod checkpoint;
mod dead_letter;
mod error;
mod figures;
mod flush;
mod job;
mod job_text;
mod record;
mod redb_store;
mod rows;
mod stats;
mod webhook_health;

#[cfg(test)]
pub(crate) mod testing;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use attempts::Attempts;
pub use checkpoint::{Checkpoint, Marks};
pub use dead_letter::{DeadLetter, Note};
pub use error::{Cause, FlushError, LookupError, OpenError};
pub(crate) use figures::Ended;
pub use figures::{Figures, FiguresOf, Hour, HourFigures, HourRow, OTHER_TYPES, Recent, Subject};
pub use flush::{Answers, Change, Expiry, FiguresAdded, Flush, Flushed, JobStep, Outbox, StepRows, Total, What};
pub(crate) use job::HURRY;
pub use job::{Job, JobKind, JobState, ReplayFilter};
pub use record::{DeliveryRecord, Page, Wanted};
#[cfg(test)]
pub(crate) use redb_store::RedbDeliveryReader;
pub use redb_store::{RedbDeliveryStore, StoreOptions};
pub use rows::{Lane, Refilled, Retried, Row, RowsWanted, Waiting};
pub use stats::WebhookStats;
pub use webhook_health::Standing;

use crate::model::{Attempt, DeliveryId, EventId, Timestamp, WebhookNo};
use rows::PendingRow;

/// The writing side of what is remembered of deliveries: the seam for another store, such as one that publishes each flush
/// to a replicated changelog before it applies it.
pub trait DeliveryStore: fmt::Debug + Send {
    /// The reading side.
    fn reader(&self) -> Arc<dyn DeliveryReader>;

    /// What a start needs.
    fn load(&self) -> Result<Loaded, OpenError>;

    /// Makes a flush durable: all of it, or after a crash or an error nothing but attempts. On an error the flush is left
    /// as it was, for another try.
    fn flush(&mut self, flush: &mut Flush) -> Result<Flushed, FlushError>;

    /// Opens every file anew after a full disk.
    fn reopen(&mut self) -> Result<(), FlushError>;

    /// Closes every file.
    fn close(&mut self) -> Result<(), FlushError>;
}

/// The reading side. Each call is short and reads the disk, so it belongs on a thread that may block. It sees what was
/// flushed.
pub trait DeliveryReader: fmt::Debug + Send + Sync + 'static {
    /// A delivery with its last attempt; `None` if neither a row, nor a dead letter, nor history knows it.
    fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>, LookupError>;

    /// All attempts at a delivery that history still has, in their order.
    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, LookupError>;

    /// The newest deliveries that are wanted, at most `limit`.
    ///
    /// Of one state but `delivered`, those that the state has a row for: a delivery whose dead letter was discarded or
    /// forgotten is no longer found by it.
    fn deliveries(&self, wanted: &Wanted, limit: usize) -> Result<Page<DeliveryRecord>, LookupError>;

    /// The newest dead letters that are wanted, at most `limit`.
    fn dead_letters(&self, wanted: &Wanted, limit: usize) -> Result<Page<DeadLetter>, LookupError>;

    /// A dead letter.
    fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, LookupError>;

    /// Deliveries of a webhook that have a row, up to `most`.
    fn rows_of(&self, webhook: WebhookNo, most: usize) -> Result<usize, LookupError>;

    /// The oldest event that waits, over at most `webhooks` webhooks with rows.
    fn oldest(&self, webhooks: usize) -> Result<Option<EventId>, LookupError>;

    /// Rows that shards ask for, in the order asked. `now` is the time of the flush before it; `unwritten` is the first
    /// event whose rows are not all written.
    fn refill(
        &self,
        wanted: &[RowsWanted],
        now: Timestamp,
        unwritten: Option<EventId>,
    ) -> Result<Vec<Refilled>, LookupError>;

    /// Every webhook with rows, and how many rows there are.
    fn backlog(&self) -> Result<Backlog, LookupError>;

    /// Jobs, in the order of their numbers: the running ones and the last replays.
    fn jobs(&self) -> Result<Vec<Job>, LookupError>;

    /// The webhooks of a wide event from number `from` on, at most `limit`.
    fn wide(&self, job: u64, from: u32, limit: usize) -> Result<WidePart, LookupError>;

    /// Figures of these hours, both included; an hour without any is not there. `recent` is what memory had before this
    /// call.
    fn figures(
        &self,
        of: FiguresOf<'_>,
        first: Hour,
        last: Hour,
        recent: &Recent,
    ) -> Result<BTreeMap<Hour, HourRow>, LookupError>;

    /// Operational events after this row that wait for the log, the first of them.
    fn outbox(&self, after: Option<u64>, limit: usize) -> Result<Vec<OutboxRow>, LookupError>;

    /// The webhooks that stand as disabled.
    fn disabled(&self) -> Result<Vec<WebhookNo>, LookupError>;

    /// The events from `first` to `last` whose bodies a row, a dead letter or a job still needs, ascending.
    fn needed(&self, first: EventId, last: EventId) -> Result<Vec<EventId>, LookupError>;

    /// How many rows each table has.
    fn counts(&self) -> Result<TableCounts, LookupError>;
}

/// What a start needs.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The high waters.
    pub marks: Marks,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Jobs, in the order of their numbers.
    pub jobs: Vec<Job>,
    /// Statistics of each webhook.
    pub stats: Vec<(WebhookNo, WebhookStats)>,
    /// The number of the last write of figures by hour.
    pub figures_number: u64,
    /// Webhooks that do not stand well.
    pub standings: Vec<(WebhookNo, Standing)>,
    /// The outbox.
    pub outbox: Outbox,
}

/// What waits on the disk.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Each webhook with rows.
    pub waiting: Vec<Waiting>,
    /// Rows in all.
    pub rows: u64,
}

/// Some webhooks of a wide event.
#[derive(Debug, Default)]
pub struct WidePart {
    /// Ascending.
    pub webhooks: Vec<WebhookNo>,
    /// Whether the event has no more behind them.
    pub is_end: bool,
}

impl WidePart {
    /// The part of an event's webhooks from number `from` on.
    pub(crate) fn of(webhooks: &[WebhookNo], from: u32, limit: usize) -> Self {
        let behind = &webhooks[webhooks.partition_point(|no| no.0 < from)..];
        let part = &behind[..behind.len().min(limit)];
        Self { webhooks: part.to_vec(), is_end: part.len() == behind.len() }
    }
}

/// A row of the outbox: its number, and what was composed.
pub type OutboxRow = (u64, Vec<u8>);

/// Rows of state.redb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableCounts {
    /// Deliveries that wait.
    pub pending: u64,
    /// Those of them that wait for a time.
    pub due: u64,
    /// Dead letters.
    pub dead: u64,
    /// Jobs, finished replays included.
    pub jobs: u64,
    /// Webhooks with statistics.
    pub webhooks: u64,
    /// Rows of figures by hour.
    pub hours: u64,
    /// History files.
    pub history_files: u64,
}

/// `N` bytes at a place of a fixed-size record, zeros past its end.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}
