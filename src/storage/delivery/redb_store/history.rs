//! The history: every attempt, for display. No decision depends on it, and recovery never reads it.
//!
//! The history is a sequence of files `<n>.redb` in the order of settling. A file that reaches its maximum size is
//! followed by the next one. A file is deleted as a whole when all its attempts are old. Only the last file is open for
//! writing. [`super::history_rows`] reads and writes the rows.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redb::{Error, ReadTransaction, WriteTransaction};

use super::history_rows::{decode_row, insert_sorted, newest_in, open};
use super::table::HISTORY;
use crate::limits::{HISTORY_CACHE_BYTES, SEALED_CACHE_BYTES, SEALED_OPEN_MAX, TRUNCATE_STEP_BYTES};
use crate::model::{Attempt, DeliveryId, EventId, Timestamp};
use crate::storage::Disk;
use crate::storage::delivery::attempts::{AttemptKey, key, number_of};
use crate::storage::delivery::{Attempts, DeliveryQuery, part};
use crate::storage::file::RedbFile;
use crate::storage::format::HISTORY_FILE;

/// The maximum number of files that one read searches, newest first, so that it ends soon.
const FILES_PER_READ: usize = 64;

/// Writes the history.
#[derive(Debug)]
pub(super) struct HistoryWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    two_phase: bool,
    files: Arc<HistoryFiles>,
    /// Whether the last file is open for writing. After a crash it is not; the first write creates a new file.
    writing: bool,
    /// Retired files that are being truncated, with their length.
    truncating: VecDeque<(PathBuf, u64)>,
    /// Numbers of files whose rows in state.redb the next flush deletes.
    retired: Vec<u64>,
}

/// Reads the history. Shared with the readers.
#[derive(Debug, Default)]
pub(super) struct HistoryFiles {
    /// The files, oldest first.
    list: RwLock<Vec<Arc<HistoryFile>>>,
    /// Sealed files that are open, in the order of opening.
    open: Mutex<VecDeque<u64>>,
}

#[derive(Debug)]
struct HistoryFile {
    no: u64,
    path: PathBuf,
    store: RedbFile,
    span: Mutex<HistorySpan>,
}

/// The range of events in a file.
#[derive(Debug, Clone, Copy)]
struct HistorySpan {
    first: EventId,
    last: EventId,
    /// When the file was last written to, by the scheduling clock.
    until: Timestamp,
}

impl HistoryWriter {
    /// Lists the existing files. After an unclean stop the last one is repaired when it is first read.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        file_bytes: u64,
        two_phase: bool,
        state: &ReadTransaction,
        clean: bool,
        high_water: Timestamp,
    ) -> Result<Self, Error> {
        disk.create_dir(dir)?;
        let rows = state.open_table(HISTORY)?;
        let mut list = Vec::new();
        for path in disk.list(dir)? {
            let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".redb"));
            let Some(no) = number.and_then(|number| number.parse::<u64>().ok()) else {
                // A crash left this file while it was being created or deleted.
                disk.remove(&path)?;
                continue;
            };
            let span = match rows.get(no)? {
                Some(row) => HistorySpan::decode(row.value()),
                None => HistorySpan { first: EventId::MIN, last: EventId::MAX, until: high_water },
            };
            let store = RedbFile::unopened(Arc::clone(&disk), &path, SEALED_CACHE_BYTES, HISTORY_FILE);
            list.push(Arc::new(HistoryFile { no, path, store, span: Mutex::new(span) }));
        }
        list.sort_by_key(|file| file.no);
        // The last process may have been killed between the renaming of a file and the sync of the folder.
        disk.sync_dir(dir)?;
        if let (false, Some(last)) = (clean, list.last()) {
            // Its last rows may be newer than its range in state.redb.
            *last.span() = HistorySpan { first: EventId::MIN, last: EventId::MAX, until: high_water };
        }
        let mut history = Self {
            disk,
            dir: dir.to_owned(),
            file_bytes,
            two_phase,
            files: Arc::new(HistoryFiles { list: RwLock::new(list), open: Mutex::default() }),
            writing: false,
            truncating: VecDeque::new(),
            retired: Vec::new(),
        };
        history.writing = clean && history.reopen_last()?;
        Ok(history)
    }

    /// Returns the reader of the files.
    pub(super) fn files(&self) -> Arc<HistoryFiles> {
        Arc::clone(&self.files)
    }

    /// Writes a batch in one durable transaction, unless it is already written.
    pub(super) fn write(&mut self, attempts: &mut Attempts, now: Timestamp) -> Result<(), Error> {
        if attempts.is_empty() || attempts.is_written {
            return Ok(());
        }
        attempts.sort();
        let current = self.current()?;
        let txn = current.store.write(self.two_phase)?;
        insert_sorted(&txn, attempts)?;
        txn.commit()?;
        let mut span = current.span();
        for event in attempts.events() {
            span.first = span.first.min(event);
            span.last = span.last.max(event);
        }
        span.until = now;
        attempts.is_written = true;
        Ok(())
    }

    /// Writes the changed file ranges into the transaction of state.redb.
    pub(super) fn write_spans(&self, txn: &WriteTransaction) -> Result<(), Error> {
        let mut rows = txn.open_table(HISTORY)?;
        for no in &self.retired {
            rows.remove(no)?;
        }
        if let (true, Some(last)) = (self.writing, self.files.list().last()) {
            rows.insert(last.no, &last.span().encode())?;
        }
        Ok(())
    }

    /// Records that the writes of [`HistoryWriter::write_spans`] are durable.
    pub(super) fn spans_written(&mut self) {
        self.retired.clear();
    }

    /// Does one step of deleting files older than `retention`. Called before the transaction of state.redb.
    pub(super) fn retain(&mut self, now: Timestamp, retention: Duration) -> Result<(), Error> {
        let oldest = {
            let list = self.files.list();
            list.first().filter(|_| list.len() > 1).cloned()
        };
        if let Some(oldest) = oldest.filter(|file| now.since(file.span().until) > retention) {
            oldest.store.retire();
            self.files.list.write().unwrap_or_else(PoisonError::into_inner).retain(|file| file.no != oldest.no);
            let gone = oldest.path.with_extension("gone");
            self.disk.rename(&oldest.path, &gone)?;
            // Otherwise a power cut could give a truncated file its old name back.
            self.disk.sync_dir(&self.dir)?;
            let len = self.disk.size(&gone)?.len;
            self.truncating.push_back((gone, len));
            self.retired.push(oldest.no);
        }
        // Unlinking a large file at once would stall every fsync on the disk.
        if let Some((path, len)) = self.truncating.front_mut() {
            *len = len.saturating_sub(TRUNCATE_STEP_BYTES);
            if *len > 0 {
                self.disk.truncate(path, *len)?;
            } else {
                self.disk.remove(path)?;
                self.truncating.pop_front();
            }
        }
        Ok(())
    }

    /// Returns whether files are still being deleted.
    pub(super) fn is_retiring(&self) -> bool {
        !self.truncating.is_empty()
    }

    /// Reopens the last file after an I/O error.
    pub(super) fn reopen(&mut self) -> Result<(), Error> {
        if self.writing {
            self.writing = self.reopen_last()?;
        }
        Ok(())
    }

    /// Closes all files cleanly.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        self.writing = false;
        self.files.list().iter().try_for_each(|file| file.store.close(SEALED_CACHE_BYTES))
    }

    fn reopen_last(&self) -> Result<bool, Error> {
        let Some(last) = self.files.list().last().cloned() else { return Ok(false) };
        last.store.reopen_with(HISTORY_CACHE_BYTES)?;
        Ok(true)
    }

    fn current(&mut self) -> Result<Arc<HistoryFile>, Error> {
        let last = self.files.list().last().cloned();
        if let (true, Some(last)) = (self.writing, &last)
            && self.disk.size(&last.path)?.allocated < self.file_bytes
        {
            return Ok(Arc::clone(last));
        }
        let no = last.as_ref().map_or(1, |last| last.no + 1);
        let path = self.dir.join(format!("{no:08}.redb"));
        RedbFile::create(&self.disk, &path, HISTORY_FILE)?;
        let store = RedbFile::open(Arc::clone(&self.disk), &path, HISTORY_CACHE_BYTES, HISTORY_FILE)?;
        let span = HistorySpan { first: EventId::MAX, last: EventId::MIN, until: Timestamp::default() };
        let file = Arc::new(HistoryFile { no, path, store, span: Mutex::new(span) });
        if let (true, Some(last)) = (self.writing, &last) {
            last.store.close(SEALED_CACHE_BYTES)?;
        }
        self.writing = true;
        self.files.list.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&file));
        Ok(file)
    }
}

/// The newest deliveries of some webhooks in the history.
#[derive(Debug, Default)]
pub(super) struct RecentDeliveries {
    /// The last attempt of each delivery.
    pub(super) last: BTreeMap<DeliveryId, Attempt>,
    /// The search stopped before this delivery and all older ones. `None`: the search is complete.
    pub(super) floor: Option<DeliveryId>,
}

impl HistoryFiles {
    /// Returns all attempts of a delivery, in order.
    pub(super) fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, Error> {
        let mut found = BTreeMap::new();
        let (first, last) = (key(id.webhook, id.event, 0), key(id.webhook, id.event, u16::MAX));
        for file in self.newest_first(|span| span.first <= id.event && id.event <= span.last) {
            let rows = self.read(&file, |txn| {
                let Some(table) = open(txn)? else { return Ok(Vec::new()) };
                table
                    .range::<&AttemptKey>(&first..=&last)?
                    .map(|row| decode_row(&row?))
                    .collect::<Result<Vec<_>, Error>>()
            })?;
            for (_, attempt) in rows {
                found.entry(attempt.number).or_insert(attempt);
            }
            if found.contains_key(&1) {
                break;
            }
        }
        Ok(found.into_values().collect())
    }

    /// Returns the number of the last attempt of a delivery, or 0 if the history has none.
    pub(super) fn last_number(&self, id: DeliveryId) -> Result<u16, Error> {
        let (first, last) = (key(id.webhook, id.event, 0), key(id.webhook, id.event, u16::MAX));
        for file in self.newest_first(|span| span.first <= id.event && id.event <= span.last) {
            let number = self.read(&file, |txn| {
                let Some(table) = open(txn)? else { return Ok(None) };
                let row = table.range::<&AttemptKey>(&first..=&last)?.next_back().transpose()?;
                Ok(row.map(|(key, _)| number_of(key.value())))
            })?;
            // Attempt numbers ascend over time, and so from file to file.
            if let Some(number) = number {
                return Ok(number);
            }
        }
        Ok(0)
    }

    /// Returns the newest `limit` deliveries that match the query, each with its last attempt.
    pub(super) fn newest(&self, query: &DeliveryQuery, limit: usize) -> Result<RecentDeliveries, Error> {
        let mut recent = RecentDeliveries::default();
        for file in self.newest_first(|span| span.first <= query.before.event && query.first <= span.last) {
            let enough = recent.last.keys().rev().nth(limit.saturating_sub(1)).copied();
            if enough.is_some_and(|oldest| file.span().last < oldest.event) {
                continue;
            }
            let found = self.read(&file, |txn| newest_in(txn, query, limit))?;
            recent.floor = recent.floor.max(found.floor);
            for (id, attempt) in found.rows {
                match recent.last.entry(id) {
                    std::collections::btree_map::Entry::Vacant(slot) => _ = slot.insert(attempt),
                    std::collections::btree_map::Entry::Occupied(mut slot) => {
                        if slot.get().number < attempt.number {
                            slot.insert(attempt);
                        }
                    }
                }
            }
            // Many files may overlap. Only the newest deliveries are kept between two of them.
            while recent.last.len() > limit {
                recent.last.pop_first();
            }
        }
        let floor = recent.floor;
        recent.last.retain(|id, _| floor.is_none_or(|floor| *id > floor));
        Ok(recent)
    }

    fn newest_first(&self, query: impl Fn(&HistorySpan) -> bool) -> Vec<Arc<HistoryFile>> {
        self.list().iter().rev().filter(|file| query(&file.span())).take(FILES_PER_READ).cloned().collect()
    }

    fn read<T>(&self, file: &HistoryFile, read: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error>
    where
        T: Default,
    {
        let (read, opened) = match file.store.read_or_open(read) {
            // Retention has just deleted the file.
            Err(Error::DatabaseClosed) => return Ok(T::default()),
            done => done?,
        };
        if opened {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.push_back(file.no);
            let close = if open.len() > SEALED_OPEN_MAX { open.pop_front() } else { None };
            drop(open);
            let list = self.list();
            let sealed = list.split_last().map_or(&[][..], |(_, sealed)| sealed);
            if let Some(file) = close.and_then(|no| sealed.iter().find(|file| file.no == no)) {
                file.store.close(SEALED_CACHE_BYTES)?;
            }
        }
        Ok(read)
    }

    fn list(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<HistoryFile>>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistoryFile {
    fn span(&self) -> std::sync::MutexGuard<'_, HistorySpan> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistorySpan {
    fn encode(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&self.first.as_u128().to_le_bytes());
        bytes[16..32].copy_from_slice(&self.last.as_u128().to_le_bytes());
        bytes[32..].copy_from_slice(&self.until.as_millis().to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; 40]) -> Self {
        Self {
            first: EventId::from_u128(u128::from_le_bytes(part(bytes, 0))),
            last: EventId::from_u128(u128::from_le_bytes(part(bytes, 16))),
            until: Timestamp::from_millis(i64::from_le_bytes(part(bytes, 32))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HISTORY_BUCKETS;
    use crate::model::WebhookNo;
    use crate::runtime::Random;
    use crate::storage::delivery::testing::{MemoryDisk, attempt, failed};
    use crate::storage::format::STATE_FILE;
    use crate::storage::sim::{DiskFault, Loss, SimDisk};

    fn history(disk: &Arc<MemoryDisk>, file_bytes: u64) -> HistoryWriter {
        open_history(&(Arc::<MemoryDisk>::clone(disk) as Arc<dyn Disk>), file_bytes)
    }

    fn open_history(disk: &Arc<dyn Disk>, file_bytes: u64) -> HistoryWriter {
        let state = RedbFile::open(Arc::clone(disk), Path::new("/d/state"), 1 << 20, STATE_FILE).unwrap();
        let txn = state.write(false).unwrap();
        txn.open_table(HISTORY).unwrap();
        txn.commit().unwrap();
        let zero = Timestamp::default();
        let open = |txn: &ReadTransaction| {
            HistoryWriter::open(Arc::clone(disk), Path::new("/d/history"), file_bytes, false, txn, false, zero)
        };
        state.read(open).unwrap()
    }

    fn query(webhooks: &[WebhookNo]) -> DeliveryQuery {
        DeliveryQuery::all(webhooks)
    }

    fn event(n: u128) -> EventId {
        EventId::from_u128(n)
    }

    #[test]
    fn the_newest_deliveries_of_a_webhook_are_found_across_files_and_within_its_bucket() {
        let disk = MemoryDisk::new();
        let mut history = history(&disk, 1);
        let (one, other) = (WebhookNo(1), WebhookNo(1 + HISTORY_BUCKETS));
        for n in 1..=6u128 {
            let mut attempts = Attempts::default();
            attempts.push(one, event(n), &failed(1, 500));
            attempts.push(other, event(n), &attempt(1));
            history.write(&mut attempts, Timestamp::from_millis(n as i64)).unwrap();
        }
        let mut late = Attempts::default();
        late.push(one, event(2), &attempt(2));
        history.write(&mut late, Timestamp::from_millis(7)).unwrap();
        let files = history.files();
        assert_eq!(files.list().len(), 7, "each write is past the size and begins a file");
        let recent = files.newest(&query(&[one]), 3).unwrap();
        assert_eq!(recent.last.keys().map(|id| id.event).collect::<Vec<_>>(), [event(4), event(5), event(6)]);
        let before = DeliveryId { event: event(4), webhook: one };
        let recent = files.newest(&DeliveryQuery { before, ..query(&[one]) }, 2).unwrap();
        assert_eq!(recent.last[&DeliveryId { event: event(2), webhook: one }].number, 2);
        assert_eq!(recent.last.len(), 2);
        let id = DeliveryId { event: event(2), webhook: one };
        assert_eq!(files.attempts(id).unwrap(), [failed(1, 500), attempt(2)]);
    }

    #[test]
    fn old_files_are_deleted_as_a_whole_and_the_last_is_kept() {
        let disk = MemoryDisk::new();
        let mut history = history(&disk, 1);
        for n in 1..=3u128 {
            let mut attempts = Attempts::default();
            attempts.push(WebhookNo(1), event(n), &attempt(1));
            history.write(&mut attempts, Timestamp::from_millis(1_000 * n as i64)).unwrap();
        }
        let retention = Duration::from_millis(500);
        // Each step deletes a small part. Far fewer steps than these are needed.
        for _ in 0..1_000 {
            history.retain(Timestamp::from_millis(2_400), retention).unwrap();
        }
        assert_eq!(history.files().newest(&query(&[WebhookNo(1)]), 9).unwrap().last.len(), 2);
        for _ in 0..1_000 {
            history.retain(Timestamp::from_millis(99_000), retention).unwrap();
        }
        assert!(!history.is_retiring());
        assert_eq!(history.files().newest(&query(&[WebhookNo(1)]), 9).unwrap().last.len(), 1);
        assert_eq!(disk.list(Path::new("/d/history")).unwrap().len(), 1);
    }

    /// Writes an attempt with a fault at the k-th operation, and again until the write succeeds. `kill` ends the
    /// process at the fault and starts the next one. Returns the disk after a power cut.
    fn after_a_fault(k: u64, kill: bool, seed: u64) -> SimDisk {
        let mut disk = SimDisk::default();
        let mut history = sim_history(&disk);
        disk.fail_at(k, DiskFault::Io);
        let mut attempts = Attempts::default();
        attempts.push(WebhookNo(1), event(1), &attempt(1));
        while history.write(&mut attempts, Timestamp::default()).is_err() {
            if kill {
                disk = disk.after_kill();
                history = sim_history(&disk);
            } else {
                history.reopen().unwrap();
            }
        }
        disk.crash_at(disk.operations(), Loss::All, &mut Random::seeded(seed))
    }

    fn sim_history(disk: &SimDisk) -> HistoryWriter {
        open_history(&(Arc::new(disk.clone()) as Arc<dyn Disk>), 1 << 20)
    }

    #[test]
    fn a_written_attempt_survives_a_power_cut_whatever_failed_before() {
        let id = DeliveryId { event: event(1), webhook: WebhookNo(1) };
        for (k, kill, seed) in
            (1..=60).flat_map(|k| [(k, false), (k, true)]).flat_map(|(k, kill)| (0..4).map(move |seed| (k, kill, seed)))
        {
            let disk = after_a_fault(k, kill, seed);
            let found = sim_history(&disk).files().attempts(id).unwrap();
            assert_eq!(found, [attempt(1)], "fault {k}, kill {kill}, seed {seed}");
        }
    }

    #[test]
    fn an_attempt_that_is_written_twice_is_stored_once() {
        let disk = MemoryDisk::new();
        let mut history = history(&disk, 1 << 30);
        for status in [500, 502] {
            let mut attempts = Attempts::default();
            attempts.push(WebhookNo(1), event(1), &failed(1, status));
            attempts.push(WebhookNo(1), event(2), &attempt(1));
            history.write(&mut attempts, Timestamp::default()).unwrap();
        }
        let id = DeliveryId { event: event(1), webhook: WebhookNo(1) };
        assert_eq!(history.files().attempts(id).unwrap(), [failed(1, 502)]);
    }
}
