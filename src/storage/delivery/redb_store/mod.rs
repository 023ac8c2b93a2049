//! What is remembered of deliveries, in state.redb and in the history's files.
//!
//! A flush commits its attempts to history first, then everything else in one transaction of state.redb. state.redb alone
//! decides: a crash between the two leaves attempts of deliveries that are sent again.

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
    Checkpoint, DeliveryReader, DeliveryStore, Flush, FlushError, Flushed, Loaded, Marks, OpenError, WebhookStats,
};
use crate::limits::{HISTORY_FILE_BYTES, STATE_CACHE_BYTES};
use crate::model::{WebhookNo, file};
use crate::storage::Disk;
use crate::storage::file::Store;
use crate::storage::format::STATE_FILE;
use dead_letters::DeadLetters;
use history::History;
use pending::Rows;
use table::{HISTORY, HOURS, JOBS, META, OUTBOX, STATS, WATCH, WIDE};

/// The checkpoint's name in [`META`].
const CHECKPOINT: &str = "checkpoint";
/// The high waters' name in [`META`].
const MARKS: &str = "marks";

/// Where the files are, and how they are kept.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The data folder; it must be there.
    pub dir: PathBuf,
    /// redb's two-phase commit.
    pub two_phase_commit: bool,
    /// Age at which attempts are forgotten.
    pub history_retention: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct RedbDeliveryStore {
    state: Arc<Store>,
    history: History,
    two_phase: bool,
    history_retention: Duration,
}

impl RedbDeliveryStore {
    /// Opens `state.redb`, made if it is not there, and looks at the history's files.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        Self::open_with(options, HISTORY_FILE_BYTES)
    }

    /// The same, with history files of this size.
    pub(crate) fn open_with(options: StoreOptions, history_file_bytes: u64) -> Result<Self, OpenError> {
        let StoreOptions { disk, dir, two_phase_commit: two_phase, history_retention } = options;
        let path = dir.join(file::STATE);
        Store::make(&disk, &path, STATE_FILE)?;
        let state = Arc::new(Store::open(Arc::clone(&disk), &path, STATE_CACHE_BYTES, STATE_FILE)?);
        make_tables(&state, two_phase)?;
        let history_dir = dir.join(file::HISTORY);
        let history = state.read(|txn| {
            let Marks { clean, steady, .. } = load_marks(txn)?;
            History::open(Arc::clone(&disk), &history_dir, history_file_bytes, two_phase, txn, clean, steady)
        })?;
        Ok(Self { state, history, two_phase, history_retention })
    }

    /// The reading side, as what it is.
    pub(crate) fn redb_reader(&self) -> RedbDeliveryReader {
        RedbDeliveryReader { state: Arc::clone(&self.state), files: self.history.files() }
    }

    fn write_state(&mut self, flush: &Flush) -> Result<Flushed, Error> {
        let txn = self.state.write(self.two_phase)?;
        let flushed = write::apply(&txn, &self.history.files(), flush)?;
        self.history.note(&txn)?;
        txn.commit()?;
        self.history.noted();
        Ok(flushed)
    }
}

impl DeliveryStore for RedbDeliveryStore {
    fn reader(&self) -> Arc<dyn DeliveryReader> {
        Arc::new(self.redb_reader())
    }

    fn load(&self) -> Result<Loaded, OpenError> {
        let (checkpoint, loaded) = self.state.read(|txn| {
            let checkpoint = match txn.open_table(META)?.get(CHECKPOINT)? {
                Some(bytes) => Checkpoint::decode(bytes.value()),
                None => Some(Checkpoint::default()),
            };
            let loaded = Loaded {
                marks: load_marks(txn)?,
                checkpoint: Checkpoint::default(),
                jobs: jobs::load(&txn.open_table(JOBS)?)?,
                stats: load_stats(txn)?,
                figures_number: hourly_stats::number(txn)?,
                standings: read::load_standings(txn)?,
                outbox: write::load_outbox(txn)?,
            };
            Ok((checkpoint, loaded))
        })?;
        Ok(Loaded { checkpoint: checkpoint.ok_or(OpenError::Checkpoint)?, ..loaded })
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

fn load_marks(txn: &ReadTransaction) -> Result<Marks, Error> {
    Ok(txn.open_table(META)?.get(MARKS)?.map_or_else(Marks::default, |marks| Marks::decode(marks.value())))
}

fn load_stats(txn: &ReadTransaction) -> Result<Vec<(WebhookNo, WebhookStats)>, Error> {
    let table = txn.open_table(STATS)?;
    let rows = table.iter()?.map(|entry| {
        let (no, row) = entry?;
        Ok((WebhookNo(no.value()), WebhookStats::decode(row.value())))
    });
    rows.collect()
}

fn make_tables(state: &Store, two_phase: bool) -> Result<(), Error> {
    // The last table that was added says whether all are there: a state of an earlier program has not all.
    let made = state.read(|txn| match txn.open_table(OUTBOX) {
        Ok(_) => Ok(true),
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    })?;
    if made {
        return Ok(());
    }
    let txn = state.write(two_phase)?;
    drop((Rows::open(&txn)?, DeadLetters::open(&txn)?));
    drop((txn.open_table(JOBS)?, txn.open_table(WIDE)?, txn.open_table(STATS)?));
    drop((txn.open_table(HISTORY)?, txn.open_table(META)?));
    drop((txn.open_table(HOURS)?, txn.open_table(WATCH)?, txn.open_table(OUTBOX)?));
    txn.commit()?;
    Ok(())
}
