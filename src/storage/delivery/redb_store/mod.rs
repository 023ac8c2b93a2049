//! The delivery store in state.redb and in the files of the history.
//!
//! A flush first commits its attempts to the history, then everything else in one transaction of state.redb. Only
//! state.redb decides what is settled: a crash between the two commits leaves attempts of deliveries that are sent
//! again.

mod dead_letters;
mod history;
mod history_rows;
mod hourly_stats;
mod jobs;
mod list;
mod pending;
mod read;
mod refill;
mod steps;
mod table;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redb::{Error, ReadTransaction, ReadableTable, TableError};

pub(crate) use read::RedbDeliveryReader;

use super::{
    Checkpoint, DeliveryReader, DeliveryStore, Downtimes, Flush, FlushError, Flushed, HighWaterMarks, LoadedState,
    OpenStoreError, WebhookStats,
};
use crate::limits::{HISTORY_FILE_BYTES, STATE_CACHE_BYTES};
use crate::model::{WebhookNo, file};
use crate::storage::Disk;
use crate::storage::file::RedbFile;
use crate::storage::format::STATE_FILE;
use dead_letters::DeadLetterTables;
use history::HistoryWriter;
use pending::PendingTables;
use table::{ENDPOINT_STATES, HISTORY, HOURLY_STATS, JOBS, META, OUTBOX, STATS, WEBHOOK_HEALTH, WIDE};

/// The key of the checkpoint in [`META`].
const CHECKPOINT: &str = "checkpoint";
/// The key of the high-water marks in [`META`].
const MARKS: &str = "marks";
/// The key of the downtimes in [`META`].
const DOWNTIMES: &str = "downtimes";

/// The options of the store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The disk that holds the files.
    pub disk: Arc<dyn Disk>,
    /// The data folder. It must exist.
    pub dir: PathBuf,
    /// Whether to use redb's two-phase commit.
    pub two_phase_commit: bool,
    /// The age at which attempts are deleted.
    pub history_retention: Duration,
}

/// The delivery store in state.redb and the history. Its one owner writes; [`DeliveryStore::reader`] returns readers.
#[derive(Debug)]
pub struct RedbDeliveryStore {
    state: Arc<RedbFile>,
    history: HistoryWriter,
    two_phase: bool,
    history_retention: Duration,
}

impl RedbDeliveryStore {
    /// Opens `state.redb`, and creates it if it does not exist. Lists the history's files.
    pub fn open(options: StoreOptions) -> Result<Self, OpenStoreError> {
        Self::open_with(options, HISTORY_FILE_BYTES)
    }

    /// Like [`RedbDeliveryStore::open`], with history files of this size.
    pub(crate) fn open_with(options: StoreOptions, history_file_bytes: u64) -> Result<Self, OpenStoreError> {
        let StoreOptions { disk, dir, two_phase_commit: two_phase, history_retention } = options;
        let path = dir.join(file::STATE);
        RedbFile::create(&disk, &path, STATE_FILE)?;
        let state = Arc::new(RedbFile::open(Arc::clone(&disk), &path, STATE_CACHE_BYTES, STATE_FILE)?);
        make_tables(&state, two_phase)?;
        let history_dir = dir.join(file::HISTORY);
        let history = state.read(|txn| {
            let HighWaterMarks { clean, steady, .. } = load_marks(txn)?;
            HistoryWriter::open(Arc::clone(&disk), &history_dir, history_file_bytes, two_phase, txn, clean, steady)
        })?;
        Ok(Self { state, history, two_phase, history_retention })
    }

    /// Returns a reader of the concrete type.
    pub(crate) fn redb_reader(&self) -> RedbDeliveryReader {
        RedbDeliveryReader { state: Arc::clone(&self.state), files: self.history.files() }
    }

    fn write_state(&mut self, flush: &Flush) -> Result<Flushed, Error> {
        let txn = self.state.write(self.two_phase)?;
        let flushed = write::apply(&txn, &self.history.files(), flush)?;
        self.history.write_spans(&txn)?;
        txn.commit()?;
        self.history.spans_written();
        Ok(flushed)
    }
}

impl DeliveryStore for RedbDeliveryStore {
    fn reader(&self) -> Arc<dyn DeliveryReader> {
        Arc::new(self.redb_reader())
    }

    fn load(&self) -> Result<LoadedState, OpenStoreError> {
        let (checkpoint, loaded) = self.state.read(|txn| {
            let checkpoint = match txn.open_table(META)?.get(CHECKPOINT)? {
                Some(bytes) => Checkpoint::decode(bytes.value()),
                None => Some(Checkpoint::default()),
            };
            let loaded = LoadedState {
                marks: load_marks(txn)?,
                downtimes: load_downtimes(txn)?,
                checkpoint: Checkpoint::default(),
                jobs: jobs::load(&txn.open_table(JOBS)?)?,
                stats: load_stats(txn)?,
                hourly_stats_number: hourly_stats::number(txn)?,
                webhook_health: read::load_webhook_health(txn)?,
                endpoint_states: read::load_endpoint_states(txn)?,
                outbox: write::load_outbox(txn)?,
            };
            Ok((checkpoint, loaded))
        })?;
        Ok(LoadedState { checkpoint: checkpoint.ok_or(OpenStoreError::Checkpoint)?, ..loaded })
    }

    fn flush(&mut self, flush: &mut Flush) -> Result<Flushed, FlushError> {
        flush.sort();
        if !flush.is_last {
            self.history.retain(flush.now, self.history_retention)?;
        }
        self.history.write(&mut flush.attempts, flush.now)?;
        let flushed = self.write_state(flush)?;
        Ok(Flushed { is_retiring: self.history.is_retiring(), ..flushed })
    }

    fn reopen(&mut self) -> Result<(), FlushError> {
        self.state.reopen()?;
        Ok(self.history.reopen()?)
    }

    fn close(&mut self) -> Result<(), FlushError> {
        self.history.close()?;
        Ok(self.state.close(STATE_CACHE_BYTES)?)
    }
}

fn load_marks(txn: &ReadTransaction) -> Result<HighWaterMarks, Error> {
    Ok(txn
        .open_table(META)?
        .get(MARKS)?
        .map_or_else(HighWaterMarks::default, |marks| HighWaterMarks::decode(marks.value())))
}

fn load_downtimes(txn: &ReadTransaction) -> Result<Downtimes, Error> {
    let stored = txn.open_table(META)?.get(DOWNTIMES)?;
    Ok(stored.map_or_else(Downtimes::default, |stored| Downtimes::decode(stored.value())))
}

fn load_stats(txn: &ReadTransaction) -> Result<Vec<(WebhookNo, WebhookStats)>, Error> {
    let table = txn.open_table(STATS)?;
    let rows = table.iter()?.map(|entry| {
        let (no, row) = entry?;
        Ok((WebhookNo(no.value()), WebhookStats::decode(row.value())))
    });
    rows.collect()
}

fn make_tables(state: &RedbFile, two_phase: bool) -> Result<(), Error> {
    // If the table that was added last exists, all tables exist. A file of an earlier program lacks some.
    let made = state.read(|txn| match txn.open_table(ENDPOINT_STATES) {
        Ok(_) => Ok(true),
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    })?;
    if made {
        return Ok(());
    }
    let txn = state.write(two_phase)?;
    drop((PendingTables::open(&txn)?, DeadLetterTables::open(&txn)?));
    drop((txn.open_table(JOBS)?, txn.open_table(WIDE)?, txn.open_table(STATS)?));
    drop((txn.open_table(HISTORY)?, txn.open_table(META)?));
    drop((txn.open_table(HOURLY_STATS)?, txn.open_table(WEBHOOK_HEALTH)?, txn.open_table(OUTBOX)?));
    drop(txn.open_table(ENDPOINT_STATES)?);
    txn.commit()?;
    Ok(())
}
