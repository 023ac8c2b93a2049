//! The keys in force: those that are configured, and the admin key of the data folder.

use crate::config::{ApiKey, Config};
use crate::model::file::ADMIN_KEY;
use crate::model::{Role, Secret};
use crate::registry::{self, FileAccess, KeyFileError};

/// The key of the first start.
pub(super) struct AdminKey {
    secret: Secret,
    is_new: bool,
}

impl AdminKey {
    /// The key, if this start made it.
    pub(super) fn first_shown(&self) -> Option<&str> {
        self.is_new.then(|| self.secret.reveal())
    }

    /// The key as one of those in force.
    pub(super) fn as_api_key(&self) -> ApiKey {
        ApiKey { key: self.secret.clone(), tenant: None, role: Role::Admin }
    }
}

/// The admin key: made at the first start of a folder for which no key is configured.
pub(super) fn first_key(config: &Config) -> Result<Option<AdminKey>, KeyFileError> {
    let dir = &config.server.data_dir;
    if !config.auth.api_keys.is_empty() && !dir.join(ADMIN_KEY).exists() {
        return Ok(None);
    }
    let (secret, is_new) = registry::admin_key(dir)?;
    Ok(Some(AdminKey { secret, is_new }))
}

/// Who may ask: the configured keys and tenants, and the admin key.
pub(super) fn access(config: &Config, first: Option<&AdminKey>) -> FileAccess {
    FileAccess {
        keys: config.auth.api_keys.clone(),
        first: first.map(AdminKey::as_api_key),
        tenants: config.tenants.clone(),
    }
}
