//! delivery: stores the state of deliveries: waiting rows, dead letters, jobs, attempts, statistics and the checkpoint.
//!
//! - [`DeliveryStore`] writes. It has one owner, the settle thread.
//! - [`DeliveryReader`] reads. Any thread may use it.
//! - The interface is plain data: a [`Flush`] contains the writes of one durable batch, a [`Flushed`] the results.
//! - [`RedbDeliveryStore`] stores everything in state.redb and in the files of the history.
//!
//! Must never know: how settle decides about retries, dead letters and disabled webhooks.

mod attempts;
mod checkpoint;
mod dead_letter;
mod downtime;
mod endpoint_state;
mod error;
mod flush;
mod hourly_stats;
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
pub use checkpoint::{Checkpoint, HighWaterMarks};
pub use dead_letter::{DeadLetterRecord, NewDeadLetter};
pub use downtime::Downtimes;
pub use error::{Cause, FlushError, LookupError, OpenStoreError};
pub use flush::{
    AnswerCounts, ChangeKind, Expiry, Flush, Flushed, HourlyStatsUpdate, JobStep, Outbox, RecoveryTotal,
    ResponseNumber, RowChange, StepRows, UnwrittenResponse,
};
pub(crate) use hourly_stats::DeliveryOutcome;
pub use hourly_stats::{
    DeliveryStats, Hour, HourlyStats, HourlyStatsRow, OTHER_TYPES, StatsScope, StatsSubject, UnflushedStats,
};
pub(crate) use job::RECOVERY_RETRIES_PART;
pub use job::{Job, JobKind, JobState, ReplayFilter};
pub use record::{DeliveryPage, DeliveryQuery, DeliveryRecord};
#[cfg(test)]
pub(crate) use redb_store::RedbDeliveryReader;
pub use redb_store::{RedbDeliveryStore, StoreOptions};
pub use rows::{BacklogRow, RefillKind, RefillReply, RefillRequest, RetryResult, WebhookBacklog};
pub use stats::WebhookStats;
pub use webhook_health::WebhookFailureState;

use crate::model::{Attempt, DeliveryId, EndpointState, EventId, Timestamp, WebhookNo};
use crate::storage::StoredResponse;
use rows::PendingRow;

/// Write access to the state of deliveries. Another implementation could, for example, publish each flush to a
/// replicated changelog before it applies the flush.
pub trait DeliveryStore: fmt::Debug + Send {
    /// Returns a reader of the store.
    fn reader(&self) -> Arc<dyn DeliveryReader>;

    /// Loads the state that a start needs.
    fn load(&self) -> Result<LoadedState, OpenStoreError>;

    /// Makes a flush durable. After a crash or an error either all of it is durable, or nothing except its attempts. On
    /// an error the flush is unchanged and can be retried.
    fn flush(&mut self, flush: &mut Flush) -> Result<Flushed, FlushError>;

    /// Reopens every file, after the disk was full.
    fn reopen(&mut self) -> Result<(), FlushError>;

    /// Closes every file.
    fn close(&mut self) -> Result<(), FlushError>;
}

/// Read access to the flushed state of deliveries. Each call is short but reads the disk, so call it on a thread that
/// may block.
pub trait DeliveryReader: fmt::Debug + Send + Sync + 'static {
    /// Returns a delivery with its last attempt, or `None` if it has no row, no dead letter and no attempt in the
    /// history.
    fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRecord>, LookupError>;

    /// Returns the attempts of a delivery that the history still has, in order.
    fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, LookupError>;

    /// Returns the newest deliveries that match a query, at most `limit`.
    ///
    /// A query with a status other than `delivered` only finds deliveries with a row or a dead letter in state.redb. It
    /// does not find a delivery whose dead letter was discarded or has expired.
    fn deliveries(&self, query: &DeliveryQuery, limit: usize) -> Result<DeliveryPage<DeliveryRecord>, LookupError>;

    /// Returns the newest dead letters that match a query, at most `limit`.
    fn dead_letters(&self, query: &DeliveryQuery, limit: usize) -> Result<DeliveryPage<DeadLetterRecord>, LookupError>;

    /// Returns a dead letter, or `None` if there is none.
    fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetterRecord>, LookupError>;

    /// Opens a view of the store as it is now, for a webhook's statistics. Quick: nothing is read yet.
    fn statistics_view(&self) -> Result<Box<dyn StatisticsView>, LookupError>;

    /// Returns the oldest event that has a row, over at most `webhooks` webhooks with rows.
    fn oldest(&self, webhooks: usize) -> Result<Option<EventId>, LookupError>;

    /// Answers refill requests of shards, in the same order. `now` is the time of the last flush. `unwritten` is the
    /// first event whose rows are not all written yet.
    fn refill(
        &self,
        query: &[RefillRequest],
        now: Timestamp,
        unwritten: Option<EventId>,
    ) -> Result<Vec<RefillReply>, LookupError>;

    /// Returns every webhook with rows, and the total number of rows.
    fn backlog(&self) -> Result<StoredBacklog, LookupError>;

    /// Returns the running jobs and the last replays, in the order of their numbers.
    fn jobs(&self) -> Result<Vec<Job>, LookupError>;

    /// Returns the webhooks of a job's wide event with numbers from `from` on, at most `limit`.
    fn wide(&self, job: u64, from: u32, limit: usize) -> Result<WidePart, LookupError>;

    /// Returns the statistics of the hours from `first` to `last`, both inclusive. An hour without statistics is
    /// missing. `recent` is what memory contained before this call.
    fn hourly_stats(
        &self,
        of: StatsScope<'_>,
        first: Hour,
        last: Hour,
        recent: &UnflushedStats,
    ) -> Result<BTreeMap<Hour, HourlyStatsRow>, LookupError>;

    /// Returns the first operational events after row `after` that wait for the log, at most `limit`. `None`: from the
    /// first row.
    fn outbox(&self, after: Option<u64>, limit: usize) -> Result<Vec<OutboxRow>, LookupError>;

    /// Returns the webhooks whose stored failure state is [`WebhookFailureState::Disabled`].
    fn disabled(&self) -> Result<Vec<WebhookNo>, LookupError>;

    /// Returns the stored response of an idempotency key, unless it has expired at `now` (scheduling clock).
    fn stored_response(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<StoredResponse>, LookupError>;

    /// Returns the events from `first` to `last` whose bodies a row, a dead letter or a job still needs, ascending.
    fn needed(&self, first: EventId, last: EventId) -> Result<Vec<EventId>, LookupError>;

    /// Returns the number of rows of each table.
    fn counts(&self) -> Result<TableCounts, LookupError>;
}

/// A view of the store at one moment.
pub trait StatisticsView: fmt::Debug + Send {
    /// Counts a webhook's deliveries that have a row, up to `most`.
    fn rows_of(&self, webhook: WebhookNo, most: usize) -> Result<usize, LookupError>;

    /// Returns the statistics of the hours from `first` to `last`, both inclusive. An hour without statistics is
    /// missing. `recent` is what memory contained at the moment of the view.
    fn hourly_stats(
        &self,
        of: StatsScope<'_>,
        first: Hour,
        last: Hour,
        recent: &UnflushedStats,
    ) -> Result<BTreeMap<Hour, HourlyStatsRow>, LookupError>;
}

/// The state that a start loads.
#[derive(Debug, Default)]
pub struct LoadedState {
    /// The high-water marks.
    pub marks: HighWaterMarks,
    /// The periods in which the server was off.
    pub downtimes: Downtimes,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Jobs, in the order of their numbers.
    pub jobs: Vec<Job>,
    /// The statistics of each webhook.
    pub stats: Vec<(WebhookNo, WebhookStats)>,
    /// The number of the last write of hourly statistics ([`HourlyStatsUpdate::number`]).
    pub hourly_stats_number: u64,
    /// The webhooks that are failing or disabled.
    pub webhook_health: Vec<(WebhookNo, WebhookFailureState)>,
    /// The endpoints that are paused or failing.
    pub endpoint_states: Vec<(WebhookNo, EndpointState)>,
    /// The state of the outbox.
    pub outbox: Outbox,
}

/// The rows that wait on disk.
#[derive(Debug, Default)]
pub struct StoredBacklog {
    /// Each webhook with rows.
    pub waiting: Vec<WebhookBacklog>,
    /// The total number of rows.
    pub rows: u64,
}

/// A part of the webhooks of a wide event.
#[derive(Debug, Default)]
pub struct WidePart {
    /// The webhooks, ascending.
    pub webhooks: Vec<WebhookNo>,
    /// Whether the event has no more webhooks after these.
    pub is_end: bool,
}

impl WidePart {
    /// Returns the webhooks with numbers from `from` on, at most `limit`.
    pub(crate) fn of(webhooks: &[WebhookNo], from: u32, limit: usize) -> Self {
        let behind = &webhooks[webhooks.partition_point(|no| no.0 < from)..];
        let part = &behind[..behind.len().min(limit)];
        Self { webhooks: part.to_vec(), is_end: part.len() == behind.len() }
    }
}

/// A row of the outbox: its number, and the encoded operational event.
pub type OutboxRow = (u64, Vec<u8>);

/// The number of rows of the tables in state.redb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableCounts {
    /// Rows of waiting deliveries.
    pub pending: u64,
    /// Rows that wait for a time.
    pub due: u64,
    /// Dead letters.
    pub dead: u64,
    /// Jobs, finished replays included.
    pub jobs: u64,
    /// Webhooks with statistics.
    pub webhooks: u64,
    /// Rows of hourly statistics.
    pub hours: u64,
    /// History files.
    pub history_files: u64,
}

/// Returns `N` bytes at offset `at` of a record, or zeros if the record is too short.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}
