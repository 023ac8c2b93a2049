//! Changes of API keys and tenants: creates and revokes keys, creates tenants, and replaces those of the configuration
//! file.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::Key;
use super::Registry;
use super::audit::AuditRecord;
use super::change::{ChangeError, ChangeReply, RegistryChange};
use super::keys::key_hash;
use super::tenants::TenantInfo;
use super::writer::Writer;
use super::writer_state::{ChangeBatch, WriterState};
use crate::config::{ApiKey, FileTenant};
use crate::limits::{KEYS_MAX, KEYS_PER_TENANT_MAX};
use crate::model::{API_KEY_PREFIX, KeyId, Role, Secret, TenantSettings, Timestamp};
use crate::runtime::Random;
use crate::storage::registry::{RegistryRow, TenantRecord};

/// Random bytes in a key. 256 bits cannot be guessed, so the registry stores a plain hash of the key.
const KEY_BYTES: usize = 32;
/// Characters of a key that are shown so that people recognise it: `hk_` and 48 bits of the key.
const PREFIX_CHARS: usize = 11;

/// An API key to create.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// A name for people.
    pub name: Option<Box<str>>,
    /// The role of requests with this key.
    pub role: Role,
    /// The key's tenant; `None`: all tenants.
    pub tenant: Option<Arc<str>>,
    /// When the key expires; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// Why a change of a key or a tenant was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The key does not exist.
    #[error("there is no such key")]
    NoKey,
    /// The tenant, or the whole registry, has the maximum number of keys.
    #[error("there are {KEYS_PER_TENANT_MAX} keys of this tenant, or {KEYS_MAX} in all: revoke some")]
    TooMany,
    /// A tenant of this name was created before.
    #[error("there is a tenant of this name")]
    TenantExists,
    /// The tenant is declared in the configuration file and can be changed only there.
    #[error("the tenant is managed by the configuration file")]
    ManagedByFile,
    /// The registry cannot take changes now.
    #[error(transparent)]
    Unavailable(#[from] ChangeError),
}

#[derive(Debug)]
pub(super) enum AccessChange {
    CreateKey { key: NewKey, hash: [u8; 32], prefix: Box<str> },
    RevokeKey(KeyId),
    CreateTenant { name: Box<str>, settings: TenantSettings },
}

/// What a change of keys and tenants created or removed.
#[derive(Debug)]
pub(super) enum AccessOutcome {
    Key(Arc<Key>),
    Tenant(TenantInfo),
}

pub(super) type AccessResult = Result<AccessOutcome, AccessError>;

/// The API keys and tenants of the configuration file, and the first-start key.
#[derive(Debug, Clone, Default)]
pub struct FileAccess {
    /// `auth.api_keys`.
    pub keys: Vec<ApiKey>,
    /// The first-start key.
    pub admin_key: Option<ApiKey>,
    /// `[[tenants]]`.
    pub tenants: Vec<FileTenant>,
}

impl From<Vec<ApiKey>> for FileAccess {
    fn from(keys: Vec<ApiKey>) -> Self {
        Self { keys, ..Self::default() }
    }
}

impl Writer {
    /// Creates an API key. Returns the key's text, which is stored nowhere.
    ///
    /// # Errors
    /// If there are too many keys, or the registry cannot take changes.
    pub async fn create_key(&self, key: NewKey) -> Result<(Arc<Key>, Secret), AccessError> {
        let bytes = Zeroizing::new(Random::secret::<KEY_BYTES>());
        let text = Zeroizing::new(format!("{API_KEY_PREFIX}{}", BASE64URL_NOPAD.encode(&*bytes)));
        let (hash, prefix) = (key_hash(&text), text[..PREFIX_CHARS].into());
        match self.request_access(AccessChange::CreateKey { key, hash, prefix }).await? {
            AccessOutcome::Key(key) => Ok((key, Secret::new(text.as_str()))),
            AccessOutcome::Tenant(_) => Err(ChangeError::Stopped.into()),
        }
    }

    /// Revokes an API key.
    ///
    /// # Errors
    /// If the key does not exist, or the registry cannot take changes.
    pub async fn revoke_key(&self, id: KeyId) -> Result<(), AccessError> {
        self.request_access(AccessChange::RevokeKey(id)).await.map(drop)
    }

    /// Creates a tenant.
    ///
    /// # Errors
    /// If a tenant of this name was created before or is declared in the configuration file, or the registry cannot
    /// take changes.
    pub async fn create_tenant(&self, name: &str, settings: TenantSettings) -> Result<TenantInfo, AccessError> {
        match self.request_access(AccessChange::CreateTenant { name: name.into(), settings }).await? {
            AccessOutcome::Tenant(tenant) => Ok(tenant),
            AccessOutcome::Key(_) => Err(ChangeError::Stopped.into()),
        }
    }

    /// Replaces the keys and tenants of the configuration, at a reload.
    pub async fn set_access(&self, access: FileAccess) -> Result<(), ChangeError> {
        self.request_webhook(RegistryChange::Access(Box::new(access))).await.map(drop)
    }

    async fn request_access(&self, change: AccessChange) -> AccessResult {
        let (reply, answer) = oneshot::channel();
        self.send(RegistryChange::KeyOrTenant(change), ChangeReply::Access(reply))?;
        answer.await.unwrap_or(Err(AccessError::Unavailable(ChangeError::Stopped)))
    }
}

impl WriterState {
    pub(super) fn apply_access(
        &mut self,
        change: AccessChange,
        next: &mut Registry,
        batch: &mut ChangeBatch,
    ) -> AccessResult {
        let now = self.now;
        match change {
            AccessChange::CreateKey { key, hash, prefix } => {
                if next.keys.is_full(key.tenant.as_deref()) {
                    return Err(AccessError::TooMany);
                }
                let id = KeyId::from_u128(self.random.ulid(now));
                let NewKey { name, role, tenant, expires_at } = key;
                let tenant = tenant.map(|tenant| next.ensure_tenant(&tenant));
                let created_by = batch.actor_name();
                let key =
                    Arc::new(Key { id, hash, prefix, name, role, tenant, expires_at, created_at: now, created_by });
                Arc::make_mut(&mut next.keys).put(Arc::clone(&key));
                batch.audit(key_audit_record("key.created", &key));
                batch.rows.push(RegistryRow::Key(Arc::clone(&key)));
                Ok(AccessOutcome::Key(key))
            }
            AccessChange::RevokeKey(id) => {
                next.keys.created(id).ok_or(AccessError::NoKey)?;
                let key = Arc::make_mut(&mut next.keys).remove(id).ok_or(AccessError::NoKey)?;
                batch.audit(key_audit_record("key.revoked", &key));
                batch.rows.push(RegistryRow::RevokedKey(id));
                Ok(AccessOutcome::Key(key))
            }
            AccessChange::CreateTenant { name, settings } => {
                let stored = Arc::new(TenantRecord { settings, created_at: now });
                let tenant = next.store_tenant(&name, Arc::clone(&stored))?;
                batch.audit(AuditRecord {
                    action: "tenant.created",
                    tenant: Some(Arc::clone(&tenant.name)),
                    target: name.clone(),
                    target_name: None,
                    changed: Vec::new(),
                });
                batch.rows.push(RegistryRow::Tenant(name, stored));
                Ok(AccessOutcome::Tenant(tenant))
            }
        }
    }

    /// Replaces the keys and tenants of the configuration, and records in the audit log which of the two changed.
    pub(super) fn apply_file_access(&mut self, access: FileAccess, next: &mut Registry, batch: &mut ChangeBatch) {
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
            batch.audit(AuditRecord::reloaded(changed));
        }
        next.set_access(&access);
        self.access = access;
    }
}

fn key_audit_record(action: &'static str, key: &Key) -> AuditRecord {
    AuditRecord {
        action,
        tenant: key.tenant.clone(),
        target: key.id.to_string().into(),
        target_name: key.name.clone(),
        changed: Vec::new(),
    }
}

impl Registry {
    /// Replaces the keys and tenants of the configuration.
    pub(super) fn set_access(&mut self, access: &FileAccess) {
        self.set_file_tenants(&access.tenants);
        let named = access.keys.iter().enumerate().map(|(n, key)| (key, format!("auth.api_keys[{n}]")));
        let admin_key = access.admin_key.iter().map(|key| (key, "the first key".to_owned()));
        let keys: Vec<_> = named.chain(admin_key).collect();
        self.set_file_keys(keys.iter().map(|(key, name)| (*key, &**name)));
    }
}
