//! What registry.redb holds, as a snapshot: read at start, and again after the disk was full.
//!
//! Webhooks are decoded by all cores and put in order by one: a row costs some microseconds of JSON, AES-GCM and HMAC, so a
//! hundred thousand of them would take one core most of a second.

use std::sync::Arc;
use std::thread;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError};

use super::Registry;
use super::event_type_change::{EVENT_TYPES, decode_event_type};
use super::keys::{Keys, decode_key};
use super::record::{RecordError, decode, decode_removed};
use super::secret::Vault;
use super::source_record::{decode_learned, decode_source};
use super::source_setup::SourceSetup;
use super::store::{KEYS, LEARNED, REMOVED, SOURCES, StoreError, TENANTS, WEBHOOKS};
use super::tenants::decode_tenant;
use crate::limits::{LOAD_ROWS, LOAD_THREADS_MAX};
use crate::model::{KeyId, SourceId, WebhookNo};
use crate::outbound::profile::Profiles;
use crate::outbound::{Webhook, WebhookSettings};

/// A row as it stands in the file.
type Encoded = (WebhookNo, Vec<u8>);

/// Everything stored, as a snapshot without what the configuration adds.
pub(super) fn load(
    read: &ReadTransaction,
    vault: &Vault,
    setup: &SourceSetup,
    profiles: &Profiles,
) -> Result<Registry, StoreError> {
    let mut registry = Registry::default();
    load_webhooks(read, vault, profiles, &mut registry)?;
    load_removed(read, &mut registry)?;
    load_sources(read, vault, setup, &mut registry)?;
    load_event_types(read, &mut registry)?;
    load_tenants(read, &mut registry)?;
    load_keys(read, &mut registry)?;
    Ok(registry)
}

fn load_webhooks(
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

fn load_removed(read: &ReadTransaction, registry: &mut Registry) -> Result<(), StoreError> {
    each(read, REMOVED, |no, bytes| {
        let tombstone = decode_removed(WebhookNo(no), bytes, |name| registry.make_tenant(name))
            .map_err(|error| StoreError::Record { no, error })?;
        registry.bury(Arc::new(tombstone));
        Ok(())
    })
}

fn load_sources(
    read: &ReadTransaction,
    vault: &Vault,
    setup: &SourceSetup,
    registry: &mut Registry,
) -> Result<(), StoreError> {
    let failed = |id, error| StoreError::Source { id, error };
    each(read, SOURCES, |id, bytes| {
        let id = SourceId::from_u128(id);
        let (settings, identity) =
            decode_source(id, bytes, vault, |name| registry.make_tenant(name)).map_err(|error| failed(id, error))?;
        if let Some(source) = setup.rebuild(settings, identity) {
            registry.sources.put(source);
        }
        Ok(())
    })?;
    each(read, LEARNED, |id, bytes| {
        let id = SourceId::from_u128(id);
        let secret = decode_learned(id, bytes, vault).map_err(|error| failed(id, error))?;
        registry.sources.learn(id, secret);
        Ok(())
    })
}

fn load_event_types(read: &ReadTransaction, registry: &mut Registry) -> Result<(), StoreError> {
    each(read, EVENT_TYPES, |(tenant, name), bytes| {
        let tenant = registry.make_tenant(tenant);
        let event_type =
            decode_event_type(&tenant, bytes).map_err(|error| StoreError::EventType { name: name.into(), error })?;
        registry.event_types.put(&tenant, Arc::new(event_type));
        Ok(())
    })
}

fn load_tenants(read: &ReadTransaction, registry: &mut Registry) -> Result<(), StoreError> {
    each(read, TENANTS, |name, bytes| {
        let tenant = decode_tenant(bytes).map_err(|error| StoreError::Tenant { name: name.into(), error })?;
        registry.put_stored_tenant(name, Arc::new(tenant));
        Ok(())
    })
}

fn load_keys(read: &ReadTransaction, registry: &mut Registry) -> Result<(), StoreError> {
    let mut keys = Keys::default();
    each(read, KEYS, |id, bytes| {
        let id = KeyId::from_u128(id);
        let key =
            decode_key(id, bytes, |name| registry.make_tenant(name)).map_err(|error| StoreError::Key { id, error })?;
        keys.put(Arc::new(key));
        Ok(())
    })?;
    registry.keys = Arc::new(keys);
    Ok(())
}

/// Each row of a table, in order; none if the table is not there.
fn each<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    of: TableDefinition<'static, K, V>,
    mut row: impl for<'a> FnMut(K::SelfType<'a>, V::SelfType<'a>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let Some(table) = table(read, of)? else { return Ok(()) };
    for entry in table.iter().map_err(redb::Error::from)? {
        let (key, value) = entry.map_err(redb::Error::from)?;
        row(key.value(), value.value())?;
    }
    Ok(())
}

/// A table; `None` in a file that an earlier program made.
pub(super) fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<'static, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, StoreError> {
    match read.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(redb::Error::from(error).into()),
    }
}
