//! Changes of keys and tenants: keys made and revoked, tenants made; those of the configuration file put in force.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::Key;
use super::Registry;
use super::audit::AuditRecord;
use super::change::{Change, ChangeError, Reply};
use super::keys::key_hash;
use super::tenants::TenantInfo;
use super::writer::Writer;
use super::writer_state::{Batch, WriterState};
use crate::config::{ApiKey, FileTenant};
use crate::limits::{KEYS_MAX, KEYS_PER_TENANT_MAX};
use crate::model::{API_KEY_PREFIX, KeyId, Role, Secret, TenantSettings, Timestamp};
use crate::runtime::Random;
use crate::storage::registry::{Row, TenantRecord};

/// Bytes of randomness in a key: nobody guesses 256 bits, so that a plain hash keeps them.
const KEY_BYTES: usize = 32;
/// Characters of a key that are shown for recognition: `hk_` and 48 of its bits.
const PREFIX_CHARS: usize = 11;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// A name for people.
    pub name: Option<Box<str>>,
    /// What it may do.
    pub role: Role,
    /// Its tenant; `None`: all.
    pub tenant: Option<Arc<str>>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// Why a key or a tenant was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The key is not there.
    #[error("there is no such key")]
    NoKey,
    /// The tenant, or all together, have as many keys as there may be.
    #[error("there are {KEYS_PER_TENANT_MAX} keys of this tenant, or {KEYS_MAX} in all: revoke some")]
    TooMany,
    /// The tenant was made before.
    #[error("there is a tenant of this name")]
    TenantExists,
    /// The configuration file names it; only there can it be changed.
    #[error("the tenant is managed by the configuration file")]
    ManagedByFile,
    /// The registry cannot take it now.
    #[error(transparent)]
    Unavailable(#[from] ChangeError),
}

#[derive(Debug)]
pub(super) enum AccessChange {
    CreateKey { key: NewKey, hash: [u8; 32], prefix: Box<str> },
    RevokeKey(KeyId),
    CreateTenant { name: Box<str>, settings: TenantSettings },
}

/// What was changed.
#[derive(Debug)]
pub(super) enum Accessed {
    Key(Arc<Key>),
    Tenant(TenantInfo),
}

pub(super) type AccessAnswer = Result<Accessed, AccessError>;

/// What of the configuration file says who may ask, and as which tenant.
#[derive(Debug, Clone, Default)]
pub struct FileAccess {
    /// `auth.api_keys`.
    pub keys: Vec<ApiKey>,
    /// The first-start key.
    pub first: Option<ApiKey>,
    /// `[[tenants]]`.
    pub tenants: Vec<FileTenant>,
}

impl From<Vec<ApiKey>> for FileAccess {
    fn from(keys: Vec<ApiKey>) -> Self {
        Self { keys, ..Self::default() }
    }
}

impl Writer {
    /// Makes a key; the text is nowhere else.
    ///
    /// # Errors
    /// If there are too many, or the registry cannot take it.
    pub async fn create_key(&self, key: NewKey) -> Result<(Arc<Key>, Secret), AccessError> {
        let bytes = Zeroizing::new(Random::secret::<KEY_BYTES>());
        let text = Zeroizing::new(format!("{API_KEY_PREFIX}{}", BASE64URL_NOPAD.encode(&*bytes)));
        let (hash, prefix) = (key_hash(&text), text[..PREFIX_CHARS].into());
        match self.ask_access(AccessChange::CreateKey { key, hash, prefix }).await? {
            Accessed::Key(key) => Ok((key, Secret::new(text.as_str()))),
            Accessed::Tenant(_) => Err(ChangeError::Stopped.into()),
        }
    }

    /// Takes a key out of force.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn revoke_key(&self, id: KeyId) -> Result<(), AccessError> {
        self.ask_access(AccessChange::RevokeKey(id)).await.map(drop)
    }

    /// Makes a tenant.
    ///
    /// # Errors
    /// If there is one that was made before, or is of the file.
    pub async fn create_tenant(&self, name: &str, settings: TenantSettings) -> Result<TenantInfo, AccessError> {
        match self.ask_access(AccessChange::CreateTenant { name: name.into(), settings }).await? {
            Accessed::Tenant(tenant) => Ok(tenant),
            Accessed::Key(_) => Err(ChangeError::Stopped.into()),
        }
    }

    /// Keys and tenants of the configuration in place of those before (a reload).
    pub async fn set_access(&self, access: FileAccess) -> Result<(), ChangeError> {
        self.ask(Change::Access(Box::new(access))).await.map(drop)
    }

    async fn ask_access(&self, change: AccessChange) -> AccessAnswer {
        let (reply, answer) = oneshot::channel();
        self.send(Change::KeyOrTenant(change), Reply::Access(reply))?;
        answer.await.unwrap_or(Err(AccessError::Unavailable(ChangeError::Stopped)))
    }
}

impl WriterState {
    pub(super) fn apply_access(
        &mut self,
        change: AccessChange,
        next: &mut Registry,
        batch: &mut Batch,
    ) -> AccessAnswer {
        let now = self.now;
        match change {
            AccessChange::CreateKey { key, hash, prefix } => {
                if next.keys.are_full(key.tenant.as_deref()) {
                    return Err(AccessError::TooMany);
                }
                let id = KeyId::from_u128(self.random.ulid(now));
                let NewKey { name, role, tenant, expires_at } = key;
                let tenant = tenant.map(|tenant| next.make_tenant(&tenant));
                let created_by = batch.actor_name();
                let key =
                    Arc::new(Key { id, hash, prefix, name, role, tenant, expires_at, created_at: now, created_by });
                Arc::make_mut(&mut next.keys).put(Arc::clone(&key));
                batch.note(note("key.created", &key));
                batch.rows.push(Row::Key(Arc::clone(&key)));
                Ok(Accessed::Key(key))
            }
            AccessChange::RevokeKey(id) => {
                next.keys.made(id).ok_or(AccessError::NoKey)?;
                let key = Arc::make_mut(&mut next.keys).remove(id).ok_or(AccessError::NoKey)?;
                batch.note(note("key.revoked", &key));
                batch.rows.push(Row::RevokedKey(id));
                Ok(Accessed::Key(key))
            }
            AccessChange::CreateTenant { name, settings } => {
                let stored = Arc::new(TenantRecord { settings, created_at: now });
                let tenant = next.store_tenant(&name, Arc::clone(&stored))?;
                batch.note(AuditRecord {
                    action: "tenant.created",
                    tenant: Some(Arc::clone(&tenant.name)),
                    target: name.clone(),
                    target_name: None,
                    changed: Vec::new(),
                });
                batch.rows.push(Row::Tenant(name, stored));
                Ok(Accessed::Tenant(tenant))
            }
        }
    }

    /// Another configuration: its keys and tenants.
    pub(super) fn apply_file_access(&mut self, access: FileAccess, next: &mut Registry, batch: &mut Batch) {
        let same_key = |a: &ApiKey, b: &ApiKey| a.key == b.key && a.tenant == b.tenant && a.role == b.role;
        let (old, new) = (&self.access.keys, &access.keys);
        let same_keys = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| same_key(a, b));
        let marks =
            |all: &[FileTenant]| all.iter().map(|one| (one.name.clone(), one.settings.clone())).collect::<Vec<_>>();
        let same_tenants = marks(&self.access.tenants) == marks(&access.tenants);
        let changed: Vec<_> = [("auth.api_keys", same_keys), ("tenants", same_tenants)]
            .into_iter()
            .filter(|(_, same)| !same)
            .map(|(key, _)| key.into())
            .collect();
        if !changed.is_empty() {
            batch.note(AuditRecord::reloaded(changed));
        }
        next.set_access(&access);
        self.access = access;
    }
}

fn note(action: &'static str, key: &Key) -> AuditRecord {
    AuditRecord {
        action,
        tenant: key.tenant.clone(),
        target: key.id.to_string().into(),
        target_name: key.name.clone(),
        changed: Vec::new(),
    }
}

impl Registry {
    /// Keys and tenants of the configuration, in place of those before.
    pub(super) fn set_access(&mut self, access: &FileAccess) {
        self.set_file_tenants(&access.tenants);
        let named = access.keys.iter().enumerate().map(|(n, key)| (key, format!("auth.api_keys[{n}]")));
        let first = access.first.iter().map(|key| (key, "the first key".to_owned()));
        let keys: Vec<_> = named.chain(first).collect();
        self.set_file_keys(keys.iter().map(|(key, name)| (*key, &**name)));
    }
}
