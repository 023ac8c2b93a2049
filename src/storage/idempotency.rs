//! Responses to requests with an idempotency key, stored in the redb file of the change that they report.
//!
//! A response is written in the transaction of its change, so that a crash leaves both or neither. It is opaque bytes.
//!
//! - Responses are stored for [`IDEMPOTENCY_TTL`]. Each write deletes some expired ones.
//! - A tenant has at most [`IDEMPOTENCY_TENANT_BYTES`], a file at most [`IDEMPOTENCY_FILE_BYTES`]. The oldest responses
//!   are deleted first.
//!
//! A file of an earlier program lacks these tables, and an earlier program ignores them. It then executes a repeated
//! request again.

use std::sync::Arc;

use redb::{Error, ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use crate::limits::{
    IDEMPOTENCY_EXPIRED_STEP, IDEMPOTENCY_FILE_BYTES, IDEMPOTENCY_ROW_BYTES, IDEMPOTENCY_TENANT_BYTES, IDEMPOTENCY_TTL,
};
use crate::model::Timestamp;

/// Hash of the key → the response. See [`encode`].
const RESPONSES: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("idempotency");
/// (time, hash of the key) of each response.
const BY_TIME: TableDefinition<&[u8; 40], ()> = TableDefinition::new("idempotency_by_time");
/// (tenant, time, hash of the key) of each response.
const BY_TENANT: TableDefinition<(&str, &[u8; 40]), ()> = TableDefinition::new("idempotency_by_tenant");
/// Tenant → the bytes of its responses. The empty name has the bytes of all responses.
const BYTES: TableDefinition<&str, u64> = TableDefinition::new("idempotency_bytes");
/// The name that has the bytes of all responses in [`BYTES`]. No tenant has it.
const ALL: &str = "";
/// The version of a row of [`RESPONSES`].
const ROW_VERSION: u8 = 1;

/// The idempotency key of a request, as hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Identifies the key within its tenant and route.
    pub hash: [u8; 32],
    /// Identifies the content of the request.
    pub fingerprint: [u8; 32],
    /// The tenant whose share of the file the response takes.
    pub tenant: Arc<str>,
}

/// A response to store. It must not contain secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewStoredResponse {
    /// The key of the request.
    pub key: IdempotencyKey,
    /// The response, of a form that only its writer knows.
    pub response: Vec<u8>,
}

/// A stored response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// The fingerprint of the request that was answered.
    pub fingerprint: [u8; 32],
    /// The response.
    pub response: Vec<u8>,
}

/// A response with a number that only the transaction knows, at each gap between two pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedResponse {
    pieces: Vec<Box<[u8]>>,
}

impl NumberedResponse {
    /// Makes a template of a response. `render` gets a number, and the response has it as decimal text.
    pub fn of(render: impl FnOnce(u64) -> Option<Vec<u8>>) -> Option<Self> {
        // No count and no id reaches this number.
        const PLACEHOLDER: u64 = u64::MAX;
        let text = PLACEHOLDER.to_string();
        let response = render(PLACEHOLDER)?;
        let (mut pieces, mut rest) = (Vec::new(), &response[..]);
        while let Some(at) = rest.windows(text.len()).position(|window| window == text.as_bytes()) {
            pieces.push(rest[..at].into());
            rest = &rest[at + text.len()..];
        }
        pieces.push(rest.into());
        Some(Self { pieces })
    }

    /// The response with its number.
    pub fn fill(&self, number: u64) -> Vec<u8> {
        self.pieces.join(number.to_string().as_bytes())
    }
}

impl From<Vec<u8>> for NumberedResponse {
    /// A response without a number.
    fn from(response: Vec<u8>) -> Self {
        Self { pieces: vec![response.into()] }
    }
}

/// The tables, open for one write transaction.
pub(super) struct ResponseTables<'txn> {
    responses: Table<'txn, &'static [u8; 32], &'static [u8]>,
    by_time: Table<'txn, &'static [u8; 40], ()>,
    by_tenant: Table<'txn, (&'static str, &'static [u8; 40]), ()>,
    bytes: Table<'txn, &'static str, u64>,
}

impl<'txn> ResponseTables<'txn> {
    pub(super) fn open(txn: &'txn WriteTransaction) -> Result<Self, Error> {
        Ok(Self {
            responses: txn.open_table(RESPONSES)?,
            by_time: txn.open_table(BY_TIME)?,
            by_tenant: txn.open_table(BY_TENANT)?,
            bytes: txn.open_table(BYTES)?,
        })
    }

    /// Writes a response. First deletes expired responses, and the oldest ones beyond the bounds: not more bytes than the
    /// response brings, so that the work of a write is bounded by its size.
    pub(super) fn put(&mut self, new: &NewStoredResponse, now: Timestamp) -> Result<(), Error> {
        self.remove(&new.key.hash)?;
        self.expire(now)?;
        let row = encode(new, now);
        let bytes = size_of_row(row.len());
        let tenant = &*new.key.tenant;
        while self.used(tenant)? + bytes > IDEMPOTENCY_TENANT_BYTES
            && let Some(oldest) = self.oldest_of(tenant)?
        {
            self.remove(&oldest)?;
        }
        while self.used(ALL)? + bytes > IDEMPOTENCY_FILE_BYTES
            && let Some(oldest) = self.oldest()?
        {
            self.remove(&hash_of(&oldest))?;
        }
        let time_key = time_key(now, &new.key.hash);
        self.responses.insert(&new.key.hash, &*row)?;
        self.by_time.insert(&time_key, ())?;
        self.by_tenant.insert((tenant, &time_key), ())?;
        for name in [tenant, ALL] {
            let used = self.used(name)?;
            self.bytes.insert(name, used + bytes)?;
        }
        Ok(())
    }

    fn expire(&mut self, now: Timestamp) -> Result<(), Error> {
        for _ in 0..IDEMPOTENCY_EXPIRED_STEP {
            match self.oldest()? {
                Some(oldest) if now.since(time_of(&oldest)) >= IDEMPOTENCY_TTL => self.remove(&hash_of(&oldest))?,
                _ => break,
            }
        }
        Ok(())
    }

    fn used(&self, name: &str) -> Result<u64, Error> {
        Ok(self.bytes.get(name)?.map_or(0, |bytes| bytes.value()))
    }

    fn oldest(&self) -> Result<Option<[u8; 40]>, Error> {
        Ok(self.by_time.first()?.map(|(key, _)| *key.value()))
    }

    fn oldest_of(&self, tenant: &str) -> Result<Option<[u8; 32]>, Error> {
        let mut all = self.by_tenant.range((tenant, &[0; 40])..=(tenant, &[u8::MAX; 40]))?;
        Ok(all.next().transpose()?.map(|(key, _)| hash_of(key.value().1)))
    }

    fn remove(&mut self, hash: &[u8; 32]) -> Result<(), Error> {
        let Some((at, tenant, bytes)) = self.responses.remove(hash)?.and_then(|row| {
            let row = row.value();
            let (at, _, tenant, _) = decode(row)?;
            Some((at, tenant.to_owned(), size_of_row(row.len())))
        }) else {
            return Ok(());
        };
        let time_key = time_key(at, hash);
        self.by_time.remove(&time_key)?;
        self.by_tenant.remove((&*tenant, &time_key))?;
        for name in [&*tenant, ALL] {
            match self.used(name)?.saturating_sub(bytes) {
                0 => drop(self.bytes.remove(name)?),
                left => drop(self.bytes.insert(name, left)?),
            }
        }
        Ok(())
    }
}

/// Reads the response of a key. `None` if there is none, or if it has expired.
pub(super) fn find(txn: &ReadTransaction, hash: &[u8; 32], now: Timestamp) -> Result<Option<StoredResponse>, Error> {
    let table = match txn.open_table(RESPONSES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(row) = table.get(hash)? else { return Ok(None) };
    let found = decode(row.value()).filter(|(at, ..)| now.since(*at) < IDEMPOTENCY_TTL);
    Ok(found.map(|(_, fingerprint, _, response)| StoredResponse { fingerprint, response: response.to_vec() }))
}

/// Row: version, time (8), fingerprint (32), length of the tenant's name (2), tenant, response. Numbers are little-endian.
fn encode(new: &NewStoredResponse, at: Timestamp) -> Vec<u8> {
    let tenant = new.key.tenant.as_bytes();
    let mut row = Vec::with_capacity(43 + tenant.len() + new.response.len());
    row.push(ROW_VERSION);
    row.extend(at.as_millis().to_le_bytes());
    row.extend(new.key.fingerprint);
    row.extend((tenant.len() as u16).to_le_bytes());
    row.extend(tenant);
    row.extend(&new.response);
    row
}

/// Reads a row: its time, fingerprint, tenant and response. `None` for a row of another version.
fn decode(row: &[u8]) -> Option<(Timestamp, [u8; 32], &str, &[u8])> {
    let (version, row) = row.split_first()?;
    let (at, row) = row.split_first_chunk::<8>()?;
    let (fingerprint, row) = row.split_first_chunk::<32>()?;
    let (len, row) = row.split_first_chunk::<2>()?;
    let (tenant, response) = row.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    let tenant = std::str::from_utf8(tenant).ok()?;
    let at = Timestamp::from_millis(i64::from_le_bytes(*at));
    (*version == ROW_VERSION).then_some((at, *fingerprint, tenant, response))
}

/// What a row counts as: its bytes, and those of its keys and its place in the file.
fn size_of_row(len: usize) -> u64 {
    len as u64 + IDEMPOTENCY_ROW_BYTES
}

fn time_key(at: Timestamp, hash: &[u8; 32]) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&(at.as_millis() ^ i64::MIN).to_be_bytes());
    key[8..].copy_from_slice(hash);
    key
}

fn time_of(key: &[u8; 40]) -> Timestamp {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key[..8]);
    Timestamp::from_millis(i64::from_be_bytes(bytes) ^ i64::MIN)
}

fn hash_of(key: &[u8; 40]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(&key[8..]);
    hash
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redb::{Database, ReadableDatabase, ReadableTableMetadata};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_711_015_200_000);

    fn database() -> Database {
        Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap()
    }

    fn response(n: u32, tenant: &str, len: usize) -> NewStoredResponse {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        NewStoredResponse {
            key: IdempotencyKey { hash, fingerprint: [7; 32], tenant: tenant.into() },
            response: vec![n as u8; len],
        }
    }

    fn put(database: &Database, all: &[NewStoredResponse], now: Timestamp) {
        let txn = database.begin_write().unwrap();
        for one in all {
            ResponseTables::open(&txn).unwrap().put(one, now).unwrap();
        }
        txn.commit().unwrap();
    }

    fn found(database: &Database, one: &NewStoredResponse, now: Timestamp) -> Option<StoredResponse> {
        find(&database.begin_read().unwrap(), &one.key.hash, now).unwrap()
    }

    /// The number of rows of each table, and the bytes of all responses.
    fn counts(database: &Database) -> ([u64; 3], u64) {
        let txn = database.begin_write().unwrap();
        let tables = ResponseTables::open(&txn).unwrap();
        let rows = [tables.responses.len(), tables.by_time.len(), tables.by_tenant.len()].map(Result::unwrap);
        (rows, tables.used(ALL).unwrap())
    }

    #[test]
    fn a_response_is_found_for_a_day() {
        let database = database();
        let one = response(1, "acme", 100);
        assert_eq!(found(&database, &one, AT), None, "the tables do not exist yet");
        put(&database, std::slice::from_ref(&one), AT);
        let stored = StoredResponse { fingerprint: [7; 32], response: vec![1; 100] };
        let last = AT.plus(IDEMPOTENCY_TTL.saturating_sub(Duration::from_millis(1)));
        assert_eq!(found(&database, &one, last), Some(stored));
        assert_eq!(found(&database, &one, AT.plus(IDEMPOTENCY_TTL)), None);
    }

    #[test]
    fn a_write_deletes_expired_responses_in_steps() {
        let database = database();
        let old: Vec<_> = (0..2 * IDEMPOTENCY_EXPIRED_STEP as u32).map(|n| response(n, "acme", 10)).collect();
        put(&database, &old, AT);
        let later = AT.plus(IDEMPOTENCY_TTL);
        put(&database, &[response(10_000, "other", 10)], later);
        assert_eq!(counts(&database).0, [IDEMPOTENCY_EXPIRED_STEP as u64 + 1; 3]);
        put(&database, &[response(10_001, "other", 10)], later);
        let bytes = 2 * size_of_row(encode(&response(0, "other", 10), AT).len());
        assert_eq!(counts(&database), ([2; 3], bytes));
    }

    #[test]
    fn the_responses_of_a_tenant_are_bounded_by_bytes_and_cost_no_other_tenant() {
        let database = database();
        let calm = response(0, "calm", 100);
        put(&database, std::slice::from_ref(&calm), AT);
        let size = 512 * 1024;
        for n in 1..100 {
            let at = AT.plus(Duration::from_secs(u64::from(n)));
            put(&database, &[response(n, "busy", size)], at);
            assert!(counts(&database).1 <= IDEMPOTENCY_TENANT_BYTES + 1024);
        }
        let now = AT.plus(Duration::from_secs(100));
        assert!(found(&database, &calm, now).is_some());
        assert!(found(&database, &response(99, "busy", size), now).is_some(), "the newest is stored");
        assert_eq!(found(&database, &response(1, "busy", size), now), None, "the oldest is deleted");
    }

    #[test]
    fn the_responses_of_all_tenants_are_bounded_by_bytes() {
        let database = database();
        let size = IDEMPOTENCY_TENANT_BYTES as usize / 2;
        let most = (IDEMPOTENCY_FILE_BYTES / IDEMPOTENCY_TENANT_BYTES) as u32 * 2;
        for n in 0..most + 3 {
            put(&database, &[response(n, &format!("tenant-{n}"), size)], AT.plus(Duration::from_secs(1)));
            assert!(counts(&database).1 <= IDEMPOTENCY_FILE_BYTES);
        }
    }

    #[test]
    fn a_response_to_the_same_key_replaces_the_old_one() {
        let database = database();
        put(&database, &[response(1, "acme", 10)], AT);
        put(&database, &[response(1, "acme", 20)], AT.plus(IDEMPOTENCY_TTL));
        assert_eq!(counts(&database), ([1; 3], size_of_row(encode(&response(1, "acme", 20), AT).len())));
    }

    #[test]
    fn a_template_gets_its_number_everywhere() {
        let text = |number: u64| format!("/replays/rpl_{number}\n\n{{\"id\":\"rpl_{number}\"}}").into_bytes();
        let template = NumberedResponse::of(|number| Some(text(number))).unwrap();
        assert_eq!(template.fill(41), text(41));
        assert_eq!(NumberedResponse::from(b"as is".to_vec()).fill(3), b"as is");
    }
}
