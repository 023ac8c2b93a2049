//! The API keys in force: the configured keys, and the admin key in the data folder.

use crate::config::{ApiKey, Config};
use crate::model::file::ADMIN_KEY;
use crate::model::{Role, Secret};
use crate::registry::{self, FileAccess, KeyFileError};

/// The first-start key.
pub(super) struct AdminKey {
    secret: Secret,
    is_new: bool,
}

impl AdminKey {
    /// The key, if this start created it.
    pub(super) fn new_key(&self) -> Option<&str> {
        self.is_new.then(|| self.secret.reveal())
    }

    /// The key, as an API key in force.
    pub(super) fn as_api_key(&self) -> ApiKey {
        ApiKey { key: self.secret.clone(), tenant: None, role: Role::Admin }
    }
}

/// Reads or creates the admin key. The first start of a data folder creates it if no key is configured.
pub(super) fn admin_key(config: &Config) -> Result<Option<AdminKey>, KeyFileError> {
    let dir = &config.server.data_dir;
    if !config.auth.api_keys.is_empty() && !dir.join(ADMIN_KEY).exists() {
        return Ok(None);
    }
    let (secret, is_new) = registry::admin_key(dir)?;
    Ok(Some(AdminKey { secret, is_new }))
}

/// The configured keys and tenants, and the admin key.
pub(super) fn access(config: &Config, admin_key: Option<&AdminKey>) -> FileAccess {
    FileAccess {
        keys: config.auth.api_keys.clone(),
        admin_key: admin_key.map(AdminKey::as_api_key),
        tenants: config.tenants.clone(),
    }
}
