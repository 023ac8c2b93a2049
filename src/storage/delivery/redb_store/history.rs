//! History: every attempt, for people to read. Nothing is decided by it and recovery never looks at it.
//!
//! Files `<n>.redb` in order of settling, rolled by size, removed whole when all in them is old; only the last is open for
//! writing. What a row looks like is in [`super::history_rows`].

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
use crate::storage::delivery::attempts::{Key, key, number_of};
use crate::storage::delivery::{Attempts, Wanted, part};
use crate::storage::file::Store;
use crate::storage::format::HISTORY_FILE;

/// Files that one read looks into, newest first: it must end soon.
const FILES_PER_READ: usize = 64;

/// The writer's side.
#[derive(Debug)]
pub(super) struct History {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    two_phase: bool,
    files: Arc<Files>,
    /// Whether the last file is open for writing; not before the first write after a crash, which begins a new one.
    writing: bool,
    /// Retired files, truncated a step at a time, with their length.
    going: VecDeque<(PathBuf, u64)>,
    /// Numbers whose rows in state.redb the next flush removes.
    retired: Vec<u64>,
}

/// The readers' side: all files, oldest first.
#[derive(Debug, Default)]
pub(super) struct Files {
    list: RwLock<Vec<Arc<File>>>,
    /// Sealed files that are open, in the order of opening.
    open: Mutex<VecDeque<u64>>,
}

#[derive(Debug)]
struct File {
    no: u64,
    path: PathBuf,
    store: Store,
    span: Mutex<Span>,
}

/// What a file holds.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: EventId,
    last: EventId,
    /// When it was last written to, by the scheduling clock.
    until: Timestamp,
}

impl History {
    /// Looks at the files there are. After an unclean stop the last one is left to be repaired when it is first read.
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
                // What a crash left of a file being made or removed.
                disk.remove(&path)?;
                continue;
            };
            let span = match rows.get(no)? {
                Some(row) => Span::decode(row.value()),
                None => Span { first: EventId::MIN, last: EventId::MAX, until: high_water },
            };
            let store = Store::closed(Arc::clone(&disk), &path, SEALED_CACHE_BYTES, HISTORY_FILE);
            list.push(Arc::new(File { no, path, store, span: Mutex::new(span) }));
        }
        list.sort_by_key(|file| file.no);
        if let (false, Some(last)) = (clean, list.last()) {
            // Its last rows may be younger than what state.redb says of it.
            *last.span() = Span { first: EventId::MIN, last: EventId::MAX, until: high_water };
        }
        let mut history = Self {
            disk,
            dir: dir.to_owned(),
            file_bytes,
            two_phase,
            files: Arc::new(Files { list: RwLock::new(list), open: Mutex::default() }),
            writing: false,
            going: VecDeque::new(),
            retired: Vec::new(),
        };
        history.writing = clean && history.reopen_last()?;
        Ok(history)
    }

    /// The readers' side.
    pub(super) fn files(&self) -> Arc<Files> {
        Arc::clone(&self.files)
    }

    /// Writes a batch in one transaction that is durable afterwards, unless it is written already.
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

    /// Writes into the state's transaction what this flush changed about the files.
    pub(super) fn note(&self, txn: &WriteTransaction) -> Result<(), Error> {
        let mut rows = txn.open_table(HISTORY)?;
        for no in &self.retired {
            rows.remove(no)?;
        }
        if let (true, Some(last)) = (self.writing, self.files.list().last()) {
            rows.insert(last.no, &last.span().encode())?;
        }
        Ok(())
    }

    /// What [`History::note`] wrote is durable.
    pub(super) fn noted(&mut self) {
        self.retired.clear();
    }

    /// Before the state's transaction: takes a step in removing what is older than `retention`.
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
            let len = self.disk.size(&gone)?.len;
            self.going.push_back((gone, len));
            self.retired.push(oldest.no);
        }
        // Unlinking a large file at once would stall every fsync of the disk.
        if let Some((path, len)) = self.going.front_mut() {
            *len = len.saturating_sub(TRUNCATE_STEP_BYTES);
            if *len > 0 {
                self.disk.truncate(path, *len)?;
            } else {
                self.disk.remove(path)?;
                self.going.pop_front();
            }
        }
        Ok(())
    }

    /// Whether there is more to remove.
    pub(super) fn is_retiring(&self) -> bool {
        !self.going.is_empty()
    }

    /// After an I/O error: opens the last file anew.
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

    fn current(&mut self) -> Result<Arc<File>, Error> {
        let last = self.files.list().last().cloned();
        if let (true, Some(last)) = (self.writing, &last)
            && self.disk.size(&last.path)?.allocated < self.file_bytes
        {
            return Ok(Arc::clone(last));
        }
        let no = last.as_ref().map_or(1, |last| last.no + 1);
        let path = self.dir.join(format!("{no:08}.redb"));
        Store::make(&self.disk, &path, HISTORY_FILE)?;
        let store = Store::open(Arc::clone(&self.disk), &path, HISTORY_CACHE_BYTES, HISTORY_FILE)?;
        let span = Span { first: EventId::MAX, last: EventId::MIN, until: Timestamp::default() };
        let file = Arc::new(File { no, path, store, span: Mutex::new(span) });
        if let (true, Some(last)) = (self.writing, &last) {
            last.store.close(SEALED_CACHE_BYTES)?;
        }
        self.writing = true;
        self.files.list.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&file));
        Ok(file)
    }
}

/// What history knows of the newest deliveries of some webhooks.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The last attempt of each.
    pub(super) last: BTreeMap<DeliveryId, Attempt>,
    /// This delivery and those before it have not been looked at for want of time; `None`: all have.
    pub(super) floor: Option<DeliveryId>,
}

impl Files {
    /// All attempts at a delivery, in their order.
    pub(super) fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>, Error> {
        let mut found = BTreeMap::new();
        let (first, last) = (key(id.webhook, id.event, 0), key(id.webhook, id.event, u16::MAX));
        for file in self.newest_first(|span| span.first <= id.event && id.event <= span.last) {
            let rows = self.read(&file, |txn| {
                let Some(table) = open(txn)? else { return Ok(Vec::new()) };
                table.range::<&Key>(&first..=&last)?.map(|row| decode_row(&row?)).collect::<Result<Vec<_>, Error>>()
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

    /// The number of the last attempt at a delivery; 0 if history does not know of any.
    pub(super) fn last_number(&self, id: DeliveryId) -> Result<u16, Error> {
        let (first, last) = (key(id.webhook, id.event, 0), key(id.webhook, id.event, u16::MAX));
        for file in self.newest_first(|span| span.first <= id.event && id.event <= span.last) {
            let number = self.read(&file, |txn| {
                let Some(table) = open(txn)? else { return Ok(None) };
                let row = table.range::<&Key>(&first..=&last)?.next_back().transpose()?;
                Ok(row.map(|(key, _)| number_of(key.value())))
            })?;
            // Numbers rise with time, and so from file to file.
            if let Some(number) = number {
                return Ok(number);
            }
        }
        Ok(0)
    }

    /// The newest `limit` deliveries that are wanted, with the last attempt at each.
    pub(super) fn newest(&self, wanted: &Wanted, limit: usize) -> Result<Recent, Error> {
        let mut recent = Recent::default();
        for file in self.newest_first(|span| span.first <= wanted.before.event && wanted.first <= span.last) {
            let enough = recent.last.keys().rev().nth(limit.saturating_sub(1)).copied();
            if enough.is_some_and(|oldest| file.span().last < oldest.event) {
                continue;
            }
            let found = self.read(&file, |txn| newest_in(txn, wanted, limit))?;
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
        }
        let floor = recent.floor;
        recent.last.retain(|id, _| floor.is_none_or(|floor| *id > floor));
        while recent.last.len() > limit {
            recent.last.pop_first();
        }
        Ok(recent)
    }

    fn newest_first(&self, wanted: impl Fn(&Span) -> bool) -> Vec<Arc<File>> {
        self.list().iter().rev().filter(|file| wanted(&file.span())).take(FILES_PER_READ).cloned().collect()
    }

    fn read<T>(&self, file: &File, read: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error>
    where
        T: Default,
    {
        let (read, opened) = match file.store.read_opening(read) {
            // Retention took it while we were on the way to it.
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

    fn list(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<File>>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File {
    fn span(&self) -> std::sync::MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Span {
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
    use crate::storage::delivery::testing::{MemoryDisk, attempt, failed};
    use crate::storage::format::STATE_FILE;

    fn history(disk: &Arc<MemoryDisk>, file_bytes: u64) -> History {
        let state = Store::open(disk.clone(), Path::new("/d/state"), 1 << 20, STATE_FILE).unwrap();
        let txn = state.write(false).unwrap();
        txn.open_table(HISTORY).unwrap();
        txn.commit().unwrap();
        let zero = Timestamp::default();
        let open = |txn: &ReadTransaction| {
            History::open(disk.clone(), Path::new("/d/history"), file_bytes, false, txn, false, zero)
        };
        state.read(open).unwrap()
    }

    fn wanted(webhooks: &[WebhookNo]) -> Wanted {
        Wanted::all(webhooks)
    }

    fn event(n: u128) -> EventId {
        EventId::from_u128(n)
    }

    #[test]
    fn a_webhooks_latest_are_found_over_rolled_files_and_among_its_bucket() {
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
        let recent = files.newest(&wanted(&[one]), 3).unwrap();
        assert_eq!(recent.last.keys().map(|id| id.event).collect::<Vec<_>>(), [event(4), event(5), event(6)]);
        let before = DeliveryId { event: event(4), webhook: one };
        let recent = files.newest(&Wanted { before, ..wanted(&[one]) }, 2).unwrap();
        assert_eq!(recent.last[&DeliveryId { event: event(2), webhook: one }].number, 2);
        assert_eq!(recent.last.len(), 2);
        let id = DeliveryId { event: event(2), webhook: one };
        assert_eq!(files.attempts(id).unwrap(), [failed(1, 500), attempt(2)]);
    }

    #[test]
    fn what_is_old_goes_by_whole_files_and_the_last_stays() {
        let disk = MemoryDisk::new();
        let mut history = history(&disk, 1);
        for n in 1..=3u128 {
            let mut attempts = Attempts::default();
            attempts.push(WebhookNo(1), event(n), &attempt(1));
            history.write(&mut attempts, Timestamp::from_millis(1_000 * n as i64)).unwrap();
        }
        let retention = Duration::from_millis(500);
        // A step removes little at a time; far fewer than these are needed.
        for _ in 0..1_000 {
            history.retain(Timestamp::from_millis(2_400), retention).unwrap();
        }
        assert_eq!(history.files().newest(&wanted(&[WebhookNo(1)]), 9).unwrap().last.len(), 2);
        for _ in 0..1_000 {
            history.retain(Timestamp::from_millis(99_000), retention).unwrap();
        }
        assert!(!history.is_retiring());
        assert_eq!(history.files().newest(&wanted(&[WebhookNo(1)]), 9).unwrap().last.len(), 1);
        assert_eq!(disk.list(Path::new("/d/history")).unwrap().len(), 1);
    }

    #[test]
    fn an_attempt_made_twice_is_kept_once() {
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
