//! API keys, found by their SHA-256: those of the configuration, and those that the interface made.

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
pub(super) struct Keys {
    /// Of the configuration, and of the first start.
    file: HashMap<[u8; 32], Principal>,
    made: BTreeMap<KeyId, Arc<Key>>,
    by_hash: HashMap<[u8; 32], KeyId>,
}

impl Keys {
    /// The key of this id that the interface made.
    pub(super) fn made(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.made.get(&id)
    }

    pub(super) fn put(&mut self, key: Arc<Key>) {
        self.by_hash.insert(key.hash, key.id);
        self.made.insert(key.id, key);
    }

    pub(super) fn remove(&mut self, id: KeyId) -> Option<Arc<Key>> {
        let key = self.made.remove(&id)?;
        self.by_hash.remove(&key.hash);
        Some(key)
    }

    /// Whether no more can be made for this tenant.
    pub(super) fn are_full(&self, tenant: Option<&str>) -> bool {
        let of_tenant = || self.made.values().filter(|key| key.tenant.as_deref() == tenant).count();
        self.made.len() >= KEYS_MAX || of_tenant() >= KEYS_PER_TENANT_MAX
    }
}

impl Registry {
    /// Who the bearer of this key is, at this time. Keys are found by their SHA-256, so that the time it takes tells nothing
    /// about them.
    pub fn authenticate(&self, key: &str, now: Timestamp) -> Option<Principal> {
        let hash = key_hash(key);
        if let Some(principal) = self.keys.file.get(&hash) {
            return Some(principal.clone());
        }
        let key = self.keys.made(*self.keys.by_hash.get(&hash)?)?;
        let is_in_force = key.expires_at.is_none_or(|end| now < end);
        let principal =
            || Principal { name: key.id.to_string().into(), ..Principal::new(key.tenant.clone(), key.role) };
        is_in_force.then(principal)
    }

    /// The keys that the interface made, newest first: of one tenant, or of all.
    pub fn keys<'a>(&'a self, tenant: Option<&'a str>, before: KeyId) -> impl Iterator<Item = &'a Arc<Key>> + 'a {
        let all = self.keys.made.range(..before).rev().map(|(_, key)| key);
        all.filter(move |key| tenant.is_none_or(|tenant| key.tenant.as_deref() == Some(tenant)))
    }

    /// One of them.
    pub fn key(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.made(id)
    }

    /// Keys of the configuration, each with its name, in place of those before.
    pub(super) fn set_file_keys<'a>(&mut self, keys: impl IntoIterator<Item = (&'a ApiKey, &'a str)>) {
        let mut file = HashMap::new();
        for (key, name) in keys {
            let tenant = key.tenant.as_deref().map(|tenant| self.make_tenant(tenant));
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
