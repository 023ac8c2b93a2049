//! API keys, found by their SHA-256: those of the configuration, and those that the API created.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::Registry;
use crate::config::ApiKey;
use crate::limits::{KEYS_MAX, KEYS_PER_TENANT_MAX};
use crate::model::{KeyId, Principal, Timestamp};
use crate::storage::registry::KeyRecord as Key;

/// All keys in force.
#[derive(Debug, Clone, Default)]
pub(super) struct ApiKeys {
    /// The keys of the configuration, and the first-start key.
    file: HashMap<[u8; 32], Principal>,
    created: BTreeMap<KeyId, Arc<Key>>,
    by_hash: HashMap<[u8; 32], KeyId>,
}

impl ApiKeys {
    /// The key of this id that the API created.
    pub(super) fn created(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.created.get(&id)
    }

    pub(super) fn put(&mut self, key: Arc<Key>) {
        self.by_hash.insert(key.hash, key.id);
        self.created.insert(key.id, key);
    }

    pub(super) fn remove(&mut self, id: KeyId) -> Option<Arc<Key>> {
        let key = self.created.remove(&id)?;
        self.by_hash.remove(&key.hash);
        Some(key)
    }

    /// Whether this tenant can have no more keys, because the tenant or the whole registry has the maximum.
    pub(super) fn is_full(&self, tenant: Option<&str>) -> bool {
        let of_tenant = || self.created.values().filter(|key| key.tenant.as_deref() == tenant).count();
        self.created.len() >= KEYS_MAX || of_tenant() >= KEYS_PER_TENANT_MAX
    }
}

impl Registry {
    /// The principal of this key at this time; `None` if the key is unknown or has expired. The lookup uses the key's
    /// SHA-256, so that its duration reveals nothing about the keys.
    pub fn authenticate_api_key(&self, key: &str, now: Timestamp) -> Option<Principal> {
        let hash = key_hash(key);
        if let Some(principal) = self.keys.file.get(&hash) {
            return Some(principal.clone());
        }
        let key = self.keys.created(*self.keys.by_hash.get(&hash)?)?;
        let is_in_force = key.expires_at.is_none_or(|end| now < end);
        let principal =
            || Principal { name: key.id.to_string().into(), ..Principal::new(key.tenant.clone(), key.role) };
        is_in_force.then(principal)
    }

    /// The keys that the API created, with ids below `before`, newest first, of one tenant or of all tenants.
    pub fn keys<'a>(&'a self, tenant: Option<&'a str>, before: KeyId) -> impl Iterator<Item = &'a Arc<Key>> + 'a {
        let all = self.keys.created.range(..before).rev().map(|(_, key)| key);
        all.filter(move |key| tenant.is_none_or(|tenant| key.tenant.as_deref() == Some(tenant)))
    }

    /// The key of this id that the API created.
    pub fn key(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.created(id)
    }

    /// Replaces the keys of the configuration. Each comes with a name for the audit log.
    pub(super) fn set_file_keys<'a>(&mut self, keys: impl IntoIterator<Item = (&'a ApiKey, &'a str)>) {
        let mut file = HashMap::new();
        for (key, name) in keys {
            let tenant = key.tenant.as_deref().map(|tenant| self.ensure_tenant(tenant));
            let principal = Principal { name: name.into(), ..Principal::new(tenant, key.role) };
            file.insert(key_hash(key.key.reveal()), principal);
        }
        Arc::make_mut(&mut self.keys).file = file;
    }
}

pub(super) fn key_hash(key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    hash
}
