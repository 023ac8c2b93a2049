//! The webhooks of registry.redb at start: decoded by all cores, put in order by one.
//!
//! A row costs some microseconds of JSON, AES-GCM and HMAC, so a hundred thousand of them would take one core most of a
//! second.

use std::thread;

use redb::{ReadTransaction, ReadableTable};

use super::Registry;
use super::record::{RecordError, decode};
use super::secret::Vault;
use super::store::{StoreError, WEBHOOKS};
use crate::limits::{LOAD_ROWS, LOAD_THREADS_MAX};
use crate::model::{Webhook, WebhookNo, WebhookSettings};
use crate::profile::Profiles;

/// A row as it stands in the file.
type Encoded = (WebhookNo, Vec<u8>);

/// Puts every webhook of the file into the snapshot.
pub(super) fn load_webhooks(
    read: &ReadTransaction,
    vault: &Vault,
    profiles: &Profiles,
    registry: &mut Registry,
) -> Result<(), StoreError> {
    let table = read.open_table(WEBHOOKS).map_err(redb::Error::from)?;
    let mut rows = table.iter().map_err(redb::Error::from)?;
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(LOAD_THREADS_MAX));
    loop {
        let mut encoded = Vec::new();
        for row in rows.by_ref().take(LOAD_ROWS) {
            let (no, bytes) = row.map_err(redb::Error::from)?;
            encoded.push((WebhookNo(no.value()), bytes.value().to_vec()));
        }
        if encoded.is_empty() {
            return Ok(());
        }
        for (no, decoded) in decode_all(&encoded, threads, vault, profiles) {
            let mut webhook = decoded.map_err(|error| StoreError::Record { no: no.0, error })?;
            // The tenant's own text in place of a copy for each webhook.
            let tenant = registry.make_tenant(&webhook.tenant);
            webhook.settings = WebhookSettings { tenant, ..webhook.settings };
            registry.put(webhook.into());
        }
    }
}

/// In the order of the rows.
fn decode_all(
    rows: &[Encoded],
    threads: usize,
    vault: &Vault,
    profiles: &Profiles,
) -> Vec<(WebhookNo, Result<Webhook, RecordError>)> {
    let part = |rows: &[Encoded]| -> Vec<_> {
        rows.iter().map(|(no, bytes)| (*no, decode(*no, bytes, vault, profiles, |tenant| tenant.into()))).collect()
    };
    let mut parts = rows.chunks(rows.len().div_ceil(threads).max(1));
    let Some(own) = parts.next() else { return Vec::new() };
    thread::scope(|scope| {
        let others: Vec<_> = parts.map(|rows| scope.spawn(move || part(rows))).collect();
        let mut all = part(own);
        for other in others {
            match other.join() {
                Ok(decoded) => all.extend(decoded),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}
